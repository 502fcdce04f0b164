"""Tables in text: our own CSV, ThunderSTORM, SMLM challenge, SMAP, Nanoimager, Elyra and rapidSTORM."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ...domain.molecules import Localizations
from ...errors import TableError
from ..atomic import replacing
from .conventions import Format
from .labels import split_label
from .sidecar import describe, read_sidecar, sidecar_path, to_json
from .text import FOOTERS, HEAD_BYTES, Layout, lay_out, read_numbers
from .translate import Source, build_table, foreign_columns, match_columns

CHALLENGE_WITHOUT_HEADER = {
    6: ("Ground-truth", "frame", "xnano", "ynano", "znano", "intensity"),
    5: ("frame", "xnano", "ynano", "znano", "intensity"),
}
# a number that no reader of the format takes for a measurement
NO_NUMBER = "NaN"


def read(path: Path, rules: Format, pixel_nm: float | None) -> Localizations:
    """Read a text table of the kind `rules`.

    Raises
    ------
    TableError
        If it is empty, cut off, lacks a column or holds words where numbers belong.
    """
    source = Source(path, rules, None if pixel_nm is None else (pixel_nm, pixel_nm))
    types = read_sidecar(source, pixel_nm)
    layout = lay_out(path)
    units: dict[str, str] = {}
    if rules.name == "rapidstorm":
        layout, units = _rapidstorm_layout(path, layout)
    elif rules.name == "challenge" and layout.columns[:1] == ("column 1",):
        names = CHALLENGE_WITHOUT_HEADER.get(len(layout.columns))
        if names is None:
            raise TableError(
                f"{path}: {len(layout.columns)} columns without a header; an SMLM challenge table has 5 or 6: use a column mapping"
            )
        layout = lay_out(path, headerless=names)
        source.notes.append(f"no header line; columns taken as {', '.join(names)}")
    elif rules.name == "elyra":
        _read_elyra_notes(source)
    raw = read_numbers(path, layout, source.notes, needed=_needed(layout, rules))
    raw = {name: _as_noted(values, types.get(name)) for name, values in raw.items()}
    if rules.name == "thunderstorm":
        raw = _one_width(raw)
    return build_table(match_columns(raw, source, units), source)


def write(table: Localizations, path: Path, rules: Format) -> list[Path]:
    """Write a text table, and beside it a JSON file with what text columns cannot say."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    raw, notes = foreign_columns(table, rules)
    raw = _complete(raw, table, rules)
    columns = {name: _as_text_numbers(values) for name, values in raw.items()}
    place = sidecar_path(path)
    quoted = rules.name == "thunderstorm"
    header = ",".join(f'"{name}"' if quoted or "," in name else name for name in raw)
    # the table is renamed into place first: when a spreadsheet holds it open, its notes stay as they were, too
    with contextlib.ExitStack() as parts:
        notes_part = parts.enter_context(replacing(place))
        part = parts.enter_context(replacing(path))
        notes_part.write_text(to_json(describe(table, rules.name, notes)), encoding="utf-8")
        with part.open("wb") as stream:
            stream.write(header.encode("utf-8") + b"\n")
            pa_csv.write_csv(pa.table(columns), stream, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    return [path, place]


def _complete(raw: dict[str, NDArray[Any]], table: Localizations, rules: Format) -> dict[str, NDArray[Any]]:
    """Put columns in that every reader of the format expects, in the order of the format."""
    count = len(table)
    if rules.name == "challenge":
        raw = {"Ground-truth": np.arange(1, count + 1), "intensity": np.full(count, np.nan), "znano": np.zeros(count)} | raw
    elif rules.name == "thunderstorm":
        raw = {"id": np.arange(1, count + 1)} | raw
        if "z [nm]" in raw and "sigma [nm]" in raw:
            # tables in 3D have the widths along both axes; Picasso insists on them
            raw = {"sigma1 [nm]": raw["sigma [nm]"], "sigma2 [nm]": raw.pop("sigma [nm]")} | raw
    elif rules.name == "smap-csv" and {"xnmerr", "ynmerr"} <= raw.keys():
        raw["locprecnm"] = np.sqrt((raw["xnmerr"] ** 2 + raw["ynmerr"] ** 2) / 2)
    if rules.origin_evidence == "ours":
        return {name: raw[name] for name in table.columns}
    order = list(dict.fromkeys(column.theirs[0] for column in rules.columns))
    return {name: raw[name] for name in (*order, *raw) if name in raw}


def _one_width(raw: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Take two widths of the PSF that are the same everywhere for one."""
    first, second = (next((label for label in raw if split_label(label)[0] == name), "") for name in ("sigma1", "sigma2"))
    if not first or not second or not np.array_equal(raw[first], raw[second], equal_nan=True):
        return raw
    return {label.replace("sigma1", "sigma"): values for label, values in raw.items() if label != second}


def _as_text_numbers(values: NDArray[Any]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.array(np.ascontiguousarray(values))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return pc.if_else(pc.is_nan(array), NO_NUMBER, pc.cast(array, pa.string()))
    return array


def _as_noted(values: NDArray[Any], kind: str | None) -> NDArray[Any]:
    """Give a column of our own back the type it was written from, where no value is lost by it."""
    if kind is None or kind == values.dtype.name or np.dtype(kind).kind not in "fiub":
        return values
    with np.errstate(all="ignore"):
        back = values.astype(kind) if np.dtype(kind).kind == "f" or np.isfinite(values.astype(float)).all() else values
    return back if np.dtype(kind).kind == "f" or np.array_equal(back, values) else values


def _needed(layout: Layout, rules: Format) -> list[str]:
    known = {split_label(label)[0] for column in rules.columns for label in column.theirs}
    return [name for name in layout.columns if split_label(name)[0] in known]


def _rapidstorm_layout(path: Path, layout: Layout) -> tuple[Layout, dict[str, str]]:
    header = next((line for line in layout.comments if line.startswith("# <localizations")), "")
    if not header or "<!" in header:
        raise TableError(
            f"{path}: the first line of a rapidSTORM table is '# <localizations ...>' without declarations; found {header[:60]!r}"
        )
    try:
        fields = ElementTree.fromstring(header[1:].strip())  # noqa: S314  entities need a declaration, which is refused above
    except ElementTree.ParseError as problem:
        raise TableError(f"{path}: damaged header line of a rapidSTORM table ({problem}); take a fresh copy") from problem
    if fields.find("localizations") is not None:
        raise TableError(f"{path}: a rapidSTORM table of tracks; export the localizations themselves (output 'Localizations file')")
    found = [(field.get("identifier", f"column {n + 1}"), field.get("unit", "")) for n, field in enumerate(fields.findall("field"))]
    words = {"nanometer": "nm", "micrometer": "um", "meter": "m", "pixel": "px", "a/d count": "adu", "photon": "photon"}
    units = {name: words.get(unit.lower(), "") for name, unit in found}
    return lay_out(path, headerless=[name for name, _ in found]), units


def _read_elyra_notes(source: Source) -> None:
    """Take the size of the picture and of its pixels from what Zeiss writes after the table."""
    with source.path.open("rb") as stream:
        stream.seek(max(0, source.path.stat().st_size - HEAD_BYTES))
        tail = stream.read()
    start = max(tail.find(mark) for mark in FOOTERS)
    if start < 0:
        return
    said = {key.decode(): float(value) for key, value in re.findall(rb"(?m)^(\w+) : ([-+.\deE]+)", tail[start:].replace(b"\r", b"\n"))}
    source.details = dict(said)
    if source.pixel_yx_nm is None and said.get("VoxelSizeX", 0) > 0 and said.get("VoxelSizeY", 0) > 0:
        source.pixel_yx_nm = (said["VoxelSizeY"] * 1e3, said["VoxelSizeX"] * 1e3)
