"""SMAP: localizations in a MATLAB file, version 7.3 (HDF5) or older."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from ...domain.molecules import Localizations
from ...errors import TableError
from .conventions import Format
from .hdf5 import numbers, open_hdf5
from .limits import refuse_bomb
from .translate import Source, build_table, match_columns

LOCALIZATIONS = "saveloc/loc"
INFORMATION = "saveloc/file/info"
COMPRESSED = 15
HEADER_BYTES = 128
INFLATE_BYTES = 2**20


def read(path: Path, rules: Format, pixel_nm: float | None) -> Localizations:
    """Read `saveloc.loc`, and from `saveloc.file.info` the pixel size and the region of interest.

    Raises
    ------
    TableError
        If the file is damaged, or is another kind of MATLAB file.
    """
    source = Source(path, rules)
    with path.open("rb") as stream:
        is_hdf5 = stream.read(10) == b"MATLAB 7.3"
    raw, information = _read_hdf5(source) if is_hdf5 else _read_classic(path)
    raw = {name: np.ravel(values) for name, values in raw.items() if np.size(values) == max(np.shape(values), default=1)}
    lengths = {name: len(values) for name, values in raw.items()}
    count = lengths.get("xnm", 0)
    odd = [name for name, length in lengths.items() if length != count]
    if odd:
        source.notes.append(f"fields of another length than xnm were left out: {', '.join(odd)}")
        raw = {name: values for name, values in raw.items() if name not in odd}
    _take_information(source, information, pixel_nm)
    if "filenumber" in raw and len(np.unique(raw["filenumber"])) > 1:
        source.notes.append(
            "the table joins several raw files (column filenumber); pixel size and region of interest are those of the first"
        )
    return build_table(match_columns(raw, source), source)


def _read_hdf5(source: Source) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    path = source.path
    with open_hdf5(path) as file:
        place = _group(file, LOCALIZATIONS)
        if place is None:
            raise _other_kind(path, [name for name in file if not name.startswith("#")])
        raw = {}
        for name in place:
            values = numbers(path, file, f"{LOCALIZATIONS}/{name}")
            if values is not None:
                raw[name] = values
        information = {}
        group = _group(file, INFORMATION)
        for name in ("cam_pixelsize_um", "roi", "numberOfFrames") if group is not None else ():
            # several raw files make a list of references here; they are not followed
            if isinstance(group.get(name), h5py.Dataset) and group[name].dtype.kind in "fiu":
                information[name] = numbers(path, file, f"{INFORMATION}/{name}")
    return raw, {name: values for name, values in information.items() if values is not None}


def _group(file: Any, name: str) -> Any:
    place = file
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            return None
        place = place[part]
    return place if isinstance(place, h5py.Group) else None


def _read_classic(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    with path.open("rb") as stream:
        refuse_bomb(path, _inflated_bytes(path, stream), path.stat().st_size)
    try:
        tree = scipy.io.loadmat(path, variable_names=["saveloc"], simplify_cells=True)
        names = [] if "saveloc" in tree else [name for name, _, _ in scipy.io.whosmat(path)]
    except Exception as problem:  # scipy meets a damaged file with nearly every type of error
        raise TableError(
            f"{path}: damaged or cut off, not a whole MATLAB file ({problem}); nothing was read; take a fresh copy"
        ) from problem
    if "saveloc" not in tree:
        raise _other_kind(path, names)
    saved = tree["saveloc"]
    loc = saved.get("loc") if isinstance(saved, dict) else None
    if not isinstance(loc, dict):
        raise _other_kind(path, ["saveloc without loc"])
    raw = {name: np.atleast_1d(values) for name, values in loc.items() if np.asarray(values).dtype.kind in "fiub"}
    files = saved.get("file")
    first = files[0] if isinstance(files, (list, np.ndarray)) and len(files) else files
    info = first.get("info") if isinstance(first, dict) else None
    found = (
        {}
        if not isinstance(info, dict)
        else {k: np.asarray(v) for k, v in info.items() if k in ("cam_pixelsize_um", "roi", "numberOfFrames")}
    )
    return raw, {name: values for name, values in found.items() if values.dtype.kind in "fiu"}


def _inflated_bytes(path: Path, stream: BinaryIO) -> int:
    """Return how large the compressed parts would become, one megabyte of them in memory at a time.

    Raises
    ------
    TableError
        If a part is cut off or damaged.
    """
    header = stream.read(HEADER_BYTES)
    order = ">" if header[126:128] == b"MI" else "<"
    total = 0
    while len(tag := stream.read(8)) == 8:
        kind, size = struct.unpack(order + "II", tag)
        start = stream.tell()
        if kind == COMPRESSED:
            expander, left = zlib.decompressobj(), size
            try:
                while left > 0 and not expander.eof:
                    packed = stream.read(min(left, 2**16))
                    if not packed:
                        raise TableError(
                            f"{path}: damaged or cut off: {left} bytes are missing at its end; nothing was read; take a fresh copy"
                        )
                    left -= len(packed)
                    while packed:
                        total += len(expander.decompress(packed, INFLATE_BYTES))
                        packed = expander.unconsumed_tail
            except zlib.error as problem:
                raise TableError(f"{path}: damaged inside ({problem}); nothing was read; take a fresh copy") from problem
        stream.seek(start + size)
    return total


def _take_information(source: Source, information: dict[str, NDArray[Any]], pixel_nm: float | None) -> None:
    sizes_um = np.ravel(information.get("cam_pixelsize_um", ()))
    if pixel_nm is not None:
        source.pixel_yx_nm = (pixel_nm, pixel_nm)
    elif len(sizes_um) in (1, 2) and np.isfinite(sizes_um).all() and (sizes_um > 0).all():
        # x before y; rounded because 0.104 um are meant as 104 nm
        source.pixel_yx_nm = (round(float(sizes_um[-1]) * 1e3, 9), round(float(sizes_um[0]) * 1e3, 9))
    roi = np.ravel(information.get("roi", ()))
    if len(roi) == 4 and np.isfinite(roi).all():
        source.corner_yx_px = (float(roi[1]), float(roi[0]))
        source.shape_yx_px = (int(roi[3]), int(roi[2]))
        if roi[:2].any():
            source.notes.append(
                f"positions counted from the sensor's corner; the region of interest at x {roi[0]:g}, y {roi[1]:g} px was subtracted"
            )
    frames = np.ravel(information.get("numberOfFrames", ()))
    if len(frames) == 1 and np.isfinite(frames[0]) and frames[0] >= 0:
        source.frame_count = int(frames[0])
    source.details = {name: np.ravel(values).tolist() for name, values in information.items()}


def _other_kind(path: Path, names: list[str]) -> TableError:
    return TableError(
        f"{path}: no saveloc.loc, as SMAP writes it; found {', '.join(names) or 'nothing'}; this is another kind of MATLAB file: "
        "export its table as CSV and import that with a column mapping"
    )
