r"""Optical transfer functions in three dimensions, and what a pattern that stands along z makes of them.

H(q, k_z) = sum_j h(q, z_j) exp(-2 pi i k_z z_j),   h(q, z) = OTF of the pupil A exp(i K_z z) at the distance z from focus
h_w(q, z) = h(q, z) cos(2 pi k_w z - theta_w)
K_z = axial wave number of a ray in the sample; k_w, theta_w = axial frequency and phase of wave w. Three beams make a pattern that stays
with the focal plane while the focus moves through the sample, so it shapes the lens (h_w in place of h), not the sample: the band of the
first order is seen through two copies of H, at k_z = +-k_w, and fills the missing cone of H (Gustafsson et al. 2008).
Light is neither made nor lost by defocus: h(0, z) = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ..fourier import axial_spectrum, centred_grid
from ..optics.pupil import view_pupil
from .otf import Transfer, pupil_rows, pupil_transfer, radial_mean
from .pattern import axial_frequency

PUPIL_SAMPLES = 193
# an OTF is not divided by values of the ideal one below this
LEAST_RATIO_OTF = 0.02


@dataclass(frozen=True)
class FocusSeries:
    """Radial OTFs of planes through focus, over one period of a stack.

    values_zk : of plane j (at j steps from focus; planes beyond half the period lie on its other side) at frequency k * step_per_um.
    in_focus : the same in focus. plane_um : distance of the planes. medium_per_um : index over wavelength of the emission.
    axial_cutoff_per_um : of the lens, where H ends along k_z.
    """

    values_zk: Tensor
    in_focus: Transfer
    plane_um: float
    medium_per_um: float
    axial_cutoff_per_um: float

    @property
    def planes(self) -> int:
        """Planes of a period."""
        return int(self.values_zk.shape[0])

    def transfer(self, axial_per_um: float = 0.0, phase_rad: float = 0.0) -> Transfer:
        """H_w as rows of a table, one for each k_z (zero first, as transforms along z have them); complex."""
        place = torch.arange(self.planes, dtype=torch.float64)
        place = torch.where(place > self.planes // 2, place - self.planes, place) * self.plane_um
        pattern = torch.cos(2 * math.pi * axial_per_um * place - phase_rad).to(self.values_zk)
        return replace(self.in_focus, values_k=axial_spectrum((self.values_zk * pattern[:, None])[..., None])[..., 0])

    def axial_frequencies(self) -> Tensor:
        """k_z of the rows, in cycles per micrometre."""
        index = torch.arange(self.planes, dtype=self.values_zk.dtype, device=self.values_zk.device)
        return torch.where(index > (self.planes - 1) // 2, index - self.planes, index) / (self.planes * self.plane_um)


def focus_series(instrument: Instrument, in_focus: Transfer, plane_um: float, planes: int) -> FocusSeries:
    """Planes through the focus of an instrument's first view.

    Parameters
    ----------
    in_focus : OTF of the plane in focus, measured or damped; what it lacks against the ideal lens is lacking in all planes.
    """
    half, step, medium, axial = _ideal_series(instrument, plane_um, planes // 2)
    place = torch.arange(len(in_focus.values_k), dtype=torch.float32) * in_focus.step_per_um
    ideal = Transfer(half, step, in_focus.cutoff_per_um)(place)
    loss = in_focus.values_k.cpu() / ideal[0].clamp(min=LEAST_RATIO_OTF)
    series = ideal * loss
    series[0] = in_focus.values_k.cpu()
    distance = torch.arange(planes)
    whole = series[torch.minimum(distance, planes - distance)]
    return FocusSeries(whole.to(in_focus.values_k.device), in_focus, plane_um, medium, axial)


@lru_cache(maxsize=4)
def _ideal_series(instrument: Instrument, plane_um: float, count: int) -> tuple[Tensor, float, float, float]:
    """OTFs (count + 1, k) at 0, 1, ... steps from focus, their frequency step, index over wavelength, axial cut-off."""
    # kept tensors must also serve where gradients are wanted
    with torch.inference_mode(mode=False):
        pupil = view_pupil(instrument, 0, torch.float64, PUPIL_SAMPLES)
        rows = []
        for plane in range(count + 1):
            otf_yx, step = pupil_transfer(pupil, pupil.kz_sample_yx.real * (plane_um * 1e3 * plane))
            q = centred_grid(otf_yx.shape[-1], step, otf_yx)
            rows.append(radial_mean(otf_yx, torch.hypot(q[:, None], q[None, :]) / step, otf_yx.shape[-1] // 2 + 1))
        values = torch.stack(rows)
    medium = instrument.sample_index / (instrument.emission_nm * 1e-3)
    edge = float(pupil.na_n[pupil_rows(pupil)].abs().max()) / (instrument.emission_nm * 1e-3)
    return (values / values[:, :1]).float(), step, medium, axial_frequency(min(edge, medium), medium)
