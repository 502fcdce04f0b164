"""Richardson-Lucy deconvolution of light-field views [richardson1972, lucy1974]: the volume that explains all views best.

g <- g * H^T( O / (H g + b) ) / H^T 1

O = views, g = volume, b = background, H = imaging plane by plane (`simulate.planes`), H^T = its adjoint. For Poisson noise each step raises
the likelihood, g stays positive, and without background H g keeps the light of O [richardson1972]. Large fields are imaged tile by tile:
a tile of the views needs the volume beneath it and half a kernel around, so the sum over tiles is H itself, and there are no seams.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..simulate.planes import FocusScan, PlaneImaging

TILE_PX = 256
# where hardly any view sees a voxel, its light is not divided by less than this share of what others get
LEAST_SEEN = 1e-3
FARTHEST = 0.95  # of a step, that an accelerated iteration begins beyond the last


class Deconvolution:
    """Views on their way to a volume.

    Parameters
    ----------
    views_vyx : photons; below zero (read noise) counts as zero.
    kernel_vzyx : `view_kernels`, or imaging by them that `imaging_of` made for views of this size.
    background_v : constant photons per pixel of each view.
    seen_vyx : which pixels count; None = all.
    tile_px : largest side of a tile.
    accelerated : go on in the direction of the last change, as far as the changes agree [biggs1997]: a few iterations reach what takes
        several times as many, at the price of a likelihood that may fall for a step.

    Attributes
    ----------
    iterations : how many are done.
    """

    def __init__(
        self,
        views_vyx: Tensor,
        kernel_vzyx: Tensor | PlaneImaging,
        background_v: Tensor,
        seen_vyx: Tensor | None = None,
        tile_px: int = TILE_PX,
        accelerated: bool = False,
    ) -> None:
        self.shape_yx = (views_vyx.shape[1], views_vyx.shape[2])
        self._imaging = imaging_of(kernel_vzyx, self.shape_yx, tile_px) if isinstance(kernel_vzyx, Tensor) else kernel_vzyx
        tile = self._imaging.shape_yx
        counts = tuple(math.ceil(n / side) for n, side in zip(self.shape_yx, tile, strict=True))
        self._corners = [(i * tile[0], j * tile[1]) for i in range(counts[0]) for j in range(counts[1])]
        rest = (0, counts[1] * tile[1] - self.shape_yx[1], 0, counts[0] * tile[0] - self.shape_yx[0])
        seen = torch.ones_like(views_vyx) if seen_vyx is None else seen_vyx
        self._seen = pad(seen, rest)
        self._views = pad(views_vyx.clamp(min=0) * seen, rest)
        self._background_v = background_v[:, None, None].clamp(min=0)
        m = self._imaging.margin
        shape = (self._imaging.planes, counts[0] * tile[0] + 2 * m, counts[1] * tile[1] + 2 * m)
        self._given = views_vyx.new_zeros(shape)
        for corner in self._corners:
            self._beneath(self._given, corner).add_(self._imaging.adjoint(self._above(self._seen, corner)))
        self._given.clamp_(min=LEAST_SEEN * float(self._given.max()))
        light = (self._views - self._background_v * self._seen).sum().clamp(min=1e-6 * self._seen.sum())
        self._volume = torch.full_like(self._given, float(light / self._given.sum()))
        # where the next iteration begins
        self._begin, self._change, self._accelerated = self._volume, torch.zeros_like(self._volume), accelerated
        self.iterations = 0

    @property
    def volume_zyx(self) -> Tensor:
        """Photons of every voxel in all views together, on the views' pixels."""
        m = self._imaging.margin
        return self._volume[:, m : m + self.shape_yx[0], m : m + self.shape_yx[1]]

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self._corners)

    def begin_with(self, volume_zyx: Tensor) -> None:
        """Start from a volume on the views' pixels instead of an even one; beyond the field it goes on as at the rim."""
        m = self._imaging.margin
        rest = (m, self._given.shape[2] - m - volume_zyx.shape[2], m, self._given.shape[1] - m - volume_zyx.shape[1])
        # what is zero stays zero
        least = LEAST_SEEN * float(volume_zyx.mean())
        self._volume = self._begin = pad(volume_zyx[None], rest, mode="replicate")[0].clamp(min=least)

    def expected(self) -> Tensor:
        """Views (v, y, x) of the volume, with background."""
        views = torch.zeros_like(self._views)
        for corner in self._corners:
            self._above(views, corner).copy_(self._imaging.forward(self._beneath(self._volume, corner)))
        return (views + self._background_v)[:, : self.shape_yx[0], : self.shape_yx[1]]

    def iterate(self) -> Generator[int, None, None]:
        """One iteration; yields the tiles that are done, and changes the volume only at its end."""
        gained = torch.zeros_like(self._volume)
        for done, corner in enumerate(self._corners, start=1):
            mean = self._imaging.forward(self._beneath(self._begin, corner)).clamp(min=0) + self._background_v
            ratio = self._above(self._views, corner) / mean.clamp(min=1e-9)
            self._beneath(gained, corner).add_(self._imaging.adjoint(ratio))
            yield done
        # transforms round to both sides of zero
        before, self._volume = self._volume, self._begin * gained.clamp_(min=0).div_(self._given)
        self._begin = self._extrapolated(before) if self._accelerated else self._volume
        self.iterations += 1

    def _extrapolated(self, before: Tensor) -> Tensor:
        """The volume, moved on along its last step."""
        change, last = self._volume - self._begin, self._change
        agree = float(torch.dot(change.flatten(), last.flatten()) / torch.dot(last.flatten(), last.flatten()).clamp(min=1e-20))
        self._change = change
        return (self._volume - before).mul_(min(max(agree, 0.0), FARTHEST)).add_(self._volume).clamp_(min=0)

    def _above(self, views_vyx: Tensor, corner: tuple[int, int]) -> Tensor:
        height, width = self._imaging.shape_yx
        return views_vyx[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]

    def _beneath(self, volume_zyx: Tensor, corner: tuple[int, int]) -> Tensor:
        height, width = self._imaging.volume_yx
        return volume_zyx[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]


def imaging_of(kernel_vzyx: Tensor, shape_yx: tuple[int, int], tile_px: int = TILE_PX) -> PlaneImaging:
    """Imaging of the equal tiles, of at most `tile_px`, that cover views of a size; the same for every frame."""
    height, width = (math.ceil(n / math.ceil(n / tile_px)) for n in shape_yx)
    return PlaneImaging(kernel_vzyx, (height, width))


def as_wide_field(volume_zyx: Tensor, kernel_zyx: Tensor | FocusScan) -> Tensor:
    """A volume of points as the objective alone would show it, with the field's surroundings dark."""
    shape = (volume_zyx.shape[1], volume_zyx.shape[2])
    scan = FocusScan(kernel_zyx, shape, 0) if isinstance(kernel_zyx, Tensor) else kernel_zyx
    return scan.images(pad(volume_zyx, (scan.margin,) * 4))
