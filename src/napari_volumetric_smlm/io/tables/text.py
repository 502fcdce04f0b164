"""Text tables as columns of numbers: find out how a file is laid out, then read it with Arrow, millions of rows at a time."""

from __future__ import annotations

import csv
import io
import mmap
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import TableError

HEAD_BYTES = 2**18
SHOWN_ROWS = 50
NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "inf", "-inf", "+inf", "infinity", "-infinity"})
TRUTH = frozenset({"true", "false"})
# a vendor may append notes to the table: Zeiss Elyra does, after an empty line with a zero byte
FOOTERS = (b"\n\x00\r", b"\nVoxelSizeX")


@dataclass(frozen=True)
class Layout:
    """How a text file is cut into cells.

    comments : the lines before the header that begin with #.
    first_line : number of lines before the first row.
    rows : the cells of the first rows, as text.
    wrapped : each line stands in quotes as one cell (spreadsheets do that to a file opened with the wrong separator).
    """

    columns: tuple[str, ...]
    delimiter: str
    decimal: str
    first_line: int
    comments: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wrapped: bool


def lay_out(path: Path, headerless: Iterable[str] = (), head: bytes | None = None) -> Layout:
    """Find header, delimiter and decimal mark from the beginning of a text file.

    Parameters
    ----------
    headerless
        Names for the columns of a file without a header line.

    Raises
    ------
    TableError
        If the file is empty or not text.
    """
    if head is None:
        try:
            with path.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
        except OSError as problem:
            raise TableError(f"{path}: cannot be read ({problem.strerror}); check that it exists and that you may read it") from problem
    if not head.strip():
        raise TableError(f"{path}: the file is empty; a table with a header line was expected")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TableError(f"{path}: text in UTF-16; save it as CSV in UTF-8 (in a spreadsheet: Save as, CSV UTF-8)")
    for mark in FOOTERS:
        head = head.partition(mark)[0]
    if b"\x00" in head:
        raise TableError(f"{path}: this is a binary file, not a text table")
    whole = len(head) < HEAD_BYTES
    lines = _decode(head).splitlines()
    lines = lines if whole or len(lines) < 2 else lines[:-1]
    comments = []
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        comments.append(lines.pop(0))
    names = tuple(headerless)
    first = lines[0] if lines else ""
    wrapped = _is_wrapped(first)
    sample = [_unwrap(line) if wrapped else line for line in lines[: SHOWN_ROWS + 1]]
    delimiter = _delimiter(sample[0] if sample else "", sample[1] if len(sample) > 1 else "")
    cells = [
        tuple(cell.strip() for cell in row)
        for row in csv.reader((s for s in sample if s.strip()), delimiter=delimiter, skipinitialspace=True)
    ]
    first_line = len(comments)
    decimal = "," if delimiter != "," and any(re.fullmatch(r"-?\d+,\d+(e[-+]?\d+)?", c, re.I) for row in cells for c in row) else "."
    if not names and cells:
        if not all(_is_number(cell, decimal) for cell in cells[0]):
            names, first_line = _told_apart(cells.pop(0)), first_line + 1
        elif comments and len(said := comments[-1].lstrip("# ").split(delimiter)) == len(cells[0]):
            names = _told_apart(name.strip() for name in said)
        else:
            names = tuple(f"column {number + 1}" for number in range(len(cells[0])))
    return Layout(
        columns=names,
        delimiter=delimiter,
        decimal=decimal,
        first_line=first_line,
        comments=tuple(comments),
        rows=tuple(cells),
        wrapped=wrapped or (delimiter == " " and "  " in first),
    )


def read_numbers(path: Path, layout: Layout, notes: list[str], needed: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Read all columns that hold numbers (or true and false); the others are named in `notes` and left out.

    Parameters
    ----------
    needed
        Columns that must hold numbers.

    Raises
    ------
    TableError
        If a cell is no number, or a row has too few or too many cells.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    types: dict[str, Any] = {}
    words = []
    for index, name in enumerate(layout.columns):
        cells = [row[index].lower() for row in layout.rows if index < len(row)]
        said = {cell for cell in cells if cell not in NO_VALUE}
        if said and said <= TRUTH:
            types[name] = pa.bool_()
        elif all(_is_number(cell, layout.decimal) for cell in said):
            types[name] = pa.float64()
        elif name:
            words.append(name)
    types.pop("", None)
    wordy = [name for name in words if name in needed]
    if wordy:
        index = layout.columns.index(wordy[0])
        found = next(row[index] for row in layout.rows if index < len(row) and not _is_number(row[index], layout.decimal))
        raise TableError(f"{path}: the column {wordy[0]} holds {found!r}, which is not a number")
    if words:
        notes.append(f"columns without numbers were left out: {', '.join(words)}")
    options = {
        "read_options": pa_csv.ReadOptions(column_names=list(layout.columns), skip_rows=layout.first_line, encoding="latin-1"),
        "parse_options": pa_csv.ParseOptions(delimiter=layout.delimiter),
        "convert_options": pa_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            decimal_point=layout.decimal,
            strings_can_be_null=True,
            null_values=["", "nan", "NaN", "NAN", "-nan", "null", "NULL", "None", "NA", "N/A"],
        ),
    }
    try:
        with path.open("rb") as stream, _table_part(stream, layout) as part:
            table = pa_csv.read_csv(part, **options)
    except pa.ArrowInvalid as problem:
        if "Empty CSV" in str(problem):
            return {name: np.zeros(0) for name in types}
        raise TableError(f"{path}: {_explain(str(problem), layout)}") from problem
    except OSError as problem:
        raise TableError(f"{path}: cannot be read ({problem}); check that it exists and that you may read it") from problem
    return {name: table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in types}


def _table_part(stream: BinaryIO, layout: Layout) -> Any:
    """Return the table without what a vendor wrote after it, each line freed of its quotes where the file is wrapped."""
    import pyarrow as pa

    size = stream.seek(0, io.SEEK_END)
    view = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    # notes after the table are short
    tail_start = max(0, size - HEAD_BYTES)
    tail = view[tail_start:]
    ends = [tail_start + at + 1 for mark in FOOTERS if (at := tail.find(mark)) >= 0]
    end = min(ends, default=size)
    if not layout.wrapped:
        return pa.BufferReader(pa.py_buffer(view).slice(0, end))
    text = view[:end]
    if layout.delimiter == " ":
        text = re.sub(rb"(?m)^ +| +(?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", text))
    else:
        text = re.sub(rb'(?m)^"|"(?=\r?$)', b"", text).replace(b'""', b'"')
    return pa.BufferReader(text)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _is_wrapped(line: str) -> bool:
    cells = next(csv.reader([line]), [])
    return len(cells) == 1 and line.strip().startswith('"') and "," in cells[0]


def _unwrap(line: str) -> str:
    return line.strip().removeprefix('"').removesuffix('"').replace('""', '"')


def _delimiter(header: str, row: str) -> str:
    for mark in ("\t", ";", ","):
        if mark in header and (not row or mark in row):
            return mark
    return " " if " " in header.strip() and " " in (row or header).strip() and not re.search(r"[\[(]", header) else ","


def _told_apart(names: Iterable[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 or not name else f"{name} ({seen[name]})")
    return tuple(unique)


def _is_number(cell: str, decimal: str) -> bool:
    if cell.lower() in NO_VALUE:
        return True
    try:
        float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return False
    return "_" not in cell


def _explain(problem: str, layout: Layout) -> str:
    cell = re.search(r"(?:Row #(\d+): )?.*?column #(\d+).*?invalid value '(.*?)'", problem, re.S)
    if cell:
        name = layout.columns[int(cell[2])] if int(cell[2]) < len(layout.columns) else f"number {int(cell[2]) + 1}"
        return f"the column {name} holds {cell[3]!r}, which is not a number; mend that cell or remove its row"
    row = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", problem)
    if row:
        place = f"line {row[1]}" if row[1] else "a row"
        return (
            f"{place} has {row[3]} cells where the header names {row[2]} columns: the file was cut off while it was written or is damaged; "
            "nothing was read; take a whole copy or remove that line"
        )
    return f"no table that can be read: {problem}"
