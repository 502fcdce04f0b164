"""Points to views and to the volume that the same objective would show: thousands of points at once, at any place between voxels.

Points are laid on the planes of a grid as cubic B-splines, the kernels are filtered so that the spline goes through their samples; then
each plane is convolved once. `Scene` draws the same point by point, exactly, and takes a thousand times longer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ..optics.table import cubic_weights, spline_inverse
from .phantoms import Phantom
from .planes import DepthGrid, FocusScan, PlaneImaging, view_kernels, wide_field_kernels

# Planes beyond the grid that may hold light, on each side.
BEYOND = 4
WIDE_FIELD_WINDOW_PX = 41
WIDE_FIELD_REACH_NM = 1000.0


class VolumeScene:
    """Draws phantoms as an instrument's views and as a wide-field volume, without background or noise.

    Parameters
    ----------
    grid : planes of the volume.
    shape_yx : rows and columns of views and volume; pixel (0, 0) has its centre at 0 nm.
    window_px : side of the window within which a point's light in the views is drawn (odd).
    """

    def __init__(
        self, instrument: Instrument, grid: DepthGrid, shape_yx: tuple[int, int], window_px: int, device: torch.device | str = "cpu"
    ) -> None:
        self.grid, self.shape_yx, self.window_px, self.device = grid, shape_yx, window_px, torch.device(device)
        self._planes = grid.wider(BEYOND)
        views = view_kernels(instrument, self._planes, window_px).to(device)
        wide = wide_field_kernels(instrument, grid, min(window_px, WIDE_FIELD_WINDOW_PX), WIDE_FIELD_REACH_NM).to(device)
        self._views = PlaneImaging(_filtered(views), shape_yx)
        self._scan = FocusScan(_filtered(wide), shape_yx, BEYOND)

    @property
    def reach_nm(self) -> float:
        """Distance beyond the field from which light still reaches it."""
        return self._views.margin * self.grid.pixel_nm

    def draw(self, phantom: Phantom) -> tuple[Tensor, Tensor]:
        """Views (v, y, x) and wide-field volume (z, y, x); a point's weight is its photons in all views together, or in each plane."""
        laid = self._lay(phantom)
        return self._views.forward(laid).clamp(min=0), self._scan.images(laid).clamp(min=0)

    def _lay(self, phantom: Phantom) -> Tensor:
        """Points as B-splines on the planes and on the field with its margin."""
        position, weight = phantom.position_n3.to(self.device), phantom.weight_n.to(self.device)
        planes, (height, width) = self._planes, self._views.volume_yx
        first = torch.tensor([planes.first_nm, *[-self._views.margin * planes.pixel_nm] * 2], device=self.device)
        index = (position - first) / torch.tensor([planes.step_nm, planes.pixel_nm, planes.pixel_nm], device=self.device)
        size = torch.tensor([planes.planes, height, width], device=self.device)
        kept = ((index >= 0) & (index <= size - 1)).all(1)
        index, weight = index[kept], weight[kept]
        start = index.floor()
        parts = [cubic_weights(index[:, axis] - start[:, axis])[0] for axis in range(3)]
        near = start.long()[:, :, None] + torch.arange(-1, 3, device=self.device)
        z, y, x = near.clamp(min=0).minimum((size - 1)[:, None]).unbind(1)
        at = (z[:, :, None, None] * height + y[:, None, :, None]) * width + x[:, None, None, :]
        value = weight[:, None, None, None] * parts[0][:, :, None, None] * parts[1][:, None, :, None] * parts[2][:, None, None, :]
        laid = torch.zeros(planes.planes * height * width, device=self.device)
        return laid.index_add_(0, at.flatten(), value.flatten()).view(planes.planes, height, width)


def _filtered(kernel: Tensor) -> Tensor:
    """Coefficients of the cubic spline through kernels (..., z, y, x)."""
    for axis in (-3, -2, -1):
        inverse = spline_inverse(kernel.shape[axis], 3, kernel.device)
        kernel = torch.tensordot(kernel, inverse, dims=([axis], [1])).movedim(-1, axis)
    return kernel
