"""Colours for depth: hue says how deep, brightness says how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the window colours opened tables with these functions, without waiting for torch
    from torch import Tensor

# Blue, cyan, white, yellow, orange with nearly the same brightness: red-green blindness sees the same order.
DEPTH_COLORS = np.array([[0.16, 0.42, 1.0], [0.22, 0.72, 1.0], [0.78, 0.78, 0.78], [1.0, 0.78, 0.16], [1.0, 0.48, 0.0]])
# The brightest half per cent of the pixels with molecules is shown saturated.
SATURATED_FRACTION = 0.005
# Brightness rises faster at the dim end, where single molecules are.
GAMMA = 0.6


def depth_color(z_nm: NDArray[np.floating], depth_range_nm: tuple[float, float]) -> NDArray[np.float32]:
    """Colour of a depth, (n, 3) with values 0 to 1; depths outside the range take the colour of its end."""
    low, high = depth_range_nm
    place = (np.asarray(z_nm, float) - low) / max(high - low, 1e-9)
    return np.column_stack([np.interp(place, np.linspace(0, 1, len(DEPTH_COLORS)), channel) for channel in DEPTH_COLORS.T]).astype(
        np.float32
    )


def depth_limits(z_nm: NDArray[np.floating]) -> tuple[float, float]:
    """Depths between which the colours run: the first and the last percentile, so that a few strays do not use them up."""
    if not len(z_nm):
        return 0.0, 1.0
    low, high = np.percentile(z_nm, [1, 99])
    return float(low), float(max(high, low + 1))


def to_screen(colors_cyx: Tensor) -> NDArray[np.uint8]:
    """Compress the brightness of summed colours (or one grey channel) for a screen, hue kept; (y, x, c)."""
    brightness = colors_cyx.max(0).values
    drawn = brightness[brightness > brightness.max() * 1e-3]
    if not len(drawn):
        return np.zeros((*colors_cyx.shape[1:], len(colors_cyx)), np.uint8)
    brightest = drawn.sort().values[min(len(drawn) - 1, int(len(drawn) * (1 - SATURATED_FRACTION)))]
    level = (brightness / brightest).clamp(0, 1) ** GAMMA
    shown = colors_cyx / brightness.clamp(min=1e-30) * level
    return (shown * 255).round().byte().movedim(0, -1).contiguous().numpy()
