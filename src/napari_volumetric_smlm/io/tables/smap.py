"""SMAP: localizations in a MATLAB file, version 7.3 (HDF5) or older."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...domain.molecules import Localizations
from ...errors import TableError
from .conventions import Format
from .hdf5 import numbers, open_hdf5
from .matlab import read_members
from .translate import Source, build_table, match_columns

LOCALIZATIONS = "saveloc/loc"
FILE = "saveloc/file/info"
INFORMATION = ("cam_pixelsize_um", "roi", "numberOfFrames")


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
    odd = [name for name, length in lengths.items() if length != lengths.get("xnm", length)]
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
        group = _group(file, FILE)
        for name in INFORMATION if group is not None else ():
            # several raw files make a list of references here; they are not followed
            if isinstance(group.get(name), h5py.Dataset) and group[name].dtype.kind in "fiu":
                information[name] = numbers(path, file, f"{FILE}/{name}")
    return raw, {name: values for name, values in information.items() if values is not None}


def _group(file: Any, name: str) -> Any:
    place = file
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            return None
        place = place[part]
    return place if isinstance(place, h5py.Group) else None


def _read_classic(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    found, names = read_members(path, "saveloc", ("loc", "file/info"))
    raw = {name.removeprefix("loc/"): values for name, values in found.items() if name.startswith("loc/")}
    if not raw:
        raise _other_kind(path, ["saveloc without loc"] if "saveloc" in names else names)
    information = {name.removeprefix("file/info/"): values for name, values in found.items() if name.startswith("file/info/")}
    return raw, {name: information[name] for name in INFORMATION if name in information}


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
