"""Richardson-Lucy deconvolution: light-field frames to the volume that explains their views best."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.volume_plans import DeconvolvePlan
from ..engine.deconvolve.richardson_lucy import Deconvolution, as_wide_field
from ..engine.simulate.planes import DepthGrid, view_kernels, wide_field_kernels
from ..engine.simulate.volumes import WIDE_FIELD_REACH_NM, WIDE_FIELD_WINDOW_PX
from ..errors import EngineError, ran_out_of_memory
from .devices import chosen_device
from .light_field_views import SummedViews, sum_views

POINTS = "detected photons per voxel and frame, all views together"
WIDE_FIELD = "wide-field image, detected photons per pixel and frame"


@dataclass(frozen=True)
class Reached:
    """Where a deconvolution stands; `volume` is that of the last whole iteration, so that a stop loses nothing."""

    deconvolution: Deconvolution
    views: SummedViews
    grid: DepthGrid
    plan: DeconvolvePlan

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return self.deconvolution.iterations

    def volume(self) -> Volume:
        """The volume as it is now."""
        values = self.deconvolution.volume_zyx / self.views.frames
        if self.plan.wide_field:
            kernel = wide_field_kernels(self.views.instrument, self.grid, WIDE_FIELD_WINDOW_PX, WIDE_FIELD_REACH_NM)
            values = as_wide_field(values, kernel.to(values.device)).clamp(min=0)
        return as_volume(values, self.views, self.grid, WIDE_FIELD if self.plan.wide_field else POINTS)


def deconvolve(stack: RawStack, instrument: Instrument, plan: DeconvolvePlan) -> Generator[Progress, None, Volume]:
    """Deconvolve the mean of a stack's frames; raw frames and frames that are cut into views alike.

    Yields
    ------
    Progress
        After every tile of every iteration; from the first iteration on with the same `Reached` as preview.

    Returns
    -------
    Volume
        On the pixels of the first view, in the nanometres of the frames that were given, as the molecules of `reconstruct`.

    Raises
    ------
    PlanError, StackError
        If the frames do not fit the instrument, or it has one view.
    InstrumentError
        If the views differ by more than a shift.
    EngineError
        If the memory does not hold the volume.
    """
    views = yield from sum_views(stack, instrument, plan)
    yield Progress(stage="prepare", message="Computing the point-spread function")
    device = chosen_device(plan.device)
    grid = DepthGrid.of(views.instrument, plan.depth_step_nm)
    try:
        with torch.inference_mode():
            kernel = view_kernels(views.instrument, grid, plan.window_px + 1 - plan.window_px % 2).to(device)
            seen, background, counting = (part.to(device) for part in (views.views_vyx, views.background_v, views.seen_vyx))
            reached = Reached(Deconvolution(seen, kernel, background, counting, plan.tile_px), views, grid, plan)
            yield from _iterate(reached)
            return reached.volume()
    except Exception as error:
        if ran_out_of_memory(error):
            voxels = grid.planes * views.views_vyx[0].numel()
            raise EngineError(
                f"not enough memory for {voxels / 1e6:.0f} million voxels: raise depth_step_nm, lower tile_px or crop the frames"
            ) from error
        raise


def _iterate(reached: Reached) -> Generator[Progress, None, None]:
    state, plan = reached.deconvolution, reached.plan
    tiles = state.tiles
    while state.iterations < plan.iterations:
        before = state.iterations
        for tile in state.iterate():
            # the last tile of an iteration is told once the volume is that of the iteration
            if tile < tiles:
                yield _told(reached, before * tiles + tile)
        yield _told(reached, state.iterations * tiles)


def _told(reached: Reached, done: int) -> Progress:
    tiles, plan = reached.deconvolution.tiles, reached.plan
    words = f"Iteration {reached.iterations} of {plan.iterations}"
    return Progress(
        stage="deconvolve", done=done, total=plan.iterations * tiles, message=words, preview=reached if reached.iterations else None
    )


def as_volume(values_zyx: Tensor, views: SummedViews, grid: DepthGrid, quantity: str) -> Volume:
    """A volume on a grid, in the nanometres of the frames that the views were cut from."""
    pixel = grid.pixel_nm
    return Volume(
        values_zyx=values_zyx.float().cpu().numpy(),
        voxel_zyx_nm=(grid.step_nm, pixel, pixel),
        origin_zyx_nm=(grid.first_nm, *views.corner_yx_nm),
        quantity=quantity,
    )
