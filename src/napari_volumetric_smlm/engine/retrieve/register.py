"""Views brought into one frame of coordinates by the beads that both show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...domain.instrument import Row

Affine = NDArray[np.float64]


def apply_affine(affine: Affine, position_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (n, 2) through rows (y, x) of [linear | shift]."""
    return position_yx @ affine[:, :2].T + affine[:, 2]


def match_beads(
    first_yx: NDArray[np.float64], other_yx: NDArray[np.float64], affine: Affine, tolerance: float, free_shift: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of beads of two views: indices into both lists.

    Parameters
    ----------
    affine : where the first view's beads are expected, as far as it is known.
    free_shift : the shift is not known (two cameras): that translation is taken which pairs most beads, the nearest pairs deciding.
    """
    expected = apply_affine(affine, first_yx)
    if not len(first_yx) or not len(other_yx):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    shifts = (other_yx[None] - expected[:, None]).reshape(-1, 2) if free_shift else np.zeros((1, 2))
    best: tuple[float, NDArray[np.intp], NDArray[np.intp]] = (-1.0, np.empty(0, np.intp), np.empty(0, np.intp))
    for shift in shifts:
        pairs = _nearest_pairs(expected + shift, other_yx, tolerance)
        miss = np.hypot(*(other_yx[pairs[1]] - expected[pairs[0]] - shift).T).sum() if len(pairs[0]) else 0.0
        score = len(pairs[0]) - miss / (tolerance * (len(first_yx) + 1))
        if score > best[0]:
            best = (score, *pairs)
    return best[1], best[2]


def fit_affine(first_yx: NDArray[np.float64], other_yx: NDArray[np.float64], affine: Affine, least_spread: float = 0.0) -> Affine:
    """Affine that takes the first view's positions to the other's; what few beads cannot tell is kept from `affine`.

    Three or more beads off one line, spread by more than `least_spread` in every direction, give all six numbers, fewer the shift only.
    """
    spread = first_yx - first_yx.mean(0)
    values = np.linalg.svd(spread, compute_uv=False) if len(spread) >= 3 else np.zeros(2)
    if len(first_yx) >= 3 and values[-1] > max(0.05 * values[0], least_spread):
        terms = np.hstack([first_yx, np.ones((len(first_yx), 1))])
        return np.asarray(np.linalg.lstsq(terms, other_yx, rcond=None)[0].T, dtype=np.float64)
    shift = (other_yx - first_yx @ affine[:, :2].T).mean(0)
    return np.hstack([affine[:, :2], shift[:, None]])


def rows_of(affine: Affine) -> tuple[Row, Row]:
    """Rows as a view keeps them."""
    (a, b, c), (d, e, f) = ([float(v) for v in row] for row in affine)
    return (a, b, c), (d, e, f)


def _nearest_pairs(
    expected: NDArray[np.float64], other: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs that are each other's nearest within the tolerance."""
    distance = np.hypot(*(expected[:, None] - other[None]).transpose(2, 0, 1))
    nearest = distance.argmin(1)
    mutual = (distance.argmin(0)[nearest] == np.arange(len(expected))) & (distance.min(1) <= tolerance)
    return np.flatnonzero(mutual), nearest[mutual]
