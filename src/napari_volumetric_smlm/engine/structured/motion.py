"""Whether the sample moved while the orientations were recorded: their wide-field images must lie over each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..fourier import frequencies, matrix_transform, spectrum, transform_matrix
from .bands import field_window

REACH_PX, STEP_PX = 6.0, 0.25


def largest_shift_px(frames_apyx: Tensor) -> float:
    """Largest distance of an orientation's wide-field image from the first one's, in pixels, to a quarter of one; at most about 8.

    The maximum of the cross-correlation of images in which low frequencies do not prevail (amplitudes by their roots).
    """
    images = frames_apyx.mean(-3)
    shape = (images.shape[-2], images.shape[-1])
    series = spectrum((images - images.mean((-2, -1), keepdim=True)) * field_window(shape, images))
    series = series / series.abs().clamp(min=1e-12).sqrt()
    count = round(REACH_PX / STEP_PX)
    shift = torch.arange(-count, count + 1, dtype=images.dtype, device=images.device) * STEP_PX
    fy, fx = frequencies(shape, 1.0, images)
    waves = [transform_matrix(shift, f.flatten(), 1.0) for f in (fy, fx)]
    largest = 0.0
    for other in series[1:]:
        correlation = matrix_transform(series[0].conj() * other, waves[0], waves[1]).real
        row, column = divmod(int(correlation.argmax()), len(shift))
        largest = max(largest, math.hypot(float(shift[row]), float(shift[column])))
    return largest
