r"""Raw frames and known patterns to an image of up to twice the resolution: the generalised Wiener filter.

S(k) = A(k) sum_ab conj(s_ab) [H a_b C_ab](k + k_ab) / ( sum_ab |s_ab|^2 [H^2 a_b](k + k_ab) + w^2 )    (Gustafsson 2000, 2008)
C = bands, s_0 = 1, s_b = (m_b / 2) exp(i phi_b), H = OTF, a_0(q) = 1 - attenuation exp(-q^2 / 2 sigma^2) = notch, a_b = 1 for all other
bands, w = Wiener parameter, A = apodization. H is 1 at frequency zero and the bands keep their true strength, so a weak pattern counts
for little where noise prevails. Out-of-focus light is not modulated and lies at low frequencies of band 0 alone; with less weight of
these, the other bands tell what they see there. Everything is linear in the frames and differentiable.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.illumination import Illumination
from ...domain.structured_plans import StructuredPlan
from ..fourier import centred_grid, cut_spectrum, fast_length, frequencies, image_of, spectrum
from .bands import field_window, separate, separation
from .estimate import Optics
from .otf import ideal_transfer

LEAST_ZOOM = 2
# a full modulation cannot be exceeded by light, but by a measurement
LARGEST_MODULATION = 1.0
# 1 + m cos x + n cos 2x, the pattern of three beams, stays positive up to m = sqrt 2
LARGEST_STANDING = math.sqrt(2)
# over the cut-off: where there is noise only, and where the sample is judged
DARK, MIDDLE, FEWEST_DARK = 1.05, (0.4, 0.65), 50
WIENER_LIMITS = (0.01, 1.0)


@dataclass(frozen=True)
class SideBand:
    """A band on its way back to where it belongs: by a whole number of samples in its spectrum, and the rest in real space.

    rows, columns : factors of the rest, exp(-2 pi i rest (r - r_c)) conj(s), on the padded frames. samples_yx : the whole number.
    filter_yx : H, on the cut spectrum after the rest is gone.
    """

    orientation: int
    band: int
    rows: Tensor
    columns: Tensor
    samples_yx: tuple[int, int]
    filter_yx: Tensor


@dataclass(frozen=True)
class Reconstructor:
    """The filter for one illumination and one size of frames, used again for every time point.

    shape_yx : of the frames. padded_yx : with the margin. zoom : samples a pixel. separations_abp : matrices.
    filter_yx : H a, on the cut spectrum. final_yx : apodization over the denominator, on the fine spectrum.
    """

    shape_yx: tuple[int, int]
    padded_yx: tuple[int, int]
    zoom: int
    separations_abp: Tensor
    filter_yx: Tensor
    side_bands: tuple[SideBand, ...]
    final_yx: Tensor

    def __call__(self, frames_apyx: Tensor) -> Tensor:
        """Images (..., zoom y, zoom x) of frames (..., a, p, y, x); sample (0, 0) lies at the centre of pixel (0, 0)."""
        joined = join_edges(frames_apyx, self.padded_yx)
        bands = torch.stack([separate(joined[..., a, :, :, :], matrix) for a, matrix in enumerate(self.separations_abp)], -4)
        half = (self.filter_yx.shape[0] // 2, self.filter_yx.shape[1] // 2)
        fine = (self.final_yx.shape[0], self.final_yx.shape[1])
        total = bands.new_zeros((*bands.shape[:-4], *fine))
        window(total, half, (0, 0)).add_(cut_spectrum(spectrum(bands[..., 0, :, :].sum(-3)), half) * self.filter_yx)
        for side in self.side_bands:
            moved = bands[..., side.orientation, side.band, :, :] * side.rows[:, None] * side.columns[None, :]
            # twice the real part of the image stands for the band and its conjugate
            window(total, half, side.samples_yx).add_(2 * cut_spectrum(spectrum(moved), half) * side.filter_yx)
        image = image_of(total * self.final_yx, fine).real
        return image[..., : self.zoom * self.shape_yx[0], : self.zoom * self.shape_yx[1]]


def window(spectrum_yx: Tensor, half_yx: tuple[int, int], back_yx: tuple[int, int]) -> Tensor:
    """The part of a centred spectrum that a cut one falls on, moved back by a number of samples; a view."""
    top, left = (n // 2 - half - back for n, half, back in zip(spectrum_yx.shape[-2:], half_yx, back_yx, strict=True))
    return spectrum_yx[..., top : top + 2 * half_yx[0] + 1, left : left + 2 * half_yx[1] + 1]


def reconstructor(illumination: Illumination, optics: Optics, shape_yx: tuple[int, int], plan: StructuredPlan) -> Reconstructor:
    """Prepare the filter. Without a Wiener parameter in the plan, noise is taken for low (see `wiener_parameter`).

    Orientations that did not pass the verdict give their wide-field light only.
    """
    like, cutoff = optics.transfer.values_k, optics.transfer.cutoff_per_um
    wiener = WIENER_LIMITS[0] if plan.wiener is None else plan.wiener
    padded = (fast_length(shape_yx[0] + plan.edge_px), fast_length(shape_yx[1] + plan.edge_px))
    finest = max((wave.frequency_per_um for o in illumination.orientations for wave in o.waves), default=0.0)
    # one sample more on each side for the rest of the shift
    half = (
        min(math.floor(cutoff * padded[0] * optics.pixel_um) + 1, (padded[0] - 1) // 2),
        min(math.floor(cutoff * padded[1] * optics.pixel_um) + 1, (padded[1] - 1) // 2),
    )
    zoom = max(LEAST_ZOOM, math.ceil(2 * optics.pixel_um * (cutoff + finest) + 4 / min(padded)))
    fine = (zoom * padded[0], zoom * padded[1])
    fy, fx = frequencies(fine, optics.pixel_um / zoom, like)
    length = torch.hypot(fy, fx)
    qy, qx = (centred_grid(2 * h + 1, 1 / (n * optics.pixel_um), like) for h, n in zip(half, padded, strict=True))
    power = torch.zeros_like(length)
    inside = torch.hypot(qy[:, None], qx[None, :])
    window(power, half, (0, 0)).add_(_weighted(optics, plan, inside, 2) * len(illumination.orientations))
    reach = torch.full_like(power, cutoff)
    sides = []
    passed = illumination.verdict.passed if illumination.verdict is not None else (True,) * len(illumination.orientations)
    for a, orientation in enumerate(illumination.orientations):
        for w, wave in enumerate(orientation.waves if passed[a] else ()):
            ky, kx = wave.frequency_yx_per_um
            largest = LARGEST_STANDING if illumination.geometry.axial else LARGEST_MODULATION
            modulation = min(max(wave.modulation, plan.least_modulation), largest)
            reach = torch.maximum(reach, reach_along(fy, fx, (ky, kx), cutoff))
            steps = [1 / (n * optics.pixel_um) for n in padded]
            whole = (round(ky / steps[0]), round(kx / steps[1]))
            rest = (ky - whole[0] * steps[0], kx - whole[1] * steps[1])
            carriers = [
                _carrier((k, r), (n, m), optics.pixel_um, like) for k, r, n, m in zip((ky, kx), rest, shape_yx, padded, strict=True)
            ]
            strength = cmath.rect(0.5 * modulation, -wave.phase_rad)
            moved = torch.hypot(qy[:, None] + rest[0], qx[None, :] + rest[1])
            transfer = optics.transfer(moved)
            share = 0.25 * modulation**2 * transfer**2
            window(power, half, whole).add_(share)
            window(power, half, (-whole[0], -whole[1])).add_(share.flip(0, 1))
            sides.append(SideBand(a, 1 + w, carriers[0] * strength, carriers[1], whole, transfer))
    taper = ideal_transfer(length, reach) ** plan.apodization if plan.apodization > 0 else (length < reach).to(power.dtype)
    # the mean of the image stays that of the frames
    level = power[fine[0] // 2, fine[1] // 2]
    final = taper * ((level + wiener**2) / level) / (power + wiener**2)
    deltas = [torch.tensor(o.steps_rad, dtype=like.dtype, device=like.device) for o in illumination.orientations]
    matrices = torch.stack([separation(delta, illumination.geometry.wave_steps) for delta in deltas])
    return Reconstructor(shape_yx, padded, zoom, matrices, _weighted(optics, plan, inside, 1), tuple(sides), final)


def wiener_parameter(frames_apyx: Tensor, optics: Optics) -> float:
    """Wiener parameter that fits noise and sample: w^2 = noise power / power of the sample, at frequencies of half the cut-off.

    Returns the smallest allowed value where the pixels are so coarse that no frequency shows noise alone.
    """
    mean = frames_apyx.mean(-3)
    shape = (mean.shape[-2], mean.shape[-1])
    power = spectrum((mean - mean.mean((-2, -1), keepdim=True)) * field_window(shape, mean)).abs() ** 2
    power = power.reshape(-1, *shape).mean(0)
    length = torch.hypot(*frequencies(shape, optics.pixel_um, mean)) / optics.transfer.cutoff_per_um
    dark, middle = length > DARK, (length > MIDDLE[0]) & (length < MIDDLE[1])
    if int(dark.sum()) < FEWEST_DARK or not bool(middle.any()):
        return WIENER_LIMITS[0]
    noise = float(power[dark].mean())
    otf = optics.transfer(length[middle] * optics.transfer.cutoff_per_um)
    sample = float((power[middle] - noise).sum() / (otf**2).sum())
    if sample <= 0:
        return WIENER_LIMITS[1]
    return min(max(math.sqrt(noise / sample), WIENER_LIMITS[0]), WIENER_LIMITS[1])


def join_edges(images_yx: Tensor, padded_yx: tuple[int, int]) -> Tensor:
    """Images with a margin behind the last row and column, in which one edge turns into the opposite one without a step."""
    for axis, size in ((-2, padded_yx[0]), (-1, padded_yx[1])):
        margin = size - images_yx.shape[axis]
        if margin <= 0:
            continue
        turn = (torch.arange(margin, dtype=images_yx.real.dtype, device=images_yx.device) + 0.5) / margin
        share = torch.sin(0.5 * math.pi * turn) ** 2
        share = share[:, None] if axis == -2 else share
        ending, starting = images_yx.narrow(axis, images_yx.shape[axis] - 1, 1), images_yx.narrow(axis, 0, 1)
        images_yx = torch.cat([images_yx, ending * (1 - share) + starting * share], axis)
    return images_yx


def notch(plan: StructuredPlan, frequency: Tensor) -> Tensor:
    """a, which takes weight from the centre of a band."""
    sigma = plan.attenuation_per_um / (2 * math.sqrt(2 * math.log(2)))
    return 1 - plan.attenuation * torch.exp(-0.5 * (frequency / sigma) ** 2)


def _weighted(optics: Optics, plan: StructuredPlan, frequency: Tensor, exponent: int) -> Tensor:
    """H^exponent times the notch."""
    return optics.transfer(frequency) ** exponent * notch(plan, frequency)


def _carrier(k_and_rest: tuple[float, float], sizes: tuple[int, int], pixel_um: float, like: Tensor) -> Tensor:
    """Factors along one axis that take off the rest of a shift and the phase that the field's centre had.

    exp(-2 pi i (rest r - k r_c)); r = 0 at the first sample, where spectra have their origin, r_c at the middle of the frames.
    sizes : frames and padded frames; r runs from the middle of the margin, so that the jump of the phase lies there.
    """
    k, rest = k_and_rest
    size, padded = sizes
    place = torch.arange(padded, dtype=torch.float64)
    place = torch.where(place >= size + (padded - size) // 2, place - padded, place) * pixel_um
    angle = -2 * math.pi * (rest * place - k * (size - 1) / 2 * pixel_um)
    return torch.polar(torch.ones_like(angle), angle).to(like.device, torch.complex64 if like.dtype == torch.float32 else torch.complex128)


def reach_along(fy: Tensor, fx: Tensor, k_yx: tuple[float, float], cutoff: float) -> Tensor:
    """How far discs of the cut-off's radius around k and -k extend in each direction from zero; 0 where they do not."""
    length = torch.hypot(fy, fx).clamp(min=1e-12)
    along = ((fy * k_yx[0] + fx * k_yx[1]) / length).abs()
    across = (k_yx[0] ** 2 + k_yx[1] ** 2) - along**2
    return torch.where(across < cutoff**2, along + torch.sqrt((cutoff**2 - across).clamp(min=0)), torch.zeros_like(along))
