"""Tables that no format describes: show the columns, let the user say what they mean, keep that for the next file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from ...domain.molecules import COLUMNS, Localizations, ZReference
from ...domain.noun import Noun
from ...errors import TableError
from ..json_files import read_noun, write_noun
from .conventions import FORMATS, Column, Format
from .labels import split_label
from .text import lay_out, read_numbers
from .translate import Matched, Source, build_table

LengthUnit = Literal["nm", "um", "mm", "m", "px"]
# what else people call them; napari's points have axes only
OTHER_NAMES = {
    "frame": ("t", "time", "frame number", "slice", "image"),
    "z_nm": ("z", "zc"),
    "y_nm": ("y", "yc"),
    "x_nm": ("x", "xc"),
    "photons": ("intensity", "photon", "photon_count", "signal"),
    "background_photons": ("background", "bkg"),
    "probability": ("confidence", "score"),
}
NAPARI_AXES = {2: ("y_nm", "x_nm"), 3: ("frame", "y_nm", "x_nm"), 4: ("frame", "z_nm", "y_nm", "x_nm")}


class MappedColumn(Noun):
    """What one column of a foreign table is.

    column : its label in the file.
    unit : unit of a length; without meaning for other columns.
    """

    column: str
    unit: LengthUnit = "nm"


class ColumnMapping(Noun):
    """How to read a table whose format is not known.

    columns : our name -> their column; y_nm and x_nm are needed. Without frame all molecules are in frame 0, without z_nm the table is 2D.
    first_frame : number of the first frame in the file.
    origin_px : where the file puts the centre of pixel (0, 0), in pixels (0.5 when it counts from the corner).
    pixel_nm : size of a pixel in the sample; needed for positions in pixels and to move the origin.
    """

    schema_version: Literal["1"] = "1"
    columns: dict[str, MappedColumn]
    first_frame: int = Field(0, ge=0)
    origin_px: float = 0.0
    pixel_nm: PositiveFloat | None = None
    z_reference: ZReference = "unknown"

    @field_validator("columns")
    @classmethod
    def _positions_are_mapped(cls, value: dict[str, MappedColumn]) -> dict[str, MappedColumn]:
        missing = [name for name in ("y_nm", "x_nm") if name not in value]
        if missing:
            raise ValueError(f"a mapping needs the columns y_nm and x_nm; missing: {', '.join(missing)}")
        return value

    @model_validator(mode="after")
    def _pixels_are_known(self) -> ColumnMapping:
        in_pixels = [name for name, column in self.columns.items() if name.endswith("_nm") and column.unit == "px"]
        if self.pixel_nm is None and (in_pixels or self.origin_px):
            reason = f"{', '.join(in_pixels)} in pixels" if in_pixels else f"an origin at {self.origin_px} px"
            raise ValueError(f"{reason} needs the pixel size in the sample (pixel_nm, for example 110)")
        return self


def read_columns(path: str | os.PathLike[str], rows: int = 5) -> dict[str, list[str]]:
    """Return the columns of a text table and the cells of its first rows as they stand there.

    Raises
    ------
    TableError
        If the file is empty, binary or missing.
    """
    layout = lay_out(Path(path))
    return {name: [row[index] for row in layout.rows[:rows] if index < len(row)] for index, name in enumerate(layout.columns) if name}


def suggest_mapping(columns: Iterable[str]) -> ColumnMapping | None:
    """Return a first guess for the user to correct, or None where no two columns look like positions.

    A length whose label says no unit is offered in nm; napari's axes, which are data coordinates, in pixels of 100 nm.
    """
    labels = {split_label(label)[0]: label for label in reversed(list(columns))}
    axes = sorted(name for name in labels if name.startswith("axis-"))
    if axes and len(axes) in NAPARI_AXES:
        found = {ours: MappedColumn(column=labels[name], unit="px") for ours, name in zip(NAPARI_AXES[len(axes)], axes, strict=True)}
        return ColumnMapping(columns=found, pixel_nm=100.0)
    found = {}
    for ours in (*COLUMNS, "psf_width_x_nm", "psf_width_y_nm"):
        names = (ours, *(split_label(theirs)[0] for theirs in _all_names(ours)), *OTHER_NAMES.get(ours, ()))
        label = next((labels[name] for name in names if name in labels), None)
        if label is not None:
            unit = split_label(label)[1].replace("µm", "um").replace("μm", "um")
            found[ours] = MappedColumn(column=label, unit=unit if unit in ("nm", "um", "mm", "m", "px") else "nm")  # type: ignore[arg-type]
    if not {"y_nm", "x_nm"} <= found.keys():
        return None
    in_pixels = any(column.unit == "px" for column in found.values())
    return ColumnMapping(columns=found, pixel_nm=100.0 if in_pixels else None)


def table_from_mapping(path: str | os.PathLike[str], mapping: ColumnMapping) -> Localizations:
    """Read a text table as `mapping` says; columns that it does not name keep their own names.

    Raises
    ------
    TableError
        If a named column is missing or holds no numbers, or the file is empty or cut off.
    """
    place = Path(path)
    rules = Format(
        "mapped",
        "column mapping",
        (".csv",),
        "",
        False,
        mapping.origin_px,
        mapping.first_frame,
        tuple(Column(ours, (column.column,), column.unit) for ours, column in mapping.columns.items()),
        "unverified",
        "unverified",
        "said by the user",
    )
    pixel_yx_nm = None if mapping.pixel_nm is None else (mapping.pixel_nm, mapping.pixel_nm)
    source = Source(place, rules, pixel_yx_nm, z_reference=mapping.z_reference if "z_nm" in mapping.columns else "none")
    source.details = mapping.model_dump(mode="json")
    layout = lay_out(place)
    missing = [f"{column.column} (for {ours})" for ours, column in mapping.columns.items() if column.column not in layout.columns]
    if missing:
        raise TableError(
            f"{place}: the mapping names columns that the file lacks: {', '.join(missing)}; it has {', '.join(layout.columns)}"
        )
    raw = read_numbers(place, layout, source.notes, needed=[column.column for column in mapping.columns.values()])
    matched: Matched = {ours: (raw[column.column], column.unit if ours.endswith("_nm") else "") for ours, column in mapping.columns.items()}
    used = {column.column for column in mapping.columns.values()}
    matched |= {name: (values, "") for name, values in raw.items() if name not in used and name not in matched}
    if "frame" not in matched:
        matched["frame"] = (matched["x_nm"][0] * 0.0 + mapping.first_frame, "")
        source.notes.append("no column gives the frame; all molecules are in frame 0")
    return build_table(matched, source)


def read_mapping(path: str | os.PathLike[str]) -> ColumnMapping:
    """Read a mapping that was kept as JSON.

    Raises
    ------
    TableError
        If the file is missing, damaged, or no mapping.
    """
    return read_noun(path, ColumnMapping, TableError)


def write_mapping(mapping: ColumnMapping, path: str | os.PathLike[str]) -> Path:
    """Keep a mapping as JSON, for the next table of the same kind.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    return write_noun(mapping, path)


def _all_names(ours: str) -> list[str]:
    return [
        theirs
        for entry in FORMATS.values()
        for column in entry.columns
        if column.ours == ours and entry.name != "decode"
        for theirs in column.theirs
    ]
