"""Path <-> table of molecules, whatever the format."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from ...domain.molecules import Localizations
from ...errors import OutputError, TableError
from .conventions import FORMATS, Format
from .sniff import sniff_format
from .text import lay_out
from .translate import left_out

BY_SUFFIX = {".csv": "vsmlm-csv", ".parquet": "parquet", ".smlm": "smlm", ".hdf5": "picasso", ".h5": "decode"}


def read_table(path: str | os.PathLike[str], format: str | None = None, pixel_nm: float | None = None) -> Localizations:
    """Read a table of molecules into nm, with the centre of pixel (0, 0) at 0 and frames from 0.

    What the user should know (rows without a position that were left out, an origin that could not be moved, columns of text)
    stands in provenance["notes"], a list of sentences.

    Parameters
    ----------
    format
        A name in `FORMATS`; without it the content of the file decides.
    pixel_nm
        Size of a pixel in the sample. Needed only for files that neither measure in nm nor know their pixel, and to move the
        origin of formats that count from the corner of a pixel. It goes before what the file says.

    Raises
    ------
    TableError
        If the file is missing, no table, damaged, unsafe, or says too little.
    """
    place = Path(path)
    if not place.is_file():
        raise TableError(f"{place}: {'this is a folder' if place.is_dir() else 'there is no such file'}; a table of molecules was expected")
    if pixel_nm is not None and not 0 < pixel_nm < float("inf"):
        raise TableError(f"pixel_nm is {pixel_nm}; a size above 0 nm was expected")
    rules = _format(format) if format is not None else _recognised(place)
    try:
        # damaged numbers overflow on their way; what is not finite at the end is found by the noun
        with np.errstate(all="ignore"):
            return _module(rules).read(place, rules, pixel_nm)  # type: ignore[no-any-return]
    except pydantic.ValidationError as problem:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in problem.errors(include_url=False))
        raise TableError(f"{place}: {reasons}") from problem
    except MemoryError as problem:
        raise TableError(f"{place}: too large for the memory of this computer; split the table, or close other programs") from problem
    except OSError as problem:
        raise TableError(
            f"{place}: cannot be read ({problem.strerror or problem}); check that it exists and that you may read it"
        ) from problem


def write_table(localizations: Localizations, path: str | os.PathLike[str], format: str | None = None) -> list[Path]:
    """Write a table of molecules; each file takes its place only when complete.

    Parameters
    ----------
    path
        Without a suffix it gets that of the format.
    format
        A writable name in `FORMATS`; without it the suffix decides: .csv is our own, .parquet, .smlm, .hdf5 Picasso, .h5 DECODE.

    Returns
    -------
    list of Path
        The files written: the table first, then what belongs to it (text tables: `NAME.csv.json`, Picasso: `NAME.yaml`).

    Raises
    ------
    TableError
        If the format is not known or not writable, or needs what the table lacks.
    OutputError
        If the file cannot be written; older files of these names are then untouched.
    """
    place = Path(path)
    if format is None:
        name = BY_SUFFIX.get(place.suffix.lower())
        if name is None:
            raise TableError(
                f"{place}: no format has the suffix {place.suffix or '(none)'}; use {', '.join(BY_SUFFIX)}, "
                f"or name a format: {', '.join(_writable())}"
            )
        rules = FORMATS[name]
    else:
        rules = _format(format)
    if not rules.writable:
        raise TableError(f"{rules.display_name} can be read, not written; choose one of {', '.join(_writable())}")
    place = place if place.suffix else place.with_suffix(rules.suffix)
    try:
        return _module(rules).write(localizations, place, rules)  # type: ignore[no-any-return]
    except (RuntimeError, ValueError) as problem:  # HDF5 reports a full disk as RuntimeError; Arrow's own errors are ValueErrors
        raise OutputError(f"cannot write {place}: {problem}; nothing was changed") from problem


def columns_left_out(localizations: Localizations, format: str) -> list[str]:
    """Return the columns that a file of this format has no place for.

    Raises
    ------
    TableError
        If the format is not known.
    """
    return left_out(localizations, _format(format))


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise TableError(f"unknown table format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def _recognised(path: Path) -> Format:
    name = sniff_format(path)
    if name is not None:
        return FORMATS[name]
    if path.suffix.lower() in (".csv", ".txt", ".tsv", ".dat", ""):
        columns = lay_out(path).columns
        raise TableError(
            f"{path}: no table format that is known; its columns are {', '.join(columns[:20])}; say which format it is "
            f"({', '.join(FORMATS)}), or import it with a column mapping"
        )
    known = FORMATS.get({".mat": "smap-mat"}.get(path.suffix.lower(), BY_SUFFIX.get(path.suffix.lower(), "")))
    if known is not None and path.stat().st_size:
        # its own reader says best what is wrong
        return known
    raise TableError(
        f"{path}: {'the file is empty' if not path.stat().st_size else 'not a table of a known format'}; known are {', '.join(FORMATS)}"
    )


def _module(rules: Format) -> Any:
    # Arrow, HDF5 and SciPy are only loaded for the files that need them
    return importlib.import_module(f".{rules.module}", __package__)


def _writable() -> list[str]:
    return [name for name, entry in FORMATS.items() if entry.writable]
