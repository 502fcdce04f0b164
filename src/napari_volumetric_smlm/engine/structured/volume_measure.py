r"""Strength and axial shape of the waves of a stack whose lateral wave vectors are known.

With F_0 and F_b the spectra (q, k_z) of band 0 and of a band that was moved back by k_b, both show the same sample S:

    F_0 = H S,   F_b(q + k_b) = c T S,   T = (exp(-i theta) H_+ + exp(i theta) H_-) / 2,   H_+- = H(q + k_b, k_z -+ a)

Least squares over all q and k_z with the lenses exchanged, sum |F_b H - c T F_0|^2, needs two sums only,
P(r, k_z) = sum conj(F_0) F_b H and R(r, k_z) = sum |F_0|^2 less noise, over all q with |q + k_b| = r: the lens is round. Every axial
phase theta is then tried at the cost of a small table.
The out-of-focus haze lies at small q in band 0, where no band of a pattern has it; those q are left out.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.illumination import Illumination, Orientation
from ..fourier import spectrum
from .bands import field_window, separate, separation
from .estimate import Optics
from .measure import noise_power
from .overlap import INNERMOST, search_grid
from .pattern import axial_frequency
from .volume_bands import deep_spectrum, joined_planes
from .volume_otf import FocusSeries

PHASES = 91
# a wave is not seen through less of the lens than this
LEAST_OTF = 0.02


@dataclass(frozen=True)
class Sums:
    """P and R of one wave, (k_z, r), with the step of r in units of the lens's table."""

    product_zr: Tensor
    power_zr: Tensor


def measure_volume(
    frames_apzyx: Tensor, illumination: Illumination, optics: Optics, series: FocusSeries, excitation_per_um: float
) -> Illumination:
    """The same patterns with modulation and phase from all planes, and with the axial frequency and phase of standing waves.

    Parameters
    ----------
    frames_apzyx : without camera offset, all of the same mean.
    excitation_per_um : refractive index over the wavelength of excitation, from which axial frequencies follow: they are known better
        than the few planes of a stack could tell.
    """
    orientations = []
    for frames, orientation in zip(frames_apzyx, illumination.orientations, strict=True):
        waves = []
        sums = _sums_of(frames, orientation, optics, series)
        for wave, mine, stands in zip(orientation.waves, sums, illumination.geometry.standing, strict=True):
            axial = axial_frequency(wave.frequency_per_um, excitation_per_um) if stands else 0.0
            strength, phase = _fit(mine, series, axial)
            known = {"axial_per_um": axial, "axial_phase_rad": phase}
            waves.append(wave.model_copy(update={"modulation": min(2 * abs(strength), 2.0), "phase_rad": cmath.phase(strength), **known}))
        orientations.append(orientation.model_copy(update={"waves": tuple(waves)}))
    return illumination.model_copy(update={"orientations": tuple(orientations)})


def _sums_of(frames_pzyx: Tensor, orientation: Orientation, optics: Optics, series: FocusSeries) -> list[Sums]:
    """P and R of each wave of an orientation."""
    shape = (frames_pzyx.shape[-2], frames_pzyx.shape[-1])
    grid = search_grid(shape, optics.pixel_um, optics.transfer, 0.0)
    ready = (frames_pzyx - frames_pzyx.mean()) * field_window(shape, frames_pzyx)
    delta = torch.tensor(orientation.steps_rad, dtype=ready.dtype, device=ready.device)
    bands = separate(ready.movedim(0, 1), separation(delta, tuple(wave.step for wave in orientation.waves))).movedim(1, 0)
    light, length, flat = deep_spectrum(bands[0], grid.half_yx, series.planes), torch.hypot(*grid.q_yx), series.transfer()
    (level,) = noise_power(spectrum(bands[:1]).movedim(0, 1), grid, optics.pixel_um)
    signal = light.abs() ** 2 - level * joined_planes(len(bands[0]), series.planes)
    lens = flat(length).real
    nearest, farthest = INNERMOST * optics.transfer.cutoff_per_um, optics.transfer.cutoff_per_um
    found = []
    for wave, band in zip(orientation.waves, bands[1:], strict=True):
        ky, kx = wave.frequency_yx_per_um
        rows, columns = (_carrier(k * optics.pixel_um, n, band) for k, n in zip((ky, kx), shape, strict=True))
        moved = deep_spectrum(band * rows[:, None] * columns, grid.half_yx, series.planes)
        radius = torch.hypot(grid.q_yx[0] + ky, grid.q_yx[1] + kx)
        inside = (length > nearest) & (radius > nearest) & (radius < farthest)
        bright = (lens > LEAST_OTF)[:, inside]
        place, bins = (radius / flat.step_per_um)[inside], flat.values_k.shape[-1]
        product = (light.conj() * moved * lens)[:, inside] * bright
        found.append(Sums(_binned(product, place, bins), _binned(signal[:, inside] * bright, place, bins)))
    return found


def _carrier(turns_a_pixel: float, count: int, like: Tensor) -> Tensor:
    """exp(-2 pi i k (r - r_c)) along one axis."""
    angle = -2 * math.pi * turns_a_pixel * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    return torch.polar(torch.ones_like(angle), angle).to(like)


def _binned(values_zn: Tensor, place_n: Tensor, bins: int) -> Tensor:
    """Sums (z, bins) of values at places between the bins, shared by the two nearest."""
    low = place_n.long().clamp(max=bins - 2)
    share = place_n - low
    total = values_zn.new_zeros((len(values_zn), bins))
    return total.index_add_(1, low, values_zn * (1 - share)).index_add_(1, low + 1, values_zn * share)


def _fit(sums: Sums, series: FocusSeries, axial_per_um: float) -> tuple[complex, float]:
    """Strength c and axial phase of the best fit, the phase between -pi / 2 and pi / 2 (both signs of c make the same patterns)."""
    # cos(2 pi a z - theta) = cos(theta) cos(2 pi a z) + sin(theta) cos(2 pi a z - pi / 2)
    table = [series.transfer(axial_per_um, phase).values_k for phase in ((0.0, math.pi / 2) if axial_per_um else (0.0,))]
    v = torch.stack([(sums.product_zr * t.conj()).sum() for t in table]).cpu()
    gram = torch.stack([torch.stack([(sums.power_zr * a.conj() * b).sum().real for b in table]) for a in table]).cpu()
    theta = torch.linspace(-math.pi / 2, math.pi / 2, PHASES) if axial_per_um else torch.zeros(1)
    weight = torch.stack([torch.cos(theta), torch.sin(theta)])[: len(table)]
    strength = (weight.to(v) * v[:, None]).sum(0)
    energy = torch.einsum("an,ab,bn->n", weight, gram, weight).clamp(min=1e-30)
    best = int((strength.abs() ** 2 / energy).argmax())
    return complex(strength[best] / energy[best]), float(theta[best])
