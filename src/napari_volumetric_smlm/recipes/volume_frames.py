"""Light-field views of known volumes, drawn on the fly, for networks that learn to make volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..domain.instrument import Camera, Instrument
from ..domain.plans import TrainPlan
from ..engine.deconvolve.coarse import CoarseOptics, coarse_volume
from ..engine.deconvolve.ground import dark_level
from ..engine.networks.units import Units
from ..engine.networks.vnet import Exposure
from ..engine.simulate.background import background_images
from ..engine.simulate.camera import expose
from ..engine.simulate.phantoms import Phantom, phantom
from ..engine.simulate.planes import DepthGrid
from ..engine.simulate.structures import Box
from ..engine.simulate.volumes import BEYOND, VolumeScene
from ..engine.training.average import Batch
from ..errors import PlanError
from .devices import chosen_device
from .training_frames import HELD_OUT_FROM

DEPTH_STEP_NM = 125.0
# light of a point outside this window is left out of the training's views: 2 to 3 % of it
WINDOW_PX = 61
KINDS = (
    *("microtubules", "pits", "mitochondria", "beads", "molecules", "pits+microtubules", "mitochondria+beads"),
    *("beads+microtubules", "mitochondria+pits", "pits+beads", "mitochondria+pits+beads"),
    # dense ones: what looks like detail is noise there more often
    *("microtubules+microtubules", "pits+pits+microtubules", "beads+beads+pits", "beads+microtubules+microtubules"),
)
THIN_NM = 600.0  # thinnest layer that holds structures
UNSURE = 1.2  # a frame's unit may be wrong by this factor: a crop is not the whole frame


@dataclass(frozen=True)
class VolumeBatch:
    """Views above the background (t, v, y, x) with their exposure, and the volumes (t, z, y, x) that they show; in detected photons.

    coarse_tzyx : their coarse volumes, where they were asked for.
    """

    views_tvyx: Tensor
    exposure: Exposure
    volume_tzyx: Tensor
    coarse_tzyx: Tensor | None


class VolumeFrames:
    """Draws batches; batch k of a seed is always the same.

    Parameters
    ----------
    coarse : make coarse volumes as well, which the compact network reads.

    Attributes
    ----------
    table : what draws (it knows the device and the window).

    Raises
    ------
    PlanError
        If the instrument has one view only: one view does not tell depths apart, or views share a camera: they must be cut.
    """

    def __init__(self, instrument: Instrument, plan: TrainPlan, grid: DepthGrid, coarse: bool) -> None:
        count = len(instrument.views)
        if count < 2:
            raise PlanError(f"{plan.architecture} sees depth by parallax between views, the instrument {instrument.name!r} has one view")
        if [view.camera for view in instrument.views] != list(range(count)):
            raise PlanError(
                f"the views of {instrument.name!r} share a camera: {plan.architecture} needs them cut, one camera a view (cut_instrument)"
            )
        self.instrument, self.plan, self.grid = instrument, plan, grid
        self.shape_yx = (plan.frame_px, plan.frame_px)
        window = plan.window_px or WINDOW_PX
        self.table = VolumeScene(instrument, grid, self.shape_yx, window + 1 - window % 2, chosen_device(plan.device))
        self._coarse = CoarseOptics.of(instrument, grid, self.table.window_px).to(self.table.device) if coarse else None
        low, high = instrument.depth_range_nm
        # photons as they are counted, of those before the sensor
        counted = [camera.quantum_efficiency / camera.excess_noise for camera in instrument.cameras]
        self._counted_v = torch.tensor(counted, device=self.table.device)
        share = sum(view.photon_fraction * part for view, part in zip(instrument.views, counted, strict=True))
        self.detected = share / sum(view.photon_fraction for view in instrument.views)
        self.units = Units(low, high, grid.pixel_nm, sum(plan.photons) / 2 * self.detected)

    def drawn(self, batch: Batch) -> VolumeBatch:
        """What a step of the training asks for."""
        return self.batch(batch.frames, batch.number + HELD_OUT_FROM * batch.held_out, batch.held_out)

    def batch(self, frames: int, k: int, test: bool = False) -> VolumeBatch:
        """Views and volumes of batch k; `test` = frames for testing, which no training draws."""
        generator = torch.Generator().manual_seed((self.plan.seed * 1_000_003 + k) * 2 + test)
        drawn = [self.table.draw(self._phantom(generator)) for _ in range(frames)]
        mean = torch.stack([views for views, _ in drawn]).cpu()
        volume = torch.stack([volume for _, volume in drawn]) * self.detected
        light = [
            background_images(frames, self.shape_yx, self._ground(generator), self.plan.background_structure, generator)
            for _ in self.instrument.cameras
        ]
        mean = mean + torch.stack(light, 1)
        views = torch.stack(
            [photons_of(expose(mean[:, v], camera, generator), camera) for v, camera in enumerate(self.instrument.cameras)], 1
        )
        views = views.to(self.table.device)
        # half of the users state the background, the others leave it to be found
        stated = torch.rand((frames, 1), generator=generator).to(views.device) < 0.5
        ground = torch.where(stated, torch.stack(light, 1).mean((2, 3)).to(views.device) * self._counted_v, dark_level(views))
        exposure = Exposure.of(views, ground, read_variance(self.instrument))
        factor = UNSURE ** (2 * torch.rand(frames, generator=generator) - 1).to(views.device)
        exposure = Exposure(exposure.unit_t * factor, exposure.noise_t / factor)
        coarse = None
        if self._coarse is not None:
            coarse = torch.stack([coarse_volume(*one, self._coarse) for one in zip(views, ground.clamp(min=0), strict=True)])
        return VolumeBatch(views - ground[:, :, None, None], exposure, volume, coarse)

    def _ground(self, generator: torch.Generator) -> tuple[float, float]:
        """Limits of the background: a part of those of the plan, so that flat and uneven ones come."""
        low, high = self.plan.background_photons
        first, second = (low + torch.rand(2, generator=generator) * (high - low)).sort().values.tolist()
        return first, second

    def _phantom(self, generator: torch.Generator) -> Phantom:
        kind = KINDS[int(torch.randint(len(KINDS), (1,), generator=generator))]
        box = self._box(generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        low, high = self.plan.photons
        if kind == "molecules":
            return self._molecules(box, torch.Generator().manual_seed(seed))
        made = phantom(kind, box, seed)
        per_um2 = low * (high / low) ** float(torch.rand(1, generator=generator))
        return made.scaled(per_um2 * box.area_um2)

    def _molecules(self, box: Box, generator: torch.Generator) -> Phantom:
        """Single molecules, as frames of blinking dyes show them."""
        low, high = self.plan.density_per_um2
        density = low * (high / low) ** float(torch.rand(1, generator=generator))
        count = 1 + int(torch.poisson(torch.tensor(density * box.area_um2), generator=generator))
        place = box.low_nm + torch.rand((count, 3), generator=generator) * (box.high_nm - box.low_nm)
        least, most = self.plan.photons
        return Phantom(place, least + torch.rand(count, generator=generator) * (most - least))

    def _box(self, generator: torch.Generator) -> Box:
        """The field with its surroundings; all depths and some beyond, or a thin layer of them."""
        beyond = 0.6 * self.table.reach_nm
        low, high = self.grid.first_nm, float(self.grid.z_nm[-1])
        share = torch.rand(4, generator=generator).tolist()
        if share[0] < 0.5:
            outside = share[1] * (BEYOND - 1) * self.grid.step_nm
            low, high = low - outside, high + outside
        else:
            thick = THIN_NM * ((high - low) / THIN_NM) ** share[1]
            low = low + share[2] * (high - low - thick)
            high = low + thick
        near, far = -beyond, self.shape_yx[0] * self.grid.pixel_nm + beyond
        return Box(torch.tensor([low, near, near]), torch.tensor([high, far, far]))


def photons_of(counts_tyx: Tensor, camera: Camera) -> Tensor:
    """Detected photons of counts; of an EMCCD half of them, so that variance equals mean."""
    scale = torch.as_tensor(camera.gain_e_per_count, dtype=torch.float32) / (camera.em_gain * camera.excess_noise)
    return (counts_tyx - torch.as_tensor(camera.offset_counts, dtype=torch.float32)) * scale


def read_variance(instrument: Instrument) -> float:
    """Mean read noise variance of the cameras, in photons squared as `photons_of` counts them."""
    each = [float(torch.as_tensor(c.read_noise_e).float().square().mean()) / (c.em_gain * c.excess_noise) ** 2 for c in instrument.cameras]
    return math.fsum(each) / len(each)
