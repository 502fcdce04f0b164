"""Tell what kind of table a file is from its first bytes, never only from its name; fast, and never with an error."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from ...errors import TableError
from .labels import LENGTHS_NM, PIXEL_UNITS, split_label
from .text import HEAD_BYTES, Layout, lay_out

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def sniff_format(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the format in `FORMATS`, or None for anything else."""
    place = Path(path)
    try:
        with place.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        return _from_magic(place, head)
    except (OSError, TableError, ValueError, RuntimeError, KeyError):
        return None
    except Exception:  # readers call this on every dropped file: a damaged one is merely not a table
        return None


def _from_magic(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return "smlm" if "manifest.json" in archive.namelist() else None
    if head.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        return "parquet" if {"x_nm", "y_nm", "frame"} <= set(pq.read_schema(path).names) else None
    if head.startswith(b"MATLAB"):
        return "smap-mat" if _is_smap(path, head) else None
    if head.startswith(HDF5_MAGIC):
        import h5py

        with h5py.File(path, "r") as file:
            return "picasso" if "locs" in file else "decode" if {"data", "meta", "decode"} <= set(file) else None
    if b"\x00" in head[:64]:
        return None
    return from_layout(lay_out(path, head=head))


def _is_smap(path: Path, head: bytes) -> bool:
    if head.startswith(b"MATLAB 7.3"):
        import h5py

        with h5py.File(path, "r") as file:
            return "saveloc" in file
    from .matlab import has_variable

    return has_variable(path, "saveloc")


def from_layout(layout: Layout) -> str | None:
    """Return the format of a text table by its header."""
    first = layout.comments[0] if layout.comments else ""
    if first.startswith("# <localizations"):
        return "rapidstorm"
    if first.startswith("# DECODE EmitterSet"):
        return "decode"
    labels = {name.strip().strip('"'): split_label(name) for name in layout.columns}
    names = dict(labels.values())
    if {"frame", "x_nm", "y_nm"} <= names.keys():
        return "vsmlm-csv"
    if {"frame", "xnano", "ynano"} <= names.keys():
        return "challenge"
    if {"frame", "xnm", "ynm"} <= names.keys():
        return "smap-csv"
    if {"first frame", "position x", "position y"} <= names.keys():
        return "elyra"
    if {"x", "y"} <= names.keys() and all(names[axis] in LENGTHS_NM or names[axis] in PIXEL_UNITS for axis in ("x", "y")):
        if any(label.startswith(("x [", "X [")) for label in labels) and names.keys() & {
            "frame",
            "sigma",
            "sigma1",
            "intensity",
            "uncertainty",
            "uncertainty_xy",
        }:
            return "thunderstorm"
        if {"channel", "frame"} <= names.keys():
            return "nanoimager"
    return None
