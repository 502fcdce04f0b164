"""Whether a frame shows as many views as its microlens array has lenses.

A search for three lenses finds three of seven as well, and one for seven may take its bearings from three. But each view resembles the
others, and where the array's lattice goes on there is nothing that does.
"""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...domain.microlenses import MicrolensArray
from ...errors import CalibrationError

# Molecules at several depths lie up to this far apart in two views, along the line of the lenses; beside it there is noise.
PARALLAX_PX, BAND_PX, REACH_PX = 14, 2, 28
# Structure of single molecules; illumination is wider than this.
WIDE_PX = 25
PATCH_SHARE = 0.35  # half the side of the compared squares, of the pitch
# Squares that show the same stand out by 5 to 30 standard deviations, others by up to 4 (simulated frames of three and seven lenses).
LEAST_SIGNAL = 4.6
# A view among views is not much worse than the best pair, and another lens's light not much worse than the usual pair.
SHARE_OF_BEST, SHARE_OF_USUAL = 0.35, 0.5


def check_lens_count(image_yx: Tensor, centres_yx_px: NDArray[np.float64], array: MicrolensArray, camera_pixel_um: float) -> None:
    """Compare the views with each other, and with what lies where the lattice of lenses would go on.

    Raises
    ------
    CalibrationError
        If a view resembles no other one, or there are more views than lenses.
    """
    pitch = array.pitch_mm * 1000 / camera_pixel_um
    fine = _without_illumination(image_yx.double())
    half = max(8, int(PATCH_SHARE * pitch))
    middle = np.rint(centres_yx_px).astype(int)
    alike = np.zeros((len(middle), len(middle)))
    for i, j in combinations(range(len(middle)), 2):
        alike[i, j] = alike[j, i] = _likeness(fine, middle[i], middle[j], half)
    best = alike.max(1)
    kind = f"of the layout {array.layout!r}"
    advice = "or 'explicit' with centres_yx_mm), or state the centres (vsmlm views --centres)"
    for at in _where_the_lattice_goes_on(middle, pitch, fine.shape, half):
        if max(_likeness(fine, m, at, half) for m in middle) >= max(LEAST_SIGNAL, SHARE_OF_USUAL * float(np.median(best))):
            raise CalibrationError(
                f"more views than the {len(middle)} lenses {kind}: the same is also seen around row {at[0]}, column {at[1]}; "
                f"describe all lenses (layout, {advice}"
            )
    alone = np.flatnonzero(best < max(LEAST_SIGNAL, SHARE_OF_BEST * best.max()))
    if len(alone):
        row, column = middle[alone[0]]
        raise CalibrationError(
            f"fewer views than the {len(middle)} lenses {kind}: around row {row}, column {column} nothing is seen that another view shows "
            f"too; describe the lenses that the microscope has (layout, {advice}"
        )


def _without_illumination(image: Tensor) -> Tensor:
    side = 2 * WIDE_PX + 1
    ground = torch.nn.functional.avg_pool2d(image[None, None], side, 1, WIDE_PX, count_include_pad=False)[0, 0]
    # a few bright molecules must not decide alone
    fine = image - ground
    limit = float(fine.abs().mean()) * 8
    return fine.clamp(-limit, limit)


def _likeness(fine: Tensor, a: NDArray[np.int_], b: NDArray[np.int_], half: int) -> float:
    """Correlation of the squares around two places along their parallax, over its noise beside it, in standard deviations."""
    patch, field = _square(fine, a, half), _square(fine, b, half + REACH_PX)
    if float(patch.std()) == 0 or float(field.std()) == 0:
        return 0.0
    score = torch.nn.functional.conv2d(field[None, None], (patch - patch.mean())[None, None])[0, 0]
    lag = torch.arange(-REACH_PX, REACH_PX + 1, dtype=fine.dtype)
    towards = torch.as_tensor(b - a, dtype=fine.dtype) / float(np.hypot(*(b - a)))
    beside = lag[:, None] * towards[1] - lag[None, :] * towards[0]
    along = lag[:, None] * towards[0] + lag[None, :] * towards[1]
    inside = along.abs() <= PARALLAX_PX
    bands = torch.stack([score[inside & ((beside - offset).abs() <= BAND_PX)].mean() for offset in range(-REACH_PX, REACH_PX + 1)])
    near = lag.abs() <= BAND_PX
    far = bands[lag.abs() > 4 * BAND_PX]
    return float((bands[near].max() - far.mean()) / far.std().clamp(min=1e-12))


def _square(fine: Tensor, at: NDArray[np.int_], half: int) -> Tensor:
    """Cut a square; beyond the frame there is nothing."""
    padded = torch.zeros((2 * half + 1, 2 * half + 1), dtype=fine.dtype)
    top, left = int(at[0]) - half, int(at[1]) - half
    rows, columns = (slice(max(0, -first), min(2 * half + 1, n - first)) for first, n in zip((top, left), fine.shape, strict=True))
    padded[rows, columns] = fine[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    return padded


def _where_the_lattice_goes_on(middle: NDArray[np.int_], pitch: float, shape: torch.Size, half: int) -> list[NDArray[np.int_]]:
    """Places one lattice step from a lens that hold no lens and lie on the sensor."""
    found: list[NDArray[np.int_]] = []
    for i, j, k in ((i, j, k) for i in range(len(middle)) for j, k in permutations(range(len(middle)), 2)):
        step = middle[j] - middle[k]
        at = middle[i] + step
        inside = (at >= half).all() and at[0] < shape[0] - half and at[1] < shape[1] - half
        if inside and np.hypot(*step) < 1.3 * pitch and all(np.hypot(*(at - other)) > 0.7 * pitch for other in [*middle, *found]):
            found.append(at)
    return found
