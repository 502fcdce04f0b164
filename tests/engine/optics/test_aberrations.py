"""Zernike polynomials: order, norm and sign."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.engine.optics.aberrations import NAMES, noll_to_nm, zernike, zernike_sum

# Table I of Noll (1976): index -> (n, m); the even ones are cosines (m > 0), the odd ones sines (m < 0)
NOLL_TABLE = {
    1: (0, 0), 2: (1, 1), 3: (1, -1), 4: (2, 0), 5: (2, -2), 6: (2, 2), 7: (3, -1), 8: (3, 1), 9: (3, -3), 10: (3, 3),
    11: (4, 0), 12: (4, 2), 13: (4, -2), 14: (4, 4), 15: (4, -4), 16: (5, 1), 17: (5, -1), 18: (5, 3), 19: (5, -3),
    20: (5, 5), 21: (5, -5), 22: (6, 0),
}  # fmt: skip


def disc(rings: int = 24, spokes: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coordinates y, x and weights (sum 1) that integrate polynomials up to degree 46 over the unit disc exactly."""
    node, weight = np.polynomial.legendre.leggauss(rings)
    r2, radial_weight = (node + 1) / 2, weight / 2  # r dr = d(r^2) / 2
    angle = 2 * np.pi * np.arange(spokes) / spokes
    r = np.sqrt(r2)[:, None]
    weights = np.repeat(radial_weight[:, None], spokes, 1) / spokes
    return torch.from_numpy(r * np.sin(angle)), torch.from_numpy(r * np.cos(angle)), torch.from_numpy(weights)


def test_the_order_is_that_of_nolls_table():
    assert {j: noll_to_nm(j) for j in NOLL_TABLE} == NOLL_TABLE


def test_every_pair_of_orders_occurs_once_up_to_order_twenty():
    pairs = {noll_to_nm(j) for j in range(1, 232)}
    assert pairs == {(n, m) for n in range(21) for m in range(-n, n + 1, 2)}


def test_noll_index_zero_is_refused():
    with pytest.raises(ValueError, match="start at 1; found 0"):
        noll_to_nm(0)


def test_the_polynomials_are_orthonormal_over_the_disc():
    y, x, weights = disc()
    basis = torch.stack([zernike(j, y, x) for j in range(1, 67)])
    gram = torch.einsum("jrs,krs,rs->jk", basis, basis, weights)
    assert torch.allclose(gram, torch.eye(66, dtype=torch.float64), atol=1e-10)


def test_the_first_polynomials_have_their_textbook_form():
    y, x = torch.tensor([0.3, -0.5], dtype=torch.float64), torch.tensor([0.7, 0.1], dtype=torch.float64)
    r2 = y**2 + x**2
    expected = {
        1: torch.ones_like(x),
        2: 2 * x,
        3: 2 * y,
        4: math.sqrt(3) * (2 * r2 - 1),
        5: 2 * math.sqrt(6) * x * y,
        6: math.sqrt(6) * (x**2 - y**2),
        7: math.sqrt(8) * (3 * r2 - 2) * y,
        8: math.sqrt(8) * (3 * r2 - 2) * x,
        11: math.sqrt(5) * (6 * r2**2 - 6 * r2 + 1),
    }
    for j, value in expected.items():
        assert torch.allclose(zernike(j, y, x), value, atol=1e-12), (j, NAMES[j])


def test_an_independent_package_agrees_in_order_and_sign():
    zernikepy = pytest.importorskip("zernikepy", reason="zernikepy comes with psf-generator, of the test extra")
    # its order is OSA's (n (n + 2) + m) / 2 and its polynomials are not normalised
    theirs = zernikepy.zernike_polynomials(mode=27, size=65, select="all")
    s = torch.linspace(-1, 1, 65, dtype=torch.float64)
    inside = (s[:, None] ** 2 + s**2 <= 1).numpy()
    for j in range(1, 29):
        n, m = noll_to_nm(j)
        ours = zernike(j, s[:, None], s[None, :]) + 0 * s[:, None]
        norm = math.sqrt(n + 1) if m == 0 else math.sqrt(2 * (n + 1))
        other = norm * theirs[..., (n * (n + 2) + m) // 2]
        assert np.abs(other - ours.numpy())[inside].max() < 1e-5, j


def test_high_orders_are_as_exact_in_single_as_in_double_precision():
    s = torch.linspace(-1, 1, 129, dtype=torch.float64)
    y, x = s[:, None], s[None, :]
    inside = y**2 + x**2 <= 1
    for j in (79, 137, 211):
        single = zernike(j, y.float(), x.float())
        assert single.dtype == torch.float32
        # the coordinates themselves are rounded, and the slope at the edge is n (n + 1)
        assert (single.double() - zernike(j, y.float().double(), x.float().double()))[inside].abs().max() < 1e-5, j


def test_a_sum_adds_the_terms_and_an_empty_one_is_flat():
    y, x = torch.tensor([[0.2], [0.4]]), torch.tensor([[0.1, -0.6, 0.0]])
    assert torch.equal(zernike_sum({}, y, x), torch.zeros(2, 3))
    assert torch.allclose(zernike_sum({4: 0.5, 7: -2.0}, y, x), 0.5 * zernike(4, y, x) - 2 * zernike(7, y, x))
