"""Where a fit begins: the pupil's grid, what is known of its phase, and the slice that counts as focus."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ..optics.pupil import Pupil, view_pupil
from .model import NM, BeadImages, PupilModel, sharpest_slice

# The field's period over the crop's width: light that leaves the crop must not come back into it.
PERIOD_TO_CROP = 1.45
FEWEST_HALF_SAMPLES, MOST_HALF_SAMPLES = 32, 96


def retrieval_pupil(instrument: Instrument, view: int, crop_px: int, wave_model: str | None = None) -> Pupil:
    """Pupil of a view without mask and aberrations, on the smallest grid that the crop allows."""
    crop_nm, na = crop_px * instrument.pixel_nm(view), instrument.objective.numerical_aperture
    half = math.ceil(PERIOD_TO_CROP * crop_nm * na / instrument.emission_nm)
    half = min(max(half, FEWEST_HALF_SAMPLES), MOST_HALF_SAMPLES)
    bare: dict[str, object] = {"mask": None, "phase_rad_yx": None, "amplitude_yx": None, "zernike_noll_rad": {}, "image_shift_zyx_nm": None}
    views = [scene.model_copy(update=bare) if v == view else scene for v, scene in enumerate(instrument.views)]
    update = {"views": tuple(views)} | ({} if wave_model is None else {"wave_model": wave_model})
    return view_pupil(instrument.model_copy(update=update), view, samples=2 * half + 1)


def known_phase(instrument: Instrument, view: int, pupil: Pupil) -> Tensor | None:
    """Phase of mask, Zernike terms and pixel map of a view on another grid; None when the instrument states none."""
    scene = instrument.views[view]
    if scene.mask is None and scene.phase_rad_yx is None and not scene.zernike_noll_rad:
        return None
    full = view_pupil(instrument, view)
    phase = full.phase_yx.to(pupil.na_n.device)
    # the field is interpolated, not the phase: a mean across a wrap would be wrong
    field = torch.stack([torch.cos(phase), torch.sin(phase)])[None]
    unit = pupil.na_n / float(full.na_n[-1])
    grid = torch.stack(torch.meshgrid(unit, unit, indexing="ij")[::-1], dim=-1)[None]
    real, imaginary = torch.nn.functional.grid_sample(field, grid, align_corners=True, padding_mode="border")[0]
    return torch.atan2(imaginary, real)


def starting_models(instrument: Instrument, view: int, pupil: Pupil, images: BeadImages) -> list[PupilModel]:
    """Models to try: no aberration, focused in the sharpest slice; what the instrument knows, with that or the middle as focus."""
    plain = PupilModel(pupil, images)
    plain.focus_b = plain.focus_b + _focus(images, sharpest_slice(images))
    phase = known_phase(instrument, view, pupil)
    if phase is None:
        return [plain]
    starts = [plain]
    for slice_in_focus in (sharpest_slice(images), (len(images.seen_k) - 1) / 2):
        informed = PupilModel(pupil, images)
        informed.phase_rad_yx = phase * informed.inside_yx
        informed.focus_b = informed.focus_b + _focus(images, slice_in_focus)
        starts.append(informed)
    return starts


def known_model(instrument: Instrument, view: int, pupil: Pupil, images: BeadImages) -> PupilModel:
    """What the instrument knows, focused in the sharpest slice."""
    model, phase = PupilModel(pupil, images), known_phase(instrument, view, pupil)
    if phase is not None:
        model.phase_rad_yx = phase * model.inside_yx
    model.focus_b = model.focus_b + _focus(images, sharpest_slice(images))
    return model


def _focus(images: BeadImages, slice_in_focus: float) -> float:
    """Value of `focus_b` that puts the focal plane of a slice at zero."""
    return -(slice_in_focus - images.focus_slice) * images.step_nm / NM
