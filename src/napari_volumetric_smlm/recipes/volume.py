"""Light-field frames to a volume by a trained network."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.volume_plans import VolumePlan
from ..engine.deconvolve.coarse import CoarseOptics, coarse_volume
from ..engine.networks.published_vnet import PublishedVNet
from ..engine.networks.vnet import CompactVNet, Exposure, tile_volume, tiles_of
from ..engine.simulate.planes import DepthGrid, parallax_px, view_kernels
from ..errors import ModelError
from .deconvolve import WIDE_FIELD, as_volume
from .devices import chosen_device
from .light_field_views import SummedViews, sum_views
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
    values = yield from volume_of_views(network.eval(), views, plan)
    low, high = views.instrument.depth_range_nm
    return as_volume(values / views.frames, views, DepthGrid.of(views.instrument, (high - low) / (network.planes - 1)), WIDE_FIELD)


def volume_of_views(network: CompactVNet | PublishedVNet, views: SummedViews, plan: VolumePlan) -> Generator[Progress, None, Tensor]:
    """Volume (z, y, x) of added-up views, in photons.

    Yields
    ------
    Progress
        After every tile.
    """
    device = chosen_device(plan.device)
    network = network.to(device)
    with torch.inference_mode():
        seen, background, counting = (part.to(device) for part in (views.views_vyx, views.background_v, views.seen_vyx))
        exposure = Exposure.of(seen[None], background[None], views.read_variance)
        above = ((seen - background[:, None, None]) * counting)[None]
        if isinstance(network, PublishedVNet):  # it looks at the whole frame
            volume: Tensor = network(above, exposure)[0] * exposure.unit_t
            return volume
        # the views of this stack may be cut elsewhere than those of the training: a part of a pixel counts
        optics = _optics(_SameOptics(views.instrument, network.planes))
        network.parallax_vz2 = optics.parallax_vz2.to(device)
        coarse = coarse_volume(seen, background, optics.coarse.to(device), counting)[None]
        tiles = tiles_of((above.shape[-2], above.shape[-1]), plan.tile_px)
        values = above.new_empty((network.planes, *above.shape[-2:])) if len(tiles) > 1 else above
        for done, tile in enumerate(tiles, start=1):
            top, left, bottom, right = tile
            part = tile_volume(network, above, exposure, coarse, tile)[0].mul_(exposure.unit_t)
            if len(tiles) == 1:
                values = part
            else:
                values[:, top:bottom, left:right] = part
            yield Progress(stage="volume", done=done, total=len(tiles))
        return values


@dataclass(frozen=True, eq=False)
class _SameOptics:
    """What a network must know of an instrument, by the instrument's fingerprint."""

    instrument: Instrument
    planes: int

    def __hash__(self) -> int:
        return hash((self.instrument.fingerprint, self.planes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameOptics) and hash(self) == hash(other)


@dataclass(frozen=True)
class _Optics:
    parallax_vz2: Tensor
    coarse: CoarseOptics


@lru_cache(maxsize=2)
def _optics(asked: _SameOptics) -> _Optics:
    """Seconds to compute, and the same for every frame of a movie."""
    instrument = asked.instrument
    low, high = instrument.depth_range_nm
    grid = DepthGrid.of(instrument, (high - low) / (asked.planes - 1))
    with torch.inference_mode(mode=False):
        return _Optics(parallax_px(view_kernels(instrument, grid, WINDOW_PX)), CoarseOptics.of(instrument, grid, WINDOW_PX))
