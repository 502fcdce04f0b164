"""A point-spread function as a table of B-spline coefficients: images and their derivatives for many molecules at once.

The table holds the pupil's images on a regular grid of depth (and of blur, when that is fitted), sampled finer than the pixel.
A molecule's image is a cubic spline between depths and, along rows and columns, one small matrix product each, since all
pixels of a molecule share its sub-pixel position. It is what simulation, search and refinement have in common.
Source of the spline: Unser, IEEE Signal Process. Mag. 16, 22 (1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ...domain.instrument import Instrument
from .psf import nyquist_nm, sampled_images
from .pupil import view_pupil

EDGE = 4  # table samples beyond the window on each side, so that the spline has support
DEGREE = 5  # of the spline along rows and columns, where the table is sampled just above Nyquist; along z it is 3
OVERSAMPLING = 1.25  # samples per Nyquist interval of the intensity


@dataclass(frozen=True)
class WindowImages:
    """Images of m molecules in V views and their derivatives, shapes (m, V, n, n); per photon of the molecule and per nm."""

    value: Tensor
    by_z: Tensor | None = None
    by_y: Tensor | None = None
    by_x: Tensor | None = None
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

    def _tabulate(self, instrument: Instrument, v: int) -> tuple[float, Tensor]:
        """Samples per pixel, and spline coefficients (z, blur, y, x) of one view."""
        pupil, pixel = view_pupil(instrument, v).to(self.device), self.pixel_v[v]
        fine = max(1.0, OVERSAMPLING * pixel / nyquist_nm(pupil))
        samples = 2 * math.ceil(fine * (self.window_px // 2 + 1) + EDGE) + 1
        area = pixel if instrument.pixel_model == "integrated" else 0.0
        own = torch.tensor([instrument.views[v].blur_nm ** 2], device=self.device)
        knots = (own if self.blur2_knots is None else self.blur2_knots).sqrt()
        stacks = []
        for z in self.z_nm.split(16):
            position = torch.zeros((len(z), 3), device=self.device)
            position[:, 0] = z
            stacks.append(sampled_images(pupil, position, (samples, pixel / fine, area), knots[:, None]) * fine**2)
        coefficients = torch.cat(stacks, dim=1).transpose(0, 1)
        for axis, degree in ((0, 3), (2, DEGREE), (3, DEGREE)):
            inverse = spline_inverse(coefficients.shape[axis], degree, self.device)
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
        fraction = self.fraction_v[:, None, None]
        return WindowImages(*(torch.stack(column, dim=1) * fraction for column in zip(*parts, strict=True)))

    def _view_images(self, v: int, position_zyx_nm: Tensor, blur_nm: Tensor | None, derivatives: bool) -> list[Tensor]:
        table, fine, pixel = self._coefficients[v], self._fine[v], self.pixel_v[v]
        u = ((position_zyx_nm[:, 0] - self.z_nm[0]) / self.z_step_nm).clamp(0, len(self.z_nm) - 1.001)
        start = u.floor().clamp(0, len(self.z_nm) - 2).long()
        weights, slopes = cubic_weights(u - start)
        blur_weights, blur_slopes = self._blur_weights(blur_nm, len(u))
        mixes = [_outer(weights, blur_weights)]
        if derivatives:
            mixes.append(_outer(slopes, blur_weights))
            if self.blur2_knots is not None:
                mixes.append(_outer(weights, blur_slopes))
        # beyond the first and last plane the coefficient is repeated
        index = (start[:, None] + torch.arange(-1, 3, device=self.device)).clamp(0, len(self.z_nm) - 1)
        knots = table.shape[1]
        index = (index[:, :, None] * knots + torch.arange(knots, device=self.device)).flatten(1)
        # a weighted sum of planes that copies none of them
        mixed = [embedding_bag(index, table.flatten(2).flatten(0, 1), per_sample_weights=mix, mode="sum") for mix in mixes]
        planes = [mix.unflatten(1, table.shape[2:]) for mix in mixed]
        rows, row_slopes = self._sample_matrix(position_zyx_nm[:, 1] / pixel * fine, fine, table.shape[2])
        columns, column_slopes = self._sample_matrix(position_zyx_nm[:, 2] / pixel * fine, fine, table.shape[3])
        columns, column_slopes = columns.transpose(1, 2), column_slopes.transpose(1, 2)
        half = torch.bmm(rows, planes[0])
        value = torch.bmm(half, columns)
        if not derivatives:
            return [value]
        by_z = torch.bmm(torch.bmm(rows, planes[1]), columns) / self.z_step_nm
        by_y = torch.bmm(torch.bmm(row_slopes, planes[0]), columns) * (fine / pixel)
        by_x = torch.bmm(half, column_slopes) * (fine / pixel)
        images = [value, by_z, by_y, by_x]
        if blur_nm is not None and self.blur2_knots is not None:
            by_blur2 = torch.bmm(torch.bmm(rows, planes[2]), columns)
            images.append(by_blur2 * (2 * blur_nm)[:, None, None])
        return images

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

    def _sample_matrix(self, offset: Tensor, fine: float, samples: int) -> tuple[Tensor, Tensor]:
        """Matrices (m, window, samples) that sample the spline at the pixels of molecules `offset` samples off centre; derivatives."""
        pixel = torch.arange(self.window_px, device=self.device) - self.window_px // 2
        u = samples // 2 + fine * pixel - offset[:, None]
        first = u.floor() - DEGREE // 2
        taps = torch.arange(DEGREE + 1, device=self.device)
        weight, slope = _spline((u - first)[:, :, None] - taps)
        index = first.long()[:, :, None] + taps
        dense = offset.new_zeros((2, len(u), self.window_px, samples))
        # moving the molecule by +dx moves the sampling point by -dx
        return dense[0].scatter_(2, index, weight), dense[1].scatter_(2, index, -slope)


def _spline(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Centred B-spline of degree 5 and its derivative: sum_k c_k (3 - k - |t|)_+^5 / 120 with c = 1, -6, 15."""
    far = distance.abs()
    value = slope = torch.zeros_like(far)
    for reach, factor in ((3.0, 1.0), (2.0, -6.0), (1.0, 15.0)):
        part = (reach - far).clamp(min=0)
        fourth = part.square().square()  # four times as fast as part**4
        value = value + (factor / 120) * fourth * part
        slope = slope - (factor / 24) * fourth
    return value, slope * torch.sign(distance)


def _outer(z_weights: Tensor, blur_weights: Tensor) -> Tensor:
    """Products of weights over planes and blur knots, (m, 4 * knots)."""
    return (z_weights[:, :, None] * blur_weights[:, None, :]).flatten(1)


def cubic_weights(t: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes of the four cubic B-splines over a point t in [0, 1) after the second of their knots, (m, 4)."""
    s = 1 - t
    weights = torch.stack([s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6], 1)
    slopes = torch.stack([-(s**2) / 2, -2 * t + 1.5 * t**2, 2 * s - 1.5 * s**2, t**2 / 2], 1)
    return weights, slopes


def spline_inverse(n: int, degree: int, device: torch.device) -> Tensor:
    """Inverse of the matrix that turns B-spline coefficients into samples, the end coefficients repeated outside."""
    taps = {3: (4 / 6, 1 / 6), 5: (66 / 120, 26 / 120, 1 / 120)}[degree]
    matrix = torch.zeros((n, n), dtype=torch.float64)
    rows = torch.arange(n)
    for k, value in enumerate(taps):
        for shift in {k, -k}:
            matrix.index_put_((rows, (rows + shift).clamp(0, n - 1)), torch.tensor(value, dtype=torch.float64), accumulate=True)
    return torch.linalg.inv(matrix).float().to(device)
