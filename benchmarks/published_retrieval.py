"""The published phase retrieval, as `calibration.py` shows it beside ours.

Written from its description (Saguy, Xiao et al., npj Imaging 2025).

Scalar pupil on the phase mask's grid, supercritical light cut, one free phase per mask pixel (Adam, rate 0.1) and one blur (rate 0.01,
start 0.6 pixel), 250 full-batch steps, no prior. Noise from the four corners; the likelihood sees pixels above one standard deviation
of them only, photons of a slice are the sum of those pixels, the bead sits at z = 20 nm.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_volumetric_smlm.domain.instrument import Instrument

STEPS, PHASE_RATE, BLUR_RATE, START_BLUR_PX, BEAD_NM = 250, 0.1, 0.01, 0.6, 20.0
BLUR_PX = 9  # side of the blur's window


class PublishedModel:
    """Images of a bead on the grid that ties the mask pixel to the camera pixel: N = floor(lambda f / (camera pixel * mask pixel)), odd."""

    def __init__(self, instrument: Instrument, mask_pixel_um: float, fourier_lens_mm: float, size: int) -> None:
        eye, camera = instrument.objective, instrument.cameras[0]
        wavelength_um, focal_um = instrument.emission_nm / 1000, fourier_lens_mm * 1000
        n = math.floor(wavelength_um * focal_um / (camera.pixel_um * mask_pixel_um))
        self.n, self.size = n - 1 + n % 2, size
        u = (torch.arange(self.n) - self.n // 2) * mask_pixel_um
        sine = torch.hypot(u[:, None], u[None, :]) * eye.magnification / focal_um / eye.immersion_index
        sample_sine = sine * eye.immersion_index / instrument.sample_index
        self.aperture = ((sine < eye.numerical_aperture / eye.immersion_index) & (sample_sine < 1)).float()
        k0 = 2 * math.pi / instrument.emission_nm
        self.kz_oil = k0 * eye.immersion_index * torch.sqrt((1 - sine**2).clamp(min=0)) * self.aperture
        self.kz_water = k0 * instrument.sample_index * torch.sqrt((1 - sample_sine**2).clamp(min=0)) * self.aperture
        lit = self.aperture.any(0).nonzero()[:, 0]
        self.box = slice(int(lit[0]), int(lit[-1]) + 1)
        self.aperture, self.kz_oil, self.kz_water = (
            a[self.box, self.box].contiguous() for a in (self.aperture, self.kz_oil, self.kz_water)
        )
        # pixels of the crop and the blur's margin, by samples of the aperture
        pixel = torch.arange(size + BLUR_PX - 1) - size // 2 - BLUR_PX // 2
        sample = torch.arange(self.n)[self.box] - self.n // 2
        self.transform = torch.polar(torch.ones(()), -2 * math.pi / self.n * (pixel[:, None] * sample[None, :] % self.n))

    def images(self, phase: Tensor, blur_px: Tensor, focus_nm: Tensor) -> Tensor:
        """(m, size, size) images that sum to one before they are cropped; phase is (n, n)."""
        angle = phase[self.box, self.box] + BEAD_NM * self.kz_water - focus_nm[:, None, None] * self.kz_oil
        field = torch.polar(self.aperture.expand_as(angle), angle)
        # the same transform as an FFT of the whole grid, for the pixels that are seen; the sum of all is known from Parseval
        image = (self.transform @ field @ self.transform.T).abs() ** 2 / (self.n**2 * self.aperture.square().sum())
        x = torch.arange(BLUR_PX) - BLUR_PX // 2
        line = torch.exp(-(x**2) / (2 * blur_px**2))
        line = line / line.sum()
        image = torch.nn.functional.conv2d(image[:, None], line[None, None, :, None])
        return torch.nn.functional.conv2d(image, line[None, None, None, :])[:, 0]


def retrieve(
    counts_zyx: NDArray[np.float32], focus_nm: NDArray[np.float64], seen: NDArray[np.bool_], model: PublishedModel
) -> NDArray[np.float32]:
    """Fit the seen slices and return the model's images of all slices, (K, n, n)."""
    size = counts_zyx.shape[-1]
    corner = max(7, round(0.1 * size))
    corners = np.concatenate([counts_zyx[:, a, b].reshape(len(counts_zyx), -1) for a in (slice(corner), slice(-corner, None))
                              for b in (slice(corner), slice(-corner, None))], axis=1)  # fmt: skip
    image = counts_zyx - corners.mean(1)[:, None, None]
    # corners of clipped stacks hold zeros only: a variance of nothing would divide by zero
    variance = np.maximum(corners.var(1), 1.0)[:, None, None]
    mask = image > np.sqrt(variance)
    cross = ndimage.generate_binary_structure(2, 1)
    mask = np.stack([ndimage.binary_dilation(ndimage.binary_erosion(m, cross), cross) for m in mask])
    photons = torch.from_numpy((image * mask).sum((1, 2)).astype(np.float32))
    data, used = torch.from_numpy(image.astype(np.float32)), torch.from_numpy(mask)
    noise, focus = torch.from_numpy(variance.astype(np.float32)), torch.from_numpy(focus_nm.astype(np.float32))
    fit = torch.from_numpy(np.flatnonzero(seen))
    phase = torch.zeros((model.n, model.n), requires_grad=True)
    blur = torch.tensor(START_BLUR_PX, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [phase], "lr": PHASE_RATE}, {"params": [blur], "lr": BLUR_RATE}])
    for _ in range(STEPS):
        optimizer.zero_grad()
        for part in fit.split(6):  # the gradient of the whole batch, in pieces that fit the memory
            mean = model.images(phase, blur, focus[part]) * photons[part, None, None]
            spread = mean + noise[part]
            nll = 0.5 * ((data[part] - mean) ** 2 / spread + torch.log(spread))
            (nll[used[part]].sum() / used[fit].sum()).backward()
        optimizer.step()
    with torch.no_grad():
        parts = torch.arange(len(counts_zyx)).split(6)
        return torch.cat([model.images(phase, blur, focus[part]) for part in parts]).numpy()
