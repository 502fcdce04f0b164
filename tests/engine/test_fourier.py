"""Grids and transforms."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine import fourier


@pytest.mark.parametrize("n", [4, 5])
def test_a_grid_is_centred_at_half_its_length(n):
    grid = fourier.centred_grid(n, 2.5)
    assert grid[n // 2] == 0
    assert torch.allclose(grid.diff(), torch.full((n - 1,), 2.5))


def test_a_grid_has_the_precision_and_device_that_it_is_like():
    assert fourier.centred_grid(3, 0.1, torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert fourier.centred_grid(3, 0.1).dtype == torch.float32


def test_the_matrix_transform_is_the_fourier_transform_on_any_grid():
    n, wavelength = 16, 500.0
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(n, n, generator=generator, dtype=torch.complex128)
    direction = (torch.arange(n, dtype=torch.float64) - n // 2) * 0.1
    # at the pitch lambda / (n ds) it must agree with the fast transform ...
    position = (torch.arange(n, dtype=torch.float64) - n // 2) * wavelength / (n * 0.1)
    rows = fourier.transform_matrix(position, direction, wavelength)
    fast = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(field))) * n * n
    assert torch.allclose(fourier.matrix_transform(field, rows, rows), fast, atol=1e-9)
    # ... and at any other it is the sum that it stands for
    rows = fourier.transform_matrix(torch.tensor([37.0, -411.0], dtype=torch.float64), direction, wavelength)
    y, x = torch.tensor(37.0), torch.tensor(-411.0)
    angle = 2 * math.pi / wavelength * (y * direction[:, None] + x * direction)
    assert torch.allclose(fourier.matrix_transform(field, rows, rows)[0, 1], (field * torch.exp(1j * angle)).sum())


def test_filtering_with_a_gaussian_transfer_blurs():
    image = torch.zeros(33, 33, dtype=torch.float64)
    image[16, 16] = 1
    fy, fx = fourier.frequency_grid((33, 33), 1.0, image)
    blurred = fourier.filter_image(image, torch.exp(-2 * math.pi**2 * 2.0**2 * (fy**2 + fx**2)))
    x = torch.arange(33, dtype=torch.float64) - 16
    assert float(blurred.sum()) == pytest.approx(1)
    assert float((blurred.sum(0) * x**2).sum()) == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, 7, 11, 13, 17, 97, 121, 128, 211, 1021])
def test_a_fast_length_is_the_next_product_of_two_three_and_five(n):
    def smooth(k: int) -> bool:
        for p in (2, 3, 5):
            while k % p == 0:
                k //= p
        return k == 1

    assert fourier.fast_length(n) == next(k for k in range(n, 2 * n + 1) if smooth(k))


def test_correlation_is_the_sum_that_it_stands_for():
    generator = torch.Generator().manual_seed(1)
    image, kernel = torch.rand(9, 12, generator=generator), torch.rand(5, 5, generator=generator)
    padded = (fourier.fast_length(9 + 4), fourier.fast_length(12 + 4))
    found = fourier.correlate(fourier.image_spectrum(image, padded), fourier.correlation_spectrum(kernel, padded), padded, (9, 12))
    expected = torch.nn.functional.conv2d(image[None, None], kernel[None, None], padding=2)[0, 0]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (7, 5)])
def test_an_image_of_its_spectrum_is_itself_and_at_more_samples_the_same_function(shape):
    y, x = (torch.arange(n, dtype=torch.float64) / n for n in shape)
    image = 2 + torch.cos(2 * math.pi * (y[:, None] + 2 * x[None, :]) + 0.3)
    series = fourier.spectrum(image)
    assert torch.allclose(fourier.image_of(series, shape).real, image)
    finer = (3 * shape[0], 2 * shape[1])
    y, x = (torch.arange(n, dtype=torch.float64) / n for n in finer)
    expected = 2 + torch.cos(2 * math.pi * (y[:, None] + 2 * x[None, :]) + 0.3)
    assert torch.allclose(fourier.image_of(series, finer).real, expected)


def test_a_cut_spectrum_keeps_its_middle_and_frequencies_name_its_samples():
    series = fourier.spectrum(torch.randn((9, 12), generator=torch.Generator().manual_seed(0)))
    cut = fourier.cut_spectrum(series, (2, 3))
    assert cut.shape == (5, 7)
    assert cut[2, 3] == series[4, 6]
    fy, fx = fourier.frequencies((9, 12), 0.5, torch.zeros(1))
    assert fy[4, 0] == fx[0, 6] == 0
    assert fx[0, 7] == pytest.approx(1 / 6)
