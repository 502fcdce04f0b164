"""Light-field frames to a volume by a trained network."""

from __future__ import annotations

from collections.abc import Generator

import torch

from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.volume_plans import VolumePlan
from ..engine.networks.published_vnet import PublishedVNet
from ..engine.networks.vnet import CompactVNet, Exposure, tile_volume, tiles_of
from ..engine.simulate.planes import DepthGrid, parallax_px, view_kernels
from ..errors import ModelError
from .deconvolve import WIDE_FIELD, as_volume
from .devices import chosen_device
from .light_field_views import sum_views
from .trained import load_network
from .volume_frames import WINDOW_PX


def make_volume(stack: RawStack, instrument: Instrument, plan: VolumePlan) -> Generator[Progress, None, Volume]:
    """Make the volume that the objective alone would show, from the mean of a stack's frames.

    Yields
    ------
    Progress
        After every tile.

    Raises
    ------
    ModelError
        If the model makes no volumes, or was trained for other pixels, depths or another number of views.
    PlanError, StackError
        If the frames do not fit the instrument, or it has one view.
    InstrumentError
        If the views differ by more than a shift.
    """
    network, _ = load_network(plan.model, instrument)
    if not isinstance(network, CompactVNet | PublishedVNet):
        raise ModelError(f"{plan.model} makes no volumes: choose a model that was trained with the architecture vnet")
    views = yield from sum_views(stack, instrument, plan)
    yield Progress(stage="prepare", message="Computing the parallax of the views")
    grid = DepthGrid.of(views.instrument, _step_nm(views.instrument, network.planes))
    if len(views.instrument.views) != network.views:
        raise ModelError(
            f"{plan.model} was trained for {network.views} views, the instrument {instrument.name!r} has "
            f"{len(views.instrument.views)}: train a model for this instrument"
        )
    device = chosen_device(plan.device)
    if isinstance(network, CompactVNet):
        # the views of this stack may be cut elsewhere than those of the training: a part of a pixel counts
        network.parallax_vz2 = parallax_px(view_kernels(views.instrument, grid, WINDOW_PX))
    network = network.to(device).eval()
    with torch.inference_mode():
        seen = views.views_vyx[None].to(device)
        background = views.background_v[None].to(device)
        exposure = Exposure.of(seen, background, views.read_variance)
        above = (seen - background[:, :, None, None]) * views.seen_vyx.to(device)
        values = above.new_empty((grid.planes, *above.shape[-2:]))
        # the published network looks at the whole frame
        tiles = tiles_of((above.shape[-2], above.shape[-1]), plan.tile_px if isinstance(network, CompactVNet) else max(above.shape))
        for done, tile in enumerate(tiles, start=1):
            top, left, bottom, right = tile
            part = tile_volume(network, above, exposure, tile) if isinstance(network, CompactVNet) else network(above, exposure)
            values[:, top:bottom, left:right] = part[0]
            yield Progress(stage="volume", done=done, total=len(tiles))
        return as_volume(values * (exposure.unit_t / views.frames), grid, WIDE_FIELD)


def _step_nm(instrument: Instrument, planes: int) -> float:
    low, high = instrument.depth_range_nm
    return (high - low) / (planes - 1)
