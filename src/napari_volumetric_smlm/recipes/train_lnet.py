"""Training of the published L-Net: volumes of blurred molecules in, their voxels on a finer grid out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..domain.runs import Progress
from ..engine.networks.published_lnet import FINE_PX, Shape
from ..engine.networks.units import Units
from ..engine.training.average import Batch
from ..engine.training.precision import mixed_precision
from ..engine.training.voxel_losses import forgiving, lnet_loss
from .devices import chosen_device
from .training_frames import HELD_OUT_FROM

SIZES: dict[str, tuple[Shape, int]] = {"lnet4": ((4, 4, 4), 4), "lnet8": ((4, 8, 8), 6)}
# as published, 10,000 samples an epoch and ten a step; hundreds of epochs were shown
FRAMES, BATCH = {"quick": 2_000, "standard": 100_000, "full": 3_400_000}, 10
# of a molecule's image in voxels, along z and across
WIDTHS_Z, WIDTHS_YX = (1.0, 3.0), (1.0, 2.5)
# emitters per voxel of the volume, at most; and photons of the brightest voxel, between which noise is drawn
DENSEST, PEAK_PHOTONS = 120 / 40**3, (50.0, 10_000.0)
TEST_FRAMES = 32


@dataclass(frozen=True)
class Place:
    """Where a training computes, and the window of its frames' optics: none."""

    device: torch.device
    window_px: int = 0


class LNetFrames:
    """Draws volumes (t, z, y, x), at most one high, and what the network should answer; batch k of a seed is always the same."""

    def __init__(self, instrument: Instrument, plan: TrainPlan, scale_zyx: Shape) -> None:
        self.plan, self.scale_zyx, self.table = plan, scale_zyx, Place(chosen_device(plan.device))
        self.shape = tuple(FINE_PX // scale for scale in scale_zyx)
        self.units = Units(*instrument.depth_range_nm, instrument.pixel_nm(), 1.0)

    def batch(self, frames: int, k: int, test: bool = False) -> tuple[Tensor, Tensor]:
        """Volumes and answers of batch k; `test` = for testing, which no training draws."""
        generator = torch.Generator().manual_seed((self.plan.seed * 1_000_003 + k) * 2 + test)
        volumes, answers = zip(*(self._drawn(generator) for _ in range(frames)), strict=True)
        return torch.stack(volumes).to(self.table.device), torch.stack(answers).to(self.table.device)

    def _drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape, scale = torch.tensor(self.shape), torch.tensor(self.scale_zyx)
        voxels = int(shape.prod())
        count = int(torch.randint(1, max(2, round(DENSEST * voxels) + 1), (1,), generator=generator))
        place = torch.rand((count, 3), generator=generator) * shape - 0.5
        height = torch.rand(count, generator=generator)
        share = torch.rand((count, 3), generator=generator)
        low, high = (torch.tensor([z, x, x]) for z, x in zip(WIDTHS_Z, WIDTHS_YX, strict=True))
        width = low + share * (high - low)
        profile = [torch.exp(-0.5 * ((torch.arange(n) - place[:, a, None]) / width[:, a, None]) ** 2) for a, n in enumerate(self.shape)]
        volume = torch.einsum("n,nz,ny,nx->zyx", height, *profile)
        # the brightest voxel is one, up to a factor that says how dim a patch may be
        factor = float(torch.rand(1, generator=generator)) / float(volume.max())
        least, most = PEAK_PHOTONS
        photons = least * (most / least) ** float(torch.rand(1, generator=generator))
        volume = torch.poisson(volume * factor * photons, generator=generator) / photons
        answer = torch.zeros([int(n) for n in shape * scale])
        z, y, x = torch.round((place + 0.5) * scale - 0.5).long().clamp(min=0).minimum(shape * scale - 1).unbind(1)
        return volume, answer.index_put_((z, y, x), height * factor, accumulate=True)


class LNetFamily:
    """What a training of `networks.published_lnet` needs; see `train.Family`."""

    ground_px = 0.0  # volumes, without background

    def __init__(self, instrument: Instrument, plan: TrainPlan) -> None:
        self.kind: str = plan.architecture
        scale, levels = SIZES[self.kind]
        self.frame_count, self.batch = FRAMES[plan.preset], BATCH
        self.frames = LNetFrames(instrument, plan, scale)
        self.architecture: dict[str, Any] = {"scale_zyx": list(scale), "levels": levels}

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The published loss, mean over the patches."""
        volumes, answers = self.frames.batch(batch.frames, batch.number + HELD_OUT_FROM * batch.held_out, batch.held_out)
        with mixed_precision(volumes.device):
            voxels = network(volumes)
        return lnet_loss(voxels.float(), answers)

    @torch.no_grad()
    def test(self, network: nn.Module, together: int) -> Generator[Progress, None, dict[str, float]]:
        """Correlation of answer and truth, both blurred as in the loss, on patches of another seed."""
        figures = []
        for first in range(0, TEST_FRAMES, together):
            volumes, answers = self.frames.batch(together, first, test=True)
            for pair in zip(forgiving(network(volumes)), forgiving(answers), strict=True):
                figures.append(float(torch.corrcoef(torch.stack([part.flatten() for part in pair]))[0, 1].nan_to_num()))
            yield Progress(stage="test", done=first + together, total=TEST_FRAMES)
        return {"correlation": sum(figures) / len(figures)}
