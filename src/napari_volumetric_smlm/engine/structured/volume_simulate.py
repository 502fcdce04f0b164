"""Raw stacks of a thick sample under three-beam patterns, before the camera.

Plane z_s of frame n is the sum over all depths z of the sample's layer, times the pattern, through the lens at that distance:

    D_n(z_s) = sum_z [S(z) * h(z_s - z) + sum_w m_w Re(exp(i step_w delta_n) (S(z) exp(i (2 pi k_w r + phi_w))) * h_w(z_s - z))]

with h_w as in `volume_otf`. Layers above and below the recorded planes add light from out of focus.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...domain.illumination import Illumination, Wave
from ..fourier import along_axis, axial_spectrum, centred_grid, cut_spectrum, image_of, spectrum
from ..simulate.structures import Box, place_molecules
from .estimate import Optics
from .pattern import centred_places
from .simulate import BRIGHTEST_SHARE, FINE, MARGIN_PX
from .volume_otf import FocusSeries


def sample_volume(
    density_per_um2: float, structure: str, field: tuple[tuple[int, int, int], float, float], generator: torch.Generator
) -> Tensor:
    """Emitters per fine sample (z, y, x), on a field with a margin.

    Parameters
    ----------
    field : layers, rows and columns of the frames, the distance of layers and the pixel in um.
    """
    (layers, height, width), plane_um, pixel_um = field
    shape = (layers, *(FINE * (n + 2 * MARGIN_PX) for n in (height, width)))
    steps = torch.tensor([1000 * plane_um, 1000 * pixel_um / FINE, 1000 * pixel_um / FINE])
    box = Box(torch.zeros(3), torch.tensor(shape) * steps)
    places = place_molecules(round(density_per_um2 * box.area_um2), box, structure, generator) / steps
    z, y, x = (places[:, axis].long().clamp(0, shape[axis] - 1) for axis in range(3))
    volume = torch.zeros(math.prod(shape))
    volume.index_add_(0, (z * shape[1] + y) * shape[2] + x, torch.ones(len(z)))
    return volume.reshape(shape)


def volume_frames(sample_zyx: Tensor, illumination: Illumination, optics: Optics, series: FocusSeries, planes: int) -> Tensor:
    """Mean frames (a, p, z, y, x) of the middle planes of a sample on the fine grid with margin; differentiable in the sample.

    The brightest hundredth of the wide-field planes has a mean of one.

    Parameters
    ----------
    series : of at least twice as many planes as the sample has layers, so that none is seen from its wrong side.
    """
    if series.planes < 2 * len(sample_zyx) - 1:
        raise ValueError(f"{len(sample_zyx)} layers need a focus series of {2 * len(sample_zyx) - 1} planes, not {series.planes}")
    step_um = optics.pixel_um / FINE
    wide = _seen(sample_zyx, None, (optics, series), planes).real
    flat = wide.detach().flatten()
    brightest = flat.sort().values[int(BRIGHTEST_SHARE * len(flat)) :].mean().clamp(min=1e-12)
    y, x = (centred_places(n, step_um, sample_zyx) for n in sample_zyx.shape[-2:])
    orientations = []
    for orientation in illumination.orientations:
        frames = wide.expand(len(orientation.steps_rad), *wide.shape).clone()
        for wave in orientation.waves:
            ky, kx = wave.frequency_yx_per_um
            angle = 2 * math.pi * (ky * y[:, None] + kx * x[None, :]) + wave.phase_rad
            moved = _seen(sample_zyx * torch.polar(torch.ones_like(angle), angle), wave, (optics, series), planes)
            for n, delta in enumerate(orientation.steps_rad):
                turn = wave.step * delta
                frames[n] += wave.modulation * (moved.real * math.cos(turn) - moved.imag * math.sin(turn))
        orientations.append(frames)
    # tiny ripples of the transform below zero are no light
    return (torch.stack(orientations) / brightest).clamp(min=0)


def _seen(layers_zyx: Tensor, wave: Wave | None, lens: tuple[Optics, FocusSeries], planes: int) -> Tensor:
    """Layers through the lens, as shaped by a wave, on the camera's pixels at the middle planes; complex."""
    optics, series = lens
    step_um, shape = optics.pixel_um / FINE, layers_zyx.shape[-2:]
    half = [min(math.floor(optics.transfer.cutoff_per_um * n * step_um), (n // FINE - 1) // 2) for n in shape]
    fy, fx = (centred_grid(2 * h + 1, 1 / (n * step_um), optics.transfer.values_k) for h, n in zip(half, shape, strict=True))
    # fine sample FINE // 2 is the centre of the first pixel
    rows, columns = (torch.polar(torch.ones_like(f), 2 * math.pi * (FINE // 2) * step_um * f) for f in (fy, fx))
    cut = torch.stack([cut_spectrum(spectrum(layer), (half[0], half[1])) for layer in layers_zyx]) * rows[:, None] * columns
    deep = cut.new_zeros((series.planes, *cut.shape[1:]))
    deep[: len(cut)] = cut
    transfer = series.transfer(wave.axial_per_um, wave.axial_phase_rad) if wave is not None else series.transfer()
    deep = along_axis(axial_spectrum(deep) * transfer(torch.hypot(fy[:, None], fx[None, :])))
    first = (len(layers_zyx) - planes) // 2
    image = image_of(deep[first : first + planes], (shape[0] // FINE, shape[1] // FINE))
    return image[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
