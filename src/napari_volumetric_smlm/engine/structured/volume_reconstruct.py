r"""Stacks of raw frames and known patterns to a volume: the generalised Wiener filter over the support in three dimensions.

    S(k) = A(k) sum_ab conj(s_ab) [conj(H_b) a_b C_ab](k + k_ab) / ( sum_ab |s_ab|^2 [|H_b|^2 a_b](k + k_ab) + w^2 )

As in `reconstruct`, with k = (k_z, q) and the lens H_b of every band as its wave shapes it (`volume_otf`): bands move along q only, that
of the first order is seen through both copies of the lens at +-k_w. The sum of all planes has the light of one raw image: out-of-focus
light, which is in every raw image of the stack again, counts once and lies where it came from.
A(k) falls towards an ellipsoid that reaches as far as the bands do, along z to the lens's own axial cut-off plus the largest k_w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.illumination import Illumination
from ...domain.structured_plans import StructuredPlan
from ..fourier import along_axis, centred_grid, fast_length, image_of, spectrum
from .bands import field_window, separate
from .estimate import Optics
from .measure import noise_power
from .otf import ideal_transfer
from .overlap import search_grid
from .reconstruct import MIDDLE, WIENER_LIMITS, Reconstructor, join_edges, notch, reach_along, reconstructor, window
from .volume_bands import deep_spectrum, joined_planes
from .volume_otf import FocusSeries

# margin of planes over recorded ones, and at least
MARGIN_SHARE, LEAST_MARGIN = 0.3, 4
# share of the lens's largest value below which nothing is judged
LEAST_SEEN = 0.2


@dataclass(frozen=True)
class VolumeReconstructor:
    """The filter for one illumination and one size of stacks, used again for every time point.

    flat : the same for one plane; where bands go along rows and columns is the same. planes : recorded ones.
    filter_zyx, side_filters : conj(H_b) a_b on the cut spectra, (k_z, q). final_zyx : apodization over the denominator, where there is any.
    """

    flat: Reconstructor
    planes: int
    filter_zyx: Tensor
    side_filters: tuple[Tensor, ...]
    final_zyx: Tensor

    def __call__(self, frames_apzyx: Tensor) -> Tensor:
        """Volume (z, zoom y, zoom x) of frames (a, p, z, y, x); sample (z, 0, 0) lies at the centre of pixel (0, 0) of plane z."""
        period, half = len(self.filter_zyx), (self.filter_zyx.shape[1] // 2, self.filter_zyx.shape[2] // 2)
        total = torch.zeros_like(self.final_zyx, dtype=self.filter_zyx.dtype)
        for a, matrix in enumerate(self.flat.separations_abp):
            # one orientation after the other: the bands of all of them at once would take several times the memory
            bands = separate(join_edges(frames_apzyx[a], self.flat.padded_yx).movedim(0, 1), matrix)
            window(total, half, (0, 0)).add_(deep_spectrum(bands[:, 0], half, period) * self.filter_zyx)
            for side, lens in zip(self.flat.side_bands, self.side_filters, strict=True):
                if side.orientation == a:
                    moved = bands[:, side.band] * side.rows[:, None] * side.columns
                    # twice the real part of the volume stands for the band and its conjugate
                    window(total, half, side.samples_yx).add_(2 * deep_spectrum(moved, half, period) * lens)
        total = along_axis(total.mul_(self.final_zyx))[: self.planes]
        rows, columns = (self.flat.zoom * n for n in self.flat.shape_yx)
        fine = (self.flat.final_yx.shape[0], self.flat.final_yx.shape[1])
        return torch.stack([image_of(plane, fine).real[:rows, :columns] for plane in total])


def period_of(planes: int) -> int:
    """Planes of a period: those recorded and a margin, since the transform along z wraps around."""
    return fast_length(planes + max(LEAST_MARGIN, round(MARGIN_SHARE * planes)))


def volume_reconstructor(
    illumination: Illumination, optics: Optics, shape_zyx: tuple[int, int, int], plan: StructuredPlan, series: FocusSeries
) -> VolumeReconstructor:
    """Prepare the filter; orientations that did not pass the verdict give their wide-field light only.

    Parameters
    ----------
    series : planes through focus of a whole period, see `period_of`.
    """
    flat = reconstructor(illumination, optics, (shape_zyx[1], shape_zyx[2]), plan)
    cutoff, wiener = optics.transfer.cutoff_per_um, plan.wiener or WIENER_LIMITS[0]
    half = (flat.filter_yx.shape[0] // 2, flat.filter_yx.shape[1] // 2)
    steps = [1 / (n * optics.pixel_um) for n in flat.padded_yx]
    farthest = [max((abs(side.samples_yx[axis]) for side in flat.side_bands), default=0) for axis in (0, 1)]
    fy, fx = (centred_grid(2 * (h + far) + 1, d, optics.transfer.values_k) for h, far, d in zip(half, farthest, steps, strict=True))
    qy, qx = (centred_grid(2 * h + 1, d, optics.transfer.values_k) for h, d in zip(half, steps, strict=True))
    power = fy.new_zeros((series.planes, len(fy), len(fx)))
    length = torch.hypot(qy[:, None], qx[None, :])
    light = series.transfer()(length)
    window(power, half, (0, 0)).add_(light.abs() ** 2 * notch(plan, length) * len(illumination.orientations))
    reach, axial, filters = fy.new_full(power.shape[1:], cutoff), series.axial_cutoff_per_um, []
    for side in flat.side_bands:
        wave = illumination.orientations[side.orientation].waves[side.band - 1]
        k = wave.frequency_yx_per_um
        rest = [f - whole * d for f, whole, d in zip(k, side.samples_yx, steps, strict=True)]
        moved = torch.hypot(qy[:, None] + rest[0], qx[None, :] + rest[1])
        lens = series.transfer(wave.axial_per_um, wave.axial_phase_rad)(moved)
        share = float(side.rows[0].abs()) ** 2 * lens.abs() ** 2
        window(power, half, side.samples_yx).add_(share)
        # the conjugate band, at -k_z as well; |H_b| is the same there
        window(power, half, (-side.samples_yx[0], -side.samples_yx[1])).add_(share.flip(1, 2))
        filters.append(lens.conj())
        reach = torch.maximum(reach, reach_along(fy[:, None], fx[None, :], k, cutoff))
        axial = max(axial, series.axial_cutoff_per_um + wave.axial_per_um)
    far = torch.hypot(torch.hypot(fy[:, None], fx[None, :]) / reach, (series.axial_frequencies() / axial)[:, None, None])
    taper = ideal_transfer(far, 1.0) ** plan.apodization if plan.apodization > 0 else (far < 1).to(power.dtype)
    level = float(power[0, len(fy) // 2, len(fx) // 2])
    final = taper.mul_((level + wiener**2) / level).div_(power.add_(wiener**2))
    return VolumeReconstructor(flat, shape_zyx[0], light.conj() * notch(plan, length), tuple(filters), final)


def volume_wiener_parameter(frames_apzyx: Tensor, optics: Optics, series: FocusSeries) -> float:
    """Wiener parameter that fits noise and sample, as `wiener_parameter` finds it for one plane."""
    mean = frames_apzyx.mean((0, 1))
    shape = (mean.shape[-2], mean.shape[-1])
    grid = search_grid(shape, optics.pixel_um, optics.transfer, 0.0)
    ready = (mean - mean.mean()) * field_window(shape, mean)
    (level,) = noise_power(spectrum(ready)[:, None], grid, optics.pixel_um)
    noise = level * joined_planes(len(mean), series.planes)
    share = torch.hypot(*grid.q_yx) / optics.transfer.cutoff_per_um
    middle = (share > MIDDLE[0]) & (share < MIDDLE[1])
    if noise <= 0 or not bool(middle.any()):
        return WIENER_LIMITS[0]
    lens = series.transfer()(torch.hypot(*grid.q_yx)).real[:, middle]
    seen = deep_spectrum(ready, grid.half_yx, series.planes)[:, middle].abs() ** 2
    inside = lens > LEAST_SEEN * float(lens.max())
    sample = float((seen[inside] - noise).sum() / (lens[inside] ** 2).sum())
    return min(max(math.sqrt(noise / sample), WIENER_LIMITS[0]), WIENER_LIMITS[1]) if sample > 0 else WIENER_LIMITS[1]
