"""Instruments and calibrations as one JSON file each, and phase masks from the formats that labs keep them in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.instrument import Instrument, PhaseMask
from ..domain.noun import LARGEST_ARRAY_BYTES
from ..errors import InstrumentError
from .json_files import read_noun, write_noun

# Three maps of a 4096 x 4096 sensor for two cameras, as compressed text, stay below this.
LARGEST_INSTRUMENT_MIB = 768
SMALLEST_MASK_PX = 8
# The middle of a view is its lens's centre to a rounded pixel; bead scans move centres by parts of one.
LARGEST_PLACE_ERROR_PX = 3.0
# A lens of one millimetre of optical path at 500 nm would be 12,000 rad; no mask of ours comes near.
LARGEST_PHASE_RAD = 1000.0


def load_instrument(path: str | os.PathLike[str]) -> Instrument:
    """Read an instrument or calibration from its JSON file.

    Raises
    ------
    InstrumentError
        If the file is missing, damaged, too large, of another schema version, has an unknown key (the nearest known one is
        suggested) or a value outside physics. Everything wrong is named at once: key, found, expected. Also if its microlens array
        was edited alone: its views, which count, are then elsewhere.
    """
    instrument = read_noun(path, Instrument, InstrumentError, LARGEST_INSTRUMENT_MIB)
    _refuse_array_edited_alone(instrument, path)
    return instrument


def _refuse_array_edited_alone(instrument: Instrument, path: str | os.PathLike[str]) -> None:
    array, camera_pixel_um = instrument.microlenses, instrument.cameras[0].pixel_um
    # views that were cut out have left the sensor
    if array is None or instrument.views[0].region_yx_px is None:
        return
    found = []
    stated = array.magnification(camera_pixel_um)
    if not np.isclose(stated, instrument.objective.magnification, rtol=1e-3):
        found.append(f"microlenses make a magnification of {stated:g}, objective.magnification is {instrument.objective.magnification:g}")
    centres = array.centres_on_sensor(camera_pixel_um)
    for view, (row, column) in zip(instrument.views, centres if len(centres) == len(instrument.views) else (), strict=False):
        if view.region_yx_px is None:
            continue
        top, left, bottom, right = view.region_yx_px
        y, x = (top + bottom - 1) / 2, (left + right - 1) / 2
        if max(abs(row - y), abs(column - x)) > LARGEST_PLACE_ERROR_PX:
            found.append(
                f"microlenses have the centre of {view.name!r} at row {row:.1f}, column {column:.1f}, its view at {y:.1f}, {x:.1f}"
            )
    if found:
        raise InstrumentError(
            f"{path}: {'; '.join(found)}: one was edited without the other, and the views count. Undo that; other centres are given by "
            "vsmlm views --centres, another array by vsmlm views --array"
        )


def save_instrument(instrument: Instrument, path: str | os.PathLike[str]) -> Path:
    """Write an instrument as one JSON file; `load_instrument` gives back an equal one.

    Raises
    ------
    OutputError
        If the file cannot be written; an older one is then untouched.
    """
    return write_noun(instrument, path)


def load_phase_mask(path: str | os.PathLike[str], mask_pixel_um: float, fourier_lens_mm: float, variable: str | None = None) -> PhaseMask:
    """Read the phase of a mask, in rad, from .mat (v5 to v7.3), .tif or .npy; axes (row, column) as the file states them.

    Parameters
    ----------
    mask_pixel_um
        Side of one mask pixel in the mask's plane.
    fourier_lens_mm
        Focal length of the lens between the intermediate image and the mask.
    variable
        Name of the array in a .mat file; needed only where it holds several images.

    Raises
    ------
    InstrumentError
        If the file cannot be read, holds several images and none was named (their names and shapes are listed), or the values
        cannot be a phase in rad (complex, not finite, grey levels).
    """
    source = Path(path)
    if not source.is_file():
        raise InstrumentError(f"{source}: there is no such file; a phase mask (.mat, .tif or .npy) was expected")
    suffix = source.suffix.lower()
    if suffix not in {".mat", ".tif", ".tiff", ".npy"}:
        raise InstrumentError(
            f"{source}: phase masks are read from .mat, .tif and .npy; found {suffix or 'no ending'}; save it as one of them"
        )
    if variable is not None and suffix != ".mat":
        raise InstrumentError(f"{source}: only .mat files have named arrays; leave out the name {variable!r}")
    name = source.name
    try:
        if suffix == ".mat":
            array, found = _read_mat(source, variable)
            name = f"{name}: {found}"
        elif suffix == ".npy":
            array = _read_npy(source)
        else:
            array = _read_tiff(source)
    except InstrumentError:
        raise
    except Exception as error:  # the three libraries raise anything from TypeError to zlib.error on damaged files
        raise InstrumentError(f"{source}: the file is damaged or no {suffix} file ({error}); take an undamaged copy") from error
    return PhaseMask(phase_rad_yx=_as_phase(array, source), mask_pixel_um=mask_pixel_um, fourier_lens_mm=fourier_lens_mm, source=name)


def _as_phase(array: NDArray[Any], source: Path) -> NDArray[np.float64]:
    array = np.squeeze(array)
    if array.ndim != 2 or min(array.shape) < SMALLEST_MASK_PX:
        raise InstrumentError(f"{source}: a phase mask is one image of at least 8 x 8 pixels; found shape {array.shape}")
    if array.dtype.kind == "c":
        raise InstrumentError(f"{source}: the values are complex; a phase in rad was expected; save the angle of the values instead")
    if array.dtype.kind not in "fiub":
        raise InstrumentError(f"{source}: real numbers were expected, found type {array.dtype}")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InstrumentError(f"{source}: {bad} of {array.size} values are not finite; write 0 rad where the mask has no phase")
    lowest, highest = float(array.min()), float(array.max())
    if array.dtype.kind in "iu" and max(abs(lowest), abs(highest)) > 7:
        raise InstrumentError(
            f"{source}: whole numbers from {lowest:.0f} to {highest:.0f} look like grey levels of a modulator; "
            "a phase in rad was expected; convert it (2 pi / levels) and save it as floating point"
        )
    if max(abs(lowest), abs(highest)) > LARGEST_PHASE_RAD:
        raise InstrumentError(f"{source}: values from {lowest:g} to {highest:g} are no phase in rad (a height in nm?); convert it first")
    return array.astype(np.float64)


def _check_size(shape: tuple[int, ...], source: Path) -> None:
    # float64, as it is kept in the instrument
    if int(np.prod([int(n) for n in shape], dtype=object)) * 8 > LARGEST_ARRAY_BYTES:
        raise InstrumentError(f"{source}: an array of shape {tuple(shape)} is larger than any phase mask ({LARGEST_ARRAY_BYTES >> 20} MiB)")


def _read_npy(source: Path) -> NDArray[Any]:
    # mapped first: a header that promises terabytes must not reserve them; never unpickles
    mapped = np.load(source, mmap_mode="r", allow_pickle=False)
    _check_size(mapped.shape, source)
    return np.array(mapped)


def _read_tiff(source: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(source) as tiff:
        if len(tiff.pages) != 1 or len(tiff.series[0].shape) != 2:
            raise InstrumentError(
                f"{source}: a phase mask is one grey image; found {len(tiff.pages)} pages, shape {tiff.series[0].shape}; "
                "save the one you want alone"
            )
        _check_size(tiff.pages[0].shape, source)
        return np.asarray(tiff.asarray())


def _read_mat(source: Path, variable: str | None) -> tuple[NDArray[Any], str]:
    with source.open("rb") as stream:
        head = stream.read(128)
    if head.startswith(b"\x89HDF") or b"MATLAB 7.3" in head:
        import h5py

        with h5py.File(source, "r") as file:
            shapes = {name: item.shape[::-1] for name, item in file.items() if isinstance(item, h5py.Dataset) and _is_numeric(item)}
            name = _choose(shapes, variable, source)
            # HDF5 keeps MATLAB's column-major arrays with the axes reversed
            return np.asarray(file[name][()]).T, name
    import scipy.io

    numeric = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
    shapes = {name: shape for name, shape, kind in scipy.io.whosmat(source) if kind in numeric}
    name = _choose(shapes, variable, source)
    return np.asarray(scipy.io.loadmat(source, variable_names=[name])[name]), name


def _is_numeric(dataset: Any) -> bool:
    # MATLAB marks text and references by class; complex numbers are pairs (compound), told apart here from real ones
    return dataset.dtype.kind in "fiub" and dataset.attrs.get("MATLAB_class", b"double") not in (b"char", b"cell")


def _choose(shapes: dict[str, tuple[int, ...]], variable: str | None, source: Path) -> str:
    listed = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items()) or "none"
    if variable is not None:
        if variable not in shapes:
            raise InstrumentError(f"{source}: there is no array {variable!r}; arrays in the file: {listed}; name one of them")
        _check_size(shapes[variable], source)
        return variable
    images = [name for name, shape in shapes.items() if len(shape) == 2 and min(shape) >= SMALLEST_MASK_PX]
    if len(images) != 1:
        what = "no image of at least 8 x 8 pixels" if not images else f"{len(images)} images"
        hint = "choose another file" if not images else "name the one to read (variable)"
        raise InstrumentError(f"{source}: {what} in the file; its arrays: {listed}; {hint}")
    _check_size(shapes[images[0]], source)
    return images[0]
