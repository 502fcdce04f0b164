"""Training of the published voxel networks, DeepSTORM3D [nehme2020] and AutoDS3D [saguy2025]: raw frames in, a grid of voxels out."""

from __future__ import annotations

from torch import Tensor, nn

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..domain.training_rules import UPSAMPLINGS
from ..engine.networks.published import DILATIONS
from ..engine.networks.voxels import VoxelGrid, decode_voxels
from ..engine.training.average import Batch
from ..engine.training.precision import mixed_precision
from ..engine.training.voxel_losses import autods3d_loss, blob_voxels, deepstorm3d_loss, occupied_voxels
from ..errors import PlanError
from .trained import VOXEL_RULES, scaled_frames
from .training_frames import TrainingFrames, table_of

# the papers show 9,000 frames up to 50 times; here no frame comes twice
FRAMES = {"quick": 36_000, "standard": 200_000, "full": 450_000}
BATCH = {"deepstorm3d": 4, "autods3d": 16}
DEPTH_PLANES = {"deepstorm3d": 121, "autods3d": 81}


class VoxelFamily:
    """What a training of `networks.published` needs; see `train.Family`.

    Raises
    ------
    PlanError
        If the instrument has several views: the published networks read one.
    """

    ground_px = 0.0  # raw frames: no guess of the background

    def __init__(self, instrument: Instrument, plan: TrainPlan) -> None:
        if len(instrument.views) > 1:
            raise PlanError(
                f"{plan.architecture} reads one view, the instrument {instrument.name!r} has {len(instrument.views)}: "
                "choose the architecture lean, which reads all views jointly"
            )
        self.kind: str = plan.architecture
        self.frame_count, self.batch = FRAMES[plan.preset], BATCH[self.kind]
        self.frames = TrainingFrames(instrument, plan, table_of(instrument, plan)[0], scaled_frames)
        planes, finer = plan.depth_planes or DEPTH_PLANES[self.kind], plan.upsampling or UPSAMPLINGS[self.kind][0]
        self.architecture = {"depth_planes": planes, "upsampling": finer, "dilations": list(DILATIONS)}
        units = self.frames.units
        self.grid = VoxelGrid(units.low_nm, units.high_nm, planes, units.pixel_nm, finer)

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss for a batch."""
        channels, _, emissions = self.frames.drawn(batch)
        with mixed_precision(channels.device):
            voxels = network(channels)
        voxels = voxels.float()
        rows = self.frames.wanted(emissions)
        frame = emissions.frame_n[rows].to(voxels.device)
        index = self.grid.index(emissions.position_n3[rows].to(voxels.device, voxels.dtype))
        if self.kind == "deepstorm3d":
            return deepstorm3d_loss(voxels, occupied_voxels(frame, index, tuple(voxels.shape)))
        brightness = (emissions.photons_n[rows] / self.frames.plan.photons[1]).clamp(max=1).to(voxels.device, voxels.dtype)
        return autods3d_loss(voxels, blob_voxels(frame, index, brightness, tuple(voxels.shape)), self.grid.upsampling)

    def find(self, network: nn.Module, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Frame and place of what the network finds."""
        finds = decode_voxels(network(channels), self.grid, VOXEL_RULES[self.kind])
        return finds.frame_n, finds.position_n3
