"""A pupil with free parameters, and the images of beads that follow from it.

Bead b of slice k is imaged through phase psi(s) and amplitude A(s) exp(a(s)) with focal plane F_b + (k - k0) step:
mean_bk = photons_bk * h(psi, a, shift_bk, focus_bk) + background_bk,  then blur and pixel.
psi = Zernike terms + pixel map, a = low Zernike terms: what varies over the pupil but slowly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..optics.aberrations import zernike
from ..optics.psf import camera_images
from ..optics.pupil import Pupil
from .counts import CountModel

PHASE_TERMS = range(4, 37)  # Noll; piston and tilt are no aberrations
AMPLITUDE_TERMS = range(2, 16)
NM = 100.0  # lengths are fitted in units of this, so that one learning rate suits all parameters
START_BLUR_NM = 60.0


@dataclass(frozen=True)
class BeadImages:
    """Counts of B beads over K slices and how they were taken.

    counts_bkyx : (B, K, n, n). seen_k : slices that a fit may use. step_nm : signed step of the focal plane. focus_slice : slice that
    counts as zero of the focus to begin with.
    bead_nm : height of the beads' centres above the coverslip and their diameter.
    camera : pixels n, pixel in nm, whether a pixel integrates over its area.
    """

    counts_bkyx: Tensor
    noise: CountModel
    seen_k: NDArray[np.bool_]
    step_nm: float
    focus_slice: float
    bead_nm: tuple[float, float]
    camera: tuple[int, float, bool]

    @property
    def bead_blur_nm(self) -> float:
        """Gaussian of a ball's lateral variance d^2 / 20."""
        return self.bead_nm[1] / math.sqrt(20)


class PupilModel:
    """Free parameters of one view's pupil and of all its bead images.

    Attributes
    ----------
    phase_terms_rad, log_amplitude_terms : Zernike coefficients; phase_rad_yx : pixel map added to them.
    shift_bk2 : lateral position (y, x) in the crop; place_b2 : the same for all slices, added to it; focus_b : focal plane of slice
    `focus_slice`; blur : all in units of `NM`.
    log_photons_bk; background_bk in units of the dark noise.
    """

    def __init__(self, pupil: Pupil, images: BeadImages) -> None:
        self.pupil, self.images = pupil, images
        device, na = pupil.na_n.device, float(pupil.na_n[-1])
        unit = pupil.na_n / na
        y, x = unit[:, None], unit[None, :]
        # samples on the rim count as far as the aperture covers them, so they have a phase too
        self.inside_yx = (pupil.amplitude_pyx.abs().amax(0) > 0).to(unit.dtype)
        self._phase_jyx = torch.stack([zernike(j, y, x) for j in PHASE_TERMS]) * self.inside_yx
        self._amplitude_jyx = torch.stack([zernike(j, y, x) for j in AMPLITUDE_TERMS]) * self.inside_yx
        beads, slices = images.counts_bkyx.shape[:2]
        self.phase_terms_rad = torch.zeros(len(PHASE_TERMS), device=device)
        self.log_amplitude_terms = torch.zeros(len(AMPLITUDE_TERMS), device=device)
        self.phase_rad_yx = torch.zeros_like(pupil.phase_yx)
        self.focus_b = torch.zeros(beads, device=device)
        self.blur = torch.full((1,), START_BLUR_NM / NM, device=device)
        light, centre = light_centres(images.counts_bkyx, images.camera)
        self.shift_bk2 = centre.median(1, keepdim=True).values.expand_as(centre).clone()
        self.place_b2 = torch.zeros((beads, 2), device=device)
        self.log_photons_bk = torch.log(light)
        self.background_bk = torch.zeros((beads, slices), device=device)
        if not images.noise.clipped:
            # the darkest tenth of a crop is background; clipped stacks have had theirs subtracted
            self.background_bk = torch.quantile(images.counts_bkyx.flatten(2), 0.1, dim=2) / self._dark_noise

    @property
    def _dark_noise(self) -> float:
        return math.sqrt(self.images.noise.least_variance)

    def parameters(self) -> dict[str, Tensor]:
        """Tensors that a fit may change, by name."""
        names = (
            "phase_terms_rad",
            "log_amplitude_terms",
            "phase_rad_yx",
            "shift_bk2",
            "place_b2",
            "focus_b",
            "blur",
            "log_photons_bk",
            "background_bk",
        )
        return {name: getattr(self, name) for name in names}

    def copy(self, images: BeadImages | None = None) -> PupilModel:
        """Return a model with the same parameters, apart from this one; optionally for other images of the same beads."""
        twin = object.__new__(PupilModel)
        twin.__dict__.update(self.__dict__)
        twin.images = self.images if images is None else images
        for name, value in self.parameters().items():
            setattr(twin, name, value.detach().clone())
        return twin

    def with_pupil(self, pupil: Pupil) -> PupilModel:
        """Return a model with the same parameters around another pupil on the same grid (a vectorial one after a scalar start)."""
        twin = self.copy()
        twin.pupil = pupil
        return twin

    def background_counts_bk(self) -> Tensor:
        """Fitted background in counts."""
        return self.background_bk * self._dark_noise

    def total_phase_yx(self) -> Tensor:
        """Phase over the pupil in rad, without what the pupil itself brings along."""
        return torch.einsum("j,jyx->yx", self.phase_terms_rad, self._phase_jyx) + self.phase_rad_yx

    def relative_amplitude_yx(self) -> Tensor:
        """Factor on the pupil's own amplitude."""
        return torch.exp(torch.einsum("j,jyx->yx", self.log_amplitude_terms, self._amplitude_jyx))

    def focus_bk_nm(self) -> Tensor:
        """Focal plane of every bead and slice."""
        slices = torch.arange(self.images.counts_bkyx.shape[1], device=self.focus_b.device, dtype=self.focus_b.dtype)
        return self.focus_b[:, None] * NM + (slices - self.images.focus_slice) * self.images.step_nm

    def mean_counts(self, items: Tensor) -> Tensor:
        """Mean counts before clipping, (m, n, n), of items b * K + k."""
        shift = (self.shift_bk2 + self.place_b2[:, None]).flatten(0, 1)[items] * NM
        height = torch.full_like(shift[:, :1], self.images.bead_nm[0])
        blur = torch.sqrt((self.blur * NM) ** 2 + self.images.bead_blur_nm**2)
        image = camera_images(
            self.pupil,
            torch.cat([height, shift], 1),
            self.images.camera,
            blur,
            focus_nm=self.focus_bk_nm().flatten()[items],
            phase_yx=self.pupil.phase_yx + self.total_phase_yx(),
            amplitude_pyx=self.pupil.amplitude_pyx * self.relative_amplitude_yx(),
        )
        photons, background = self.log_photons_bk.flatten()[items].exp(), self.background_bk.flatten()[items] * self._dark_noise
        return image * photons[:, None, None] + background[:, None, None]

    @torch.no_grad()
    def fitted_counts(self, batch: int = 8) -> Tensor:
        """Expected counts of every bead and slice after clipping, (B, K, n, n); what unseen slices need comes from their neighbours."""
        guess = self.with_unseen_filled()
        beads, slices = self.images.counts_bkyx.shape[:2]
        items = torch.arange(beads * slices, device=self.blur.device)
        means = torch.cat([guess.mean_counts(part) for part in items.split(batch)])
        return self.images.noise.expected(means).reshape(self.images.counts_bkyx.shape)

    def with_unseen_filled(self) -> PupilModel:
        """Return a model whose photons, background and shift of unseen slices are interpolated between seen ones."""
        twin, seen = self.copy(), self.images.seen_k
        slices = np.arange(len(seen))
        for name in ("shift_bk2", "log_photons_bk", "background_bk"):
            values = getattr(twin, name).cpu().numpy().reshape(len(self.focus_b), len(seen), -1).copy()
            for bead in values:
                for column in bead.T:
                    column[~seen] = np.interp(slices[~seen], slices[seen], column[seen])
            setattr(twin, name, torch.as_tensor(values.reshape(getattr(self, name).shape), device=self.blur.device))
        return twin


def light_centres(counts_bkyx: Tensor, camera: tuple[int, float, bool]) -> tuple[Tensor, Tensor]:
    """Light (B, K) above background, and its centre in every slice (B, K, 2) in units of `NM`; camera as in `BeadImages`."""
    size, pixel_nm, _ = camera
    above = counts_bkyx - torch.quantile(counts_bkyx.flatten(2), 0.1, dim=2)[..., None, None]
    # only what clearly stands out: the centre must not be drawn to the middle of the crop by the noise
    above = torch.where(above > 0.05 * above.amax((-2, -1), keepdim=True), above, torch.zeros_like(above))
    light = above.sum((-2, -1)).clamp(min=1e-6 * float(above.sum()) / above.shape[1] + 1e-30)
    place = (torch.arange(size, device=above.device, dtype=above.dtype) - size // 2) * pixel_nm / NM
    y = (above.sum(-1) * place).sum(-1) / light
    x = (above.sum(-2) * place).sum(-1) / light
    return light, torch.stack([y, x], -1)


def sharpest_slice(images: BeadImages) -> float:
    """Slice in which the light of the first bead is most concentrated, smoothed over five slices."""
    counts = images.counts_bkyx[0]
    above = (counts - torch.quantile(counts.flatten(1), 0.1, dim=1)[:, None, None]).clamp(min=0)
    share = (above.amax((1, 2)) / above.sum((1, 2)).clamp(min=1e-30)).cpu().numpy()
    padded = np.pad(share, 2, mode="edge")
    return float(np.argmax(np.convolve(padded, [1, 2, 3, 2, 1], mode="valid")))
