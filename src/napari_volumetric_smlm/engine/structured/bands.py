r"""From frames of one orientation to its bands, and the window and means that they need first.

D_n = sum_b exp(i step_b delta_n) C_b, so C = M^+ D with M_nb = exp(i step_b delta_n)   (Gustafsson 2000)
D_n = frame n, C_b = band b, delta_n = phase step; the pseudo-inverse M^+ is least squares when there are more frames than bands.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nominal_steps(phases: int, like: Tensor) -> Tensor:
    """Equal phase steps 2 pi n / N."""
    return torch.arange(phases, dtype=like.dtype, device=like.device) * (2 * math.pi / phases)


def separation(steps_rad_p: Tensor, wave_steps: tuple[int, ...]) -> Tensor:
    """Matrix (1 + waves, phases), complex, that turns frames into band 0 and the band +step of each wave.

    The bands of the opposite sign are complex conjugates of these, since frames are real.
    """
    # not every accelerator inverts complex matrices; this one is tiny
    every = torch.tensor([0, *wave_steps, *(-step for step in wave_steps)], dtype=steps_rad_p.dtype)
    angle = steps_rad_p.cpu()[:, None] * every
    return torch.linalg.pinv(torch.polar(torch.ones_like(angle), angle))[: 1 + len(wave_steps)].to(steps_rad_p.device)


def separate(frames_pyx: Tensor, matrix_bp: Tensor) -> Tensor:
    """Bands (..., b, y, x), complex, of frames (..., p, y, x), real or complex."""
    return torch.einsum("bp,...pyx->...byx", matrix_bp, frames_pyx.to(matrix_bp.dtype))


def equalized(frames_apyx: Tensor) -> Tensor:
    """Frames scaled to the same mean: neither bleaching nor the lamp may look like a pattern.

    Frames (..., a, p, y, x) without background; a frame that is dark on average stays as it is.
    """
    mean = frames_apyx.mean((-2, -1), keepdim=True)
    target = mean.mean((-4, -3), keepdim=True)
    usable = (mean > 1e-3 * target.abs()) & (target > 0)
    return frames_apyx * torch.where(usable, target / mean.clamp(min=1e-12), torch.ones_like(mean))


def field_window(shape_yx: tuple[int, int], like: Tensor) -> Tensor:
    """Root of half a sine over the field along both axes, so that the product of two bands is weighted by half a sine.

    Steeper windows throw away so much of a weak pattern that it is lost; flatter ones let the edges into the correlations.
    """
    y, x = (torch.sin(math.pi * (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5) / n) for n in shape_yx)
    return torch.sqrt(y[:, None] * x[None, :])
