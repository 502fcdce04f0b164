"""Zernike polynomials in Noll's order.

Source: R. J. Noll, J. Opt. Soc. Am. 66, 207 (1976).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NAMES = {
    1: "piston", 2: "tilt x", 3: "tilt y", 4: "defocus", 5: "oblique astigmatism", 6: "vertical astigmatism",
    7: "vertical coma", 8: "horizontal coma", 9: "vertical trefoil", 10: "oblique trefoil", 11: "spherical",
}  # fmt: skip


def noll_to_nm(j: int) -> tuple[int, int]:
    """Radial order n and azimuthal order m (negative for the sine terms) of Noll index j >= 1."""
    if j < 1:
        raise ValueError(f"Noll indices start at 1; found {j}")
    n = int((math.sqrt(8 * j - 7) - 1) / 2)
    k = j - n * (n + 1) // 2 - 1
    m = k + (k + n) % 2  # within a row, |m| has n's parity and rises in pairs
    return n, (m if j % 2 == 0 else -m)


def zernike(j: int, y: Tensor, x: Tensor) -> Tensor:
    """Zernike polynomial j on pupil coordinates scaled to the unit disc; mean square over the disc is 1.

    The polynomial goes on smoothly outside the disc, so that a sampled edge needs no special case.
    """
    n, m = noll_to_nm(j)
    dtype = x.dtype
    # terms of opposite sign reach 1e7 at order 20: single precision would leave errors above 1 rad
    y, x = y.double(), x.double()
    r2 = y * y + x * x
    radial = torch.zeros_like(r2)
    order = abs(m)
    for k in range((n - order) // 2 + 1):
        c = (
            (-1) ** k
            * math.factorial(n - k)
            / (math.factorial(k) * math.factorial((n + order) // 2 - k) * math.factorial((n - order) // 2 - k))
        )
        radial = radial + c * r2 ** ((n - order) // 2 - k)
    if m == 0:
        return (math.sqrt(n + 1) * radial).to(dtype)
    # r^|m| cos(m phi) and r^|m| sin(m phi) as polynomials: no angle is needed at the centre
    real, imaginary = torch.ones_like(x), torch.zeros_like(x)
    for _ in range(order):
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    return (math.sqrt(2 * (n + 1)) * radial * (real if m > 0 else imaginary)).to(dtype)


def zernike_sum(coefficients_rad: dict[int, float], y: Tensor, x: Tensor) -> Tensor:
    """Sum of Zernike polynomials with coefficients in rad (root mean square)."""
    total = torch.zeros_like(y * x)
    for j, value in coefficients_rad.items():
        total = total + value * zernike(j, y, x)
    return total
