"""The published L-Net, from its layer list: a plain three-dimensional U-Net on a finer grid, from a volume to the voxels of its molecules.

The finer grid is made by repeating voxels before the network. Mended: brightness is divided by each patch's highest voxel instead of a mean
over the first frames, patches without a peak are skipped, and what comes out is a list of places between voxels instead of a sum of images
that are cut to 16 bits. Written anew; `released_lnet` brings the authors' weights over.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad

from .voxels import VoxelGrid, VoxelRules, decode_voxels

WIDTH = 16
FINE_PX, RIM = 160, 2  # side of a patch on the finer grid; voxels of the volume on each side of it whose answer is dropped
Shape = tuple[int, int, int]
# share of the brightest molecule that the network must answer with
RULES = VoxelRules(threshold=0.05, reach_voxels=2)


def _block(channels: int, width: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU, twice: in this order."""
    layers: list[nn.Module] = []
    for before in (channels, width):
        layers += [nn.Conv3d(before, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class PublishedLNet(nn.Module):
    """Volumes (T, z, y, x) to molecules' voxels (T, z * s, y * s, x * s), each as bright as its molecule; any size.

    Parameters
    ----------
    scale_zyx : finer voxels per voxel: (4, 4, 4), or (4, 8, 8).
    levels : of the U: 4 for 4x, 6 for 8x; each halves all axes and doubles the channels.
    """

    def __init__(self, scale_zyx: Shape, levels: int) -> None:
        super().__init__()
        self.scale_zyx, self.step = scale_zyx, 2 ** (levels - 1)
        widths = [WIDTH * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_block(before, now) for before, now in zip([1, *widths], widths, strict=False))
        lower = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv3d(below, now, 1)) for below, now in lower)
        self.up = nn.ModuleList(_block(2 * now, now) for _, now in lower)
        self.leave = nn.Conv3d(WIDTH, 1, 1)

    def forward(self, volumes_tzyx: Tensor) -> Tensor:
        """Read volumes whose brightest molecule is about one."""
        fine = volumes_tzyx[:, None]
        for axis, scale in enumerate(self.scale_zyx, start=2):
            fine = fine.repeat_interleave(scale, axis)
        depth, height, width = fine.shape[2:]
        x = pad(fine, (0, -width % self.step, 0, -height % self.step, 0, -depth % self.step))
        passed = []
        for level, block in enumerate(self.down):
            x = block(max_pool3d(x, 2) if level else x)
            passed.append(x)
        for rise, block, beside in zip(self.rise, self.up, passed[-2::-1], strict=True):
            x = block(torch.cat([rise(x), beside], 1))
        return torch.relu(self.leave(x))[:, 0, :depth, :height, :width]


@torch.no_grad()
def molecules_of(network: PublishedLNet, volume_zyx: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Places (n, 3) of a volume's molecules in its voxels, with fractions, and their brightness; patch by patch.

    limit : height of a voxel (see `localize.gaussians.peak_limit`) below which a patch counts as empty and is skipped.
    """
    size = [FINE_PX // scale for scale in network.scale_zyx]
    core = [n - 2 * RIM for n in size]
    # the last patch of an axis may reach beyond the volume, where nothing shines
    rest = [(-n) % c for n, c in zip(volume_zyx.shape, core, strict=True)]
    padded = pad(volume_zyx, (RIM, RIM + rest[2], RIM, RIM + rest[1], RIM, RIM + rest[0]))
    grid = VoxelGrid(-0.5, size[0] - 0.5, size[0] * network.scale_zyx[0], 1.0, network.scale_zyx[1])
    places, heights = [volume_zyx.new_zeros((0, 3))], [volume_zyx.new_zeros(0)]
    low, high = volume_zyx.new_tensor([RIM - 0.5] * 3), volume_zyx.new_tensor([RIM + c - 0.5 for c in core])
    for corner in product(*(range(0, n, c) for n, c in zip(volume_zyx.shape, core, strict=True))):
        patch = padded[tuple(slice(first, first + n) for first, n in zip(corner, size, strict=True))]
        # what peaks farther out belongs to another patch
        if float(patch[(slice(1, -1),) * 3].max()) <= limit:
            continue
        brightest = patch.max()
        found = decode_voxels(network((patch / brightest)[None]), grid, RULES)
        mine = ((found.position_n3 >= low) & (found.position_n3 < high)).all(1)
        places.append(found.position_n3[mine] + volume_zyx.new_tensor(corner) - RIM)
        heights.append(found.confidence_n[mine] * brightest)
    return torch.cat(places), torch.cat(heights)
