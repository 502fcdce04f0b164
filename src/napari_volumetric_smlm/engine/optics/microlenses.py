r"""Light through a microlens array by full wave optics: the reference for views that are sub-pupils (`views`, `psf`).

U(x)  = sum_j P_j(s) exp[ -i k0 |x - c_j|^2 / (2 f) ],   s = direction_per_mm * x      field behind the array
U(x') = F^-1{ F[U] exp[ 2 pi i f (sqrt(1/lambda^2 - nu^2) - 1/lambda) ] }              field on the camera
P_j = the objective's field inside the outline of lens j, c_j = centres_in_pupil, f = focal_length_mm, nu = frequency on the array.
A view is then the intensity around the axis of its lens. Diffraction by the outlines and what one lens throws into the view of
another are in it; the sub-pupil model leaves the latter out, and needs neither lens nor propagation.
Source: Guo et al., Opt. Express 27, 25573 (2019), eqs 2 to 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ...errors import InstrumentError
from ..fourier import centred_grid, fast_length, frequencies, matrix_transform, spectrum, transform_matrix
from .psf import blurred_images, carried_waves, margin_of
from .pupil import Pupil, view_pupil


def array_images(instrument: Instrument, position_zyx_nm: Tensor, grid: tuple[int, float, float], samples: int = 1025) -> Tensor:
    """Images of points behind every lens.

    Parameters
    ----------
    position_zyx_nm : (m, 3) positions, y and x from the field's centre.
    grid : samples n along a side, their step in nm of the sample and the side of the square that each integrates over, as in
        `sampled_images`; centred on the lens's axis.
    samples : across the pupil; enough of them that the phase of the lenses is sampled twice a period at their edges.

    Returns
    -------
    (m, V, n, n) tensor: share of the point's light in all views per step^2.

    Raises
    ------
    InstrumentError
        If the instrument has no microlens array, or `samples` are too few for its lenses.
    """
    array = instrument.microlenses
    if array is None:
        raise InstrumentError(f"the instrument {instrument.name!r} has no microlens array")
    size, step_nm, _ = grid
    wavelength_mm, focal_mm = instrument.emission_nm * 1e-6, array.focal_length_mm
    pupils = [view_pupil(instrument, v, position_zyx_nm.dtype, samples) for v in range(len(instrument.views))]
    na = pupils[0].na_n
    step_mm = 2 * instrument.objective.numerical_aperture / (len(na) - 1) / abs(array.direction_per_mm())
    centres = torch.as_tensor(array.centres_in_pupil(instrument.cameras[0].pixel_um), dtype=na.dtype)
    # two samples a period where the lens bends most, farthest from its axis
    farthest_mm = max(_reach_mm(pupil, centre, step_mm) for pupil, centre in zip(pupils, centres, strict=True))
    coarsest = wavelength_mm * focal_mm / (2 * farthest_mm)
    if step_mm > coarsest:
        least = math.ceil(len(na) * step_mm / coarsest)
        raise InstrumentError(f"{len(na)} samples across the pupil are too few for the phase of these lenses: use {least} or more")
    # twice the pupil's width, so that light that leaves one side does not come back on the other
    width = fast_length(2 * (len(na) - 1))
    x = centred_grid(width, step_mm, na)
    fy, fx = frequencies((width, width), step_mm, na)
    nu2 = fy**2 + fx**2
    # sqrt(1/lambda^2 - nu^2) - 1/lambda without the loss of digits
    retard = -nu2 / (torch.sqrt((1 / wavelength_mm**2 - nu2).clamp(min=0)) + 1 / wavelength_mm)
    transfer = torch.polar(torch.ones_like(retard), 2 * math.pi * focal_mm * retard)

    blurs = torch.tensor([view.blur_nm for view in instrument.views], dtype=na.dtype)
    sensor_mm_per_nm = array.native_magnification * focal_mm / array.fourier_lens_mm * 1e-6
    fine = centred_grid(size + 2 * margin_of(step_nm, blurs), step_nm, na) * sensor_mm_per_nm
    lens_waves = [_lens_wave(x, centre, math.pi / (wavelength_mm * focal_mm)) for centre in centres]
    # sample (0, 0) is the origin of the spectrum
    origin = (width // 2) * step_mm
    rows, columns = ([transform_matrix(fine + float(c) + origin, f.flatten(), 1.0) for c in centres[:, a]] for a, f in ((0, fy), (1, fx)))

    images = []
    for point in position_zyx_nm.split(1):
        light, power = torch.zeros((len(pupils), len(fine), len(fine)), dtype=na.dtype), torch.zeros((), dtype=na.dtype)
        parts = [_behind_lens(p.amplitude_pyx * carried_waves(p, point)[0], wave) for p, wave in zip(pupils, lens_waves, strict=True)]
        for field in torch.stack(parts).sum(0):
            power = power + (field.real**2 + field.imag**2).sum()
            behind = spectrum(field) * transfer
            seen = torch.stack([matrix_transform(behind, r, c) for r, c in zip(rows, columns, strict=True)])
            light = light + seen.real**2 + seen.imag**2
        light = light * (step_nm * sensor_mm_per_nm / step_mm) ** 2 / power
        images.append(torch.cat([blurred_images(one[None], grid, blur) for one, blur in zip(light, blurs, strict=True)]))
    return torch.stack(images)


def _reach_mm(pupil: Pupil, centre_mm: Tensor, step_mm: float) -> float:
    """Distance from a lens's axis to the farthest point that passes light."""
    x = -centred_grid(len(pupil.na_n), step_mm, pupil.na_n)
    distance = torch.hypot(x[:, None] - centre_mm[0], x - centre_mm[1])
    return float(distance[(pupil.amplitude_pyx != 0).any(0)].max())


def _lens_wave(x_mm: Tensor, centre_mm: Tensor, curvature: float) -> Tensor:
    """What a thin lens does to a wave: exp(-i pi |x - c|^2 / (lambda f))."""
    phase = -curvature * ((x_mm[:, None] - centre_mm[0]) ** 2 + (x_mm - centre_mm[1]) ** 2)
    return torch.polar(torch.ones_like(phase), phase)


def _behind_lens(pupil_pyx: Tensor, lens_yx: Tensor) -> Tensor:
    """The pupil's field on the array, where the relay turns it by 180 degrees, times the lens."""
    n, width = pupil_pyx.shape[-1], len(lens_yx)
    first = width // 2 - n // 2
    field = torch.zeros((len(pupil_pyx), width, width), dtype=lens_yx.dtype)
    field[:, first : first + n, first : first + n] = pupil_pyx.flip(-2, -1)
    return field * lens_yx
