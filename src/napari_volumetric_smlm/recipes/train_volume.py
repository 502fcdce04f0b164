"""Training of networks that turn light-field views into volumes: the wide-field volume of simulated structures is the target."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..domain.runs import Progress
from ..engine.deconvolve.coarse import coarse_planes
from ..engine.simulate.planes import DepthGrid, parallax_px, view_kernels
from ..engine.training.average import Batch
from ..engine.training.precision import mixed_precision
from .volume_frames import DEPTH_STEP_NM, WINDOW_PX, VolumeBatch, VolumeFrames

VOLUME_KINDS = ("vnet", "vnet_paper")
TEST_FRAMES = 32
PAPER_PLANES, PAPER_LEVELS, PAPER_BATCH = 64, 7, 3
# a volume's variance in the views' unit below which its errors count no more: an empty frame
LEAST_VARIANCE = 1e-2
# not every view shows what lies at a frame's rim: nobody learns from guesses
RIM_PX = 6


@dataclass(frozen=True)
class Preset:
    """How long, and how large a network."""

    frames: int
    batch: int
    width: int
    dilations: tuple[int, ...]


PRESETS = {
    "quick": Preset(24_000, 4, 48, (1, 2, 4, 2, 1)),
    "standard": Preset(120_000, 8, 64, (1, 2, 4, 1, 2, 1)),
    "full": Preset(500_000, 16, 96, (1, 2, 4, 1, 2, 4, 2, 1)),
}


class VolumeFamily:
    """What a training of `networks.vnet` or `networks.published_vnet` needs; see `train.Family`.

    Raises
    ------
    PlanError
        If the instrument's views cannot make volumes.
    """

    ground_px = 0.0  # a constant background is subtracted

    def __init__(self, instrument: Instrument, plan: TrainPlan) -> None:
        self.kind: str = plan.architecture
        preset, paper = PRESETS[plan.preset], plan.architecture == "vnet_paper"
        low, high = instrument.depth_range_nm
        planes = plan.depth_planes or (PAPER_PLANES if paper else None)
        step = (high - low) / (planes - 1) if planes else DEPTH_STEP_NM
        grid = DepthGrid.of(instrument, step)
        self.frames = VolumeFrames(instrument, plan, grid, coarse=not paper)
        self.frame_count, self.batch = preset.frames, PAPER_BATCH if paper else preset.batch
        self.architecture: dict[str, Any]
        if paper:
            self.architecture = {"views": len(instrument.views), "planes": grid.planes, "levels": PAPER_LEVELS}
            return
        shift = parallax_px(view_kernels(instrument, grid, WINDOW_PX))
        self.architecture = {
            # rounded, so that a card made on another machine is the same; and no zero below zero
            "parallax_px": [[[round(s, 3) + 0.0 for s in at] for at in view] for view in shift.tolist()],
            "width": preset.width,
            "dilations": list(preset.dilations),
            "coarse_planes": coarse_planes(grid.planes),
        }

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Share of a volume's variance that the network's answer misses, mean over the frames."""
        drawn = self.frames.drawn(batch)
        with mixed_precision(drawn.views_tvyx.device):
            answer = _answer(network, drawn)
        true = drawn.volume_tzyx / drawn.exposure.unit_t[:, None, None, None]
        inner = (..., slice(RIM_PX, -RIM_PX), slice(RIM_PX, -RIM_PX))
        error, spread = ((answer.float() - true)[inner] ** 2).mean((1, 2, 3)), true[inner].var((1, 2, 3))
        return {"volume": (error / (spread + LEAST_VARIANCE)).mean()}

    @torch.no_grad()
    def test(self, network: nn.Module, together: int) -> Generator[Progress, None, dict[str, float]]:
        """Correlation with the true volume, and the error's share of its variance, on frames of another seed."""
        correlations, missed = [], []
        for first in range(0, TEST_FRAMES, together):
            drawn = self.frames.batch(together, first, test=True)
            answer = _answer(network, drawn) * drawn.exposure.unit_t[:, None, None, None]
            for found, true in zip(answer.flatten(1), drawn.volume_tzyx.flatten(1), strict=True):
                correlations.append(float(torch.corrcoef(torch.stack([found, true]))[0, 1]))
                missed.append(float(((found - true) ** 2).mean() / true.var().clamp(min=1e-12)))
            yield Progress(stage="test", done=first + together, total=TEST_FRAMES)
        return {"correlation": sum(correlations) / len(correlations), "missed_variance": sum(missed) / len(missed)}


def _answer(network: nn.Module, drawn: VolumeBatch) -> Tensor:
    more = () if drawn.coarse_tzyx is None else (drawn.coarse_tzyx,)
    answer: Tensor = network(drawn.views_tvyx, drawn.exposure, *more)
    return answer
