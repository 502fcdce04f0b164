"""Grids, centring, Fourier transforms and resampling; the only module that calls torch.fft.

A grid of n samples is centred at index n // 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def centred_grid(n: int, step: float, like: Tensor | None = None) -> Tensor:
    """Coordinates of n samples with the given step; index n // 2 lies at 0, shape (n,)."""
    dtype = torch.float32 if like is None else like.dtype
    device = None if like is None else like.device
    return (torch.arange(n, dtype=dtype, device=device) - n // 2) * step


def transform_matrix(position_nm: Tensor, direction_na: Tensor, wavelength_nm: float) -> Tensor:
    """Matrix of the Fourier transform from pupil directions to positions: exp(i 2 pi / lambda * x s).

    Parameters
    ----------
    position_nm : (..., m) positions in the sample; any spacing, so no rule ties the pupil's grid to the camera's pixel.
    direction_na : (n,) pupil coordinates s = n sin(theta).

    Returns
    -------
    (..., m, n) complex tensor.
    """
    angle = (2 * math.pi / wavelength_nm) * position_nm[..., :, None] * direction_na
    return torch.complex(torch.cos(angle), torch.sin(angle))


def matrix_transform(field_yx: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Two-dimensional matrix Fourier transform rows @ field @ columns^T, batched (Jurling & Fienup 2018; Soummer et al. 2007)."""
    return rows @ field_yx @ columns.transpose(-1, -2)


def frequency_grid(shape_yx: tuple[int, int], step: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies (cycles per unit of step) of a real two-dimensional transform: (h, 1) and (1, w // 2 + 1)."""
    height, width = shape_yx
    fy = torch.fft.fftfreq(height, step, dtype=like.dtype, device=like.device)[:, None]
    fx = torch.fft.rfftfreq(width, step, dtype=like.dtype, device=like.device)[None, :]
    return fy, fx


def filter_image(image_yx: Tensor, transfer_yx: Tensor, shape_yx: tuple[int, int] | None = None) -> Tensor:
    """Multiply the spectrum of real images (..., h, w) by a transfer function; edges wrap around.

    Parameters
    ----------
    shape_yx : rows and columns to which the images are padded with zeros first, and which the result has; None = as they are.
        The transfer function has the shape (..., rows, columns // 2 + 1).
    """
    shape = (image_yx.shape[-2], image_yx.shape[-1]) if shape_yx is None else shape_yx
    spectrum = torch.fft.rfft2(image_yx, s=shape) * transfer_yx
    return torch.fft.irfft2(spectrum, s=shape)


def fast_length(n: int) -> int:
    """Smallest length of at least n whose only prime factors are 2, 3 and 5."""
    best = 1 << (n - 1).bit_length()
    p5 = 1
    while p5 < best:
        p35 = p5
        while p35 < best:
            candidate = p35 << max(0, math.ceil(math.log2(n / p35)))
            if n <= candidate < best:
                best = candidate
            p35 *= 3
        p5 *= 5
    return best


def correlation_spectrum(kernel_yx: Tensor, shape_yx: tuple[int, int]) -> Tensor:
    """Conjugate spectrum of kernels (..., k, k) centred at k // 2, ready for `correlate` with images padded to shape_yx."""
    size_y, size_x = kernel_yx.shape[-2:]
    padded = torch.nn.functional.pad(kernel_yx, (0, shape_yx[1] - size_x, 0, shape_yx[0] - size_y))
    padded = torch.roll(padded, (-(size_y // 2), -(size_x // 2)), (-2, -1))
    return torch.fft.rfft2(padded).conj()


def correlate(image_spectrum: Tensor, kernel_spectrum: Tensor, padded_yx: tuple[int, int], shape_yx: tuple[int, int]) -> Tensor:
    """Correlation of images with kernels, sum over x of image(x + p) kernel(x), cut to shape_yx; leading axes broadcast."""
    return real_image(image_spectrum * kernel_spectrum, padded_yx)[..., : shape_yx[0], : shape_yx[1]]


def image_spectrum(image_yx: Tensor, padded_yx: tuple[int, int]) -> Tensor:
    """Spectrum of real images (..., h, w), zero-padded to padded_yx."""
    return torch.fft.rfft2(image_yx, s=padded_yx)


def real_image(image_spectrum: Tensor, padded_yx: tuple[int, int]) -> Tensor:
    """Real images (..., *padded_yx) of spectra as `image_spectrum` makes them."""
    return torch.fft.irfft2(image_spectrum, s=padded_yx)


def spectrum(image_yx: Tensor) -> Tensor:
    """Fourier coefficients of images (..., h, w), real or complex; frequency zero stands at n // 2 and holds the mean.

    image(y, x) = sum of coefficient(u, v) exp(2 pi i (u y / h + v x / w)), with the origin at sample (0, 0).
    """
    return torch.fft.fftshift(torch.fft.fft2(image_yx, norm="forward"), dim=(-2, -1))


def image_of(spectrum_yx: Tensor, shape_yx: tuple[int, int]) -> Tensor:
    """Complex image of `spectrum`'s coefficients at other samples: sample j of n lies at j / n of the field's length, whatever n is."""
    height, width = spectrum_yx.shape[-2:]
    padded = spectrum_yx.new_zeros((*spectrum_yx.shape[:-2], *shape_yx))
    padded[..., :height, :width] = spectrum_yx
    # frequency zero goes from n // 2 to 0
    padded = torch.roll(padded, (-(height // 2), -(width // 2)), (-2, -1))
    return torch.fft.ifft2(padded, norm="forward")


def cut_spectrum(spectrum_yx: Tensor, half_yx: tuple[int, int]) -> Tensor:
    """The middle 2 half + 1 rows and columns of a centred spectrum."""
    top, left = (n // 2 - half for n, half in zip(spectrum_yx.shape[-2:], half_yx, strict=True))
    return spectrum_yx[..., top : top + 2 * half_yx[0] + 1, left : left + 2 * half_yx[1] + 1]


def frequencies(shape_yx: tuple[int, int], step: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies (cycles per unit of step) of `spectrum`'s rows (h, 1) and columns (1, w)."""
    fy, fx = (centred_grid(n, 1 / (n * step), like) for n in shape_yx)
    return fy[:, None], fx[None, :]


def axial_spectrum(volume_zyx: Tensor) -> Tensor:
    """Sums along z of volumes (..., z, y, x) times exp(-2 pi i u j / n), plane by plane of u, zero first and not centred."""
    return torch.fft.fft(volume_zyx, dim=-3)


def along_axis(spectrum_zyx: Tensor) -> Tensor:
    """The inverse of `axial_spectrum`."""
    return torch.fft.ifft(spectrum_zyx, dim=-3)
