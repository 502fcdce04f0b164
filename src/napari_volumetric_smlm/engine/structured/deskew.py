"""Planes of a stage that moves at an angle to them, laid over each other: the shear of lattice light-sheet stacks.

A stage step d at the angle alpha to the planes moves the sample by d cos(alpha) within the frames and by d sin(alpha) to the next plane.
"""

from __future__ import annotations

import math

from torch import Tensor


def shear_of(step: float, angle_rad: float) -> tuple[float, float]:
    """Shift from one plane to the next within the frames, and distance of the planes, both in the unit of the step."""
    return step * math.cos(angle_rad), abs(step * math.sin(angle_rad))


def rows_to_add(planes: int, shift_px: float) -> int:
    """Samples that the sheared stack needs beyond those of a plane."""
    # 16.000001 samples of a rounded angle are 16
    return math.ceil(round((planes - 1) * abs(shift_px), 3))


def deskewed(stack_zyx: Tensor, shift_px: float, columns: bool = True) -> Tensor:
    """Planes moved against the sample's motion, plane n by n times the shift, linearly interpolated; dark where nothing was recorded.

    Parameters
    ----------
    shift_px : samples from one plane to the next, along columns (x) or rows (y); negative shifts go the other way, into the same room:
        the last plane then begins at sample 0.
    """
    stack = stack_zyx if columns else stack_zyx.movedim(-1, -2)
    planes, rows, width = stack.shape
    room = rows_to_add(planes, shift_px)
    result = stack.new_zeros((planes, rows, width + room))
    for n, plane in enumerate(stack):
        place = min(max(n * shift_px if shift_px >= 0 else room + n * shift_px, 0.0), float(room))
        whole = math.floor(place)
        share = place - whole
        result[n, :, whole : whole + width] += (1 - share) * plane
        if share > 0:
            result[n, :, whole + 1 : whole + 1 + width] += share * plane
    return result if columns else result.movedim(-1, -2).contiguous()
