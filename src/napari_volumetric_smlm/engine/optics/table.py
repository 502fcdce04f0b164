"""A point-spread function as a table of B-spline coefficients: images and their derivatives for many molecules at once.

The table holds the pupil's images on a regular grid of depth (and of blur, when that is fitted), sampled finer than the pixel.
A molecule's image is a cubic B-spline between depths and, along rows and columns, one small matrix product each, since all
pixels of a molecule share its sub-pixel position. It is what simulation, search and refinement have in common.
Source of the spline: Unser, IEEE Signal Process. Mag. 16, 22 (1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from .psf import oversampling, sampled_images
from .pupil import view_pupil

EDGE = 3  # table samples beyond the window on each side, so that the spline has support


@dataclass(frozen=True)
class WindowImages:
    """Images of m molecules in V views and their derivatives, shapes (m, V, n, n); per photon of the molecule and per nm."""

    value: Tensor
    by_z: Tensor
    by_y: Tensor
    by_x: Tensor
    by_blur: Tensor | None = None


class PsfTable:
    """Spline table of an instrument's V views.

    Parameters
    ----------
    window_px : side of the square window (odd), the same in all views.
    depth_step_nm : distance of the tabulated planes.
    blur_nm : None, or lowest and highest blur (nm, added in quadrature to nothing: it replaces the views' own) to tabulate.

    Attributes
    ----------
    z_nm : (d,) tabulated depths, covering the instrument's depth range and a margin.
    linear_v22 : (V, 2, 2) linear part (y, x) of the views' affines; shift_v2 : (V, 2) their shifts in nm.
    fraction_v : (V,) share of the photons.
    """

    def __init__(
        self,
        instrument: Instrument,
        window_px: int,
        depth_step_nm: float = 50.0,
        blur_nm: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if window_px % 2 == 0:
            raise ValueError(f"window_px must be odd, so that a pixel is its centre; found {window_px}")
        self.window_px, self.device = window_px, torch.device(device)
        low, high = instrument.depth_range_nm
        margin = min(500.0, 0.1 * (high - low) + 50.0)
        low, high = low - margin, high + margin
        planes = max(8, round((high - low) / depth_step_nm) + 1)
        self.z_nm = torch.linspace(low, high, planes, device=self.device)
        self.z_step_nm = float(self.z_nm[1] - self.z_nm[0])
        self.pixel_v = [instrument.pixel_nm(v) for v in range(len(instrument.views))]
        fraction = torch.tensor([view.photon_fraction for view in instrument.views], device=self.device)
        self.fraction_v = fraction / fraction.sum()
        affine = torch.tensor([view.affine_yx for view in instrument.views], device=self.device)
        self.linear_v22, self.shift_v2 = affine[:, :, :2], affine[:, :, 2]
        # knots at equal steps of the squared blur, in which the image is nearly linear
        self.blur2_knots = None if blur_nm is None else torch.linspace(blur_nm[0] ** 2, blur_nm[1] ** 2, 4, device=self.device)
        self._fine, self._coefficients = [], []
        for v in range(len(instrument.views)):
            fine, coefficients = self._tabulate(instrument, v)
            self._fine.append(fine)
            self._coefficients.append(coefficients)

    def _tabulate(self, instrument: Instrument, v: int) -> tuple[int, Tensor]:
        """Samples per pixel and spline coefficients (blur, z, y, x) of one view."""
        pupil, pixel = view_pupil(instrument, v).to(self.device), self.pixel_v[v]
        # a cubic spline follows a band-limited image to about 1e-4 when it is sampled twice as finely as Nyquist asks
        fine = 2 * oversampling(pupil, pixel)
        samples = fine * (self.window_px - 1) + 1 + 2 * (fine + EDGE)
        samples += 1 - samples % 2
        integrated = instrument.pixel_model == "integrated"
        own = torch.tensor([instrument.views[v].blur_nm ** 2], device=self.device)
        stacks = []
        for blur2 in own if self.blur2_knots is None else self.blur2_knots:
            planes = []
            for z in self.z_nm.split(16):
                position = torch.zeros((len(z), 3), device=self.device)
                position[:, 0] = z
                image = sampled_images(pupil, position, (samples, pixel / fine, pixel if integrated else 0.0), blur2.sqrt())
                planes.append(image * fine**2)
            stacks.append(torch.cat(planes))
        coefficients = torch.stack(stacks)
        for axis in (1, 2, 3):
            inverse = _spline_inverse(coefficients.shape[axis], self.device)
            coefficients = torch.tensordot(coefficients, inverse, dims=([axis], [1])).movedim(-1, axis)
        return fine, coefficients.contiguous()

    def images(self, position_zyx_nm: Tensor, blur_nm: Tensor | None = None, derivatives: bool = True) -> WindowImages:
        """Images of molecules in windows.

        Parameters
        ----------
        position_zyx_nm : (m, V, 3) z, and row and column from the window's centre pixel in each view (at most one pixel away).
        blur_nm : (m,) blur of each molecule; only for a table with blur.
        derivatives : also compute the derivatives.
        """
        parts = [self._view_images(v, position_zyx_nm[:, v], blur_nm, derivatives) for v in range(len(self._coefficients))]
        value, by_z, by_y, by_x, by_blur = (
            None if column[0] is None else torch.stack([c * f for c, f in zip(column, self.fraction_v, strict=True)], dim=1)
            for column in zip(*parts, strict=True)
        )
        return WindowImages(value, by_z, by_y, by_x, by_blur)

    def _view_images(self, v: int, position_zyx_nm: Tensor, blur_nm: Tensor | None, derivatives: bool) -> list[Tensor | None]:
        table, fine, pixel = self._coefficients[v], self._fine[v], self.pixel_v[v]
        u = ((position_zyx_nm[:, 0] - self.z_nm[0]) / self.z_step_nm).clamp(0, len(self.z_nm) - 1.001)
        start = u.floor().clamp(0, len(self.z_nm) - 2).long()
        weights, slopes = _cubic_weights(u - start)
        # beyond the first and last plane the coefficient is repeated
        index = (start[:, None] + torch.arange(-1, 3, device=self.device)).clamp(0, len(self.z_nm) - 1)
        blur_weights, blur_slopes = self._blur_weights(blur_nm, len(u))
        by_depth = lambda b, z: _mix(table, index, b, z)  # noqa: E731
        plane = by_depth(blur_weights, weights)
        rows, row_slopes = self._sample_matrix(position_zyx_nm[:, 1] / pixel * fine, fine, table.shape[2])
        columns, column_slopes = self._sample_matrix(position_zyx_nm[:, 2] / pixel * fine, fine, table.shape[3])
        columns, column_slopes = columns.transpose(1, 2), column_slopes.transpose(1, 2)
        half = torch.bmm(rows, plane)
        value = torch.bmm(half, columns)
        if not derivatives:
            return [value, None, None, None, None]
        # moving the molecule by +dx moves the sampling point by -dx
        by_z = torch.bmm(torch.bmm(rows, by_depth(blur_weights, slopes)), columns) / self.z_step_nm
        by_y = torch.bmm(torch.bmm(row_slopes, plane), columns) * (fine / pixel)
        by_x = torch.bmm(half, column_slopes) * (fine / pixel)
        by_blur = None
        if blur_nm is not None and self.blur2_knots is not None:
            by_blur2 = torch.bmm(torch.bmm(rows, by_depth(blur_slopes, weights)), columns)
            by_blur = by_blur2 * (2 * blur_nm)[:, None, None]
        return [value, by_z, by_y, by_x, by_blur]

    def _blur_weights(self, blur_nm: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Lagrange weights over the blur knots, and their derivative by the squared blur, (m, knots)."""
        if self.blur2_knots is None or blur_nm is None:
            if self.blur2_knots is not None:
                raise ValueError("this table was made with blur: give each molecule's blur_nm")
            ones = torch.ones((count, 1), device=self.device)
            return ones, torch.zeros_like(ones)
        knots, x = self.blur2_knots, blur_nm**2
        weights, slopes = [], []
        for i in range(len(knots)):
            others = [j for j in range(len(knots)) if j != i]
            scale = torch.stack([knots[i] - knots[j] for j in others]).prod()
            factors = torch.stack([x - knots[j] for j in others])
            weights.append(factors.prod(0) / scale)
            slopes.append(sum(torch.cat([factors[:k], factors[k + 1 :]]).prod(0) for k in range(len(others))) / scale)
        return torch.stack(weights, 1), torch.stack(slopes, 1)

    def _sample_matrix(self, offset: Tensor, fine: int, samples: int) -> tuple[Tensor, Tensor]:
        """Matrices (m, window, samples) that sample the spline at the pixels of molecules `offset` fine steps off centre, and their derivative."""
        pixel = torch.arange(self.window_px, device=self.device) - self.window_px // 2
        u = samples // 2 + fine * pixel - offset[:, None]
        distance = u[:, :, None] - torch.arange(samples, device=self.device)
        near, far = (1 - distance.abs()).clamp(min=0), (2 - distance.abs()).clamp(min=0)
        weight = far**3 / 6 - near**3 * (2 / 3)
        slope = torch.sign(distance) * (2 * near**2 - far**2 / 2)
        return weight, -slope


def _mix(table: Tensor, index: Tensor, blur_weights: Tensor, z_weights: Tensor) -> Tensor:
    """Weighted sum of the table's planes (blur, z) for each molecule, (m, y, x)."""
    result = None
    for b in range(table.shape[0]):
        for k in range(4):
            term = table[b, index[:, k]] * (blur_weights[:, b] * z_weights[:, k])[:, None, None]
            result = term if result is None else result.add_(term)
    return result  # type: ignore[return-value]


def _cubic_weights(t: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes of the four cubic B-splines over a point t in [0, 1) after the second of their knots, (m, 4)."""
    s = 1 - t
    weights = torch.stack([s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6], 1)
    slopes = torch.stack([-(s**2) / 2, -2 * t + 1.5 * t**2, 2 * s - 1.5 * s**2, t**2 / 2], 1)
    return weights, slopes


def _spline_inverse(n: int, device: torch.device) -> Tensor:
    """Inverse of the matrix that turns cubic B-spline coefficients into samples, the end coefficients repeated outside."""
    matrix = torch.eye(n, dtype=torch.float64) * (4 / 6)
    side = torch.full((n - 1,), 1 / 6, dtype=torch.float64)
    matrix += torch.diag(side, 1) + torch.diag(side, -1)
    matrix[0, 0] += 1 / 6
    matrix[-1, -1] += 1 / 6
    return torch.linalg.inv(matrix).float().to(device)
