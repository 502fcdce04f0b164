"""Light-field frames as one image a view, whatever way they were stored."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.volume_plans import ViewsPlan
from ..engine.deconvolve.ground import dark_level
from ..errors import PlanError, StackError
from .photons import check_cameras, frames_and_region, noise_floors, read_photons
from .split_views import split_views

PIXELS_A_STEP = 4_000_000


@dataclass(frozen=True)
class SummedViews:
    """Detected photons of several frames together: views (v, y, x), which pixels count, background of each view, read variance.

    instrument : with one camera a view. frames : how many were added; blank ones were not. Of blank frames alone, views are dark.
    corner_yx_nm : where the first view's first pixel lies on the frames that were given; (0, 0) for frames that were cut before.
    """

    views_vyx: Tensor
    seen_vyx: Tensor
    background_v: Tensor
    read_variance: float
    instrument: Instrument
    frames: int
    corner_yx_nm: tuple[float, float] = (0.0, 0.0)


def sum_views(stack: RawStack, instrument: Instrument, plan: ViewsPlan) -> Generator[Progress, None, SummedViews]:
    """Cut the frames into views where they are not cut yet, and add them up.

    Raises
    ------
    PlanError
        If the instrument has one view, or frames and cameras do not fit the stack.
    StackError
        If the views differ in size, or a value is not finite.
    """
    if len(instrument.views) < 2:
        raise PlanError(f"the instrument {instrument.name!r} has one view: volumes need the parallax between several")
    corner_yx_nm = (0.0, 0.0)
    if any(view.region_yx_px is not None for view in instrument.views):
        stack, instrument = split_views(stack, instrument)
        # not the corner of the view's own region: a rim beyond the sensor was left out
        top, left, _, _ = stack.counts_tyx[0].region_yx_px
        corner_yx_nm = (top * instrument.pixel_nm(), left * instrument.pixel_nm())
    check_cameras(stack, instrument)
    shapes = {tuple(int(n) for n in counts.shape[1:]) for counts in stack.counts_tyx}
    if len(shapes) > 1:
        raise StackError(f"the views differ in size: {sorted(shapes)} pixels; cut them alike")
    # a region is for frames of molecules; here the whole field counts
    frames, _ = frames_and_region(stack, _Whole(plan.first_frame, plan.last_frame), instrument)
    floors = noise_floors(stack, instrument, frames)
    height, width = next(iter(shapes))
    count = len(instrument.views)
    total, seen, variance, added = torch.zeros((count, height, width)), torch.ones((count, height, width)), 0.0, 0
    step = max(1, PIXELS_A_STEP // (count * height * width))
    for first in range(frames.start, frames.stop, step):
        part = range(first, min(first + step, frames.stop))
        views = read_photons(stack, instrument, part, floors)
        # a frame that the camera dropped is blank in all views: it says nothing, and must not blind the others' pixels
        shown = torch.stack([images.seen_tyx.amax((1, 2)) for images in views]).amax(0) > 0
        for v, images in enumerate(views):
            total[v] += images.photons_tyx[shown].sum(0)
            seen[v] *= images.seen_tyx[shown].amin(0) if shown.any() else 1.0
            variance += float(images.read_variance_yx.mean()) * int(shown.sum()) / count
        added += int(shown.sum())
        yield Progress(stage="read", done=part.stop - frames.start, total=len(frames), message=f"Frame {part.stop - 1}")
    known = plan.background_photons
    ground = dark_level(total[None])[0].clamp(min=0) if known is None else torch.full((count,), known * added)
    return SummedViews(total, seen, ground, variance, instrument, max(added, 1), corner_yx_nm)


@dataclass(frozen=True)
class _Whole:
    first_frame: int
    last_frame: int | None
    region_yx_px: None = None
