"""From light-field views to a volume: the compact V-Net.

The physics comes first. Each view is shifted back by its known parallax for every depth of the grid (a plane sweep): where all views then
agree there is light at that depth. What the views have in common (their mean and their minimum) and how far they differ are channels of a
two-dimensional trunk at half resolution, in which depths are channels. A coarse deconvolution of the same views
(`deconvolve.coarse`) says where light lies by and large; the network corrects it. No layer looks at a whole frame, so a tile with enough
around it gives what the whole frame would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, pixel_unshuffle

STATISTICS = 3  # of the shifted views: mean, minimum, spread
# Between neighbouring planes a view moves by half a pixel: the views are compared on every second plane.
SWEPT = 2
# Planes that are finished at a time: memory that a program has just used costs far less time than new memory.
TOGETHER = 9
# The last layer knows no neighbours at full resolution, so noise passes it pixel by pixel: what it answers is smoothed by a Gaussian of
# 0.45 pixels, far less than the objective resolves.
BESIDE = 0.072  # share of each neighbour
TILE_PX = 256


@dataclass(frozen=True)
class Exposure:
    """How bright frames are, one number a frame: the unit in which the network sees their views, and their noise in that unit."""

    unit_t: Tensor
    noise_t: Tensor

    @classmethod
    def of(cls, views_tvyx: Tensor, background_tv: Tensor, read_variance: float) -> Exposure:
        """Measure views in photons; the unit is the root mean square of what lies above the background."""
        above = views_tvyx - background_tv[:, :, None, None]
        # variance equals mean: what the background's noise adds to the square is no signal
        noise = views_tvyx.mean((1, 2, 3)).clamp(min=0) + read_variance
        unit = ((above**2).mean((1, 2, 3)) - noise).clamp(min=0).sqrt().maximum(0.1 * noise.sqrt()).clamp(min=1e-3)
        return cls(unit, noise.sqrt() / unit)


class _Block(nn.Module):
    """Two convolutions around a residual path; without normalisation, which would tie a pixel to the whole frame."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the block adds."""
        added: Tensor = self.mix(torch.relu_(self.spread(x)))
        return added.add_(x)


class CompactVNet(nn.Module):
    """Views (T, v, y, x) to volumes (T, z, y, x) on the first view's pixels.

    Parameters
    ----------
    parallax_vz2 : shift of every view at every depth, rows and columns in pixels; an attribute, to be set to that of the instrument.
    width : channels of the trunk at half resolution.
    dilations : one block each.
    coarse : planes of the coarse volume; the first and the last are those of the fine one.
    """

    parallax_vz2: Tensor
    _between: Tensor

    def __init__(self, parallax_vz2: Tensor, width: int, dilations: tuple[int, ...], coarse: int) -> None:
        super().__init__()
        views, planes = parallax_vz2.shape[:2]
        self.views, self.planes, self.dilations = views, planes, dilations
        # known, not learned: it goes where the network goes, but not into its weights
        self.register_buffer("parallax_vz2", parallax_vz2, persistent=False)
        # every plane lies between two coarse ones
        at = torch.linspace(0, coarse - 1, planes)[:, None]
        self.register_buffer("_between", (1 - (at - torch.arange(coarse)).abs()).clamp(min=0), persistent=False)
        self.enter = nn.Conv2d(STATISTICS * len(range(0, planes, SWEPT)) + coarse + 4 * views + 1, width, 1)
        self.blocks = nn.Sequential(*(_Block(width, d) for d in dilations))
        self.leave = nn.Conv2d(2 * width, 4 * planes, 1)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    @property
    def halo_px(self) -> int:
        """Pixels around a tile that its values depend on, an even number."""
        return 2 * (sum(self.dilations) + 2 + math.ceil(float(self.parallax_vz2.abs().max()) / 2))

    def forward(self, views_tvyx: Tensor, exposure: Exposure, coarse_tzyx: Tensor) -> Tensor:
        """Volumes, in the exposure's unit, of views in photons above the background and their coarse volume; odd sizes are padded."""
        height, width = views_tvyx.shape[-2:]
        unit = exposure.unit_t[:, None, None, None]
        views, coarse = pad(views_tvyx / unit, (0, width % 2, 0, height % 2)), coarse_tzyx / unit
        swept = self._sweep(views)
        mean, least = swept.mean(1), swept.amin(1)
        spread = (swept - mean[:, None]).abs_().mean(1)
        noise = exposure.noise_t[:, None, None, None].expand(-1, 1, *mean.shape[-2:])
        known = torch.cat([mean, least, spread, coarse, pixel_unshuffle(views, 2), noise], 1)
        # channels side by side in memory: convolutions of few channels run up to twice as fast
        first = torch.relu_(self.enter(known.contiguous(memory_format=torch.channels_last)))
        last = torch.cat([self.blocks(first), first], 1)
        about = interpolate(coarse, scale_factor=2, mode="bilinear").flatten(2)
        if self.training:  # in one piece; and what is too low must go on to learn
            return self._planes(last, about, slice(0, self.planes), views.shape[-2:])[..., :height, :width]
        volume = views.new_empty((len(views), self.planes, height, width))
        for z in range(0, self.planes, TOGETHER):
            part = slice(z, min(z + TOGETHER, self.planes))
            torch.clamp(self._planes(last, about, part, views.shape[-2:])[..., :height, :width], min=0, out=volume[:, part])
        return volume

    def _planes(self, last: Tensor, about: Tensor, part: slice, shape_yx: tuple[int, ...]) -> Tensor:
        """Some planes of the answer: what the trunk adds to the coarse volume."""
        rows = slice(4 * part.start, 4 * part.stop)
        leaving = conv2d(last, self.leave.weight[rows], self.leave.bias[rows])  # type: ignore[index]
        between = self._between[part].expand(len(last), -1, -1)
        volume = torch.baddbmm(_shuffled(leaving).flatten(2), between, about).view(len(last), -1, *shape_yx)
        return _smoothed(_smoothed(volume, -2), -1)

    def _sweep(self, views_tvyx: Tensor) -> Tensor:
        """Views at half resolution, shifted back by their parallax for every second depth: (T, v, z / 2, y / 2, x / 2)."""
        height, width = (n // 2 for n in views_tvyx.shape[-2:])
        # room for every shift on all sides, an even number of pixels
        room = 2 * math.ceil(float(self.parallax_vz2.abs().max()) / 2) + 2
        # the mean of two by two pixels at all four phases of the coarse grid, so that any shift finds its samples
        wide = pad(views_tvyx, (room, room + 1, room, room + 1))
        rows = wide[..., 1:, :] + wide[..., :-1, :]
        soft = (rows[..., 1:] + rows[..., :-1]) / 4
        phases = [[soft[..., i::2, j::2].contiguous() for j in (0, 1)] for i in (0, 1)]

        def at(v: int, row: int, column: int) -> Tensor:
            top, left = (row + room) // 2, (column + room) // 2
            return phases[(row + room) % 2][(column + room) % 2][:, v, top : top + height, left : left + width]

        parallax = self.parallax_vz2[:, ::SWEPT]
        swept = views_tvyx.new_empty((len(views_tvyx), *parallax.shape[:2], height, width))
        for v, shifts in enumerate(parallax.tolist()):
            for z, (y, x) in enumerate(shifts):
                row, column = math.floor(y), math.floor(x)
                upper = torch.lerp(at(v, row, column), at(v, row, column + 1), x - column)
                lower = torch.lerp(at(v, row + 1, column), at(v, row + 1, column + 1), x - column)
                torch.lerp(upper, lower, y - row, out=swept[:, v, z])
        return swept


def _shuffled(image: Tensor) -> Tensor:
    """`pixel_shuffle` by two of an image whose channels lie side by side, in one copy."""
    n, c, h, w = image.shape
    return image.permute(0, 2, 3, 1).reshape(n, h, w, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c // 4, 2 * h, 2 * w)


def _smoothed(volume: Tensor, axis: int) -> Tensor:
    """Mix every pixel with its neighbours along an axis; at the rim with itself."""
    n = volume.shape[axis]
    mixed = volume * (1 - 2 * BESIDE)
    for to, came in ((1, 0), (0, 1)):
        mixed.narrow(axis, to, n - 1).add_(volume.narrow(axis, came, n - 1), alpha=BESIDE)
    for rim in (0, n - 1):
        mixed.narrow(axis, rim, 1).add_(volume.narrow(axis, rim, 1), alpha=BESIDE)
    return mixed


Tile = tuple[int, int, int, int]


def tiles_of(shape_yx: tuple[int, int], tile_px: int = TILE_PX) -> list[Tile]:
    """Parts (first row, first column, row after last, column after last) that cover a frame once; `tile_px` is even."""
    height, width = shape_yx
    corners = [(top, left) for top in range(0, height, tile_px) for left in range(0, width, tile_px)]
    return [(top, left, min(height, top + tile_px), min(width, left + tile_px)) for top, left in corners]


def tile_volume(network: CompactVNet, views_tvyx: Tensor, exposure: Exposure, coarse_tzyx: Tensor, tile: Tile) -> Tensor:
    """Volumes (T, z, rows, columns) over one tile of large frames; the same as in one piece, in bounded memory."""
    top, left, bottom, right = tile
    halo = network.halo_px
    y0, x0 = max(0, top - halo), max(0, left - halo)
    views = views_tvyx[..., y0 : bottom + halo, x0 : right + halo]
    # tiles and halos begin at even pixels
    coarse = coarse_tzyx[..., y0 // 2 : (y0 + views.shape[-2] + 1) // 2, x0 // 2 : (x0 + views.shape[-1] + 1) // 2]
    volume: Tensor = network(views, exposure, coarse)
    return volume[..., top - y0 : bottom - y0, left - x0 : right - x0]
