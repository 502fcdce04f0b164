"""Molecules by way of a volume: views of a patch to a volume, its peaks to first guesses for the joint fit of all views."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d

from ..domain.instrument import Instrument
from ..domain.plans import Device
from ..domain.volume_plans import VolumePlan
from ..engine.deconvolve.ground import dark_level
from ..engine.deconvolve.richardson_lucy import Deconvolution, as_wide_field
from ..engine.localize.gaussians import REACH_ZYX, fit_peaks, peak_limit
from ..engine.localize.scene import Patches
from ..engine.localize.search import Candidates
from ..engine.networks.published_lnet import PublishedLNet, molecules_of
from ..engine.networks.published_vnet import PublishedVNet
from ..engine.networks.vnet import CompactVNet
from ..engine.simulate.planes import DepthGrid, view_kernels, wide_field_kernels
from ..engine.simulate.volumes import WIDE_FIELD_REACH_NM, WIDE_FIELD_WINDOW_PX
from ..errors import PlanError
from . import finish
from .light_field_views import SummedViews
from .volume import volume_of_views

STEP_NM, WINDOW_PX = 125.0, 61
# Standard deviations of the noise above which the mean of 3 x 3 pixels must rise somewhere: empty patches make no volume.
LIT_SIGMAS = 4.5
DEVICE: dict[str, Device] = {"cpu": "cpu", "cuda": "cuda", "mps": "mps"}
Shifts = tuple[tuple[float, float], ...]


class VolumeLocalizer:
    """Proposes the peaks of a volume, on patches of any size.

    network : a trained V-Net, which makes the volume; else accelerated Richardson-Lucy does. With a trained L-Net its answer to the
        deconvolved volume, as the objective alone would show it, is taken instead of the volume's peaks.
    iterations : of the deconvolution.

    Raises
    ------
    PlanError
        If the instrument has one view, which knows no parallax.
    """

    def __init__(self, instrument: Instrument, network: nn.Module | None, iterations: int) -> None:
        if len(instrument.views) < 2:
            raise PlanError(f"start is 'volume', but {instrument.name!r} has one view: volumes need the parallax between several")
        # each view on a camera of its own, as the patches are cut
        views = [view.model_copy(update={"camera": v, "region_yx_px": None}) for v, view in enumerate(instrument.views)]
        cameras = tuple(instrument.cameras[view.camera] for view in instrument.views)
        self.instrument = instrument.model_copy(update={"views": tuple(views), "cameras": cameras})
        if network is not None and not isinstance(network, CompactVNet | PublishedVNet | PublishedLNet):
            raise PlanError("start is 'volume', but the model neither makes volumes nor reads them: leave the start out, or take a V-Net")
        self.network = None if network is None else network.eval()
        self.iterations = iterations
        low, high = instrument.depth_range_nm
        planes = self.network.planes if isinstance(self.network, CompactVNet | PublishedVNet) else round((high - low) / STEP_NM) + 1
        self.grid = DepthGrid.of(instrument, (high - low) / (planes - 1))
        self._wide = wide_field_kernels(instrument, self.grid, WIDE_FIELD_WINDOW_PX, WIDE_FIELD_REACH_NM)
        self._placed: dict[Shifts, tuple[Instrument, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, patches: Patches) -> Candidates:
        """Places with their photons and the height of their peak, ordered by patch."""
        parts = [self._of_patch(patches, t) for t in range(len(patches.photons_tvyx))]
        return Candidates(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _of_patch(self, patches: Patches, t: int) -> tuple[Tensor, ...]:
        inner = (t, slice(None), slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
        views, seen, noise = patches.photons_tvyx[inner], patches.seen_tvyx[inner], patches.read_variance_tvyx[inner]
        ground = dark_level(views[None])[0].clamp(min=0)
        rise = (views - ground[:, None, None]) * seen
        spread = (ground[:, None, None] + noise).mean().clamp(min=1e-6).sqrt() / 3
        if float(avg_pool2d(rise, 3, 1).max()) < LIT_SIGMAS * float(spread):
            nothing = views.new_zeros(0)
            return nothing.long(), nothing.reshape(0, 3), nothing, nothing
        instrument, kernels = self._optics(tuple((round(float(y), 1), round(float(x), 1)) for y, x in patches.shift_tv2[t]))
        if isinstance(self.network, CompactVNet | PublishedVNet):
            summed = SummedViews(views, seen, ground, float(noise.mean()), instrument, 1)
            found = fit_peaks(finish(volume_of_views(self.network, summed, VolumePlan(model="", device=DEVICE[views.device.type])))[None])
            # of a molecule in a wide-field volume all photons are in the plane in focus
            index, height, photons = found.index_n3, found.height_n, found.height_n * found.width_n3[:, 1:].prod(1) * 2 * torch.pi
        else:
            state = Deconvolution(views, kernels.to(views.device), ground, seen, accelerated=True)
            while state.iterations < self.iterations:
                list(state.iterate())
            if self.network is None:
                found = fit_peaks(state.volume_zyx[None])
                index, height, photons = found.index_n3, found.height_n, found.light_n
            else:
                volume = as_wide_field(state.volume_zyx, self._wide.to(views.device)).clamp(min=0)
                index, height = molecules_of(self.network, volume, float(peak_limit(volume[None])))
                photons = light_around(state.volume_zyx, index)
        step = views.new_tensor([self.grid.step_nm, self.grid.pixel_nm, self.grid.pixel_nm])
        place = index * step
        place[:, 0] += self.grid.first_nm
        return torch.full_like(height, t).long(), place, photons, height

    def _optics(self, shift_v2: Shifts) -> tuple[Instrument, Tensor]:
        """Views with the part of a pixel by which patches are cut beside their affines, and the images of voxels in them; once a tile."""
        if shift_v2 not in self._placed:
            views = []
            for view, shift in zip(self.instrument.views, shift_v2, strict=True):
                (a, b, _), (c, d, _) = view.affine_yx
                views.append(view.model_copy(update={"affine_yx": ((a, b, shift[0]), (c, d, shift[1]))}))
            placed = self.instrument.model_copy(update={"views": tuple(views)})
            self._placed[shift_v2] = placed, view_kernels(placed, self.grid, WINDOW_PX)
        return self._placed[shift_v2]


def light_around(volume_zyx: Tensor, index_n3: Tensor) -> Tensor:
    """Sum of a volume within the reach of a molecule around places (n, 3)."""
    sides = [2 * reach + 1 for reach in REACH_ZYX]
    z, y, x = index_n3.round().long().clamp(min=0).minimum(torch.tensor(volume_zyx.shape, device=index_n3.device) - 1).unbind(1)
    return avg_pool3d(volume_zyx[None], sides, 1, REACH_ZYX)[0, z, y, x] * math.prod(sides)
