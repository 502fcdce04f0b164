"""DECODE: emitters in HDF5 (its pickled .pt files are not read), or as CSV with three lines of notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...domain.molecules import Localizations
from ...errors import TableError
from ..atomic import replacing
from .conventions import Format
from .hdf5 import numbers, open_hdf5, text
from .sidecar import describe, take_notes, to_json
from .text import lay_out, read_numbers
from .translate import Source, build_table, foreign_columns, match_columns

OWN_ATTRIBUTE = "napari-volumetric-smlm"
AXES = ("x", "y", "z")
IN_XY_UNIT = ("x", "y", "x_sig", "y_sig", "x_cr", "y_cr")


def read(path: Path, rules: Format, pixel_nm: float | None) -> Localizations:
    """Read emitters; the unit of x and y and the pixel size stand in the file.

    Raises
    ------
    TableError
        If the file is damaged, lacks positions or frames, or is in pixels without a pixel size.
    """
    source = Source(path, rules)
    with path.open("rb") as stream:
        is_text = stream.read(1) == b"#"
    raw, meta = _read_csv(source) if is_text else _read_hdf5(source, pixel_nm)
    unit = meta.get("xy_unit")
    if unit not in ("px", "nm"):
        raise TableError(f"{path}: xy_unit is {unit!r}; DECODE writes px or nm")
    sizes = np.atleast_1d(np.asarray(meta.get("px_size") if meta.get("px_size") is not None else [], float)).ravel()
    if pixel_nm is not None:
        source.pixel_yx_nm = (pixel_nm, pixel_nm)
    elif source.pixel_yx_nm is None and len(sizes) in (1, 2) and (sizes > 0).all() and np.isfinite(sizes).all():
        # their x is the row
        source.pixel_yx_nm = (float(sizes[0]), float(sizes[-1]))
    for axis in AXES:
        # a Cramér-Rao bound is kept by DECODE as a variance; it stands in where the network gave no error
        if f"{axis}_cr" in raw and f"{axis}_sig" not in raw:
            raw[f"{axis}_sig"] = np.sqrt(raw.pop(f"{axis}_cr"))
    units = {label: unit for label in raw if label in IN_XY_UNIT}
    return build_table(match_columns(raw, source, units), source)


def write(table: Localizations, path: Path, rules: Format) -> list[Path]:
    """Write the groups data, meta and decode; what DECODE expects and the table lacks is NaN, -1 for ids."""
    raw, notes = foreign_columns(table, rules)
    count = len(table)
    nothing = np.full(count, np.nan)
    raw = {"phot": nothing, "prob": nothing, "bg": nothing, "id": np.full(count, -1), "z": np.zeros(count)} | raw
    with replacing(path) as part, h5py.File(part, "w") as file:
        meta = file.create_group("meta")
        meta.attrs["xy_unit"] = "nm" if table.pixel_nm is None else "px"
        if table.pixel_nm is not None:
            meta.attrs["px_size"] = np.array([table.pixel_nm, table.pixel_nm], np.float32)
        file.create_group("decode").attrs["version"] = "0.10.0"
        # a group's attribute holds at most 64 kB, a dataset any text
        file.create_dataset(OWN_ATTRIBUTE, data=to_json(describe(table, rules.name, notes)))
        data = file.create_group("data")
        data.create_dataset("xyz", data=np.stack([raw.pop(axis) for axis in AXES], 1).astype(np.float32))
        errors = [raw.pop(f"{axis}_sig", nothing) for axis in AXES]
        raw |= {"xyz_sig": np.stack(errors, 1), "xyz_cr": nothing, "phot_cr": nothing, "bg_cr": nothing}
        for name in ("phot_sig", "bg_sig"):
            raw.setdefault(name, nothing)
        for name, values in raw.items():
            if name in ("frame_ix", "id"):
                data.create_dataset(name, data=values.astype(np.int64))
            elif name.endswith(("_sig", "_cr")) and np.isnan(values).all():
                data.create_dataset(name, data=h5py.Empty("f"))
            else:
                data.create_dataset(name, data=values.astype(np.float32))
    return [path]


def _read_hdf5(source: Source, pixel_nm: float | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    path = source.path
    raw: dict[str, NDArray[Any]] = {}
    with open_hdf5(path) as file:
        if "data" not in file or not isinstance(file["data"], h5py.Group) or "meta" not in file:
            raise TableError(f"{path}: no groups data and meta; found {', '.join(file) or 'nothing'}; this is no DECODE file")
        meta = {key: file["meta"].attrs[key] for key in ("xy_unit", "px_size") if key in file["meta"].attrs}
        own = text(path, file, OWN_ATTRIBUTE)
        for name in file["data"]:
            values = numbers(path, file, f"data/{name}")
            if values is None:
                continue
            if name.startswith("xyz") and values.ndim == 2 and values.shape[1] in (2, 3):
                raw |= {name.replace("xyz", axis, 1): values[:, index] for index, axis in enumerate(AXES[: values.shape[1]])}
            elif values.ndim == 1:
                raw[name] = values
            else:
                source.notes.append(f"data/{name} of shape {values.shape} was left out")
    lengths = {name: len(values) for name, values in raw.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"{path}: columns differ in length ({', '.join(f'{n}: {k}' for n, k in lengths.items())}): the file is damaged")
    if isinstance(meta.get("xy_unit"), bytes):
        meta["xy_unit"] = meta["xy_unit"].decode("utf-8", "replace")
    if own is not None:
        try:
            take_notes(source, json.loads(own), pixel_nm)
        except (ValueError, RecursionError, AttributeError):
            source.notes.append("the notes in the file are damaged and were not used")
    return raw, meta


def _read_csv(source: Source) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    layout = lay_out(source.path)
    try:
        meta = json.loads(layout.comments[2].lstrip("# "))
        if not isinstance(meta, dict):
            raise ValueError("no object")
    except (IndexError, ValueError, RecursionError) as problem:
        raise TableError(
            f"{source.path}: the third line of a DECODE table holds xy_unit and px_size as JSON; found something else"
        ) from problem
    return read_numbers(source.path, layout, source.notes, needed=("x", "y", "z", "frame_ix")), meta
