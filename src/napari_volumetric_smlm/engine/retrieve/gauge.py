r"""What images do not tell, settled: piston, tilt and position, defocus and focal plane, and the direction of z.

psi + a s_y + b s_x + c kz describes the same images as psi with the bead moved and the focal plane shifted. Here the phase carries no
net tilt (the position is the centroid of the light) and no net defocus (focus zero is where the image is narrowest, and the bead then
lies at the coverslip): both by least squares of the wrapped phase slopes, weighted with the light. Wraps do not matter.

Reversing z, psi(s) -> -psi(-s) - 2 h kz_sample, A(s) -> A(-s), f -> -f, leaves scalar images of beads at one height h as they are
(complex conjugate of the field): a bead stack alone does not tell the direction of the scan.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..optics.aberrations import zernike
from .model import AMPLITUDE_TERMS, NM, PHASE_TERMS, BeadImages, PupilModel


def weight_yx(model: PupilModel) -> Tensor:
    """Light in every sample of the pupil, (n, n)."""
    return (model.pupil.amplitude_pyx.abs() ** 2).sum(0) * model.relative_amplitude_yx() ** 2 * model.inside_yx


def slopes_by_least_squares(phase_yx: Tensor, weight: Tensor, terms_jyx: Tensor) -> Tensor:
    """Coefficients of terms whose slopes come closest to the wrapped slopes of a phase, (j,)."""
    return _solved(*_normal_equations(phase_yx, weight, terms_jyx)).to(phase_yx.dtype)


def _normal_equations(phase_yx: Tensor, weight: Tensor, terms_jyx: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (j, j) and right side (j,) of the least squares, in double precision."""
    columns, values = [], []
    for axis in (0, 1):
        sample = phase_yx.shape[axis]
        ahead, behind = (
            [t.narrow(axis, 1, sample - 1) for t in (phase_yx, weight)],
            [t.narrow(axis, 0, sample - 1) for t in (phase_yx, weight)],
        )
        slope = torch.remainder(ahead[0] - behind[0] + math.pi, 2 * math.pi) - math.pi
        root = torch.sqrt(ahead[1] * behind[1]).sqrt().flatten()
        steps = terms_jyx.narrow(axis + 1, 1, sample - 1) - terms_jyx.narrow(axis + 1, 0, sample - 1)
        columns.append(steps.flatten(1) * root)
        values.append(slope.flatten() * root)
    matrix, value = torch.cat(columns, 1).double(), torch.cat(values).double()
    return matrix @ matrix.T, matrix @ value


def _solved(normal: Tensor, right: Tensor) -> Tensor:
    scale = normal.diagonal().clamp(min=1e-30).sqrt()
    return torch.linalg.lstsq(normal / scale / scale[:, None], (right / scale)[:, None]).solution[:, 0] / scale


def settle(model: PupilModel, bead_slice: float | None = None) -> PupilModel:
    """Return the same images with all phase in the pixel map, free of piston, tilt and net defocus.

    Parameters
    ----------
    bead_slice : slice in which the focal plane is known to be at the first bead; None = the phase is made free of net defocus.
    """
    tilt_y, tilt_x, defocus = slopes_by_least_squares(model.total_phase_yx(), weight_yx(model), _plane(model))
    return _flattened(model, (tilt_y, tilt_x, defocus if bead_slice is None else _defocus_of(model, bead_slice)))


def settle_together(models: list[PupilModel], bead_slice: float | None = None) -> list[PupilModel]:
    """Return the same images as `settle` does, with one net defocus of all views: one that each view had would be parallax."""
    count = len(models)
    normal, right = torch.zeros((2 * count + 1, 2 * count + 1), dtype=torch.float64), torch.zeros(2 * count + 1, dtype=torch.float64)
    for v, model in enumerate(models):
        own = torch.tensor([2 * v, 2 * v + 1, 2 * count])
        part, value = _normal_equations(model.total_phase_yx(), weight_yx(model), _plane(model))
        normal[own[:, None], own] += part.cpu()
        right[own] += value.cpu()
    found = _solved(normal, right).to(models[0].phase_rad_yx)
    defocus = found[-1] if bead_slice is None else _defocus_of(models[0], bead_slice)
    return [_flattened(model, (found[2 * v], found[2 * v + 1], defocus)) for v, model in enumerate(models)]


def _plane(model: PupilModel) -> Tensor:
    """What tilts and a shift of the focal plane do to the phase, (3, n, n)."""
    s = model.pupil.na_n
    shape = model.phase_rad_yx.shape
    return torch.stack([s[:, None].expand(shape), s[None, :].expand(shape), model.pupil.kz_immersion_yx])


def _defocus_of(model: PupilModel, bead_slice: float) -> Tensor:
    pupil = model.pupil
    # a bead at height h is in focus when the nominal plane is at h n_immersion / n_sample (paraxial)
    wanted = model.images.bead_nm[0] * float(pupil.kz_immersion_yx.max() / pupil.kz_sample_yx.real.max())
    now = float(model.focus_b[0]) * NM + (bead_slice - model.images.focus_slice) * model.images.step_nm
    return torch.as_tensor(now - wanted, dtype=model.phase_rad_yx.dtype, device=model.phase_rad_yx.device)


def _flattened(model: PupilModel, plane: tuple[Tensor, Tensor, Tensor]) -> PupilModel:
    """Take tilts and defocus out of the phase, and put them into shift and focal plane."""
    twin, pupil, phase, weight = model.copy(), model.pupil, model.total_phase_yx(), weight_yx(model)
    tilt_y, tilt_x, defocus = plane
    basis = _plane(model)
    rest = phase - tilt_y * basis[0] - tilt_x * basis[1] - defocus * (basis[2] - basis[2].mean())
    piston = torch.angle((weight * torch.polar(torch.ones_like(phase), rest)).sum())
    twin.phase_rad_yx = (torch.remainder(rest - piston + math.pi, 2 * math.pi) - math.pi) * model.inside_yx
    twin.phase_terms_rad = torch.zeros_like(model.phase_terms_rad)
    k0 = 2 * math.pi / pupil.wavelength_nm
    twin.shift_bk2 = model.shift_bk2 - torch.stack([tilt_y, tilt_x]) / (k0 * NM)
    twin.focus_b = model.focus_b - defocus / NM
    return twin


def reversed_z(model: PupilModel, images: BeadImages) -> PupilModel:
    """Return the model that gives the same images with the focal plane moving the other way; `images` holds that step."""
    twin = model.copy(images)
    base = torch.angle(model.pupil.amplitude_pyx[0]) if len(model.pupil.amplitude_pyx) == 1 else torch.zeros_like(model.phase_rad_yx)
    phase = model.total_phase_yx() + model.pupil.phase_yx
    height = 2 * model.images.bead_nm[0] * model.pupil.kz_sample_yx.real
    turned = -torch.flip(phase, (0, 1)) - 2 * base - height - model.pupil.phase_yx
    twin.phase_terms_rad = torch.zeros_like(model.phase_terms_rad)
    twin.phase_rad_yx = turned * model.inside_yx
    # Noll terms with odd azimuthal order change sign under inversion of the pupil
    y = torch.tensor([0.31, -0.31]), torch.tensor([0.47, -0.47])
    parity = torch.tensor([math.copysign(1.0, float(v[0] * v[1])) for v in (zernike(j, *y) for j in AMPLITUDE_TERMS)])
    twin.log_amplitude_terms = model.log_amplitude_terms * parity.to(model.log_amplitude_terms)
    twin.focus_b = -model.focus_b
    return twin


def zernike_coefficients(phase_yx: Tensor, weight: Tensor, na_n: Tensor) -> dict[int, float]:
    """Zernike content of a wrapped phase map: Noll index -> rad, by its slopes."""
    unit = na_n / na_n[-1]
    terms = torch.stack([zernike(j, unit[:, None], unit[None, :]) for j in (2, 3, *PHASE_TERMS)])
    values = slopes_by_least_squares(phase_yx, weight, terms)
    return {j: float(v) for j, v in zip((2, 3, *PHASE_TERMS), values, strict=True) if j >= PHASE_TERMS.start}
