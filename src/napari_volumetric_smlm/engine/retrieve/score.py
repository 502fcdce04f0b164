"""How well a fitted stack matches the measured one, slice by slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correlations(measured_zyx: NDArray[np.floating], fitted_zyx: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pearson correlation over all pixels of each slice; 0 where a slice has no contrast."""
    a, b = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (measured_zyx, fitted_zyx))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.where(size > 0, (a * b).sum(1) / np.maximum(size, 1e-300), 0.0)


def neighbour_correlations(measured_zyx: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same for the mean of the two neighbouring slices (at the ends, for the one neighbour): a rival that needs no model."""
    values = np.asarray(measured_zyx, dtype=np.float64)
    before, after = np.concatenate([values[1:2], values[:-1]]), np.concatenate([values[1:], values[-2:-1]])
    return correlations(values, before + after)


def tells_apart(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether the mean difference of paired scores exceeds three standard errors and a thousandth."""
    difference = np.asarray(first) - np.asarray(second)
    if len(difference) < 3:
        return False
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return bool(abs(difference.mean()) > max(3 * error, 1e-3))
