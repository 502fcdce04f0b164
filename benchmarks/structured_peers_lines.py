"""Simulated line pairs with the patterns that come with them: what is known, and how well an image shows it."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import shift
from scipy.optimize import least_squares

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Illumination, Orientation, Wave

Array = NDArray[Any]
SAMPLE_NM, RAYLEIGH = 30.0, 0.735
BORDER, MIDDLE = 6, 34


def supplied(patterns_tyx: Array, step_um: float) -> Illumination:
    """Two-beam patterns, given as images on a grid of the same field, as one illumination of 3 x 3."""
    place = (np.arange(patterns_tyx.shape[-1]) - (patterns_tyx.shape[-1] - 1) / 2) * step_um
    orientations = []
    for pictures in patterns_tyx.reshape(3, 3, *patterns_tyx.shape[1:]):
        waves = [_fitted_wave(picture / picture.mean(), place) for picture in pictures]
        turn = -1 if math.remainder(waves[1][3] - waves[0][3], 2 * math.pi) < 0 else 1
        ky, kx, modulation = (statistics.fmean(wave[n] for wave in waves) for n in range(3))
        phases = [turn * wave[3] for wave in waves]
        steps = tuple((phase - phases[0]) % (2 * math.pi) for phase in phases)
        wave = Wave(frequency_yx_per_um=(turn * ky, turn * kx), modulation=min(modulation, 1.0), phase_rad=phases[0])
        orientations.append(Orientation(waves=(wave,), steps_rad=steps))
    return Illumination(geometry=GEOMETRIES["2d-3x3"], orientations=tuple(orientations))


def _fitted_wave(picture: Array, place: Array) -> tuple[float, float, float, float]:
    """Frequency y and x, modulation and phase at the centre, by least squares from the highest peak of the spectrum."""
    count, step = len(place), float(place[1] - place[0])
    power = np.abs(np.fft.fft2(picture - picture.mean()))[:, : count // 2]
    row, column = np.unravel_index(np.argmax(power), power.shape)
    start = [float(np.fft.fftfreq(count, step)[index]) for index in (row, column)]

    def model(v: Array) -> Array:
        angle = 2 * np.pi * (v[0] * place[:, None] + v[1] * place[None, :])
        return 1 + v[2] * np.cos(angle) - v[3] * np.sin(angle)

    starts = [[*start, math.cos(phase), math.sin(phase)] for phase in (0.0, 1.6, 3.1, 4.7)]
    best = min((least_squares(lambda v: (model(v) - picture).ravel(), first) for first in starts), key=lambda found: found.cost)
    if best.x[1] < 0:
        best.x[[0, 1, 3]] *= -1
    return float(best.x[0]), float(best.x[1]), math.hypot(best.x[2], best.x[3]), math.atan2(best.x[3], best.x[2])


def best_nrmse(image: Array, truth: Array, margin: int) -> tuple[float, float]:
    """Smallest error over gain, offset and shift across the lines (samples), over the range of the truth; and that shift."""
    inside = (slice(margin, -margin), slice(margin, -margin))

    def error(move: float) -> float:
        moved = shift(image, (0, move), order=3, mode="nearest")[inside].ravel()
        terms = np.stack([moved, np.ones_like(moved)], 1)
        gain = np.linalg.lstsq(terms, truth[inside].ravel(), rcond=None)[0]
        return float(np.sqrt(np.mean((terms @ gain - truth[inside].ravel()) ** 2)) / np.ptp(truth))

    moves = np.arange(-1.5, 1.51, 0.1)
    errors = [error(move) for move in moves]
    return min(errors), float(moves[int(np.argmin(errors))])


def dips(image: Array, truth: Array, move: float) -> dict[float, float]:
    """For each spacing of the pairs in nm, brightness between the lines over that of the lower line; 1 where they are not both seen."""
    lines = np.flatnonzero(truth.sum(0) > 0)
    profile = image[MIDDLE:-MIDDLE].mean(0)
    curve = CubicSpline(np.arange(len(profile)), profile - np.median(profile))
    found = {}
    for left, right in lines.reshape(-1, 2):
        x = np.linspace(left - move - 2, right - move + 2, 401)
        y = curve(x)
        tops = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:])) + 1
        near = [tops[np.abs(x[tops] - line + move) <= 1] for line in (left, right)]
        seen = all(len(top) for top in near) and set(near[0]) != set(near[1])
        between = float(curve((left + right) / 2 - move))
        found[float(right - left) * SAMPLE_NM] = between / min(float(y[top].max()) for top in near) if seen else 1.0
    return found
