"""Training of our lean localizer: scores of every depth in, a molecule's place, brightness and their errors out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..engine.localize.features import EXTRA_CHANNELS, Features
from ..engine.training.average import Batch
from ..engine.training.losses import localizer_loss
from ..engine.training.precision import mixed_precision
from .training_frames import TrainingFrames, table_of

GROUND_PX = 120.0  # structure that the first guess of the background follows
TEST_THRESHOLD = 0.5  # of the probability


@dataclass(frozen=True)
class Preset:
    """How long, and how large a network."""

    frames: int
    batch: int
    depths: int
    width: int
    dilations: tuple[int, ...]


PRESETS = {
    "quick": Preset(36_000, 8, 24, 64, (1, 2, 4, 8, 4, 2, 1)),
    "standard": Preset(200_000, 8, 24, 64, (1, 2, 4, 8, 4, 2, 1, 1)),
    "full": Preset(1_000_000, 16, 32, 96, (1, 2, 4, 8, 1, 2, 4, 8, 4, 2, 1)),
}


class LeanFamily:
    """What a training of `networks.localizer` needs; see `train.Family`."""

    kind = "localizer"
    ground_px = GROUND_PX

    def __init__(self, instrument: Instrument, plan: TrainPlan) -> None:
        preset = PRESETS[plan.preset]
        table, blur_nm = table_of(instrument, plan)
        # the filter takes the blur that the molecules have on average
        features = Features(table, (plan.frame_px, plan.frame_px), preset.depths, GROUND_PX, blur_nm)
        self.frames = TrainingFrames(instrument, plan, table, features)
        self.frame_count, self.batch = preset.frames, preset.batch
        self.architecture: dict[str, object] = {"channels": preset.depths + EXTRA_CHANNELS, "depths": preset.depths, "width": preset.width,
                             "dilations": list(preset.dilations)}  # fmt: skip
        if plan.context_frames:
            self.architecture["context_frames"] = plan.context_frames

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss for a batch."""
        channels, targets, _ = self.frames.drawn(batch)
        with mixed_precision(channels.device):
            predicted = network(channels)
        return localizer_loss(predicted, targets)

    def find(self, network: nn.Module, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Frame and place of what the network finds."""
        finds = self.frames.units.decode(network(channels), TEST_THRESHOLD)
        return finds.frame_n, finds.position_n3
