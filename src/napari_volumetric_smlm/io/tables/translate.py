"""Between the columns of a foreign table and ours: names, units, pixel origin, first frame. The rules stand in `conventions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...domain.molecules import COLUMNS, REQUIRED, Localizations, ZReference
from ...errors import TableError
from .conventions import Format
from .labels import COUNT_UNITS, LENGTHS_NM, LIGHT_COLUMNS, PIXEL_UNITS, split_label

# what is worked on between file and noun: our name -> (values, unit)
Matched = dict[str, tuple[NDArray[Any], str]]
POSITIONS = ("z_nm", "y_nm", "x_nm")


@dataclass
class Source:
    """What a file says besides its columns.

    pixel_yx_nm : size of a pixel along rows and columns, or None where nobody said.
    corner_yx_px : place of the first pixel on the sensor, where the table counts from the sensor's corner.
    """

    path: Path
    format: Format
    pixel_yx_nm: tuple[float, float] | None = None
    corner_yx_px: tuple[float, float] = (0.0, 0.0)
    z_reference: ZReference | None = None
    frame_count: int | None = None
    shape_yx_px: tuple[int, int] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def match_columns(raw: Mapping[str, NDArray[Any]], source: Source, units: Mapping[str, str] | None = None) -> Matched:
    """Find our columns among theirs; what has no name of ours keeps its own.

    Parameters
    ----------
    raw
        Label in the file -> values.
    units
        Label -> unit, where the file says units apart from the labels.

    Raises
    ------
    TableError
        If x, y or the frame number are missing.
    """
    by_name = {split_label(label)[0]: label for label in reversed(list(raw))}
    matched: Matched = {}
    used = set()
    missing = []
    for column in source.format.columns:
        label = next((by_name[name] for name in (split_label(theirs)[0] for theirs in column.theirs) if name in by_name), None)
        if label is None:
            if column.ours in REQUIRED[2:] + REQUIRED[:1]:
                missing.append(column.theirs[0])
            continue
        said = (units or {}).get(label, "") or split_label(label)[1]
        if column.unit == "?" and not said:
            continue
        used.add(label)
        matched[column.ours] = (raw[label], said or column.unit)
    if missing:
        raise TableError(
            f"{source.path}: a table of the kind {source.format.name} ({source.format.display_name}) needs the columns it calls "
            f"{', '.join(missing)}; the file has {', '.join(raw) or 'none'}; if it is another kind, import it with a column mapping"
        )
    for label, values in raw.items():
        if label not in used:
            name = label if label not in matched else f"{label} ({source.format.name})"
            matched[name] = (values, (units or {}).get(label, "") or split_label(label)[1])
    # a table of our own keeps its order
    return {name: matched[name] for name in raw if name in matched} | matched if source.format.origin_evidence == "ours" else matched


def build_table(matched: Matched, source: Source) -> Localizations:
    """Turn matched columns into the noun: whole rows only, nm, our origin, frames from 0.

    What the user should know of (rows left out, an origin that could not be moved) goes to provenance["notes"].

    Raises
    ------
    TableError
        If units cannot be converted, frames are no whole numbers from 0, or no row has a position.
    """
    columns = {name: np.asarray(values) for name, (values, _) in matched.items()}
    units = {name: unit for name, (_, unit) in matched.items()}
    count = len(columns["x_nm"])
    flat = "z_nm" not in columns or (count > 0 and not np.nan_to_num(columns["z_nm"], nan=1.0).any())
    if "z_nm" not in columns:
        columns["z_nm"], units["z_nm"] = np.zeros(count), "nm"
    columns = _whole_rows(columns, source)
    _refuse_mixed_units(units, source)
    for name in [*columns]:
        columns[name], unit = _in_our_units(name, columns[name], units[name], source)
        if unit in COUNT_UNITS and name in LIGHT_COLUMNS:
            columns[name.replace("photons", "counts")] = columns.pop(name)
    _move_origin(columns, source)
    columns["frame"] = _frames_from_zero(columns["frame"], source)
    columns = {name: _typed(name, values) for name, values in columns.items() if not _is_absent(name, values, source)}
    order = columns if source.format.origin_evidence == "ours" else (*COLUMNS, *columns)
    ordered = {name: columns[name] for name in order if name in columns}
    return Localizations(
        columns=ordered,
        z_reference=source.z_reference or ("none" if flat else "unknown"),
        pixel_nm=_one_pixel_nm(source),
        frame_count=_frame_count(columns["frame"], source),
        shape_yx_px=source.shape_yx_px,
        provenance=_provenance(source),
    )


def foreign_columns(table: Localizations, target: Format) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the table in the names, units and counting of `target`, and the notes to keep beside it.

    Lengths whose unit there is the pixel come in pixels when the table knows its pixel, else in nm. Two of our columns that share
    one of theirs (the lateral uncertainties) are joined as their root mean square.
    """
    notes: list[str] = []
    raw: dict[str, NDArray[Any]] = {}
    for column in target.columns:
        if column.ours not in table or (column.ours == "z_nm" and table.z_reference == "none" and target.origin_evidence != "ours"):
            continue
        label = column.theirs[0]
        values = table[column.ours]
        if label in raw:
            values = np.sqrt((raw[label].astype(float) ** 2 + values.astype(float) ** 2) / 2)
        elif column.ours == "frame":
            values = values + target.first_frame
        elif column.ours in ("y_nm", "x_nm") and table.pixel_nm is not None:
            values = values + target.origin_px * table.pixel_nm
        raw[label] = values
    if target.origin_px and table.pixel_nm is None:
        notes.append(
            f"the table does not know its pixel size, so positions were not moved by the {target.origin_px} px of {target.name}: "
            "the centre of pixel (0, 0) is 0 in this file"
        )
    pixel_labels = {c.theirs[0] for c in target.columns if c.unit == "px"}
    if table.pixel_nm is not None:
        raw = {label: values / table.pixel_nm if label in pixel_labels else values for label, values in raw.items()}
    if target.carries_others:
        known = {column.ours for column in target.columns}
        raw |= {name: values for name, values in table.columns.items() if name not in known and name not in raw}
    return raw, notes


def left_out(table: Localizations, target: Format) -> list[str]:
    """Return the columns that `target` has no place for."""
    known = {column.ours for column in target.columns}
    return [] if target.carries_others else [name for name in table.columns if name not in known and name != "z_nm"]


def _whole_rows(columns: dict[str, NDArray[Any]], source: Source) -> dict[str, NDArray[Any]]:
    whole = np.ones(len(columns["x_nm"]), bool)
    for name in REQUIRED:
        whole &= np.isfinite(columns[name])
    bad = int((~whole).sum())
    if not bad:
        return columns
    first = int(np.argmin(whole)) + 1
    if bad == len(whole):
        raise TableError(
            f"{source.path}: none of the {len(whole)} rows has a finite position and frame number (NaN or empty from row {first} on); "
            "the fit that made the table failed, or its columns mean something else"
        )
    source.notes.append(f"{bad} of {len(whole)} rows have no finite position or frame number (the first is row {first}) and were left out")
    return {name: values[whole] for name, values in columns.items()}


def _refuse_mixed_units(units: Mapping[str, str], source: Source) -> None:
    in_pixels = [name for name in units if units[name] in PIXEL_UNITS and name.endswith("_nm")]
    if not in_pixels or source.pixel_yx_nm is not None:
        return
    names = {"y_nm": "y", "x_nm": "x", "z_nm": "z"}
    beside = [f"{names.get(n, n)} in {units[n]}" for n in POSITIONS[1:] if units[n] in LENGTHS_NM]
    raise TableError(
        f"{source.path}: {', '.join(names.get(name, name) for name in in_pixels)} in pixels"
        + (f" beside {', '.join(beside)} (mixed units)" if beside and {"y_nm", "x_nm"} & set(in_pixels) else "")
        + ", and the file does not say how large a pixel is; give the pixel size in the sample (pixel_nm, for example 110)"
    )


def _in_our_units(name: str, values: NDArray[Any], unit: str, source: Source) -> tuple[NDArray[Any], str]:
    if not name.endswith("_nm") or not unit:
        return values, unit
    if unit in PIXEL_UNITS:
        if name in ("z_nm", "sigma_z_nm") or source.pixel_yx_nm is None:
            raise TableError(f"{source.path}: {name.removesuffix('_nm')} in pixels has no meaning; expected nm or um")
        along_y = name in ("y_nm", "sigma_y_nm", "psf_width_y_nm")
        return values * source.pixel_yx_nm[0 if along_y else 1], "nm"
    if unit not in LENGTHS_NM:
        raise TableError(f"{source.path}: {name.removesuffix('_nm')} is in {unit!r}; expected a length in {', '.join(LENGTHS_NM)} or px")
    return (values if unit == "nm" else values * LENGTHS_NM[unit]), "nm"


def _move_origin(columns: dict[str, NDArray[Any]], source: Source) -> None:
    shift_yx_px = [source.format.origin_px + corner for corner in source.corner_yx_px]
    if not any(shift_yx_px):
        return
    if source.pixel_yx_nm is None:
        source.notes.append(
            f"{source.format.display_name} puts the centre of the first pixel at {source.format.origin_px} px, but the pixel size is not "
            "known: positions are as in the file, not moved; read it again with pixel_nm to move them"
        )
        return
    for name, shift_px, pixel_nm in zip(("y_nm", "x_nm"), shift_yx_px, source.pixel_yx_nm, strict=True):
        columns[name] = columns[name] - shift_px * pixel_nm


def _frames_from_zero(values: NDArray[Any], source: Source) -> NDArray[np.int64]:
    if values.dtype.kind == "f" and len(values) and (np.abs(values) > 2**53).any():
        raise TableError(f"{source.path}: frame number {values[np.abs(values).argmax()]:g} is too large; the column means something else")
    frame = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
    fractions = np.flatnonzero(frame != values)
    if len(fractions):
        raise TableError(f"{source.path}: frame {values[fractions[0]]:g} in row {fractions[0] + 1} is not a whole number")
    first = source.format.first_frame
    lowest = int(frame.min()) if len(frame) else first
    if lowest < 0:
        raise TableError(
            f"{source.path}: frame {lowest} is negative; frames count from {first} in a table of the kind {source.format.name}"
        )
    if lowest < first:
        source.notes.append(
            f"{source.format.display_name} counts frames from {first}, but this file has frame {lowest}: taken as counted from 0"
        )
        return frame
    return frame - first


def _frame_count(frame: NDArray[np.int64], source: Source) -> int | None:
    # SMAP was seen to write one frame more than it counts
    return source.frame_count if source.frame_count is None or not len(frame) else max(source.frame_count, int(frame.max()) + 1)


def _is_absent(name: str, values: NDArray[Any], source: Source) -> bool:
    """Tell whether a foreign file only keeps the place of an optional column: all NaN (as DECODE does)."""
    foreign = source.format.origin_evidence != "ours"
    return foreign and name not in REQUIRED and values.dtype.kind == "f" and len(values) > 0 and bool(np.isnan(values).all())


def _typed(name: str, values: NDArray[Any]) -> NDArray[Any]:
    kind = COLUMNS[name][0] if name in COLUMNS else None
    if kind is None or values.dtype == kind:
        return values
    if kind == "int64" and values.dtype.kind == "f":
        # -1 says "none" in DECODE's ids and in cluster numbers alike
        return np.where(np.isfinite(values), np.rint(values), -1).astype(np.int64)
    if kind == "bool":
        return np.nan_to_num(values.astype(float)) != 0
    return values.astype(kind)


def _one_pixel_nm(source: Source) -> float | None:
    if source.pixel_yx_nm is None:
        return None
    y_nm, x_nm = source.pixel_yx_nm
    if abs(y_nm - x_nm) > 1e-6 * x_nm:
        source.notes.append(
            f"pixels are not square ({y_nm:g} nm along y, {x_nm:g} nm along x): positions are right, no single pixel size is kept"
        )
        return None
    return float(x_nm)


def _provenance(source: Source) -> dict[str, Any]:
    kept = dict(source.provenance)
    # a table of our own comes back as it was written; without its notes, where it came from is all that is known
    if source.format.origin_evidence != "ours" or source.z_reference is None:
        rules = source.format
        kept["source"] = {
            "file": source.path.name,
            "format": rules.name,
            "origin_px": rules.origin_px,
            "origin_evidence": rules.origin_evidence,
            "first_frame": rules.first_frame,
            "axes": rules.axes,
            **({"details": source.details} if source.details else {}),
        }
    if source.notes:
        kept["notes"] = [*kept.get("notes", []), *source.notes]
    return kept
