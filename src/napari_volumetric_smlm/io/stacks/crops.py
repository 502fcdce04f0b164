"""A part of every frame, read when it is indexed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...domain.images import LazyArray
from .frames import FrameArray


class CroppedFrames(FrameArray):
    """The same rows and columns of every frame of another array: (first row, first column, row after last, column after last)."""

    def __init__(self, frames: LazyArray, region_yx_px: tuple[int, int, int, int], source: str) -> None:
        self.region_yx_px = region_yx_px
        top, left, bottom, right = region_yx_px
        super().__init__((frames.shape[0], bottom - top, right - left), frames.dtype, source)
        self._frames, self._top, self._columns = frames, top, slice(left, right)

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        return np.asarray(self._frames[frame, self._top + low : self._top + high, self._columns])
