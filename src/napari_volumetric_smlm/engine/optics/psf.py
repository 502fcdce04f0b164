r"""Images of a point: the pupil's field carried to the camera by a matrix Fourier transform.

E(x) = sum_s A(s) exp i[ psi(s) + k0 s (x - x0) + z kz_sample(s) - f kz_immersion(s) ],   h = sum_p |E_p|^2
A = amplitude_pyx, psi = phase_yx, x0 = lateral position, z = height of the molecule, f = focal plane; then blur and pixel.
The sum over all camera pixels of the whole plane is one (Parseval), so light that falls outside the crop counts as lost.
Sources: Nehme et al., Nat. Methods 17, 734 (2020); Ferdman et al., Opt. Express 28, 10179 (2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import EngineError
from ..fourier import centred_grid, fast_length, filter_image, frequency_grid, matrix_transform, transform_matrix
from .pupil import Pupil

# Samples that are computed around the crop beside three blurs.
MARGIN = 6


def point_images(
    pupil: Pupil,
    position_zyx_nm: Tensor,
    grid: tuple[int, float],
    focus_nm: Tensor | None = None,
    phase_yx: Tensor | None = None,
    amplitude_pyx: Tensor | None = None,
) -> Tensor:
    """Intensity of points, sampled on a centred grid; differentiable in every tensor.

    Parameters
    ----------
    position_zyx_nm : (m, 3) positions; y and x from the centre of the grid.
    grid : number of samples n and their step in nm.
    focus_nm : (m,) focal plane of each image (a bead scan moves it); None = the pupil's.
    phase_yx, amplitude_pyx : replace those of the pupil (calibration, design).

    Returns
    -------
    (m, n, n) tensor: share of the point's light per step^2.
    """
    size, step_nm = grid
    amplitude = pupil.amplitude_pyx if amplitude_pyx is None else amplitude_pyx
    carried, decay = carried_waves(pupil, position_zyx_nm, focus_nm, phase_yx)
    transform = transform_matrix(centred_grid(size, step_nm, position_zyx_nm), pupil.na_n, pupil.wavelength_nm)
    image = torch.zeros((len(carried), size, size), dtype=position_zyx_nm.dtype, device=carried.device)
    for plane in amplitude:
        e = matrix_transform(plane * carried, transform, transform)
        image = image + e.real**2 + e.imag**2
    power = torch.einsum("yx,myx->m", (amplitude.real**2 + amplitude.imag**2).sum(0), decay**2)
    # Parseval: sum over the period squared of |E|^2 dx^2 = period^2 * sum |A|^2
    return image * (step_nm / period_nm(pupil)) ** 2 / power[:, None, None]


def carried_waves(
    pupil: Pupil, position_zyx_nm: Tensor, focus_nm: Tensor | None = None, phase_yx: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Wave of points over the pupil but for its amplitude, (m, n, n) complex, and its modulus; parameters as in `point_images`."""
    phase = pupil.phase_yx if phase_yx is None else phase_yx
    z, y, x = (position_zyx_nm[:, axis, None, None] for axis in range(3))
    focus = torch.full_like(z, pupil.focal_plane_nm) if focus_nm is None else focus_nm[:, None, None]
    if pupil.image_shift_zyx_nm is not None:
        # a scan that moves the focal plane shows a point as one that lies deeper by as much
        y_shift, x_shift = measured_shift(pupil.image_shift_zyx_nm, (z - focus + pupil.focal_plane_nm).flatten())
        y, x = y + y_shift[:, None, None], x + x_shift[:, None, None]
    k0 = 2 * math.pi / pupil.wavelength_nm
    # a lateral shift is a tilt of the pupil: all points share one transform, and no gradient goes through its matrix
    tilt = k0 * (y * pupil.na_n[:, None] + x * pupil.na_n)
    angle = phase + z * pupil.kz_sample_yx.real - focus * pupil.kz_immersion_yx - tilt
    # z counts from the coverslip: below it there is no evanescent field to grow
    decay = torch.exp(-z.clamp(min=0) * pupil.kz_sample_yx.imag)
    return torch.complex(decay * torch.cos(angle), decay * torch.sin(angle)), decay


def measured_shift(shift_zyx_nm: Tensor, z_nm: Tensor) -> tuple[Tensor, Tensor]:
    """Shift of the image (y, x) at depths (m,), linear between the rows and that of the last row beyond them."""
    depth = shift_zyx_nm[:, 0].contiguous()
    above = torch.searchsorted(depth, z_nm.detach().contiguous()).clamp(1, len(depth) - 1)
    part = ((z_nm - depth[above - 1]) / (depth[above] - depth[above - 1])).clamp(0, 1)
    rows = shift_zyx_nm[above - 1, 1:] + part[:, None] * (shift_zyx_nm[above, 1:] - shift_zyx_nm[above - 1, 1:])
    return rows[:, 0], rows[:, 1]


def pixel_transfer(shape_yx: tuple[int, int], step_nm: float, blur_nm: Tensor, pixel_nm: float, like: Tensor) -> Tensor:
    """Transfer function of Gaussian blur (standard deviation, nm; shape (m,) or scalar) and of the pixel's area (0 = point sampling).

    exp(-2 pi^2 sigma^2 f^2) sinc(f_y p) sinc(f_x p)
    """
    fy, fx = frequency_grid(shape_yx, step_nm, like)
    blur = torch.as_tensor(blur_nm, dtype=like.dtype, device=like.device)[..., None, None]
    transfer = torch.exp(-2 * math.pi**2 * blur**2 * (fy**2 + fx**2))
    return transfer * torch.sinc(fy * pixel_nm) * torch.sinc(fx * pixel_nm)


def period_nm(pupil: Pupil) -> float:
    """Distance after which the sampled pupil's field repeats: lambda / (pupil step)."""
    # the step from the whole width: the difference of two neighbours has few digits
    return pupil.wavelength_nm * (len(pupil.na_n) - 1) / float(pupil.na_n[-1] - pupil.na_n[0])


def nyquist_nm(pupil: Pupil) -> float:
    """Largest step that samples the intensity fully: half its finest period lambda / (2 NA), with the aperture's radius for NA."""
    return pupil.wavelength_nm / (4 * pupil.reach_na)


def oversampling(pupil: Pupil, pixel_nm: float) -> int:
    """Samples per pixel that the intensity needs."""
    # a tenth beyond is harmless: the transfer function is nearly zero there
    return max(1, math.ceil(pixel_nm / (1.1 * nyquist_nm(pupil))))


def sampled_images(
    pupil: Pupil,
    position_zyx_nm: Tensor,
    grid: tuple[int, float, float],
    blur_nm: Tensor | float = 0.0,
    **changes: Tensor | None,
) -> Tensor:
    """Blurred images of points integrated over a square around each sample.

    Parameters
    ----------
    grid : samples n along a side, their step in nm (fine enough for `oversampling`) and the side of the square in nm (0 = a point).
    blur_nm : Gaussian blur: one number, one per point (m,), or (b, 1) numbers that are all applied to every point.
    changes : focus_nm, phase_yx, amplitude_pyx as in `point_images`.

    Returns
    -------
    (m, n, n) tensor: share of the point's light per step^2.

    Raises
    ------
    EngineError
        If the images are wider than the period of the pupil's field: they would show the point twice.
    """
    size, step, _ = grid
    width, period, samples = (size - 1) * step, period_nm(pupil), len(pupil.na_n)
    if width > period:
        raise EngineError(
            f"the images are {width + step:.0f} nm wide, but the field of a pupil of {samples} samples repeats every {period:.0f} nm: "
            f"use a smaller window, or a pupil of at least {math.ceil(width / period * (samples - 1)) + 1} samples"
        )
    blur = torch.as_tensor(blur_nm, dtype=position_zyx_nm.dtype, device=position_zyx_nm.device)
    padded = size + 2 * margin_of(step, blur)
    image = point_images(pupil, position_zyx_nm, (padded, step), **changes)
    return blurred_images(image, grid, blur)


def margin_of(step_nm: float, blur_nm: Tensor) -> int:
    """Samples that `blurred_images` needs on each side of the crop, so that nothing wraps from one edge to the other."""
    return MARGIN + math.ceil(3 * float(blur_nm.detach().max()) / step_nm)


def blurred_images(image: Tensor, grid: tuple[int, float, float], blur_nm: Tensor) -> Tensor:
    """Blur images, integrate over a square around each sample, and cut the margin off; grid as in `sampled_images`."""
    size, step, area_nm = grid
    margin = margin_of(step, blur_nm)
    padding = (fast_length(image.shape[-1]), fast_length(image.shape[-1]))
    image = filter_image(image, pixel_transfer(padding, step, blur_nm, area_nm, image), padding)
    # both grids are centred at n // 2, and padding by the same number on both sides keeps it so
    return image[..., margin : margin + size, margin : margin + size]


def camera_images(
    pupil: Pupil,
    position_zyx_nm: Tensor,
    camera: tuple[int, float, bool],
    blur_nm: Tensor | float = 0.0,
    focus_nm: Tensor | None = None,
    phase_yx: Tensor | None = None,
    amplitude_pyx: Tensor | None = None,
) -> Tensor:
    """Images of points as a camera sees them.

    Parameters
    ----------
    camera : pixels n along a side, pixel in nm, and whether a pixel integrates over its area.
    blur_nm : Gaussian blur, one number or one per point.

    Returns
    -------
    (m, n, n) tensor: share of the point's light in each pixel.
    """
    size, pixel_nm, integrated = camera
    fine = oversampling(pupil, pixel_nm)
    # the fine grid contains the pixel centres: pixel j is its sample fine * j + first
    half = max(size // 2, size - 1 - size // 2) * fine
    grid = (2 * half + 1, pixel_nm / fine, pixel_nm if integrated else 0.0)
    image = sampled_images(pupil, position_zyx_nm, grid, blur_nm, focus_nm=focus_nm, phase_yx=phase_yx, amplitude_pyx=amplitude_pyx)
    first = half - (size // 2) * fine
    return image[:, first : first + fine * size : fine, first : first + fine * size : fine] * fine**2
