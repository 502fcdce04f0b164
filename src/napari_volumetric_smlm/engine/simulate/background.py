"""Background light: flat, one broad bump, or clouds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLOUD_CELLS = (3, 6, 12)  # coarse grids whose sum makes clouds; each weighs half of the one before


def background_images(
    count: int, shape_yx: tuple[int, int], photons: tuple[float, float], structure: str, generator: torch.Generator
) -> Tensor:
    """Backgrounds in photons per pixel, (count, y, x), each drawn anew; no value lies outside the two limits.

    Parameters
    ----------
    photons : lowest and highest photons per pixel.
    structure : "flat" (a level between the limits), "gaussian" (a turned super-Gaussian that rises from the lower limit to the upper
        one) or "perlin" (smooth noise of three scales from the lower to the upper limit).
    """
    low, high = photons
    if structure == "flat":
        level = low + torch.rand((count, 1, 1), generator=generator) * (high - low)
        return level.expand(count, *shape_yx).contiguous()
    shape = _bumps(count, shape_yx, generator) if structure == "gaussian" else _clouds(count, shape_yx, generator)
    return low + shape * (high - low)


def _bumps(count: int, shape_yx: tuple[int, int], generator: torch.Generator) -> Tensor:
    def between(low: float, high: float) -> Tensor:
        return low + torch.rand((count, 1, 1), generator=generator) * (high - low)

    height, width = shape_yx
    y = torch.arange(height)[:, None] - (height - 1) / 2 - between(-0.1, 0.1) * height
    x = torch.arange(width)[None, :] - (width - 1) / 2 - between(-0.1, 0.1) * width
    angle, power = between(-math.pi / 4, math.pi / 4), between(1, 2)
    along, across = x * torch.cos(angle) + y * torch.sin(angle), y * torch.cos(angle) - x * torch.sin(angle)
    distance = (along / (between(0.2, 0.4) * width)) ** 2 + (across / (between(0.2, 0.4) * height)) ** 2
    return torch.exp(-((distance / 2) ** power))


def _clouds(count: int, shape_yx: tuple[int, int], generator: torch.Generator) -> Tensor:
    total = torch.zeros((count, 1, *shape_yx))
    for octave, cells in enumerate(CLOUD_CELLS):
        grid = torch.randn((count, 1, cells + 1, cells + 1), generator=generator)
        smooth = torch.nn.functional.interpolate(grid, shape_yx, mode="bicubic", align_corners=True)
        total = total + smooth / 2**octave
    total = total[:, 0]
    lowest, highest = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
    return (total - lowest) / (highest - lowest).clamp(min=1e-12)
