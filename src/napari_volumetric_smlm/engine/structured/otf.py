r"""Optical transfer functions for structured illumination: radial tables, from an instrument's pupil or from a file.

H(q) = sum_s A(s + lambda q) conj(A(s)) / sum_s |A(s)|^2
A = pupil amplitude with phase, s = direction in units of n sin(theta), q = frequency, lambda = emission wavelength (Goodman 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...domain.illumination import RadialOTF
from ...domain.instrument import Instrument
from ..fourier import centred_grid, image_of, spectrum
from ..optics.pupil import Pupil, view_pupil

PUPIL_SAMPLES = 257


@dataclass(frozen=True)
class Transfer:
    """A radial OTF as tensors, or several (..., k). values_k : at frequencies k * step_per_um. cutoff_per_um : where it ends."""

    values_k: Tensor
    step_per_um: float
    cutoff_per_um: float

    def __call__(self, frequency_per_um: Tensor) -> Tensor:
        """Values at any frequencies, interpolated; 0 beyond the table."""
        last = self.values_k.shape[-1] - 1
        place = (frequency_per_um / self.step_per_um).clamp(max=last)
        low = place.long().clamp(max=last - 1)
        share = place - low
        value = self.values_k[..., low] * (1 - share) + self.values_k[..., low + 1] * share
        return torch.where(frequency_per_um < self.cutoff_per_um, value, torch.zeros_like(value))

    def damped(self, damping: float) -> Transfer:
        """The same times damping^(q / cutoff): real lenses lose contrast that the ideal one has."""
        q = torch.arange(len(self.values_k), dtype=self.values_k.dtype, device=self.values_k.device) * self.step_per_um
        return replace(self, values_k=self.values_k * damping ** (q / self.cutoff_per_um))

    def to(self, device: torch.device | str) -> Transfer:
        """Return the same function on another device."""
        return replace(self, values_k=self.values_k.to(device))


@lru_cache(maxsize=8)
def transfer_of(instrument: Instrument, view: int = 0) -> Transfer:
    """OTF of a view in focus, with the pixel's area where the instrument has it; kept for the next call, previews need it often."""
    pupil = view_pupil(instrument, view, torch.float64, PUPIL_SAMPLES)
    otf_yx, step = pupil_transfer(pupil)
    q = centred_grid(otf_yx.shape[-1], step, otf_yx)
    qy, qx = q[:, None], q[None, :]
    if instrument.pixel_model == "integrated":
        pixel_um = instrument.pixel_nm(view) * 1e-3
        otf_yx = otf_yx * torch.sinc(qy * pixel_um) * torch.sinc(qx * pixel_um)
    radius = torch.hypot(qy, qx) / step
    values = radial_mean(otf_yx, radius, otf_yx.shape[-1] // 2 + 1)
    cutoff = 2 * float(pupil.na_n[pupil_rows(pupil)].abs().max()) / (instrument.emission_nm * 1e-3)
    return Transfer((values / values[0]).clamp(min=0).float(), step, cutoff)


def transfer_from(table: RadialOTF) -> Transfer:
    """OTF of a table; slightly negative values of measured ones count as none."""
    values = torch.tensor(np.asarray(table.values), dtype=torch.float32).clamp(min=0)
    return Transfer(values / values[0], table.step_per_um, table.cutoff_per_um)


def pupil_transfer(pupil: Pupil, defocus_rad_yx: Tensor | None = None) -> tuple[Tensor, float]:
    """Real part of the OTF on a centred grid (n, n) and its step in cycles per micrometre."""
    phase = pupil.phase_yx if defocus_rad_yx is None else pupil.phase_yx + defocus_rad_yx
    field = pupil.amplitude_pyx * torch.polar(torch.ones_like(phase), phase)
    side = 2 * field.shape[-1] + 1
    image = image_of(field, (side, side))
    otf = spectrum((image.real**2 + image.imag**2).sum(0)).real
    step_na = float(pupil.na_n[-1] - pupil.na_n[0]) / (len(pupil.na_n) - 1)
    return otf / otf[side // 2, side // 2], step_na / (pupil.wavelength_nm * 1e-3)


def pupil_rows(pupil: Pupil) -> Tensor:
    """Which rows of the pupil light passes."""
    return (pupil.amplitude_pyx.abs().sum(0) > 0).any(1)


def radial_mean(values_yx: Tensor, radius_yx: Tensor, count: int) -> Tensor:
    """Mean of the values at radii 0 ... count - 1, each value shared by the two nearest radii."""
    low = radius_yx.floor()
    share = radius_yx - low
    total, weight = values_yx.new_zeros(count + 1), values_yx.new_zeros(count + 1)
    for ring, part in ((low, 1 - share), (low + 1, share)):
        index = ring.long().clamp(max=count)
        total.index_add_(0, index.flatten(), (values_yx * part).flatten())
        weight.index_add_(0, index.flatten(), part.expand_as(values_yx).flatten())
    return total[:count] / weight[:count].clamp(min=1e-12)


def ideal_transfer(frequency: Tensor, cutoff: float | Tensor) -> Tensor:
    """OTF of an ideal lens, (2 / pi) (arccos x - x sqrt(1 - x^2)) with x = frequency / cutoff."""
    x = (frequency / cutoff).clamp(0, 1)
    return (2 / math.pi) * (torch.acos(x) - x * torch.sqrt(1 - x * x))
