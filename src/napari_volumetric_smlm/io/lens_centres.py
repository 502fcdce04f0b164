"""Lens centres of a microlens array as text files: one lens a line, row and column in pixels."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from pathlib import Path

from ..domain.microlenses import MicrolensArray, Point
from ..errors import InstrumentError

LARGEST_BYTES = 2**16
# grids on which programs of this kind keep their centres, in camera pixels
BINNINGS = (1, 2, 4)
LARGEST_MISFIT = 0.1  # of the array's distances


def read_lens_centres(path: str | os.PathLike[str], array: MicrolensArray, camera_pixel_um: float) -> tuple[Point, ...]:
    """Read lens centres, and bring them from a binned grid to the camera's pixels: the array's distances tell which it was.

    Pixel k of a grid binned b-fold covers the camera's pixels b k to b k + b - 1, so its centre lies at b k + (b - 1) / 2.

    Raises
    ------
    InstrumentError
        If the file is no list of centres, their number is not that of the lenses, or their distances are the array's on no grid.
    """
    source = Path(path)
    centres = _rows(source)
    if len(centres) != array.count:
        raise InstrumentError(f"{source}: {len(centres)} lens centres, the layout {array.layout!r} has {array.count} lenses")
    if len(centres) < 2:
        return centres
    expected = _mean_distance([(float(y), float(x)) for y, x in array.layout_yx_mm * 1000 / camera_pixel_um])
    found = _mean_distance(list(centres))
    for binning in BINNINGS:
        if abs(found * binning / expected - 1) <= LARGEST_MISFIT:
            return tuple((binning * y + (binning - 1) / 2, binning * x + (binning - 1) / 2) for y, x in centres)
    raise InstrumentError(
        f"{source}: lens centres are {found:.0f} pixels apart in the mean, the array expects {expected:.0f} camera pixels (or over "
        f"{' or '.join(map(str, BINNINGS[1:]))}): they belong to another array, pixel size or pitch"
    )


def _rows(source: Path) -> tuple[Point, ...]:
    try:
        if source.stat().st_size > LARGEST_BYTES:
            raise InstrumentError(f"{source}: {source.stat().st_size:,} bytes; a list of lens centres is a short text file")
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InstrumentError(
            f"{source}: cannot be read ({error}); a text file with a row and a column on each line was expected"
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            row, column = (float(word) for word in words)
        except ValueError as error:
            raise InstrumentError(f"{source}, line {number}: {line.strip()!r}; a row and a column in pixels were expected") from error
        if not (math.isfinite(row) and math.isfinite(column)):
            raise InstrumentError(f"{source}, line {number}: {line.strip()!r}; finite numbers were expected")
        rows.append((row, column))
    return tuple(rows)


def _mean_distance(points: list[Point]) -> float:
    return statistics.fmean(math.dist(a, b) for a, b in itertools.combinations(points, 2))
