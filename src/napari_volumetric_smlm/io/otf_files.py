"""Optical transfer functions and patterns of structured illumination as files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..domain.illumination import Illumination, RadialOTF
from ..errors import InstrumentError, StackError
from .json_files import read_noun, write_noun
from .stacks.mrc import read_mrc_header

LARGEST_ILLUMINATION_MIB = 64
LARGEST_OTF_SAMPLES = 65536


def load_otf(path: str | os.PathLike[str], step_per_um: float | None = None) -> RadialOTF:
    """Read a radial OTF: one row of real or complex values from frequency 0 on.

    Parameters
    ----------
    step_per_um
        Distance of the values in cycles per micrometre; empty = what a Priism/DV header says in place of the pixel size.

    Raises
    ------
    InstrumentError
        If the file cannot be read, is no single row, has no step, or its values are no OTF.
    """
    source = Path(path)
    if not source.is_file():
        raise InstrumentError(f"{source}: there is no such file; an OTF (.mrc, .dv, .otf or .tif) was expected")
    if source.suffix.lower() in {".tif", ".tiff"}:
        try:
            values, stated = np.asarray(tifffile.imread(source)), None
        except Exception as error:  # tifffile raises many types on damaged files
            raise InstrumentError(f"{source}: the file is damaged or no TIFF ({error}); take an undamaged copy") from error
    else:
        values, stated = _read_mrc_row(source)
    values = np.squeeze(values)
    if values.ndim != 1 or not 4 <= len(values) <= LARGEST_OTF_SAMPLES:
        raise InstrumentError(
            f"{source}: an OTF of shape {values.shape}; one row of values from frequency 0 on was expected (a two-dimensional, radial OTF)"
        )
    step = step_per_um or stated
    if not step:
        raise InstrumentError(f"{source}: the file does not say how far apart its values are; state the step in cycles per micrometre")
    real = values.real.astype(np.float64)
    if not np.isfinite(real).all() or real[0] <= 0:
        raise InstrumentError(
            f"{source}: the first value is {real[0]:g} and not all are finite numbers; an OTF begins with its largest value"
        )
    try:
        return RadialOTF(values=real / real[0], step_per_um=step, source=source.name)
    except ValueError as error:
        raise InstrumentError(f"{source}: {error}") from error


def _read_mrc_row(source: Path) -> tuple[NDArray[np.generic], float | None]:
    try:
        header = read_mrc_header(source)
    except StackError as error:
        raise InstrumentError(str(error)) from error
    count = header.columns * header.rows * header.sections
    if count > LARGEST_OTF_SAMPLES:
        raise InstrumentError(
            f"{source}: {header.columns} x {header.rows} x {header.sections} values; one row was expected (a two-dimensional, radial OTF)"
        )
    values = np.fromfile(source, header.dtype, count, offset=header.data_offset)
    if len(values) < count:
        raise InstrumentError(f"{source}: {len(values)} of {count} values are there; the copy failed, copy it again")
    # where images have their pixel in um, an OTF has its step in 1/um; the header's reader takes it for nm
    step = header.voxel_xyz_nm[0] * 1e-3 if header.deltavision else None
    return values, step or None


def load_illumination(path: str | os.PathLike[str]) -> Illumination:
    """Read patterns from their JSON file.

    Raises
    ------
    InstrumentError
        If the file is missing, damaged or contradicts itself.
    """
    return read_noun(path, Illumination, InstrumentError, LARGEST_ILLUMINATION_MIB)


def save_illumination(illumination: Illumination, path: str | os.PathLike[str]) -> Path:
    """Write patterns as one JSON file; `load_illumination` gives back equal ones.

    Raises
    ------
    OutputError
        If the file cannot be written; an older one is then untouched.
    """
    return write_noun(illumination, path)
