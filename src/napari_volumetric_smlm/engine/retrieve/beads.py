"""Beads in a z-stack: where they are and which of them can be used.

All steps look at the mean over the slices: whatever shape an engineered point-spread function takes, its mean over the focus
is a compact spot around the bead, and the noise has averaged out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import CalibrationError

SMALLEST_CROP_PX, LARGEST_CROP_PX = 15, 151
NOISE_FACTOR = 10.0  # a bead stands out of the filtered mean by this many standard deviations of its noise
DIM_SHARE = 0.1  # beads dimmer than this share of the brightest are left alone
FULL_REACH = 0.95  # share of a bead's light that its crop should hold


@dataclass(frozen=True)
class BeadField:
    """What all slices of one camera together say, shapes (y, x).

    mean_yx : mean over the slices of counts above each slice's background.
    largest_yx : largest count of each pixel.
    saturation_counts : counts from which a pixel says nothing; infinite when unknown.
    """

    mean_yx: NDArray[np.float64]
    largest_yx: NDArray[np.float64]
    saturation_counts: float = math.inf


@dataclass(frozen=True)
class Beads:
    """Usable beads, brightest first: centres (row, column) in pixels, side of the square around each, and words on those left out."""

    positions_yx_px: NDArray[np.float64]
    crop_px: int
    left_out: tuple[str, ...] = ()


def find_beads(field: BeadField, crop_px: int | None = None, smallest_spot_px: float = 1.5) -> Beads:
    """Find isolated beads.

    A difference of Gaussians makes spots stand out from background; maxima nearer than a bead's reach are one bead; beads whose
    square holds another bead, passes the edge of the frame or holds saturated pixels are left out, with words.

    Parameters
    ----------
    crop_px : side of the square that must be free around a bead; None = as much as holds a bead's light, less where beads are crowded.
    smallest_spot_px : standard deviation of the sharpest image of a bead.

    Raises
    ------
    CalibrationError
        If no bead stands out of the noise, or none of those found can be used.
    """
    spots = _spots(field.mean_yx, smallest_spot_px)
    if not len(spots):
        raise CalibrationError(
            f"no bead found: nothing in the mean of the slices ({field.mean_yx.shape[0]} x {field.mean_yx.shape[1]} pixels) stands out of "
            f"the noise by {NOISE_FACTOR:g} standard deviations; check that this is a bead stack, or give the positions of the beads"
        )
    wanted = crop_px or choose_crop(field.mean_yx, spots)
    while True:
        chosen, left_out = _usable(field, spots, wanted)
        if len(chosen) or crop_px is not None or wanted <= SMALLEST_CROP_PX:
            break
        wanted = max(SMALLEST_CROP_PX, _odd(0.7 * wanted))
    if not len(chosen):
        raise CalibrationError(
            f"{len(spots)} bead(s) found, none usable with a crop of {wanted} pixels: {'; '.join(left_out[:4])}; "
            "take a sparser stack, choose a smaller crop_px, or give the positions of the beads"
        )
    return Beads(chosen, wanted, tuple(left_out))


def given_beads(field: BeadField, positions_yx_px: NDArray[np.float64], crop_px: int | None = None) -> Beads:
    """Take beads at given positions as they are.

    Raises
    ------
    CalibrationError
        If a position lies outside the frame.
    """
    height, width = field.mean_yx.shape
    inside = (positions_yx_px >= -0.5).all(1) & (positions_yx_px[:, 0] < height - 0.5) & (positions_yx_px[:, 1] < width - 0.5)
    if not inside.all():
        row, column = positions_yx_px[~inside][0]
        raise CalibrationError(
            f"bead position (row {row:g}, column {column:g}) lies outside the frame of {height} x {width} pixels; "
            "positions count pixels from (0, 0), row first"
        )
    return Beads(positions_yx_px, crop_px or choose_crop(field.mean_yx, positions_yx_px))


def choose_crop(mean_yx: NDArray[np.float64], spots_yx: NDArray[np.float64]) -> int:
    """Side of the square (odd) that holds most of the light of the brightest bead, within the frame.

    A small frame with one bead has been cut out by somebody and is taken whole.
    """
    height, width = mean_yx.shape
    smaller = min(height, width)
    if len(spots_yx) == 1 and smaller <= LARGEST_CROP_PX:
        return smaller - 1 + smaller % 2
    row, column = np.round(spots_yx[0]).astype(int)
    y, x = np.ogrid[:height, :width]
    ring = np.maximum(abs(y - row), abs(x - column))
    others = np.hypot(*(spots_yx[1:] - spots_yx[0]).T) if len(spots_yx) > 1 else np.array([np.inf])
    furthest = int(min(ring.max(), others.min() / 2, LARGEST_CROP_PX // 2))
    counts = np.bincount(ring.ravel(), minlength=furthest + 1)[: furthest + 1]
    light = np.bincount(ring.ravel(), mean_yx.ravel(), minlength=furthest + 1)[: furthest + 1]
    level = light / np.maximum(counts, 1)
    # the outermost rings hold the background
    total = np.cumsum(light - counts * min(np.median(level[-max(2, furthest // 8) :]), level.min() + 0.02 * level.max()))
    radius = int(np.argmax(total >= FULL_REACH * total.max()))
    side = _odd(2.3 * max(radius, 1) + 1)
    return max(min(_odd(side), smaller - 1 + smaller % 2, LARGEST_CROP_PX), min(SMALLEST_CROP_PX, smaller))


def cut_window(position_yx: NDArray[np.float64], crop_px: int, shape_yx: tuple[int, int]) -> tuple[int, int]:
    """First row and column of the square around a bead, moved into the frame where it would pass the edge."""
    corner = [round(float(p)) - crop_px // 2 for p in position_yx]
    return (min(max(corner[0], 0), shape_yx[0] - crop_px), min(max(corner[1], 0), shape_yx[1] - crop_px))


def _odd(side: float) -> int:
    return 2 * int(side // 2) + 1


def _spots(mean_yx: NDArray[np.float64], smallest_spot_px: float) -> NDArray[np.float64]:
    """Centres (n, 2) of what stands out, brightest first."""
    height, width = mean_yx.shape
    narrow = max(1.5 * smallest_spot_px, 2.0)
    wide = min(4 * narrow, min(height, width) / 4)
    smooth = ndimage.gaussian_filter(mean_yx, narrow, mode="nearest")
    contrast = smooth - ndimage.gaussian_filter(mean_yx, wide, mode="nearest")
    # noise of the mean from neighbouring pixels, carried through the narrow filter
    pairs = (mean_yx[:, 1:] - mean_yx[:, :-1]).ravel()
    noise = 1.4826 * float(np.median(abs(pairs))) / math.sqrt(2) / (2 * math.sqrt(math.pi) * narrow)
    top = float(contrast.max(initial=0.0))
    # stacks clipped at zero show no noise at all in the dark
    least = max(NOISE_FACTOR * noise, DIM_SHARE * top, 1e-6 * float(abs(mean_yx).max(initial=0.0)))
    if top <= 0 or top < least:
        return np.empty((0, 2))
    peaks = (contrast == ndimage.maximum_filter(contrast, size=2 * math.ceil(narrow) + 1)) & (contrast >= least)
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-contrast[rows, columns])
    points = np.stack([rows[order], columns[order]], 1).astype(float)
    return _merge(mean_yx, smooth, points)


def _merge(mean_yx: NDArray[np.float64], smooth_yx: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join maxima between which the light does not fall below a third of the dimmer one: lobes of one bead."""
    background = float(np.median(smooth_yx))
    parent = list(range(len(points)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i in range(len(points)):
        for j in range(i):
            distance = math.hypot(*(points[i] - points[j]))
            if distance > 40:
                continue
            line = np.linspace(points[i], points[j], max(3, math.ceil(distance)))
            level = ndimage.map_coordinates(smooth_yx, line.T, order=1) - background
            if level.min() > min(level[0], level[-1]) / 3:
                parent[root(i)] = root(j)
    groups: dict[int, list[int]] = {}
    for i in range(len(points)):
        groups.setdefault(root(i), []).append(i)
    return np.array([_centre(mean_yx - background, points[members]) for members in groups.values()]).reshape(-1, 2)


def _centre(light_yx: NDArray[np.float64], members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of the light around one or several maxima."""
    spread = float(np.hypot(*(members - members.mean(0)).T).max()) if len(members) > 1 else 0.0
    centre, radius = members.mean(0), 4.0 + spread
    for _ in range(6):
        low = np.maximum(np.floor(centre - radius).astype(int), 0)
        high = np.minimum(np.ceil(centre + radius).astype(int) + 1, light_yx.shape)
        patch = light_yx[low[0] : high[0], low[1] : high[1]].clip(min=0)
        y, x = np.mgrid[low[0] : high[0], low[1] : high[1]]
        disc = patch * (np.hypot(y - centre[0], x - centre[1]) <= radius)
        if disc.sum() <= 0:
            break
        centre = np.array([(disc * y).sum(), (disc * x).sum()]) / disc.sum()
        wide = math.sqrt(float((disc * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2)).sum() / disc.sum()))
        radius = min(max(radius, 2 * wide), 15.0 + spread)
    return centre


def _usable(field: BeadField, spots: NDArray[np.float64], crop_px: int) -> tuple[NDArray[np.float64], list[str]]:
    """Beads that have their square to themselves, and words on the others."""
    height, width = field.mean_yx.shape
    half, chosen, left_out = crop_px / 2, [], []
    if crop_px > min(height, width):
        return np.empty((0, 2)), [f"the frame of {height} x {width} pixels is smaller than the crop"]
    for i, spot in enumerate(spots):
        place = f"at row {spot[0]:.0f}, column {spot[1]:.0f}"
        apart = [float(abs(other - spot).max()) for j, other in enumerate(spots) if j != i]
        edge = min(spot[0] + 0.5, spot[1] + 0.5, height - 0.5 - spot[0], width - 0.5 - spot[1])
        top, left = cut_window(spot, crop_px, (height, width))
        saturated = int((field.largest_yx[top : top + crop_px, left : left + crop_px] >= field.saturation_counts).sum())
        if apart and min(apart) < 1.3 * half:
            left_out.append(f"the bead {place} has another one {min(apart):.0f} pixels away")
        elif edge < 0.8 * half:
            left_out.append(f"the bead {place} is {edge:.0f} pixels from the edge")
        elif saturated:
            left_out.append(f"the bead {place} has {saturated} saturated pixels (from {field.saturation_counts:g} counts)")
        else:
            chosen.append(spot)
    return np.array(chosen).reshape(-1, 2), left_out
