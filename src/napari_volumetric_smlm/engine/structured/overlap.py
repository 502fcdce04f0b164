r"""How well band b lies over band 0 when shifted by a trial wave vector k, for all k at once and at single points.

N(k) = sum_q conj(F_0(q)) G(q) W(q) F_b(q + k) W(q + k)
V(k) = sum_q |F_0(q) G(q) W(q)|^2 |F_b(q + k) W(q + k)|^2
score(k) = |N(k)|^2 / V(k)
F = spectra of the bands, W = OTF of an ideal lens without the middle and the rim, G = share of the signal in the power of band 0.
Where the bands do not belong together the phases of the sum are random, V is the expected |N|^2, and the score follows an exponential
law of mean one: it is the log-likelihood of chance. Dividing by V, not by the energy of the overlap, keeps a few strong low frequencies
of the sample from looking like a pattern.
In real space N is the Fourier transform of the product of both filtered bands, which allows any k between the grid points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fourier import centred_grid, cut_spectrum, fast_length, image_of, matrix_transform, spectrum, transform_matrix
from .otf import Transfer, ideal_transfer, radial_mean

# band 0 leaks into the others near its centre; near its rim there is only noise
INNERMOST, LEAST_WEIGHT = 0.06, 0.02
LEAST_VARIANCE = 1e-4
SMOOTHING_PX = 5


@dataclass(frozen=True)
class SearchGrid:
    """Where spectra and trial wave vectors are sampled.

    shape_yx : of the frames. step_yx : sample distance of frequencies, 1 / length of the field. half_yx : samples on each side of zero.
    padded_yx : samples of trial wave vectors. q_yx, weight_yx, otf_yx : frequencies, weight and OTF over the cut spectrum.
    k_yx : trial wave vectors (rows, columns). centre_yx : centre of the field in units of its length.
    """

    shape_yx: tuple[int, int]
    step_yx: tuple[float, float]
    half_yx: tuple[int, int]
    padded_yx: tuple[int, int]
    q_yx: tuple[Tensor, Tensor]
    weight_yx: Tensor
    otf_yx: Tensor
    k_yx: tuple[Tensor, Tensor]
    transfer: Transfer

    @property
    def centre_yx(self) -> tuple[float, float]:
        """Centre of the field in units of its length, from the centre of the first pixel."""
        return ((self.shape_yx[0] - 1) / (2 * self.shape_yx[0]), (self.shape_yx[1] - 1) / (2 * self.shape_yx[1]))

    def weight_at(self, shift_yx: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Weight and OTF over the cut spectrum, moved by a wave vector."""
        frequency = torch.hypot(self.q_yx[0] + shift_yx[0], self.q_yx[1] + shift_yx[1])
        return _weight(self.transfer, frequency), self.transfer(frequency)


@dataclass(frozen=True)
class Light:
    """Band 0 of one orientation, filtered: what the other bands are laid over.

    image_zyx : in real space, plane by plane. power_image_zyx : Fourier partner of its power.
    signal_yx : |F_0|^2 less its noise, over the cut spectrum, mean of the planes. power_yx : |F_0|^2 itself.
    """

    grid: SearchGrid
    image_zyx: Tensor
    power_image_zyx: Tensor
    signal_yx: Tensor
    power_yx: Tensor


@dataclass(frozen=True)
class Overlap:
    """One band over band 0; means over planes, where there are several: what belongs together adds up, whatever the plane.

    product_yx : band 0 times the band, both filtered, in real space. variance_yx : V on the grid of k.
    score_yx : on the same grid, calibrated so that its median is that of the exponential law. calibration : raw score of one unit.
    power_yx : |F_b|^2 over the cut spectrum.
    """

    light: Light
    product_yx: Tensor
    variance_yx: Tensor
    score_yx: Tensor
    power_yx: Tensor
    calibration: float

    @property
    def grid(self) -> SearchGrid:
        """Where spectra and wave vectors are sampled."""
        return self.light.grid

    def sums_at(self, ky: Tensor, kx: Tensor) -> Tensor:
        """N at the wave vectors ky x kx, with phases as at the centre of the field."""
        return sums(self.product_yx, self.grid, ky, kx)

    def scores_at(self, ky: Tensor, kx: Tensor) -> Tensor:
        """Score at the wave vectors ky x kx."""
        return self.sums_at(ky, kx).abs() ** 2 / (self.variances_at(ky, kx) * self.calibration)

    def variances_at(self, ky: Tensor, kx: Tensor) -> Tensor:
        """V at the wave vectors ky x kx."""
        return sample_map(self.variance_yx, ky[:, None] / self.grid.step_yx[0], kx[None, :] / self.grid.step_yx[1])


def search_grid(shape_yx: tuple[int, int], pixel_um: float, transfer: Transfer, farthest_per_um: float) -> SearchGrid:
    """Lay the grids for frames of a shape and wave vectors up to a length."""
    step = (1 / (shape_yx[0] * pixel_um), 1 / (shape_yx[1] * pixel_um))
    half = tuple(min(math.floor(transfer.cutoff_per_um / d), (n - 1) // 2) for d, n in zip(step, shape_yx, strict=True))
    # sums reach 2 half; what wraps around must fall beyond the farthest k
    padded = tuple(fast_length(2 * h + 2 + math.ceil(farthest_per_um / d)) for h, d in zip(half, step, strict=True))
    like = transfer.values_k
    qy, qx = (centred_grid(2 * h + 1, d, like) for h, d in zip(half, step, strict=True))
    ky, kx = (centred_grid(n, d, like) for n, d in zip(padded, step, strict=True))
    q = (qy[:, None], qx[None, :])
    length = torch.hypot(*q)
    return SearchGrid(
        shape_yx,
        step,
        (half[0], half[1]),
        (padded[0], padded[1]),
        q,
        _weight(transfer, length),
        transfer(length),
        (ky[:, None], kx[None, :]),
        transfer,
    )


def light_of(band_0_zyx: Tensor, grid: SearchGrid, noise: float) -> Light:
    """Filter band 0, centred spectra of planes. noise : power per coefficient, white; frequencies where it prevails count less (Wiener)."""
    cut = cut_spectrum(band_0_zyx, grid.half_yx)
    power_zyx = cut.abs() ** 2
    power = power_zyx.mean(0)
    radius = torch.hypot(*grid.q_yx) / min(grid.step_yx)
    rings = int(radius.max()) + 2
    mean = radial_mean(power, radius, rings)
    share = ((mean - noise) / mean.clamp(min=1e-38)).clamp(min=0)[radius.round().long()]
    image = image_of(cut * grid.weight_yx * share, grid.padded_yx).real  # band 0 is the mean of real frames
    filtered_power = (power_zyx * (grid.weight_yx * share) ** 2).to(cut.dtype)
    return Light(grid, image, image_of(filtered_power, grid.padded_yx), (power - noise) * share, power)


def overlap(light: Light, band_zyx: Tensor, ring: tuple[float, float]) -> Overlap:
    """Lay a band (centred spectra of planes) over band 0. ring : shortest and longest trial wave vector, which the calibration looks at."""
    grid = light.grid
    cut = cut_spectrum(band_zyx, grid.half_yx)
    filtered, power = cut * grid.weight_yx, cut.abs() ** 2
    product = (light.image_zyx * image_of(filtered, grid.padded_yx)).mean(0)
    power_image = image_of((power * grid.weight_yx**2).to(cut.dtype), grid.padded_yx)
    variance = _smooth(spectrum((light.power_image_zyx.conj() * power_image).mean(0)).real)
    variance = variance.clamp(min=LEAST_VARIANCE * float(variance.max()) + 1e-38)
    score = spectrum(product).abs() ** 2 / variance
    k = torch.hypot(*grid.k_yx)
    chance = score[(k >= ring[0]) & (k <= ring[1])]
    calibration = float(chance.median()) / math.log(2) or 1.0
    return Overlap(light, product, variance, score / calibration, power.mean(0), calibration)


def sums(product_yx: Tensor, grid: SearchGrid, ky: Tensor, kx: Tensor) -> Tensor:
    """Fourier coefficients of a product of images at the wave vectors ky x kx, with phases as at the centre of the field."""
    rows, columns = product_yx.shape
    place = [
        (torch.arange(n, dtype=ky.dtype, device=ky.device) / n - centre) / step
        for n, centre, step in zip((rows, columns), grid.centre_yx, grid.step_yx, strict=True)
    ]
    waves = [transform_matrix(k, at, 1.0).conj() for k, at in zip((ky, kx), place, strict=True)]
    return matrix_transform(product_yx.to(waves[0].dtype), waves[0], waves[1]) / (rows * columns)


def sample_map(map_yx: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Bilinear samples of a centred map at distances (rows and columns, broadcast together) from its centre; the rim goes on."""
    height, width = map_yx.shape
    y, x = torch.broadcast_tensors((row + height // 2) * 2 / (height - 1) - 1, (column + width // 2) * 2 / (width - 1) - 1)
    grid = torch.stack((x.flatten(), y.flatten()), -1)[None, None]
    sampled = torch.nn.functional.grid_sample(map_yx[None, None], grid, align_corners=True, padding_mode="border")
    return sampled.reshape(y.shape)


def _smooth(map_yx: Tensor) -> Tensor:
    """Mean over a neighbourhood: V has a ridge at the very maximum, where the powers of both bands match, and would push it aside."""
    rows = torch.nn.functional.avg_pool2d(map_yx[None, None], (SMOOTHING_PX, 1), 1, (SMOOTHING_PX // 2, 0), count_include_pad=False)
    return torch.nn.functional.avg_pool2d(rows, (1, SMOOTHING_PX), 1, (0, SMOOTHING_PX // 2), count_include_pad=False)[0, 0]


def _weight(transfer: Transfer, frequency: Tensor) -> Tensor:
    # always the ideal lens: the OTF of a real one falls so steeply that a few strong frequencies of the sample would decide
    weight = ideal_transfer(frequency, transfer.cutoff_per_um)
    return weight * ((weight > LEAST_WEIGHT) & (frequency > INNERMOST * transfer.cutoff_per_um))
