"""The .smlm format of ShareLoc: a zip with manifest.json and binary tables (specification 0.2)."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...domain.molecules import Localizations
from ...errors import TableError
from ..atomic import replacing
from .conventions import Format
from .limits import refuse_bomb
from .sidecar import describe, plain, take_notes
from .translate import Source, build_table, foreign_columns, match_columns

MANIFEST = "manifest.json"
LARGEST_MANIFEST_BYTES = 16 * 2**20
CHUNK_BYTES = 2**22
CHUNK_ROWS = 2**18
TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64", "uint64")
}
OWN_KEY = "napari-volumetric-smlm"
TABLE = "table-0.bin"
KIND = "smlm-table(binary)"
UNITS = {"frame": "frame", "intensity": "photon", "background": "photon"}


def read(path: Path, rules: Format, pixel_nm: float | None) -> Localizations:
    """Read all tables of an .smlm file; several become one with a column `channel`.

    Raises
    ------
    TableError
        If the zip is damaged, holds more than the manifest declares, or the manifest contradicts itself.
    """
    source = Source(path, rules, None if pixel_nm is None else (pixel_nm, pixel_nm))
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(path, archive)
            tables = [entry for entry in _listed(manifest.get("files")) if entry.get("type") == "table"]
            if not tables:
                raise TableError(f"{path}: the manifest lists no table; nothing to read")
            parts = [_read_table(source, archive, manifest, entry) for entry in tables]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as problem:
        raise TableError(
            f"{path}: damaged, cut off or encrypted, not a whole .smlm file ({problem}); nothing was read; take a fresh copy"
        ) from problem
    if isinstance(manifest.get(OWN_KEY), dict):
        take_notes(source, manifest[OWN_KEY], pixel_nm)
    raw, units = parts[0]
    if len(parts) > 1:
        channels = [str(entry.get("channel", index)) for index, entry in enumerate(tables)]
        shared = [name for name in raw if all(name in other for other, _ in parts)]
        lost = sorted({name for other, _ in parts for name in other} - set(shared))
        if lost:
            source.notes.append(f"columns that not all channels have were left out: {', '.join(lost)}")
        lengths = [len(next(iter(other.values()))) for other, _ in parts]
        raw = {name: np.concatenate([other[name] for other, _ in parts]) for name in shared}
        raw["channel"] = np.repeat(np.arange(len(parts)), lengths)
        source.details["channels"] = channels
    source.details |= {
        key: manifest[key] for key in ("name", "description", "date", "sample", "labeling") if isinstance(manifest.get(key), str)
    }
    return build_table(match_columns(raw, source, units), source)


def write(table: Localizations, path: Path, rules: Format) -> list[Path]:
    """Write one table; every column as float32, the only type that all readers of the format know."""
    raw, notes = foreign_columns(table, rules)
    names = list(raw)
    lengths = {column.theirs[0] for column in rules.columns if column.unit == "nm"}
    limits = {name: values[np.isfinite(values)] for name, values in raw.items()}
    manifest = {
        "format_version": "0.2",
        "formats": {
            KIND: {
                "name": KIND,
                "type": "table",
                "mode": "binary",
                "extension": ".bin",
                "columns": len(names),
                "headers": names,
                "dtype": ["float32"] * len(names),
                "shape": [1] * len(names),
                "units": ["nm" if name in lengths or name.endswith("_nm") else UNITS.get(name, "") for name in names],
                "description": "localizations",
            }
        },
        "files": [
            {
                "name": TABLE,
                "type": "table",
                "format": KIND,
                "channel": "default",
                "rows": len(table),
                "offset": {},
                "min": {name: float(values.min()) for name, values in limits.items() if len(values)},
                "max": {name: float(values.max()) for name, values in limits.items() if len(values)},
            }
        ],
        "name": path.stem,
        "description": "written by napari-volumetric-smlm",
        "tags": ["SMLM"],
        "thumbnail": "",
        "sample": "",
        "labeling": "",
        "date": "",
        OWN_KEY: describe(table, rules.name, notes),
    }
    text = json.dumps(plain(manifest), indent=1, allow_nan=False)
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=5) as archive:
        archive.writestr(MANIFEST, text)
        with archive.open(TABLE, "w", force_zip64=True) as stream:
            for start in range(0, len(table), CHUNK_ROWS):
                rows = [values[start : start + CHUNK_ROWS].astype("<f4") for values in raw.values()]
                stream.write(np.stack(rows, axis=1).tobytes())
    return [path]


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    if MANIFEST not in archive.namelist():
        raise TableError(f"{path}: no {MANIFEST} in the zip; found {', '.join(archive.namelist()[:5]) or 'nothing'}; this is no .smlm file")
    with archive.open(MANIFEST) as stream:
        data = stream.read(LARGEST_MANIFEST_BYTES + 1)
    if len(data) > LARGEST_MANIFEST_BYTES:
        raise TableError(f"{path}: {MANIFEST} expands beyond {LARGEST_MANIFEST_BYTES >> 20} MiB: a damaged or hostile file, not unpacked")
    try:
        manifest = json.loads(data)
        version = str(manifest["format_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise TableError(f"{path}: {MANIFEST} is damaged or has no format_version; take a fresh copy") from problem
    if version.split(".")[:2] != ["0", "2"]:
        raise TableError(f"{path}: .smlm version {version}; version 0.2 can be read; save it again with a newer program")
    return dict(manifest)


def _read_table(
    source: Source, archive: zipfile.ZipFile, manifest: dict[str, Any], entry: dict[str, Any]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    path, name = source.path, str(entry.get("name"))
    try:
        rules = manifest["formats"][entry["format"]]
        if rules.get("mode") != "binary":
            raise TableError(f"{path}: {name} is a table in the mode {rules.get('mode')!r}; binary was expected")
        headers = [str(header) for header in rules["headers"]]
        kinds = [str(kind) for kind in rules["dtype"]]
        shapes = [_shape(shape) for shape in rules["shape"]]
        units = [str(unit) for unit in rules.get("units") or [""] * len(headers)]
        rows = int(entry["rows"])
        offsets = {str(key): float(value) for key, value in (entry.get("offset") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise TableError(f"{path}: the manifest does not say how {name} is laid out ({problem!r}); take a fresh copy") from problem
    unknown = sorted(set(kinds) - set(TYPES))
    if unknown or not len(headers) == len(kinds) == len(shapes) == len(units) or rows < 0 or len(set(headers)) < len(headers):
        raise TableError(
            f"{path}: the manifest contradicts itself about {name}: {len(headers)} headers, {len(kinds)} types"
            f"{' (unknown: ' + ', '.join(unknown) + ')' if unknown else ''}, {len(shapes)} shapes, {len(units)} units, {rows} rows"
        )
    record = np.dtype(
        {
            "names": headers,
            "formats": [(TYPES[kind], shape) if shape != (1,) else TYPES[kind] for kind, shape in zip(kinds, shapes, strict=True)],
        }
    )
    values = np.frombuffer(_unpack(path, archive, name, rows * record.itemsize, rows), record)
    wide = [header for header, shape in zip(headers, shapes, strict=True) if shape != (1,)]
    if wide:
        source.notes.append(f"columns with more than one number a row were left out: {', '.join(wide)}")
    raw = {
        header.removeprefix("_"): values[header] + offsets[header] if offsets.get(header) else values[header].copy()
        for header in headers
        if header not in wide
    }
    words = {"pixel": "px", "pixels": "px", "nanometer": "nm", "micrometer": "um"}
    return raw, {header.removeprefix("_"): words.get(unit.lower(), unit) for header, unit in zip(headers, units, strict=True)}


def _unpack(path: Path, archive: zipfile.ZipFile, name: str, expected: int, rows: int) -> bytes:
    """Return exactly the bytes that the manifest declares; what would expand to more is never unpacked."""
    if name not in archive.namelist():
        raise TableError(f"{path}: {name} is missing in the zip; take a fresh copy")
    refuse_bomb(path, expected, archive.getinfo(name).compress_size)
    if archive.getinfo(name).file_size > expected:
        raise _too_much(path, name, expected, rows)
    data = bytearray()
    for chunk in _chunks(archive, name):
        data += chunk
        # the size in the zip's directory may lie
        if len(data) > expected:
            raise _too_much(path, name, expected, rows)
    if len(data) < expected:
        raise TableError(
            f"{path}: {name} has {len(data)} bytes where the {rows} declared rows need {expected}: the file was cut off; take a fresh copy"
        )
    return bytes(data)


def _chunks(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(name) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _too_much(path: Path, name: str, expected: int, rows: int) -> TableError:
    return TableError(
        f"{path}: {name} expands beyond the {expected} bytes that its {rows} declared rows need: a damaged or hostile file (zip bomb); "
        "it was not unpacked; ask for a fresh copy"
    )


def _shape(value: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in value) if isinstance(value, list) else (int(value),)
    if any(size < 1 for size in sizes) or math.prod(sizes) > 2**20:
        raise ValueError(f"shape {value}")
    return (1,) if math.prod(sizes) == 1 else sizes


def _listed(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
