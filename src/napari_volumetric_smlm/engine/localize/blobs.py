"""Blobs of many sizes in a volume (lysosomes, peroxisomes): where they are, how large and how bright.

The volume is compared with blobs of every size, by the scale-normalised Laplacian of a Gaussian (scikit-image's `blob_log`); a ball of
radius r answers most at s = r / sqrt 3. Sizes are the same along all axes in nanometres, whatever the voxels. Centres are then moved to the
centre of mass of what lies above the surroundings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_laplace

SCALES = 8  # sizes that are tried
# An answer is kept that is this many times as large as noise makes them (from the median of all answers).
NOISE_FACTOR = 8.0
# Blobs that share more than this of the smaller one's volume are one blob.
LARGEST_OVERLAP = 0.3
SHELL = 1.5  # radii within which the surroundings are measured
RECENTRED = 3  # times
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Blobs:
    """n blobs: centre (z, y, x) in voxels, diameter in nm, and light above the surroundings (sum over voxels)."""

    index_n3: Array
    diameter_nm_n: Array
    light_n: Array


def find_blobs(values_zyx: NDArray[np.floating], voxel_zyx_nm: tuple[float, float, float], diameter_nm: tuple[float, float]) -> Blobs:
    """Find blobs whose diameter lies between two limits, the brightest answer first."""
    # here, so that only who looks for blobs waits for it
    from skimage.feature import blob_log

    values, voxel = np.asarray(values_zyx, np.float64), np.array(voxel_zyx_nm)
    low, high = (np.array([d / 2 / math.sqrt(3)] * 3) / voxel for d in diameter_nm)
    answers = -gaussian_laplace(values, low) * float((low**2).mean())
    limit = NOISE_FACTOR * 1.4826 * float(np.median(np.abs(answers - np.median(answers))))
    limit = max(limit, 1e-3 * float(np.abs(answers).max()), 1e-12)
    found = blob_log(values, low, high, num_sigma=SCALES, threshold=limit, overlap=LARGEST_OVERLAP, exclude_border=False)
    rows = [_measured(values, voxel, row[:3], float((row[3:] * voxel).mean() * math.sqrt(3))) for row in found]
    table = np.array(rows).reshape(-1, 5)
    return Blobs(table[:, :3], table[:, 3], table[:, 4])


def _measured(values: Array, voxel: Array, centre: Array, radius_nm: float) -> tuple[float, ...]:
    """Centre of mass, diameter and light of one blob."""
    light = 0.0
    for _ in range(RECENTRED):
        reach = np.ceil(SHELL * radius_nm / voxel).astype(int) + 1
        first, last = np.maximum(np.rint(centre).astype(int) - reach, 0), np.rint(centre).astype(int) + reach + 1
        part = values[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        place = np.stack(np.meshgrid(*(np.arange(n) for n in part.shape), indexing="ij"), -1) + first
        distance = np.sqrt((((place - centre) * voxel) ** 2).sum(-1))
        # a voxel's centre may lie outside a ball that fills half of it
        inside, beyond = distance <= radius_nm + voxel.min() / 2, distance > radius_nm + voxel.max()
        around = beyond & (distance <= SHELL * radius_nm + voxel.max())
        floor = float(np.median(part[around])) if around.any() else float(part.min())
        # noise on both sides of the surroundings adds up to nothing
        above = (part - floor) * inside
        light = float(above.sum())
        if light <= 0:
            break
        centre = (above[..., None] * place).sum((0, 1, 2)) / light
    return (*(float(c) for c in centre), 2 * radius_nm, max(light, 0.0))
