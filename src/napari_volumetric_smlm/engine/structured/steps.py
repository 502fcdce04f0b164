r"""Phase steps that are not equal, from the frames themselves.

Frame n laid over band 0 at the wave vector of wave w gives c_n = sum_b exp(i step_b delta_n) a_b, where a_w is the wave's strength and
the other a_b are correlations by chance of known size. The steps delta_n are those that leave the others smallest (Wicker 2013), with
a Gaussian expectation around equal steps; frames alone cannot tell a wrong step from an accidental correlation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

from .overlap import Overlap, sums

EXPECTED_ERROR_RAD = 0.1
# measured steps are used only when they differ from equal ones by more than chance
LEAST_SIGNIFICANCE = 3.0


def frame_correlations(
    overlaps_w: Sequence[Overlap], k_yx_w: Sequence[tuple[float, float]], wave_steps: Sequence[int], count: int
) -> NDArray[np.complex128]:
    """Correlations (w, n) of frame n with band 0 at each wave's vector, from the bands that equal steps gave.

    overlaps_w, k_yx_w : of each wave of one orientation. count : frames.
    """
    light = overlaps_w[0].light.image_zyx
    turns = 2 * np.pi * np.outer(np.arange(count), [0, *wave_steps, *(-step for step in wave_steps)]) / count
    rows = []
    for k_yx in k_yx_w:
        ky, kx = (torch.tensor([k], dtype=light.dtype, device=light.device) for k in k_yx)
        parts = [sums((light * light).mean(0), overlaps_w[0].grid, ky, kx)]
        parts += [o.sums_at(ky, kx) for o in overlaps_w]
        # the band of the opposite sign is the complex conjugate image
        parts += [o.sums_at(-ky, -kx).conj() for o in overlaps_w]
        rows.append(np.exp(1j * turns) @ torch.cat(parts).flatten().cpu().numpy().astype(np.complex128))
    return np.asarray(rows)


def measured_steps(correlations_wn: NDArray[np.complex128], wave_steps: Sequence[int], scores_w: Sequence[float]) -> NDArray[np.float64]:
    """Steps (n,) from the correlations of every frame with band 0 at each wave's k; equal ones where nothing else is proven.

    scores_w : score of each wave, that is its strength squared over the expected square of the others.
    """
    count = correlations_wn.shape[1]
    nominal = 2 * np.pi * np.arange(count) / count
    bands = [0, *wave_steps, *(-step for step in wave_steps)]

    def remainders(error: NDArray[np.float64]) -> NDArray[np.float64]:
        delta = nominal + np.concatenate([[0.0], error])
        matrix = np.exp(1j * np.outer(delta, bands))
        parts = [error / EXPECTED_ERROR_RAD]
        for w, (c, score) in enumerate(zip(correlations_wn, scores_w, strict=True)):
            a = np.linalg.pinv(matrix) @ c
            chance = max(abs(a[1 + w]), 1e-30) / math.sqrt(max(score, 1e-6))
            others = np.concatenate([np.delete(a, 1 + w), (c - matrix @ a) / math.sqrt(count)]) / chance
            parts += [others.real * math.sqrt(2), others.imag * math.sqrt(2)]
        return np.concatenate(parts)

    start = np.zeros(count - 1)
    fit = least_squares(remainders, start)
    gain = float((remainders(start) ** 2).sum() - (fit.fun**2).sum())
    # twice a log-likelihood ratio with count - 1 free numbers: its mean by chance is count - 1, its variance twice that
    free = count - 1
    if gain < free + LEAST_SIGNIFICANCE * math.sqrt(2 * free):
        return nominal
    return nominal + np.concatenate([[0.0], fit.x])
