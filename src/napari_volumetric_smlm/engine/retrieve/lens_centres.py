"""Where the axes of a microlens array's lenses meet the sensor, found in raw light-field frames.

All views show the same molecules, so a frame repeats itself: its correlation with itself has a peak at the distance of every two
lenses. Turn, pitch and small errors of the layout are read from there. Distances do not say where the field's centre lies; the edges
of the illuminated fields do. In a PSF, or a frame of one bead in the middle of the field, the spots themselves are the centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...domain.microlenses import MicrolensArray
from ...errors import CalibrationError
from ..fourier import correlate, correlation_spectrum, fast_length, filter_image, image_spectrum
from ..optics.psf import pixel_transfer

Points = NDArray[np.float64]
# A structure wider than this is illumination, not molecules; a peak narrower than that may be missed between two trial turns.
WIDE_PX, NARROW_PX = 12.0, 3.0
TURN_STEP_RAD, SCALES = math.radians(0.2), np.linspace(0.96, 1.04, 17)
LEAST_SIGNAL, LEAST_EDGE = 8.0, 0.2
# A dark view reaches a hundredth of what views that show the same reach together.
LEAST_SHARE = 0.04
LARGEST_MISFIT = 0.1  # of the pitch
OWN_SHARE = 0.6  # of the pitch: nothing else than a lens's own spot is nearer than this
REFINE_PX = 8
FIELD_SAMPLES = 48  # across one field, when looking for its edges


@dataclass(frozen=True)
class LensCentres:
    """Found centres (V, 2), rows and columns in pixels, in the order of the layout.

    signal : height of the evidence over its noise, in standard deviations.
    edges_seen : whether the fields' edges showed where the array's centre lies; if not, it was put at the centre of the frame.
    """

    yx_px: Points
    signal: float
    edges_seen: bool

    def as_measured(self) -> tuple[tuple[float, float], ...]:
        """Centres as a `MicrolensArray` keeps them."""
        return tuple((round(float(y), 3), round(float(x), 3)) for y, x in self.yx_px)


def centres_from_frame(image_yx: Tensor, array: MicrolensArray, camera_pixel_um: float) -> LensCentres:
    """Lens centres from the mean of raw frames, or a frame of many beads.

    Turns of the whole circle and pitches within 4 % are tried.

    Raises
    ------
    CalibrationError
        If the frame does not repeat itself at the distances of the layout, or a view shows nothing of what the others show.
    """
    image = image_yx.double()
    layout = array.layout_yx_mm * 1000 / camera_pixel_um
    if len(layout) < 2:
        raise CalibrationError("a layout of one lens has no distances to look for: state its centre (vsmlm views --centres)")
    repeats = _self_correlation(image)
    guess, signal = _turn_and_scale(repeats, layout - layout.mean(0))
    if signal < LEAST_SIGNAL:
        raise CalibrationError(
            f"no sign of {len(layout)} views that show the same: the frame repeats itself at the distances of the layout "
            f"{array.layout!r} with {signal:.1f} standard deviations, {LEAST_SIGNAL:g} are expected; average more frames, check pitch_mm, "
            "the layout and the camera's pixel (binning), or state the centres (vsmlm views --centres)"
        )
    relative, strength = _refine(repeats, guess)
    bright = int((strength >= LEAST_SHARE * strength.max()).sum())
    if bright < len(layout):
        raise CalibrationError(
            f"only {bright} of {len(layout)} views show the same: a view is dark, covered or not on the sensor; look at the raw frame, and "
            "describe the lenses that are used (layout 'explicit')"
        )
    radius = array.pitch_mm / 2 * 1000 / camera_pixel_um
    # a correlation does not tell a triangle from the same one upside down
    found = [(*_middle(image, sign * relative, radius), sign * relative) for sign in (1, -1)]
    edge, middle, relative = max(found, key=lambda item: item[0])
    if edge < LEAST_EDGE:
        middle = (np.array(image.shape) - 1) / 2
        relative = min((r for *_, r in found), key=lambda r: _in_order(r, layout)[1])
    order, _ = _in_order(relative, layout)
    return LensCentres(middle + relative[order], signal, edge >= LEAST_EDGE)


def centres_from_spots(image_yx: Tensor, array: MicrolensArray, camera_pixel_um: float) -> LensCentres:
    """Lens centres from a plane of a measured PSF, or a frame of one bead at the field's centre: one spot a view.

    Raises
    ------
    CalibrationError
        If there are fewer spots than lenses, or their distances are not the layout's.
    """
    image, layout = image_yx.double(), array.layout_yx_mm * 1000 / camera_pixel_um
    pitch = array.pitch_mm * 1000 / camera_pixel_um
    smooth = _blurred(image, NARROW_PX / 2)
    ground, noise = _level(smooth)
    left, spots = smooth.clone(), []
    y, x = (torch.arange(n, dtype=image.dtype) for n in image.shape)
    for k in range(len(layout)):
        peak = int(left.argmax())
        row, column = divmod(peak, image.shape[1])
        signal = (float(left[row, column]) - ground) / noise
        if signal < LEAST_SIGNAL:
            raise CalibrationError(
                f"{k} spots were found, the layout {array.layout!r} has {len(layout)} lenses: take a plane near focus, on the "
                f"camera's pixels (spots less than {OWN_SHARE * pitch:.0f} pixels apart count as one), or state the centres "
                "(vsmlm views --centres)"
            )
        spots.append(_centroid(image, row, column))
        left = torch.where(torch.hypot(y[:, None] - row, x - column) < OWN_SHARE * pitch, ground, left)
    centres = np.array(spots)
    order, _ = _in_order(centres - centres.mean(0), layout)
    centres = centres[order]
    for i, j in combinations(range(len(layout)), 2):
        expected, found = math.dist(layout[i], layout[j]), math.dist(centres[i], centres[j])
        if abs(found - expected) > LARGEST_MISFIT * pitch:
            raise CalibrationError(
                f"spots at {_words(centres[i])} and {_words(centres[j])} are {found:.0f} pixels apart, the layout {array.layout!r} expects "
                f"{expected:.0f}: more than one bead, another pitch or binning? State the centres (vsmlm views --centres) instead"
            )
    return LensCentres(centres, signal, True)


def _words(point: Points) -> str:
    return f"({point[0]:.0f}, {point[1]:.0f})"


def _blurred(image: Tensor, sigma_px: float) -> Tensor:
    shape = (fast_length(image.shape[0] + 8 * math.ceil(sigma_px)), fast_length(image.shape[1] + 8 * math.ceil(sigma_px)))
    transfer = pixel_transfer(shape, 1.0, torch.tensor(sigma_px), 0.0, image)
    ground = image.median()
    return filter_image(image - ground, transfer, shape)[: image.shape[0], : image.shape[1]] + ground


def _level(image: Tensor) -> tuple[float, float]:
    """Median, and standard deviation from the median absolute deviation."""
    middle = image.median()
    return float(middle), max(1.4826 * float((image - middle).abs().median()), 1e-9 * max(1.0, float(image.abs().max())))


def _self_correlation(image: Tensor) -> Tensor:
    """Correlation of the fine structure with itself; lag (0, 0) first, negative lags at the end, slightly blurred."""
    fine = image - _blurred(image, WIDE_PX)
    padded = (fast_length(2 * image.shape[0]), fast_length(2 * image.shape[1]))
    spectrum = image_spectrum(fine, padded)
    transfer = pixel_transfer(padded, 1.0, torch.tensor(NARROW_PX / 2), 0.0, image)
    return correlate(spectrum * transfer, spectrum.conj(), padded, padded)


def _turn_and_scale(repeats: Tensor, layout: Points) -> tuple[Points, float]:
    """The turned and scaled layout whose distances the frame repeats best, and how far it stands out from the other turns."""
    shape = (fast_length(repeats.shape[0]), fast_length(repeats.shape[1]))
    wide = filter_image(repeats, pixel_transfer(shape, 1.0, torch.tensor(NARROW_PX), 0.0, repeats), shape)
    pairs = np.array(list(combinations(range(len(layout)), 2)))
    lags = layout[pairs[:, 1]] - layout[pairs[:, 0]]
    turns = np.arange(-math.pi, math.pi, TURN_STEP_RAD)
    c, s = np.cos(turns)[:, None, None], np.sin(turns)[:, None, None]
    turned = np.stack([lags[:, 0] * c + lags[:, 1] * s, lags[:, 1] * c - lags[:, 0] * s], -1)  # (turns, 1, pairs, 2)
    places = np.rint(turned * SCALES[:, None, None]).astype(int)
    inside = (np.abs(places) < np.array(repeats.shape) // 2).all(-1)
    score = np.where(inside, wide.numpy()[places[..., 0] % repeats.shape[0], places[..., 1] % repeats.shape[1]], 0).mean(-1)
    at, scale = np.unravel_index(score.argmax(), score.shape)
    _, noise = _level(torch.from_numpy(score))
    c0, s0 = math.cos(turns[at]), math.sin(turns[at])
    best = layout @ np.array([[c0, -s0], [s0, c0]]) * SCALES[scale]
    return best, float((score.max() - np.median(score)) / noise)


def _refine(repeats: Tensor, guess: Points) -> tuple[Points, NDArray[np.float64]]:
    """Centres around their mean whose distances are the peaks nearest to those of the guess, and each one's highest peak."""
    count = len(guess)
    apart, height = np.zeros((count, count, 2)), np.zeros((count, count))
    span = np.arange(-REFINE_PX, REFINE_PX + 1)
    for i, j in combinations(range(count), 2):
        lag = np.rint(guess[j] - guess[i]).astype(int)
        rows, columns = (lag[0] + span) % repeats.shape[0], (lag[1] + span) % repeats.shape[1]
        patch = repeats[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
        apart[i, j] = lag + _peak(patch) - REFINE_PX
        apart[j, i] = -apart[i, j]
        height[i, j] = height[j, i] = float(patch.max())
    # least squares of all distances, with the mean at zero
    return apart.mean(0), height.max(0)


def _peak(patch: Tensor) -> Points:
    """Row and column of the highest sample, and between samples by a parabola along each axis."""
    row, column = divmod(int(patch.argmax()), patch.shape[1])
    place = []
    for line, k in ((patch[:, column], row), (patch[row], column)):
        shift = 0.0
        if 0 < k < len(line) - 1:
            a, b, c = (float(v) for v in line[k - 1 : k + 2])
            shift = 0.5 * (a - c) / min(a - 2 * b + c, -1e-12)
        place.append(k + max(-0.5, min(0.5, shift)))
    return np.array(place)


def _middle(image: Tensor, relative: Points, radius_px: float) -> tuple[float, Points]:
    """Correlation of the frame with discs of light at the centres, at the best place of their middle, and that place."""
    coarse = max(1, int(2 * radius_px / FIELD_SAMPLES))
    # square root: a few bright molecules must not outweigh the rest of the field
    bright = (image - image.quantile(0.01) if image.numel() < 2**23 else image - image.min()).clamp(min=0).sqrt()
    small = torch.nn.functional.avg_pool2d(bright[None, None], coarse)[0, 0]
    reach = math.ceil((np.abs(relative).max() + radius_px) / coarse)
    x = torch.arange(-reach, reach + 1, dtype=image.dtype) * coarse
    fields = torch.stack([torch.hypot(x[:, None] - y0, x - x0) < radius_px for y0, x0 in relative.tolist()]).any(0).to(image.dtype)
    padded = (fast_length(small.shape[0] + 2 * reach + 1), fast_length(small.shape[1] + 2 * reach + 1))
    kernel = correlation_spectrum(fields, padded)
    shape = (small.shape[0], small.shape[1])
    light = correlate(image_spectrum(small - small.mean(), padded), kernel, padded, shape)
    area = correlate(image_spectrum(torch.ones_like(small), padded), kernel, padded, shape)
    spread = small.std().clamp(min=1e-12) * math.sqrt(small.numel()) * (area - area**2 / small.numel()).clamp(min=1).sqrt()
    score = light / spread
    return float(score.max()), _peak(score) * coarse + (coarse - 1) / 2


def _centroid(image: Tensor, row: int, column: int) -> tuple[float, float]:
    """Centre of a spot's light above the level around it, in a window that follows it."""
    y, x = float(row), float(column)
    for _ in range(3):
        top, left = max(0, round(y) - REFINE_PX), max(0, round(x) - REFINE_PX)
        patch = image[top : round(y) + REFINE_PX + 1, left : round(x) + REFINE_PX + 1]
        light = (patch - 0.5 * (patch.median() + patch.max())).clamp(min=0)
        rows, columns = (torch.arange(n, dtype=image.dtype) for n in patch.shape)
        y = top + float((light.sum(1) * rows).sum() / light.sum())
        x = left + float((light.sum(0) * columns).sum() / light.sum())
    return y, x


def _in_order(found: Points, layout: Points) -> tuple[NDArray[np.intp], float]:
    """Order in which found centres belong to the layout's lenses, and the squared distances that remain."""
    expected = layout - layout.mean(0)
    cost = ((expected[:, None] - (found - found.mean(0))[None]) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    return columns, float(cost[rows, columns].sum())
