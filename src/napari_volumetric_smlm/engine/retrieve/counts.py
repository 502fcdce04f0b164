"""How counts spread about their mean, in stacks as cameras and people leave them.

variance = gain * mean + read_variance + (error * mean)^2, the last term for what the model cannot follow yet.
Many bead stacks are background-subtracted with everything below a threshold set to one value. Such a pixel does not say "zero light":
it says "less than the threshold", so its likelihood is the whole tail below it, and its expectation is

E[n] = mean P(n >= t) + sd phi((mean - t) / sd) + floor P(n < t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import nnls
from torch import Tensor

CLIPPED_SHARE = 0.05  # of the pixels at one lowest value: no camera does that by itself
BINS = 24
MOST_IMAGES = 48  # are looked at


@dataclass(frozen=True)
class CountModel:
    """Noise and clipping of a stack, in counts.

    gain : variance per count of light. read_variance : variance without light; may be negative when an unknown offset counts as light.
    least_variance : variance of the darkest pixels, below which nothing goes.
    floor, threshold : value of clipped pixels and the level below which they were clipped; None for stacks that are not clipped.
    """

    gain: float
    read_variance: float
    least_variance: float
    floor: float | None = None
    threshold: float | None = None

    @property
    def clipped(self) -> bool:
        """Whether pixels below a threshold were set to one value."""
        return self.threshold is not None

    def variance(self, mean: Tensor, error: float = 0.0) -> Tensor:
        """Variance about a mean, `error` being the relative error of the model."""
        light = mean.clamp(min=0)
        return (self.gain * light + self.read_variance).clamp(min=self.least_variance) + (error * light) ** 2

    def negative_log_likelihood(self, counts: Tensor, mean: Tensor, error: float = 0.0) -> Tensor:
        """Of counts given their mean, pixel by pixel and up to a constant."""
        variance = self.variance(mean, error)
        # in units of the dark noise, so that the value does not depend on the units of the counts
        nll = 0.5 * ((counts - mean) ** 2 / variance + torch.log(variance / self.least_variance))
        if self.threshold is None:
            return nll
        # beyond six standard deviations the tail is a model error, not evidence; its slope goes on, its curvature need not
        tail = -torch.special.log_ndtr(((self.threshold - mean) / variance.sqrt()).clamp(min=-6.0))
        return torch.where(counts >= self.threshold, nll, tail)

    def expected(self, mean: Tensor) -> Tensor:
        """Mean of the counts after clipping."""
        if self.threshold is None or self.floor is None:
            return mean
        sd = self.variance(mean).sqrt()
        u = (mean - self.threshold) / sd
        above = torch.special.ndtr(u)
        return mean * above + sd * torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi) + self.floor * (1 - above)


def estimate_counts(counts_kyx: NDArray[np.floating]) -> CountModel:
    """Noise and clipping from the images alone.

    Noise is what a filter leaves that removes everything smooth over three pixels, [1 -2 1] x [1 -2 1]; its variance is fitted over
    the local mean by gain * mean + read variance + structure * mean^2. Clipped neighbourhoods are left out.
    """
    step = max(1, len(counts_kyx) // MOST_IMAGES)
    images = np.asarray(counts_kyx[::step], dtype=np.float64)
    floor, threshold = _clipping(images)
    kernel = np.outer([1, -2, 1], [1, -2, 1]) / 6.0
    residual = np.stack([ndimage.convolve(image, kernel, mode="reflect") for image in images])
    local = np.stack([ndimage.uniform_filter(image, 3, mode="reflect") for image in images])
    sound = np.ones(images.shape, bool)
    if threshold is not None:
        sound = np.stack([ndimage.minimum_filter(image, 3, mode="reflect") for image in images]) >= threshold
    top = max(float(images.max() - images.min()), 1e-30)
    if sound.sum() < 400:
        return CountModel(1.0, 0.0, (1e-3 * top) ** 2, floor, threshold)
    order = np.argsort(local[sound])
    parts = np.array_split(order, BINS)
    mean = np.array([np.median(local[sound][part]) for part in parts])
    spread = np.array([(1.4826 * np.median(abs(residual[sound][part]))) ** 2 for part in parts])
    base = float(mean[0])
    light = mean - base
    least = max(float(spread.min()), (1e-4 * top) ** 2)
    weight = 1 / np.maximum(spread, least)
    terms = np.stack([np.ones_like(light), light, light**2], 1)
    (dark, gain, _), _ = nnls(terms * weight[:, None], np.maximum(spread, least) * weight)
    # where only little light is left, even photon noise hides under the structure: one hundredth of the dark noise keeps the model sane
    gain = max(float(gain), 1e-6 * least / top)
    return CountModel(gain, float(dark) - gain * base, 0.5 * least, floor, threshold)


def _clipping(images: NDArray[np.float64]) -> tuple[float | None, float | None]:
    lowest = float(images.min())
    at_floor = images == lowest
    if at_floor.mean() < CLIPPED_SHARE or at_floor.all():
        return None, None
    above = images[~at_floor]
    smallest = float(above.min())
    # halfway below the smallest value that was kept, for whole numbers
    whole = bool((above[:1000] == np.round(above[:1000])).all())
    return lowest, max(smallest - (0.5 if whole else 0.0), np.nextafter(lowest, np.inf))
