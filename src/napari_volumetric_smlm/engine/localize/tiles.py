"""Frames of any size as patches of one size, and back.

A frame is cut into cores that cover it once; each is localized with a margin around it, and a molecule counts where its core is.
So memory stays bounded, patches of many frames run together, and a molecule near a seam is seen with all its light.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .scene import Patches, cut_padded, padding

# Smaller cores waste time on margins, larger ones on the joint matrix of very many molecules.
CORE_PX, CORE_WINDOWS = 256, 8


@dataclass(frozen=True)
class Tile:
    """Pixels of the first view, [first, after last): the patch (top, left) and the core within the frame."""

    top: int
    left: int
    core: tuple[int, int, int, int]

    def owns(self, y_px: Tensor, x_px: Tensor, last: tuple[bool, bool]) -> Tensor:
        """Whether points (frame pixels) lie in the core; the outer tiles own what lies beyond the frame's edge too."""
        y0, x0, y1, x1 = self.core
        below = torch.ones_like(y_px, dtype=torch.bool) if last[0] else y_px < y1 - 0.5
        right = torch.ones_like(below) if last[1] else x_px < x1 - 0.5
        above = torch.ones_like(below) if y0 == 0 else y_px >= y0 - 0.5
        left = torch.ones_like(below) if x0 == 0 else x_px >= x0 - 0.5
        return above & below & left & right


@dataclass(frozen=True)
class Tiling:
    """Tiles of a frame and the size of their patches."""

    shape_yx: tuple[int, int]
    patch_yx: tuple[int, int]
    tiles: list[Tile]

    @classmethod
    def of_frame(cls, shape_yx: tuple[int, int], window_px: int) -> Tiling:
        """Cut a frame; one that is hardly larger than a core and its margins stays whole."""
        margin, core = window_px // 2 + 8, max(CORE_PX, CORE_WINDOWS * window_px)
        cuts, sizes = [], []
        for n in shape_yx:
            parts = 1 if n <= core + margin else round(n / core)
            edges = [round(k * n / parts) for k in range(parts + 1)]
            longest = max(b - a for a, b in pairwise(edges))
            size = min(n, longest + 2 * margin)
            cuts.append([(min(max(a - margin, 0), n - size), a, b) for a, b in pairwise(edges)])
            sizes.append(size)
        tiles = [Tile(top, left, (y0, x0, y1, x1)) for top, y0, y1 in cuts[0] for left, x0, x1 in cuts[1]]
        return cls(shape_yx, (sizes[0], sizes[1]), tiles)

    def owned(self, tile: Tile, y_px: Tensor, x_px: Tensor) -> Tensor:
        """Which points (frame pixels) belong to a tile."""
        return tile.owns(y_px, x_px, (tile.core[2] == self.shape_yx[0], tile.core[3] == self.shape_yx[1]))


@dataclass(frozen=True)
class ViewImages:
    """One view's frames: photons (t, y, x), read variance (y, x) or (), and which pixels count (t, y, x)."""

    photons_tyx: Tensor
    read_variance_yx: Tensor
    seen_tyx: Tensor


def cut_patches(views: list[ViewImages], table: PsfTable, tile: Tile, tiling: Tiling, origin_yx_px: tuple[int, int]) -> Patches:
    """Patches of all frames at one tile.

    Each view is cut where its affine puts the tile, to the nearest pixel; what is left of the affine stays in `shift_tv2`.

    Parameters
    ----------
    views : whole camera frames of every view.
    origin_yx_px : first pixel of the region of interest in the first view's camera frame.
    """
    height, width = tiling.patch_yx
    pad = padding(table.window_px)
    pieces, shifts = [], []
    corner = torch.tensor([origin_yx_px[0] + tile.top, origin_yx_px[1] + tile.left], dtype=torch.float64) * table.pixel_v[0]
    middle = torch.tensor([height / 2, width / 2], dtype=torch.float64) * table.pixel_v[0]
    for v, view in enumerate(views):
        linear, shift = table.linear_v22[v].double().cpu(), table.shift_v2[v].double().cpu()
        place = linear @ (corner + middle) + shift - middle  # where the patch's first pixel goes, judged at its middle
        first = torch.round(place / table.pixel_v[v]).long()
        shifts.append(linear @ corner + shift - first * table.pixel_v[v])
        pieces.append(
            [cut_padded(a, (int(first[0]), int(first[1])), (height, width), pad) for a in (view.photons_tyx, view.seen_tyx, _expand(view))]
        )
    count = len(views[0].photons_tyx)
    photons, seen, variance = (torch.stack([p[k] for p in pieces], 1) for k in range(3))
    shift_v2 = torch.stack(shifts).to(photons.dtype).to(photons.device)
    return Patches(photons, variance.expand(count, -1, -1, -1), seen, shift_v2.expand(count, -1, -1), table.pixel_v, pad)


def _expand(view: ViewImages) -> Tensor:
    return view.read_variance_yx.expand(1, *view.photons_tyx.shape[1:])
