"""A series of volumes as one OME-TIFF, written volume by volume: memory holds one of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..errors import OutputError
from .atomic import replacing
from .volume_origin import Origin, origin_words

# overwritten when the number of volumes is known
UNFINISHED = "Volumes of a series that was not finished; the axes are (t, z, y, x)"


class VolumeSeries:
    """What has been written of a series with the axes (t, z, y, x). written : volumes so far. expected : volumes that it should have."""

    def __init__(self, writer: tifffile.TiffWriter, expected: int) -> None:
        self.expected, self.written = expected, 0
        self.shape_zyx: tuple[int, ...] = ()
        self.voxel_zyx_nm = (1.0, 1.0, 1.0)
        self.origin_zyx_nm: Origin | None = None
        self._writer = writer

    @property
    def complete(self) -> bool:
        """Whether all volumes are written."""
        return self.written == self.expected

    def add(self, values_zyx: NDArray[Any], voxel_zyx_nm: tuple[float, float, float], origin_zyx_nm: Origin | None = None) -> None:
        """Write the next volume; all lie at the same place.

        Raises
        ------
        OutputError
            If it has another shape than those before.
        """
        if self.shape_zyx and values_zyx.shape != self.shape_zyx:
            raise OutputError(f"volume {self.written} has the shape {values_zyx.shape}, those before have {self.shape_zyx}")
        self.shape_zyx, self.voxel_zyx_nm, self.origin_zyx_nm = values_zyx.shape, voxel_zyx_nm, origin_zyx_nm
        self._writer.write(
            np.ascontiguousarray(values_zyx, np.float32),
            photometric="minisblack",
            contiguous=True,
            metadata=None,
            description=UNFINISHED,
            resolution=(1e7 / voxel_zyx_nm[2], 1e7 / voxel_zyx_nm[1]),
            resolutionunit="CENTIMETER",
        )
        self.written += 1

    def describe(self) -> None:
        """Write axes, voxel size and place of what is there."""
        planes, rows, columns = self.shape_zyx
        sizes = dict(zip(("PhysicalSizeZ", "PhysicalSizeY", "PhysicalSizeX"), self.voxel_zyx_nm, strict=True))
        units = {f"{name}Unit": "nm" for name in sizes}
        place = {} if self.origin_zyx_nm is None else {"Description": origin_words(self.origin_zyx_nm)}
        words = tifffile.OmeXml()
        stored = (self.written * planes, 1, 1, rows, columns, 1)
        words.addimage(np.float32, (self.written, planes, rows, columns), stored, axes="TZYX", **sizes, **units, **place)
        self._writer.overwrite_description(words.tostring())


def incomplete_path(path: str | os.PathLike[str]) -> Path:
    """Where a series goes that was stopped or failed: beside its name, where an older, complete one may lie."""
    target = Path(path)
    return target.with_name(f"{target.stem}.incomplete{target.suffix}")


@contextlib.contextmanager
def volume_series(path: str | os.PathLike[str], expected: int) -> Iterator[VolumeSeries]:
    """Write a series; the file appears when the block ends, under `incomplete_path` where volumes are missing, never without any.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    target, beside = Path(path), incomplete_path(path)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: a folder has this name; choose another file name")
    stopped: BaseException | None = None
    with replacing(beside) as part, tifffile.TiffWriter(part, bigtiff=True) as writer:
        series = VolumeSeries(writer, expected)
        try:
            yield series
        # a cancel arrives as GeneratorExit
        except BaseException as reason:
            if not series.written:
                raise
            stopped = reason
        series.describe()
    if series.complete:
        try:
            beside.replace(target)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror}; the volumes are in {beside}") from error
    if stopped is not None:
        raise stopped
