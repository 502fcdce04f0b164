"""From the frames of a file to frames by time, orientation, phase and plane."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...domain.illumination import Geometry
from ...errors import StackError


def frame_numbers(count: int, geometry: Geometry, planes: int, order: str) -> NDArray[np.int64]:
    """Number of the frame in the file for each (time, orientation, phase, plane).

    Parameters
    ----------
    order : of the frames inside one time, slowest first: letters a (orientation), p (phase), z (plane).

    Raises
    ------
    StackError
        If the frames do not make whole time points.
    """
    per_time = geometry.frame_count * planes
    if count % per_time:
        depth = f" x {planes} planes" if planes > 1 else ""
        raise StackError(
            f"{count} frames are not a multiple of {per_time} ({geometry.orientations} orientations x {geometry.phases} phases{depth}): "
            "check the geometry, the number of planes and whether the recording was cut short"
        )
    lengths = {"a": geometry.orientations, "p": geometry.phases, "z": planes}
    numbers = np.arange(count, dtype=np.int64).reshape(-1, *(lengths[axis] for axis in order))
    return numbers.transpose(0, *(1 + order.index(axis) for axis in "apz"))


def possible_orders(geometry: Geometry, planes: int) -> Iterator[str]:
    """Every order that gives another arrangement of the frames; axes of length one may stand anywhere, so they stand last."""
    lengths = {"a": geometry.orientations, "p": geometry.phases, "z": planes}
    long = [axis for axis in "apz" if lengths[axis] > 1]
    short = [axis for axis in "apz" if lengths[axis] == 1]
    for axes in permutations(long):
        yield "".join([*axes, *short])


def cut_mosaic(images_nyx: NDArray[np.generic], geometry: Geometry, rows: Literal["ap", "pa"]) -> NDArray[np.generic]:
    """Frames (n * tiles, y, x) of images that show all frames of a time side by side, ordered as `rows` says (slowest first).

    Raises
    ------
    StackError
        If the images cannot be divided into that many tiles.
    """
    down, across = geometry.orientations, geometry.phases
    if rows == "pa":
        down, across = across, down
    height, width = images_nyx.shape[-2:]
    if height % down or width % across:
        raise StackError(
            f"an image of {height} x {width} pixels is no mosaic of {down} x {across} frames: its sides must be multiples; "
            "check the geometry, or choose the other mosaic"
        )
    tiles = images_nyx.reshape(-1, down, height // down, across, width // across).swapaxes(2, 3)
    return tiles.reshape(-1, height // down, width // across)
