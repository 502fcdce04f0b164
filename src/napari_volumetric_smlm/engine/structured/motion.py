"""Whether the sample moved while the orientations were recorded: their wide-field images must lie over each other."""

from __future__ import annotations

import math

from torch import Tensor

from ..fourier import image_of, spectrum
from .bands import field_window

OVERSAMPLING = 4


def largest_shift_px(frames_apyx: Tensor) -> float:
    """Largest distance of an orientation's wide-field image from the first one's, in pixels, to a quarter of a pixel.

    The maximum of the cross-correlation of images in which low frequencies do not prevail (amplitudes by their roots).
    """
    images = frames_apyx.mean(-3)
    shape = (images.shape[-2], images.shape[-1])
    series = spectrum((images - images.mean((-2, -1), keepdim=True)) * field_window(shape, images))
    series = series / series.abs().clamp(min=1e-12).sqrt()
    fine = (OVERSAMPLING * shape[0], OVERSAMPLING * shape[1])
    largest = 0.0
    for other in series[1:]:
        correlation = image_of(series[0].conj() * other, fine).real
        place = divmod(int(correlation.argmax()), fine[1])
        away = [min(p, n - p) / OVERSAMPLING for p, n in zip(place, fine, strict=True)]
        largest = max(largest, math.hypot(*away))
    return largest
