"""Patterns and filter as they are used for one or all time points of a stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..domain.illumination import Illumination
from ..domain.structured_plans import StructuredPlan
from ..engine.structured.bands import equalized
from ..engine.structured.compare import optical_section, pseudo_confocal, wide_field
from ..engine.structured.reconstruct import Reconstructor, reconstructor, wiener_parameter
from ..engine.structured.volume_reconstruct import VolumeReconstructor, volume_reconstructor, volume_wiener_parameter
from .structured_frames import FrameSource
from .structured_lens import Lens, coarse_steps
from .structured_search import in_words, search


@dataclass(frozen=True)
class Filter:
    """The patterns, how they came about, and what makes images of frames with them.

    flat : for one plane. volume : for a stack of planes, where the geometry says that they belong together.
    """

    illumination: Illumination
    order: str
    words: str
    notes: tuple[str, ...]
    flat: Reconstructor
    volume: VolumeReconstructor | None

    @staticmethod
    def of(source: FrameSource, lens: Lens, plan: StructuredPlan, times: range, known: Illumination | None) -> Filter:
        """Estimate what is not known, and prepare the filter."""
        notes: tuple[str, ...] = ()
        if known is not None and plan.order is not None:
            illumination, order, words = known, str(plan.order), "The patterns were given."
        else:
            found = search(source, lens, plan, times)
            illumination, order, words, notes = known or found.illumination, found.order, in_words(found), found.notes
        with torch.inference_mode():
            frames = source.averaged(times[:1], order).movedim(2, 0)
            frames = equalized(frames) if plan.equalize else frames
            if source.geometry.axial:
                series = lens.through_focus(source.z_step_nm, source.planes)
                wiener = plan.wiener or volume_wiener_parameter(frames.movedim(0, 2), lens.optics, series)
                settled, shape = plan.model_copy(update={"wiener": wiener}), (source.planes, *source.shape_yx)
                volume = volume_reconstructor(illumination, lens.optics, shape, settled, series)
                return Filter(illumination, order, words, (*notes, *coarse_steps(illumination, series)), volume.flat, volume)
            settled = plan.model_copy(update={"wiener": plan.wiener or wiener_parameter(frames, lens.optics)})
            made = reconstructor(illumination, lens.optics, source.shape_yx, settled)
        return Filter(illumination, order, words, notes, made, None)

    def apply(self, frames_apzyx: Tensor, plan: StructuredPlan) -> dict[str, np.ndarray]:
        """Images (z, y, x) by the names that `StructuredImages` has; the wide field in place of a reconstruction that cannot be made."""
        with torch.inference_mode():
            frames = frames_apzyx.movedim(2, 0)
            if plan.equalize:
                frames = equalized(frames)
            seen = wide_field(frames, self.flat)
            failed = self.illumination.verdict is not None and not any(self.illumination.verdict.passed)
            found = {"images_tyx": seen if failed else self._sharp(frames), "wide_field_tyx": seen}
            if plan.compare:
                found |= {"section_tyx": optical_section(frames, self.flat), "pseudo_confocal_tyx": pseudo_confocal(frames, self.flat)}
        return {name: image.cpu().numpy() for name, image in found.items()}

    def _sharp(self, frames_zapyx: Tensor) -> Tensor:
        return self.flat(frames_zapyx) if self.volume is None else self.volume(frames_zapyx.movedim(0, 2))
