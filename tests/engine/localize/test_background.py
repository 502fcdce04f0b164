"""The cosine background: its separable sums are the dense ones, and its stiffness follows the data."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine.localize.background import CosineBackground

HEIGHT, WIDTH, PAD = 23, 31, 5


@pytest.fixture(scope="module")
def basis() -> CosineBackground:
    return CosineBackground((HEIGHT, WIDTH), PAD, 8.0, torch.device("cpu"))


@pytest.fixture(scope="module")
def terms(basis) -> torch.Tensor:
    """Every term painted on the padded canvas, (n, Hp, Wp), from the formula."""
    painted = torch.zeros((basis.count, HEIGHT + 2 * PAD, WIDTH + 2 * PAD))
    for i in range(basis.rows):
        for j in range(basis.columns):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    value = math.cos(math.pi * i * (y + 0.5) / HEIGHT) * math.cos(math.pi * j * (x + 0.5) / WIDTH)
                    painted[i * basis.columns + j, y + PAD, x + PAD] = value
    return painted


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def test_the_number_of_terms_follows_the_smallest_structure():
    fine = CosineBackground((60, 90), 0, 30.0, torch.device("cpu"))
    assert (fine.rows, fine.columns) == (3, 4)
    constant = CosineBackground((60, 90), 0, 1e6, torch.device("cpu"))
    assert constant.count == 1


def test_an_image_is_the_sum_of_its_terms(basis, terms):
    coefficients = random(2, basis.count) - 0.5
    torch.testing.assert_close(basis.image(coefficients), torch.einsum("tn,nyx->tyx", coefficients, terms), atol=1e-5, rtol=1e-5)


def test_values_at_pixels_are_those_of_the_painted_terms(basis, terms):
    top, left = torch.tensor([0, 7, 14, 27]), torch.tensor([3, 12, 20, 35])
    torch.testing.assert_close(basis.at(top, left), terms[:, top, left].T, atol=1e-6, rtol=1e-5)


def test_projection_is_the_dense_inner_product(basis, terms):
    image = random(2, 3, *terms.shape[1:])
    torch.testing.assert_close(basis.project(image), torch.einsum("tvyx,nyx->tvn", image, terms), atol=1e-3, rtol=1e-4)


def test_the_normal_matrix_is_the_dense_sum(basis, terms):
    weight = random(2, *terms.shape[1:])
    expected = torch.einsum("iyx,tyx,jyx->tij", terms, weight, terms)
    torch.testing.assert_close(basis.normal_matrix(weight), expected, atol=1e-3, rtol=1e-4)


def test_the_projection_of_windows_is_that_of_painted_windows(basis, terms):
    windows = random(3, 4, 9, 9)
    # the first and the last hang over the edge of the image, where the terms are zero
    top, left = torch.tensor([0, 8, 24]), torch.tensor([1, 13, 32])
    painted = torch.zeros((3, 4, *terms.shape[1:]))
    for m in range(3):
        painted[m, :, top[m] : top[m] + 9, left[m] : left[m] + 9] = windows[m]
    torch.testing.assert_close(basis.project_windows(windows, top, left), basis.project(painted), atol=1e-3, rtol=1e-4)


def test_only_the_mean_is_free_of_roughness_and_finer_terms_are_rougher(basis):
    roughness = basis.roughness.reshape(basis.rows, basis.columns)
    assert roughness[0, 0] == 0
    assert (roughness.flatten()[1:] > 0).all()
    assert (roughness.diff(dim=0) > 0).all()
    assert (roughness.diff(dim=1) > 0).all()


def fitted_strength(basis: CosineBackground, image: torch.Tensor) -> float:
    """Strength after a few rounds of fitting an image with Poisson weights and reading the strength from the fit."""
    inside = (basis.image(torch.eye(basis.count)[0]) != 0).float()
    weight = inside / 20.0
    strength = torch.tensor(1.0)
    for _ in range(20):
        fisher = basis.normal_matrix(weight) + torch.diag(strength * basis.roughness)
        coefficients = torch.linalg.solve(fisher, basis.project(weight * image))
        strength = basis.strength(coefficients, torch.linalg.inv(fisher).diagonal(), strength)
    return float(strength)


def test_flat_data_make_the_background_stiff_and_rough_data_make_it_soft(basis):
    generator = torch.Generator().manual_seed(1)
    flat = torch.poisson(torch.full((HEIGHT + 2 * PAD, WIDTH + 2 * PAD), 20.0), generator=generator)
    wavy = flat + 60 * basis.image(torch.eye(basis.count)[2 * basis.columns + 2])
    stiff, soft = fitted_strength(basis, flat), fitted_strength(basis, wavy)
    assert stiff > 1.0
    assert stiff > 100 * soft
