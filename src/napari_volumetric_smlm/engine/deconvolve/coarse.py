"""A coarse wide-field volume within a tenth of a second: what a network needs to be told of a frame's large structures.

Richardson-Lucy, accelerated, on every third plane and on pixels first four times, then twice as large, then seen through the objective
alone. So few iterations leave fine detail unresolved, but the light is where it belongs: the sum over many overlapping structures is what
convolutions of a few layers cannot undo.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv1d, conv2d, interpolate, pad

from ...domain.instrument import Instrument
from ..simulate.planes import DepthGrid, FocusScan, PlaneImaging, view_kernels, wide_field_kernels
from ..simulate.volumes import WIDE_FIELD_REACH_NM, WIDE_FIELD_WINDOW_PX
from .richardson_lucy import Deconvolution, as_wide_field, imaging_of

_Imaging = tuple[PlaneImaging, PlaneImaging, FocusScan]  # of the larger pixels, of the others, by the objective alone
FIRST_ITERATIONS, ITERATIONS = 12, 10  # on pixels four times and twice as large
PIXELS, PLANES = 2, 3  # fine ones in a coarse one


def coarse_planes(planes: int) -> int:
    """Planes of the coarse volume; the first and the last are those of the fine one."""
    return max(2, round((planes - 1) / PLANES) + 1)


@dataclass(frozen=True)
class CoarseOptics:
    """Images of coarse voxels: in the views (v, z, k, k), the same for pixels twice as large again, and by the objective alone."""

    kernel_vzyx: Tensor
    larger_vzyx: Tensor
    wide_zyx: Tensor
    _imaging: dict[tuple[int, int], _Imaging] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, instrument: Instrument, grid: DepthGrid, window_px: int) -> CoarseOptics:
        """Compute them for the fine grid `grid`; `window_px` as of `view_kernels`."""
        planes = coarse_planes(grid.planes)
        extent = grid.step_nm * (grid.planes - 1)
        coarse = DepthGrid(grid.first_nm, extent / (planes - 1), planes, grid.pixel_nm)
        fine = DepthGrid(grid.first_nm, coarse.step_nm / PLANES, PLANES * (planes - 1) + 1, grid.pixel_nm)
        views = _larger_pixels(_fewer_planes(view_kernels(instrument, fine, window_px)))
        wide = wide_field_kernels(instrument, coarse, min(window_px, WIDE_FIELD_WINDOW_PX), WIDE_FIELD_REACH_NM)
        return cls(views, _larger_pixels(views), _larger_pixels(wide))

    def imaging(self, shape_yx: tuple[int, int]) -> _Imaging:
        """Of coarse views of a size; kept, since the next frame has the same."""
        found = self._imaging.get(shape_yx)
        if found is None:
            height, width = shape_yx
            found = (
                imaging_of(self.larger_vzyx, (height // PIXELS, width // PIXELS)),
                imaging_of(self.kernel_vzyx, shape_yx),
                FocusScan(self.wide_zyx, shape_yx, 0),
            )
            self._imaging.clear()
            self._imaging[shape_yx] = found
        return found

    def to(self, device: torch.device) -> CoarseOptics:
        """The same on a device."""
        if self.kernel_vzyx.device == device:
            return self
        return CoarseOptics(self.kernel_vzyx.to(device), self.larger_vzyx.to(device), self.wide_zyx.to(device))


def coarse_volume(views_vyx: Tensor, background_v: Tensor, optics: CoarseOptics, seen_vyx: Tensor | None = None) -> Tensor:
    """Wide-field volume (z, y / 2, x / 2), in photons per pixel of the views.

    Parameters
    ----------
    views_vyx : photons, background included.
    background_v : of each view, photons per pixel.
    seen_vyx : which pixels count; None = all.
    """
    height, width = views_vyx.shape[-2:]
    rest = (0, -width % PIXELS**2, 0, -height % PIXELS**2)
    seen = pad(torch.ones_like(views_vyx) if seen_vyx is None else seen_vyx, rest)
    light, counting = _pooled(pad(views_vyx, rest), seen)
    larger, larger_counting = _pooled(light, counting)
    imaging_larger, imaging, scan = optics.imaging((light.shape[-2], light.shape[-1]))
    first = Deconvolution(larger, imaging_larger, PIXELS**4 * background_v, larger_counting, accelerated=True)
    state = Deconvolution(light, imaging, PIXELS**2 * background_v, counting, accelerated=True)
    _iterate(first, FIRST_ITERATIONS)
    state.begin_with(interpolate(first.volume_zyx[None], scale_factor=PIXELS, mode="bilinear")[0] / PIXELS**2)
    _iterate(state, ITERATIONS)
    wide = as_wide_field(state.volume_zyx, scan) / PIXELS**2
    return wide[:, : -(-height // PIXELS), : -(-width // PIXELS)]


def _pooled(views_vyx: Tensor, seen_vyx: Tensor) -> tuple[Tensor, Tensor]:
    """Light of pixels twice as large, and which of them count: those of which all parts do."""
    return PIXELS**2 * avg_pool2d(views_vyx, PIXELS), (avg_pool2d(seen_vyx, PIXELS) == 1).to(views_vyx.dtype)


def _iterate(state: Deconvolution, iterations: int) -> None:
    for _ in range(iterations):
        for _ in state.iterate():
            pass


def _fewer_planes(kernel_vzyx: Tensor) -> Tensor:
    """Every third plane, each standing for those around it by a hat function."""
    views, planes, height, width = kernel_vzyx.shape
    hat = torch.tensor([float(PLANES - abs(i)) for i in range(1 - PLANES, PLANES)])[None, None]
    columns = kernel_vzyx.movedim(1, -1).reshape(-1, 1, planes)
    share = conv1d(torch.ones((1, 1, planes)), hat, stride=PLANES, padding=PLANES - 1)
    mixed = conv1d(columns, hat, stride=PLANES, padding=PLANES - 1) / share
    return mixed.reshape(views, height, width, -1).movedim(-1, 1)


def _larger_pixels(kernel: Tensor) -> Tensor:
    """Kernels (..., k, k) of pixels twice as large, for light spread evenly over a voxel."""
    size = kernel.shape[-1]
    # the sum of two pixels, and the mean over two places: together 1 2 1 along each axis
    step = torch.tensor([0.5, 1.0, 0.5])
    spread = conv2d(kernel.reshape(-1, 1, size, size), torch.outer(step, step)[None, None], padding=1)
    first = (size // 2) % PIXELS  # so that the middle stays the middle
    return spread[..., first::PIXELS, first::PIXELS].reshape(*kernel.shape[:-2], *[len(range(first, size, PIXELS))] * 2).contiguous()
