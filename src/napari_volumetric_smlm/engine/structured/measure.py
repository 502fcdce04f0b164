r"""From a maximum on the grid to a measured wave: wave vector between the grid points, modulation, phase and their errors.

c = N(k) / sum_q (|F_0(q)|^2 - noise) G(q) W(q) / H(q) W(q + k) H(q + k),   m = 2 |c|,   phi = arg c   (H = OTF, others as in `overlap`)
Without taking off the noise of band 0, which prevails where the bands of a fine pattern overlap, m would be several times too small.
With a score Z = |N|^2 / V the errors follow from the noise of N alone; where the sample's own structure makes larger rivals than noise
does, Z is divided by as much:
sigma_phi = 1 / sqrt(2 Z),   sigma_m = m sigma_phi,   sigma_k = sigma_phi / (2 pi width of the light in the field, root mean square).
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.illumination import Evidence
from ..fourier import frequencies
from .overlap import Overlap, SearchGrid

# below this share of the energy the signal is not known from the noise
LEAST_SIGNAL, LEAST_OTF = 0.01, 1e-3
# searched around the start, in samples of the grid: reach and step, twice
SEARCHES_PX = ((1.2, 0.2), (0.2, 0.02))


@dataclass(frozen=True)
class Measured:
    """A wave with its complex strength c (half the modulation, phase at the field's centre), and what speaks for it."""

    k_yx: tuple[float, float]
    strength: complex
    evidence: Evidence


def refine(overlaps: list[Overlap], ratios: list[float], start_yx: tuple[float, float]) -> tuple[float, float]:
    """Wave vector that maximises the summed scores, starting from the best one on the grid.

    ratios : length of each overlap's wave vector over the one that is searched (orders of one pattern are multiples).
    """
    ky, kx = start_yx
    grid = overlaps[0].grid
    for reach, step in SEARCHES_PX:
        count = round(reach / step)
        offset = torch.arange(-count, count + 1, dtype=torch.float32, device=grid.weight_yx.device) * step
        rows, columns = ky + offset * grid.step_yx[0], kx + offset * grid.step_yx[1]
        score = sum(o.scores_at(rows * ratio, columns * ratio) for o, ratio in zip(overlaps, ratios, strict=True))
        row, column = divmod(int(torch.as_tensor(score).argmax()), len(columns))
        ky, kx = float(rows[row]), float(columns[column])
    return ky, kx


@dataclass(frozen=True)
class Doubt:
    """What a wave's evidence is weighed against.

    noise : power per coefficient of the band. rival : largest score elsewhere. expected_rival : by chance alone.
    samples : pixels times phases.
    """

    noise: float
    rival: float
    expected_rival: float
    samples: int


def measure(overlap: Overlap, k_yx: tuple[float, float], doubt: Doubt) -> Measured:
    """Strength of a wave and the evidence for it."""
    grid = overlap.grid
    at = [torch.tensor([k], dtype=torch.float32, device=grid.weight_yx.device) for k in k_yx]
    correlation = complex(overlap.sums_at(*at)[0, 0])
    score = float(overlap.scores_at(*at)[0, 0])
    inside = grid.weight_yx > 0
    (there, otf_there), (back, _) = grid.weight_at(k_yx), grid.weight_at((-k_yx[0], -k_yx[1]))
    model = (grid.weight_yx * there * otf_there / grid.otf_yx.clamp(min=LEAST_OTF))[inside]
    signal = float((overlap.light.signal_yx[inside] * model).sum())
    floor = LEAST_SIGNAL * float((overlap.light.power_yx[inside] * model).sum())
    energy, band_energy = float((overlap.light.power_yx * there**2)[inside].sum()), float((overlap.power_yx * back**2)[inside].sum())
    strength = correlation / max(signal, floor, 1e-30)
    honest = score / max(1.0, doubt.rival / doubt.expected_rival)
    sigma_phase = min(1 / math.sqrt(2 * max(honest, 1e-6)), math.pi)
    pattern_power = max(float((overlap.power_yx - doubt.noise)[inside].sum()), 0.0)
    evidence = Evidence(
        z_score=math.sqrt(2 * max(score, 0.0)),
        rival_z_score=math.sqrt(2 * max(doubt.rival, 0.0)),
        correlation=min(abs(correlation) / math.sqrt(max(energy * band_energy, 1e-38)), 1.0),
        sigma_frequency_per_um=sigma_phase / (2 * math.pi * light_width_um(overlap)),
        sigma_phase_rad=sigma_phase,
        sigma_modulation=2 * abs(strength) * sigma_phase,
        modulation_to_noise=math.sqrt(2 * pattern_power / (doubt.noise * doubt.samples)) if doubt.noise > 0 else 0.0,
    )
    return Measured(k_yx, strength, evidence)


def light_width_um(overlap: Overlap) -> float:
    """Standard deviation of the place of the light that the correlation uses, along the axis where it is smaller."""
    light = overlap.product_yx.abs()
    widths = []
    for axis, step in enumerate(overlap.grid.step_yx):
        profile = light.sum(1 - axis).clamp(min=1e-30)
        place = torch.arange(len(profile), dtype=profile.dtype, device=profile.device) / (len(profile) * step)
        mean = (profile * place).sum() / profile.sum()
        widths.append(float(((profile * (place - mean) ** 2).sum() / profile.sum()).sqrt()))
    return max(min(widths), 1e-6)


def noise_power(spectra_zbyx: Tensor, grid: SearchGrid, pixel_um: float) -> list[float]:
    """Power per coefficient of each band where the lens lets nothing through; 0 where the pixels are too coarse for such frequencies."""
    shape = (spectra_zbyx.shape[-2], spectra_zbyx.shape[-1])
    dark = torch.hypot(*frequencies(shape, pixel_um, grid.weight_yx)) > 1.05 * grid.transfer.cutoff_per_um
    if int(dark.sum()) < 50:
        return [0.0] * spectra_zbyx.shape[1]
    return [float((spectra_zbyx[:, b, dark].abs() ** 2).mean()) for b in range(spectra_zbyx.shape[1])]


def phase_of(strength: complex) -> float:
    """Phase from -pi to pi."""
    return cmath.phase(strength)
