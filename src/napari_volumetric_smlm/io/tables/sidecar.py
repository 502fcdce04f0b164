"""Notes beside a text table: what its columns cannot say. `molecules.csv` gets `molecules.csv.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.molecules import COLUMNS, Localizations
from ...errors import TableError
from ..json_files import read_json
from .translate import Source

VERSION = 1


def sidecar_path(path: Path) -> Path:
    """Return the place of the notes: the full name, so that they never take the place of `molecules.json`, another kind of file."""
    return path.with_name(path.name + ".json")


def describe(table: Localizations, format_name: str, notes: list[str]) -> dict[str, Any]:
    """Return what a table says besides its numbers, ready for JSON."""
    return {
        "table_version": VERSION,
        "format": format_name,
        "rows": len(table),
        "z_reference": table.z_reference,
        "pixel_nm": table.pixel_nm,
        "frame_count": table.frame_count,
        "shape_yx_px": None if table.shape_yx_px is None else list(table.shape_yx_px),
        "columns": {
            name: {"type": values.dtype.name, "meaning": COLUMNS[name][1] if name in COLUMNS else ""}
            for name, values in table.columns.items()
        },
        "notes": notes,
        "provenance": plain(table.provenance),
    }


def to_json(description: dict[str, Any]) -> str:
    """Return the notes as text."""
    return json.dumps(plain(description), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def take_notes(source: Source, description: dict[str, Any], pixel_nm: float | None) -> dict[str, str]:
    """Let `source` know what was noted when the table was written; return the types of the columns.

    A pixel size that the user gives goes before the noted one. Notes of another format, or damaged ones, are told and not used.
    """
    if description.get("format") != source.format.name:
        source.notes.append(
            f"the notes beside the table are for {description.get('format')!r}, not {source.format.name}; they were not used"
        )
        return {}
    try:
        z_reference = description.get("z_reference")
        if z_reference not in ("coverslip", "focus", "unknown", "none"):
            raise ValueError(f"z_reference {z_reference!r}")
        noted_nm = description.get("pixel_nm")
        shape = description.get("shape_yx_px")
        frames = description.get("frame_count")
        provenance = description.get("provenance") or {}
        types = {str(name): str(entry["type"]) for name, entry in (description.get("columns") or {}).items()}
        source.z_reference = z_reference
        source.frame_count = None if frames is None else int(frames)
        source.shape_yx_px = None if shape is None else (int(shape[0]), int(shape[1]))
        source.provenance = dict(provenance)
        if pixel_nm is None and noted_nm is not None and float(noted_nm) > 0:
            source.pixel_yx_nm = (float(noted_nm), float(noted_nm))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
        source.notes.append(f"the notes of the table are damaged ({problem}); they were not used")
        return {}
    return types


def read_sidecar(source: Source, pixel_nm: float | None) -> dict[str, str]:
    """Take the notes beside a text table, if there are any."""
    place = sidecar_path(source.path)
    if not place.is_file():
        return {}
    try:
        return take_notes(source, read_json(place, TableError), pixel_nm)
    except TableError as problem:
        source.notes.append(f"the notes beside the table cannot be read and were not used: {problem}")
        return {}


def plain(value: Any) -> Any:
    """Return a value made of what JSON knows: numbers that are not finite become null, arrays lists, and the rest text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
