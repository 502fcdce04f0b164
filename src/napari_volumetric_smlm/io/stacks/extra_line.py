"""Frames with one row and one column more than the microlens array expects, as programs that centre on a pixel write them."""

from __future__ import annotations

from ...domain.images import RawStack
from ...domain.instrument import Instrument
from .crops import CroppedFrames


def without_extra_line(stack: RawStack, instrument: Instrument) -> RawStack:
    """Leave the first row and column out where both are surplus, with a warning; other stacks are returned as they are.

    Of a grid of 2 n + 1 pixels around a central one this keeps 2 n, whose centre n // 2 is the same pixel.
    """
    array = instrument.microlenses
    if array is None or any(view.region_yx_px is None for view in instrument.views):
        return stack
    rows, columns = array.frame_yx_px
    if any(tuple(counts.shape[1:]) != (rows + 1, columns + 1) for counts in stack.counts_tyx):
        return stack
    source = stack.source[0] if stack.source else "stack"
    counts = tuple(CroppedFrames(c, (1, 1, rows + 1, columns + 1), source) for c in stack.counts_tyx)
    words = f"frames of {rows + 1} x {columns + 1} pixels: the first row and column are left out, as the array expects {rows} x {columns}"
    return stack.model_copy(update={"counts_tyx": counts, "warnings": (*stack.warnings, words)})
