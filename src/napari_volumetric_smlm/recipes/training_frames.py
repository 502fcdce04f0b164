"""Frames that a network learns from: drawn on the fly from the instrument, and read through the same path as real ones."""

from __future__ import annotations

import numpy as np
import torch

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.plans import SimulatePlan, TrainPlan
from ..engine.localize.features import Features
from ..engine.localize.scene import Patches
from ..engine.localize.tiles import Tiling, cut_patches
from ..engine.networks.units import Units
from ..engine.optics.table import PsfTable
from ..engine.simulate.background import background_images
from ..engine.simulate.camera import expose
from ..engine.simulate.molecules import Emissions, draw_photons
from ..engine.simulate.scene import Scene
from ..engine.simulate.structures import Box, place_molecules
from ..engine.training.losses import Targets
from .photons import detected_shares, read_photons, to_device

# light from beyond the frame reaches into it; molecules are drawn that far outside, as a share of the window
BEYOND = 0.3
# what the PSF holds beyond the window of the search, a network should have seen too
WIDER_WINDOW = 1.4


class TrainingFrames:
    """Draws batches; batch k of a seed is always the same.

    window_px : window of the search. shape_yx : size of the frames.
    """

    def __init__(self, instrument: Instrument, plan: TrainPlan, table: PsfTable, features: Features) -> None:
        self.instrument, self.plan, self.table, self.features = instrument, plan, table, features
        side = plan.frame_px
        self.shape_yx = (side, side)
        drawn = int(WIDER_WINDOW * table.window_px) // 2 * 2 + 1
        self.scene = Scene(instrument, self.shape_yx, plan.blur_nm, drawn, table.device)
        self.tiling = Tiling(self.shape_yx, self.shape_yx, Tiling.of_frame(self.shape_yx, table.window_px).tiles)
        low, high = instrument.depth_range_nm
        beyond = round(BEYOND * table.window_px)
        pixel = instrument.pixel_nm()
        edges = (-(beyond + 0.5) * pixel, (side + beyond - 0.5) * pixel)
        self.box = Box(torch.tensor([low, edges[0], edges[0]]), torch.tensor([high, edges[1], edges[1]]))
        shares = detected_shares(instrument)
        self.detected = sum(v.photon_fraction for v in shares.instrument.views) / sum(v.photon_fraction for v in instrument.views)
        self.units = Units(low, high, pixel, sum(plan.photons) / 2 * self.detected)
        self._light = SimulatePlan(photons=plan.photons, photon_distribution=plan.photon_distribution)

    def batch(self, frames: int, k: int, test: bool = False) -> tuple[torch.Tensor, Targets, Emissions]:
        """Features, targets and all molecules of batch k; `test` = frames for testing, which no training draws."""
        generator = torch.Generator().manual_seed((self.plan.seed * 1_000_003 + k) * 2 + test)
        emissions = self._molecules(frames, generator)
        ground = background_images(frames, self.shape_yx, self.plan.background_photons, self.plan.background_structure, generator)
        device = self.table.device
        mean = self.scene.draw(emissions.to(device), frames).cpu() + ground[:, None]
        noise = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        counts = tuple(expose(mean[:, c], camera, noise).numpy().astype(np.uint16) for c, camera in enumerate(self.instrument.cameras))
        patches = self.patches_of(counts, frames)
        return self.features(patches), self._targets(emissions, ground), emissions

    def patches_of(self, counts: tuple[np.ndarray, ...], frames: int) -> Patches:
        """Patches of camera frames, as a reconstruction cuts them."""
        stack = RawStack(counts_tyx=counts, kind="frames")
        views = [to_device(v, self.table.device) for v in read_photons(stack, self.instrument, range(frames), [0.0] * len(counts))]
        return cut_patches(views, self.table, self.tiling.tiles[0], self.tiling, (0, 0))

    def _molecules(self, frames: int, generator: torch.Generator) -> Emissions:
        low, high = self.plan.density_per_um2
        density = low + torch.rand(frames, generator=generator, dtype=torch.float64) * (high - low)
        counts = torch.poisson(density * self.box.area_um2, generator=generator).long()
        n = int(counts.sum())
        frame = torch.repeat_interleave(torch.arange(frames), counts)
        position = place_molecules(n, self.box, "uniform", generator)
        blur = self.plan.blur_nm[0] + torch.rand(n, generator=generator) * (self.plan.blur_nm[1] - self.plan.blur_nm[0])
        photons = draw_photons(n, self._light, generator)
        return Emissions(frame, torch.arange(n), position, photons, torch.ones(n), blur)

    def _targets(self, emissions: Emissions, ground: torch.Tensor) -> Targets:
        place = self.units.encode(emissions.position_n3, emissions.photons_n * self.detected)
        last = torch.tensor([side - 0.5 for side in self.shape_yx])
        wanted = ((place[:, 1:3] >= -0.5) & (place[:, 1:3] < last)).all(1) & (emissions.photons_n >= self.plan.least_photons)
        device = self.table.device
        camera = self.instrument.cameras[self.instrument.views[0].camera]
        level = torch.log1p((ground * camera.quantum_efficiency / camera.excess_noise).to(device)) / 5
        return Targets(emissions.frame_n[wanted].to(device), place[wanted].to(device), level)
