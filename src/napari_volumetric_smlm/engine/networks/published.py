"""Published networks that answer with a grid of voxels: DeepSTORM3D [nehme2020] and AutoDS3D [saguy2025].

One network serves both. The frame is normalised; six dilated blocks look ever farther around (dilated convolutions, [yu2016]), each but
the first reading the frame again; two blocks refine the lateral grid; three more and a linear layer turn channels into depth planes.
All convolutions are two-dimensional: a depth plane is a channel. Written from the layer list; weights of the authors do not fit by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh, interpolate

from ...errors import PlanError

WIDTH = 64
LARGEST = 800.0  # a voxel that surely holds a molecule
DILATIONS = (1, 1, 2, 4, 8, 16)
SHORT_DILATIONS = (1, 1, 2, 4, 1, 1)
# how much finer the grid becomes before each of the two refining blocks; AutoDS3D keeps both blocks whatever its grid
STEPS = {1: (1, 1), 2: (2, 1), 4: (2, 2)}


def _block(channels: int, width: int, dilation: int = 1) -> nn.Sequential:
    """Convolution, leaky ReLU, batch norm: in this order."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(width),
    )


class VoxelNetwork(nn.Module):
    """Frames (T, 1, y, x) to voxels (T, z, y * upsampling, x * upsampling) between 0 and 800; any frame size.

    Parameters
    ----------
    depth_planes : voxels along z.
    upsampling : voxels per camera pixel along y and x: 1, 2 or 4.
    dilations : of the six blocks that look around.

    Raises
    ------
    PlanError
        If there is no layer list for the upsampling.
    """

    def __init__(self, depth_planes: int, upsampling: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        if upsampling not in STEPS:
            raise PlanError(f"upsampling {upsampling}: the published networks know 1, 2 and 4 voxels per camera pixel; choose one of them")
        self.depth_planes, self.upsampling = depth_planes, upsampling
        self.norm = nn.BatchNorm2d(1)
        self.context = nn.ModuleList(_block(WIDTH + 1 if k else 1, WIDTH, d) for k, d in enumerate(dilations))
        self.finer = nn.ModuleList([_block(WIDTH + 1, WIDTH), _block(WIDTH, WIDTH)])
        self.enter_depth = _block(WIDTH, depth_planes)
        self.depth = nn.ModuleList([_block(depth_planes, depth_planes), _block(depth_planes, depth_planes)])
        self.leave = nn.Conv2d(depth_planes, depth_planes, 1)

    def forward(self, frames_t1yx: Tensor) -> Tensor:
        """Return the voxels of scaled frames."""
        image = self.norm(frames_t1yx)
        first, *others = self.context
        x = first(image)
        for block in others:
            x = x + block(torch.cat([x, image], 1))
        x = torch.cat([x, image], 1)
        for block, step in zip(self.finer, STEPS[self.upsampling], strict=True):
            x = block(x if step == 1 else interpolate(x, scale_factor=float(step), mode="nearest"))
        x = self.enter_depth(x)
        for block in self.depth:
            x = x + block(x)
        return hardtanh(self.leave(x), 0.0, LARGEST)


class DeepStorm3d(VoxelNetwork):
    """DeepSTORM3D: four voxels per camera pixel.

    Parameters
    ----------
    depth_planes : 121 for the published STORM frames, 81 for the bright ones.
    short : the variant that sees a smaller neighbourhood.
    """

    def __init__(self, depth_planes: int, short: bool = False) -> None:
        super().__init__(depth_planes, 4, SHORT_DILATIONS if short else DILATIONS)


class AutoDs3d(VoxelNetwork):
    """AutoDS3D: the same network on a coarser grid; its blob-like target tells positions within a voxel."""

    def __init__(self, depth_planes: int = 81, upsampling: int = 1) -> None:
        super().__init__(depth_planes, upsampling)
