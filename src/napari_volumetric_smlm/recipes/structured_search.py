"""Find the patterns of a stack, with what speaks for them: shared by estimation and reconstruction."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..domain.illumination import StructuredEstimate
from ..domain.structured_plans import EstimatePlan
from ..engine.structured.arrange import possible_orders
from ..engine.structured.bands import equalized
from ..engine.structured.estimate import Search, measure_all
from ..engine.structured.motion import largest_shift_px
from ..engine.structured.order import find_order
from ..engine.structured.pictures import overlap_maps, power_spectra
from ..engine.structured.volume_measure import measure_volume
from .structured_frames import FrameSource
from .structured_lens import Lens

WORRYING_SHIFT_PX = 1.0
# planes in which a volume's patterns are looked for; all are used to measure them
SEARCHED_PLANES = 5


def search(source: FrameSource, lens: Lens, plan: EstimatePlan, times: range, pictures: bool = False) -> StructuredEstimate:
    """Patterns of some time points, averaged: of the middle plane, or of all planes together where they make a volume."""
    wanted = Search(source.geometry, plan.lowest_frequency, plan.highest_frequency, plan.measure_steps)
    orders = [plan.order] if plan.order else list(possible_orders(source.geometry, source.planes))
    looked = _searched(source)

    with torch.inference_mode():
        candidates = {order: source.averaged(times, order, looked).movedim(2, 0) for order in orders}
        chosen = find_order(candidates.__getitem__, list(orders), lens.optics, wanted)
        frames = candidates[chosen.order]
        illumination = measure_all(frames, lens.optics, wanted, chosen.found)
        if source.geometry.axial:
            stack = equalized(source.averaged(times, chosen.order).movedim(2, 0)).movedim(0, 2)
            series = lens.through_focus(source.z_step_nm, source.planes)
            illumination = measure_volume(stack, illumination, lens.optics, series, lens.excitation_per_um(plan.excitation_nm))
    middle = frames[len(frames) // 2]
    return StructuredEstimate(
        illumination=illumination,
        order=chosen.order,
        order_scores=chosen.scores,
        order_is_sure=chosen.sure or plan.order is not None,
        notes=tuple(_moved(middle)),
        power_ayx=power_spectra(middle).cpu().numpy() if pictures else None,
        overlap_byx=overlap_maps(chosen.found).cpu().numpy() if pictures else None,
        step_yx_per_um=chosen.found.grid.step_yx,
    )


def in_words(found: StructuredEstimate) -> str:
    """The verdict, and whether the order of the frames is certain."""
    verdict = found.illumination.verdict
    words = verdict.words if verdict is not None else ""
    if not found.order_is_sure:
        words += f" The order of the frames is not certain ({found.order} fits best): state it."
    return words


def _searched(source: FrameSource) -> list[int]:
    if not source.geometry.axial:
        return [source.planes // 2]
    count = min(SEARCHED_PLANES, source.planes)
    return [int(plane) for plane in np.floor((np.arange(count) + 0.5) * source.planes / count)]


def _moved(frames_apyx: Tensor) -> list[str]:
    shift = largest_shift_px(frames_apyx)
    if shift < WORRYING_SHIFT_PX:
        return []
    return [
        f"The images of the orientations lie up to {shift:.1f} pixels apart: the sample or the stage moved, or there is hardly any light; "
        "expect stripes and double contours."
    ]
