"""Frames that a network learns from: drawn on the fly from the instrument, and read through the same path as real ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.plans import SimulatePlan, TrainPlan
from ..engine.localize.footprint import choose_depth_step, choose_window
from ..engine.localize.scene import Patches
from ..engine.localize.tiles import Tiling, cut_patches
from ..engine.networks.units import Units
from ..engine.optics.table import PsfTable
from ..engine.simulate.background import background_images
from ..engine.simulate.camera import expose
from ..engine.simulate.molecules import Emissions, blink, draw_photons
from ..engine.simulate.scene import Scene
from ..engine.simulate.structures import Box, place_molecules
from ..engine.training.average import Batch
from ..engine.training.losses import Targets
from .devices import chosen_device
from .photons import detected_shares, read_photons, to_device

# light from beyond the frame reaches into it; molecules are drawn that far outside, as a share of the window
BEYOND = 0.3
# frames for testing from this number on choose among the weights, those before judge what was chosen
HELD_OUT_FROM = 100_000
# what the PSF holds beyond the window of the search, a network should have seen too
WIDER_WINDOW = 1.4
# Shares of the frames that a network with context is shown without the frames before, without those after, and as stills. Movies begin
# and end, and have gaps; zeros in place of what is missing, not the frame itself, which would bear witness to its own noise.
ENDS = (0.05, 0.05, 0.1)


def table_of(instrument: Instrument, plan: TrainPlan) -> tuple[PsfTable, float | None]:
    """The PSF of an instrument, and the blur (nm) that molecules have on average where the plan adds some."""
    window = plan.window_px or choose_window(instrument)
    narrow = max(view.blur_nm for view in instrument.views)
    low, high = plan.blur_nm
    blur = None if high <= 0 else math.sqrt(narrow**2 + (low**2 + low * high + high**2) / 3)
    table = PsfTable(detected_shares(instrument).instrument, window + 1 - window % 2, choose_depth_step(instrument) / 2,
                     None if blur is None else (0.7 * blur, 1.3 * blur), chosen_device(plan.device))  # fmt: skip
    return table, blur


class TrainingFrames:
    """Draws batches; batch k of a seed is always the same.

    channels : what the network reads of patches. shape_yx : size of the frames. span : frames of a run of which one is learned, the
    middle one; molecules blink from frame to frame of a run, the background stays.
    """

    def __init__(self, instrument: Instrument, plan: TrainPlan, table: PsfTable, channels: Callable[[Patches], torch.Tensor]) -> None:
        self.instrument, self.plan, self.table, self.channels = instrument, plan, table, channels
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
        self.span = 2 * plan.context_frames + 1
        self._light = SimulatePlan(photons=plan.photons, photon_distribution=plan.photon_distribution, blur_nm=plan.blur_nm,
                                   frame_count=self.span, mean_on_frames=plan.on_frames)  # fmt: skip

    def drawn(self, batch: Batch) -> tuple[torch.Tensor, Targets, Emissions]:
        """What a step of the training asks for."""
        return self.batch(batch.frames, batch.number + HELD_OUT_FROM * batch.held_out, batch.held_out)

    def batch(self, frames: int, k: int, test: bool = False) -> tuple[torch.Tensor, Targets, Emissions]:
        """Channels, targets and all molecules of batch k; `test` = frames for testing, which no training draws.

        With context the channels are those of whole runs, (frames, span, c, y, x), zero where a neighbour is not shown; targets and
        molecules are those of the middle frames.
        """
        generator = torch.Generator().manual_seed((self.plan.seed * 1_000_003 + k) * 2 + test)
        emissions = self._runs(frames, generator) if self.plan.on_frames else self._molecules(frames, generator)
        ground = background_images(frames, self.shape_yx, self.plan.background_photons, self.plan.background_structure, generator)
        device, total = self.table.device, frames * self.span
        mean = self.scene.draw(emissions.to(device), total).cpu() + ground.repeat_interleave(self.span, 0)[:, None]
        noise = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        counts = tuple(expose(mean[:, c], camera, noise).numpy().astype(np.uint16) for c, camera in enumerate(self.instrument.cameras))
        channels = self.channels(self.patches_of(counts, total))
        if self.span > 1:
            shown = self._shown(frames, generator)
            channels = channels.unflatten(0, (frames, self.span)) * shown[..., None, None, None].to(channels)
            emissions = emissions.every(self.span, self.plan.context_frames)
        return channels, self._targets(emissions, ground), emissions

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

    def _runs(self, frames: int, generator: torch.Generator) -> Emissions:
        """Molecules of as many runs of frames, each with a density of its own."""
        low, high = self.plan.density_per_um2
        runs = []
        for _ in range(frames):
            density = low + float(torch.rand(1, generator=generator, dtype=torch.float64)) * (high - low)
            runs.append(blink(self._light.model_copy(update={"density_per_um2": density}), self.box, generator))
        return Emissions.joined(runs, self.span)

    def _shown(self, frames: int, generator: torch.Generator) -> torch.Tensor:
        """Which frames of runs are shown, (frames, span)."""
        before, after, still = ENDS
        drawn = torch.rand(frames, generator=generator)[:, None]
        place = torch.arange(self.span)[None] - self.plan.context_frames
        hidden = ((drawn < before + still) & (place < 0)) | ((drawn >= before) & (drawn < before + still + after) & (place > 0))
        return ~hidden

    def inside(self, emissions: Emissions) -> torch.Tensor:
        """Which molecules lie in the frame."""
        place = emissions.position_n3[:, 1:] / self.units.pixel_nm
        return ((place >= -0.5) & (place < torch.tensor(self.shape_yx) - 0.5)).all(1)

    def wanted(self, emissions: Emissions) -> torch.Tensor:
        """Which molecules a network must find."""
        return self.inside(emissions) & (emissions.photons_n >= self.plan.least_wanted_photons)

    def _targets(self, emissions: Emissions, ground: torch.Tensor) -> Targets:
        place = self.units.encode(emissions.position_n3, emissions.photons_n * self.detected)
        wanted = self.wanted(emissions)
        device = self.table.device
        camera = self.instrument.cameras[self.instrument.views[0].camera]
        level = torch.log1p((ground * camera.quantum_efficiency / camera.excess_noise).to(device)) / 5
        return Targets(emissions.frame_n[wanted].to(device), place[wanted].to(device), level)
