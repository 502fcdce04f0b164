"""The published V-Net, from its layer list: a three-dimensional U-Net whose stem turns views into depth planes.

Mended against the released code: dropout acts in training only, and the eight identical copies of the stem's volume are one; sums over
equal inputs need no eight sets of weights. Brightness goes through the same unit as in the compact network, so a camera's gain does not
matter. Written anew; `released_vnet` brings the authors' weights over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad

from ...errors import PlanError
from .vnet import Exposure

BRIGHTNESS = 10.0  # of a voxel in focus, about, in the unit of the views

LEVELS, WIDTH, STEM_COPIES = 7, 16, 1
DROPPED = 0.3


def _block(channels: int, width: int) -> nn.Sequential:
    """Convolution, leaky ReLU, batch norm, twice: in this order."""
    layers: list[nn.Module] = []
    for before in (channels, width):
        layers += [nn.Conv3d(before, width, 3, padding=1, bias=False), nn.LeakyReLU(0.01), nn.BatchNorm3d(width)]
    return nn.Sequential(*layers)


class PublishedVNet(nn.Module):
    """Views (T, v, y, x) to volumes (T, z, y, x); rows and columns are padded to what the levels need.

    It looks at the whole frame through its levels, so tiles of it would not fit together.

    Parameters
    ----------
    views, planes : numbers of views and of depths.
    levels : of the U; each halves all three axes, down to planes / 2^(levels - 1) depths.
    width : channels of the first level; each level doubles them.
    stem_copies : equal channels that the stem's volume is repeated to; 8 as published.

    Raises
    ------
    PlanError
        If the planes cannot be halved as often as the levels need.
    """

    def __init__(self, views: int, planes: int, levels: int = LEVELS, width: int = WIDTH, stem_copies: int = STEM_COPIES) -> None:
        super().__init__()
        self.views, self.planes, self.step, self.stem_copies = views, planes, 2 ** (levels - 1), stem_copies
        if planes % self.step:
            raise PlanError(
                f"depth_planes is {planes}: the published V-Net halves depth {levels - 1} times; take a multiple of {self.step}"
            )
        self.stem = nn.Sequential(nn.Conv2d(views, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.LeakyReLU(0.01))
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_block(before, now) for before, now in zip([stem_copies, *widths], widths, strict=False))
        lower = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose3d(below, now, 2, 2, bias=False) for below, now in lower)
        self.up = nn.ModuleList(_block(2 * now, now) for _, now in lower)
        self.drop = nn.Dropout3d(DROPPED)
        self.leave = nn.Conv3d(width, 1, 1, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, views_tvyx: Tensor, exposure: Exposure) -> Tensor:
        """Volumes, in the exposure's unit, of views in photons above the background."""
        return BRIGHTNESS * self.through(views_tvyx / exposure.unit_t[:, None, None, None])

    def through(self, views_tvyx: Tensor) -> Tensor:
        """What the layers alone make of views, (T, z, y, x)."""
        height, width = views_tvyx.shape[-2:]
        views = pad(views_tvyx, (0, -width % self.step, 0, -height % self.step))
        x = self.stem(views)[:, None].expand(-1, self.stem_copies, -1, -1, -1)
        passed = []
        for level, block in enumerate(self.down):
            x = block(self.drop(max_pool3d(x, 2)) if level else x)
            passed.append(x)
        for rise, block, beside in zip(self.rise, self.up, passed[-2::-1], strict=True):
            x = self.drop(block(torch.cat([rise(x), beside], 1)))
        return torch.relu(self.leave(x))[:, 0, :, :height, :width]
