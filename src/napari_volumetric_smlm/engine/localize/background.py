"""A smooth background per view: cosines with a prior whose strength is read from the data.

b(y, x) = sum_ij c_ij cos(pi i (y + 1/2) / H) cos(pi j (x + 1/2) / W),   c_ij ~ N(0, 1 / (strength * roughness_ij))
roughness_ij = ((i / H)^2 + (j / W)^2)^2 = thin-plate energy up to a constant, zero for the mean.
All sums over pixels are separable, so that hundreds of terms cost little beside the molecules.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROBUST_ROUNDS = 7


class CosineBackground:
    """Basis on an H x W image inside a canvas padded by `pad` pixels on every side (where the basis is zero).

    Attributes
    ----------
    count : number of terms n = rows * columns, row order major.
    roughness : (n,) prior weight of each term.
    """

    def __init__(self, shape_yx: tuple[int, int], pad: int, scale_px: float, device: torch.device) -> None:
        height, width = shape_yx
        self.rows, self.columns = (max(1, 1 + round(n / scale_px)) for n in shape_yx)
        self.count = self.rows * self.columns
        self._cy = _cosines(2 * self.rows, height, pad, device)
        self._cx = _cosines(2 * self.columns, width, pad, device)
        i = torch.arange(self.rows, device=device)
        j = torch.arange(self.columns, device=device)
        self.roughness = (((i[:, None] / height) ** 2 + (j[None] / width) ** 2) ** 2).flatten() * 1e4
        ii, jj = (a.flatten() for a in torch.meshgrid(i, j, indexing="ij"))
        stride = 2 * self.columns
        # products of cosines are sums of cosines: where each pair of terms finds its four parts
        self._pairs = [(ii[:, None] + s * ii[None]).abs() * stride + (jj[:, None] + t * jj[None]).abs() for s in (1, -1) for t in (1, -1)]

    def image(self, coefficients: Tensor) -> Tensor:
        """Background on the padded canvas, (..., Hp, Wp), from coefficients (..., n)."""
        c = coefficients.unflatten(-1, (self.rows, self.columns))
        return self._cy[: self.rows].T @ c @ self._cx[: self.columns]

    def at(self, top_m: Tensor, left_m: Tensor) -> Tensor:
        """Values of the terms at pixels of the padded canvas, (m, n)."""
        rows, columns = self._cy[: self.rows, top_m].T, self._cx[: self.columns, left_m].T
        return (rows[:, :, None] * columns[:, None, :]).flatten(1)

    def project(self, image: Tensor) -> Tensor:
        """Inner products of images on the padded canvas (..., Hp, Wp) with the terms, (..., n)."""
        return (self._cy[: self.rows] @ image @ self._cx[: self.columns].T).flatten(-2)

    def project_windows(self, windows: Tensor, top_m: Tensor, left_m: Tensor) -> Tensor:
        """Inner products of windows (m, p, h, w), whose first pixel lies at (top, left) of the padded canvas, with the terms: (m, p, n)."""
        offset = torch.arange(windows.shape[-1], device=windows.device)
        rows = self._cy[: self.rows][:, top_m[:, None] + offset].transpose(0, 1)  # (m, rows, h)
        columns = self._cx[: self.columns][:, left_m[:, None] + offset].permute(1, 2, 0)  # (m, w, columns)
        m, p, h, w = windows.shape
        half = torch.bmm(windows.reshape(m, p * h, w), columns).reshape(m, p, h, self.columns)
        return torch.einsum("mrh,mphc->mprc", rows, half).flatten(-2)

    def normal_matrix(self, weight: Tensor) -> Tensor:
        """Matrix sum_k B_ik w_k B_jk for weights on the padded canvas (..., Hp, Wp): (..., n, n)."""
        spectrum = (self._cy @ weight @ self._cx.T).flatten(-2)
        return sum(spectrum[..., pair] for pair in self._pairs) / 4  # type: ignore[return-value]

    def robust_fit(self, photons: Tensor, read_variance: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Fit to images with molecules, all (..., Hp, Wp): coefficients (..., n) and image; pixels above it count less and less."""
        weight = seen.clone()
        for _ in range(ROBUST_ROUNDS):
            fisher = self.normal_matrix(weight) + 1e-3 * torch.eye(self.count, device=weight.device)
            coefficients = torch.linalg.solve(fisher, self.project(weight * photons))
            ground = self.image(coefficients)
            excess = (photons - ground) / (ground + read_variance).clamp(min=1.0).sqrt()
            # asymmetric weights: light of molecules only ever adds
            weight = seen / (1 + excess.clamp(min=0) ** 2)
        return coefficients, ground

    def strength(self, coefficients: Tensor, covariance_diagonal: Tensor, strength: Tensor) -> Tensor:
        """Prior strength that explains the coefficients (..., n) best: gamma / sum roughness c^2.

        gamma counts the terms that the data determine (MacKay, Neural Comput. 4, 415 (1992)).
        """
        rough = self.roughness > 0
        gamma = (1 - strength[..., None] * self.roughness * covariance_diagonal)[..., rough].clamp(0, 1).sum(-1)
        energy = (self.roughness * coefficients**2).sum(-1)
        return ((gamma + 1) / (energy + 1e-6)).clamp(1e-8, 1e8)


def _cosines(orders: int, n: int, pad: int, device: torch.device) -> Tensor:
    """Rows cos(pi i (y + 1/2) / n), zero on the padding: (orders, n + 2 pad)."""
    y = torch.arange(n, dtype=torch.float32, device=device) + 0.5
    i = torch.arange(orders, dtype=torch.float32, device=device)
    return torch.nn.functional.pad(torch.cos(math.pi / n * i[:, None] * y[None]), (pad, pad))
