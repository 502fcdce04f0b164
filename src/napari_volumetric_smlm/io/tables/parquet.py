"""The canonical table: Parquet with units, z_reference and provenance in the metadata of its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...domain.molecules import COLUMNS, Localizations
from ...errors import TableError
from ..atomic import replacing
from .conventions import Format
from .limits import refuse_bomb
from .sidecar import describe, plain, take_notes
from .translate import Source, build_table, match_columns

KEY = b"napari-volumetric-smlm"


def read(path: Path, rules: Format, pixel_nm: float | None) -> Localizations:
    """Read a Parquet table whose columns have our names.

    Raises
    ------
    TableError
        If the file is cut off or damaged, or lacks x_nm, y_nm or frame.
    """
    source = Source(path, rules, None if pixel_nm is None else (pixel_nm, pixel_nm))
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            wanted = [field.name for field in schema if _is_number(field.type)]
            words = [field.name for field in schema if field.name not in wanted]
            refuse_bomb(path, rows * 8 * max(len(wanted), 1), path.stat().st_size)
            _note(source, schema, pixel_nm)
            arrays = file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise TableError(
            f"{path}: damaged or cut off, not a whole Parquet file ({str(problem).splitlines()[0]}); nothing was read; take a fresh copy"
        ) from problem
    if words:
        source.notes.append(f"columns without numbers were left out: {', '.join(words)}")
    raw = {name: arrays[name].combine_chunks().to_numpy(zero_copy_only=False) for name in wanted}
    return build_table(match_columns(raw, source), source)


def write(table: Localizations, path: Path, rules: Format) -> list[Path]:
    """Write one file; it reads back equal, column types included."""
    fields = []
    for name, values in table.columns.items():
        unit = next((unit for unit in ("nm", "photons") if name.endswith(f"_{unit}") or name == unit), "")
        meaning = {"unit": unit, "meaning": COLUMNS[name][1] if name in COLUMNS else ""}
        fields.append(pa.field(name, pa.from_numpy_dtype(values.dtype), metadata=meaning))
    text = json.dumps(plain(describe(table, rules.name, [])), allow_nan=False)
    schema = pa.schema(fields, metadata={KEY: text.encode("utf-8")})
    with replacing(path) as part:
        pq.write_table(pa.table(list(table.columns.values()), schema=schema), part, compression="zstd")
    return [path]


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _note(source: Source, schema: Any, pixel_nm: float | None) -> None:
    text = (schema.metadata or {}).get(KEY)
    if text is None:
        return
    try:
        take_notes(source, json.loads(text), pixel_nm)
    except (ValueError, RecursionError, AttributeError) as problem:
        source.notes.append(f"the notes in the schema's metadata are damaged ({problem}) and were not used")
