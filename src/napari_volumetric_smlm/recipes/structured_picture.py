"""The evidence for patterns as one picture: power spectra above, overlap of the bands below, found waves circled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..domain.illumination import StructuredEstimate, Wave
from ..errors import PlanError

CIRCLE_PX = 6.0
MARK = np.array([255, 160, 0], np.uint8)
GAP_PX = 4
# shares of the values that are drawn black and white
BLACK, WHITE = 0.3, 0.9995


def evidence_picture(found: StructuredEstimate) -> NDArray[np.uint8]:
    """Draw (y, x, 3); one column a band. A wave may be missing from the spectrum above it: fine ones are beyond what the lens passes.

    Raises
    ------
    PlanError
        If the estimate was made without pictures.
    """
    if found.power_ayx is None or found.overlap_byx is None or found.step_yx_per_um is None:
        raise PlanError("these patterns came without spectra (from a file?): estimate them from a stack")
    columns = []
    waves = [(a, wave) for a, orientation in enumerate(found.illumination.orientations) for wave in orientation.waves]
    for (a, wave), overlap in zip(waves, np.asarray(found.overlap_byx), strict=True):
        above = _panel(np.asarray(found.power_ayx)[a], wave, found.step_yx_per_um, both=True)
        below = _panel(np.sqrt(overlap), wave, found.step_yx_per_um, both=False)
        width = max(above.shape[1], below.shape[1]) + GAP_PX
        columns.append(np.concatenate([_padded(panel, width) for panel in (above, below)]))
    return np.concatenate(columns, 1)


def _panel(values_yx: NDArray[np.floating], wave: Wave, step_yx: tuple[float, float], both: bool) -> NDArray[np.uint8]:
    low, high = np.quantile(values_yx, (BLACK, WHITE))
    grey = (255 * np.clip((values_yx - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
    panel = np.repeat(grey[..., None], 3, -1)
    y, x = (np.arange(n) for n in values_yx.shape)
    for sign in (1, -1) if both else (1,):
        row, column = (n // 2 + sign * k / step for n, k, step in zip(values_yx.shape, wave.frequency_yx_per_um, step_yx, strict=True))
        distance = np.hypot(y[:, None] - row, x[None, :] - column)
        panel[np.abs(distance - CIRCLE_PX) < 0.7] = MARK
    return panel


def _padded(panel: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return np.pad(panel, ((0, GAP_PX), (0, width - panel.shape[1]), (0, 0)))
