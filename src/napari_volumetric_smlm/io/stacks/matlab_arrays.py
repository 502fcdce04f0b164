"""Stacks that are arrays (row, column, plane) of MATLAB files of any version, as measured and simulated point-spread functions are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import StackError, TableError
from ..content import recognise_content
from ..tables import hdf5, matlab, sniff_format
from .frames import FrameArray
from .opened import OpenedFile, require_camera_type

# what the light-field programs of several groups call their point-spread function
USUAL_NAMES = ("FLFPSF", "PSF", "psf", "H")
# of these, the ones that cannot mean anything else
SAY_PSF = ("FLFPSF", "PSF", "psf")
SMALLEST_PX = 8


class Hdf5Planes(FrameArray):
    """Planes of an array of MATLAB 7.3, whose HDF5 file has the axes reversed: (plane, column, row)."""

    def __init__(self, path: Path, name: str) -> None:
        with hdf5.open_hdf5(path) as file:
            place = hdf5.dataset(path, file, name, whole=False)
            planes, columns, rows = place.shape
            super().__init__((planes, rows, columns), require_camera_type(place.dtype, str(path)), str(path))
        self._path, self._name = path, name

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        with h5py.File(self._path, "r") as file:
            return np.asarray(file[self._name][frame, :, low:high]).T


class ClassicPlanes(FrameArray):
    """Planes of an array of an older MATLAB file, which can only be read as a whole: that happens when the first plane is asked for."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        rows, columns, planes = shape
        # which type is stored is known only with the values
        super().__init__((planes, rows, columns), np.float64, str(path))
        self._path, self._name = path, name
        self._values: NDArray[Any] | None = None

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        if self._values is None:
            self._values = matlab.read_array(self._path, self._name)
        return np.asarray(self._values[low:high, :, frame])


def open_matlab(path: Path) -> OpenedFile:
    """Open the array with three axes of a MATLAB file.

    Raises
    ------
    StackError
        If the file is damaged, or has no or several such arrays of which none has a usual name.
    """
    with path.open("rb") as stream:
        newer = stream.read(10) == b"MATLAB 7.3"
    try:
        shapes = _hdf5_shapes(path) if newer else matlab.array_shapes(path)
        name = _choose(shapes, path)
        planes: FrameArray = Hdf5Planes(path, name) if newer else ClassicPlanes(path, name, shapes[name])
    except TableError as error:
        raise StackError(str(error)) from error
    opened = OpenedFile([planes], [path], "MATLAB array")
    opened.metadata["array"] = name
    # a point-spread function is a bead that was scanned through focus
    opened.kind = "beads" if name in SAY_PSF else None
    return opened


def sniff_matlab(path: str | os.PathLike[str]) -> bool:
    """Tell quickly whether this is a MATLAB file without a table of molecules; never raises. What it holds, only opening it tells."""
    try:
        source = Path(path)
        matlab_file = source.suffix.lower() == ".mat" and "MATLAB" in (recognise_content(source) or "")
        return matlab_file and sniff_format(source) is None
    except Exception:  # a reader hook that raises takes the whole drop down with it
        return False


def _hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with hdf5.open_hdf5(path) as file:
        found = {name: file[name] for name in file if file.get(name, getlink=True).__class__ is h5py.HardLink}
        return {name: item.shape[::-1] for name, item in found.items() if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu"}


def _choose(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    stacks = [name for name, shape in shapes.items() if len(shape) == 3 and min(shape[:2]) >= SMALLEST_PX]
    usual = [name for name in USUAL_NAMES if name in stacks]
    if len(stacks) == 1 or usual:
        return usual[0] if usual else stacks[0]
    listed = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items()) or "none"
    remedy = "save the one that you want alone" if stacks else "one image alone, such as a phase mask, belongs to an instrument"
    raise StackError(
        f"{path}: {len(stacks)} arrays (rows, columns, planes) in this MATLAB file, one was expected, or one called {USUAL_NAMES[0]}, as "
        f"point-spread functions and frames are; its arrays: {listed}; {remedy}"
    )
