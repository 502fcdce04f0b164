"""Plain binary frames with a yaml file beside them that says their size and type (as Picasso keeps movies)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import StackError
from .frames import ContiguousFrames
from .opened import OpenedFile, require_camera_type, split_axes

LARGEST_YAML_BYTES = 2**20
NEEDED = ("Height", "Width", "Frames", "Data Type")
CAMERA_KEYS = {"Baseline": "offset_counts", "Sensitivity": "gain_e_per_count", "Gain": "em_gain", "EM Gain": "em_gain", "Camera": "name"}


def open_raw(path: Path) -> OpenedFile:
    """Open NAME.raw with NAME.yaml (either may be given) without reading its frames.

    Raises
    ------
    StackError
        If one of the two is missing, the yaml lacks Height, Width, Frames or Data Type, or the sizes disagree.
    """
    raw, note = _find_pair(path)
    values = _read_yaml(note)
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise StackError(f"{note}: missing {', '.join(missing)}; found {', '.join(map(str, values)) or 'nothing'}; add them as numbers")
    texts = {key: values.get(key, "<") for key in ("Data Type", "Byte Order")}
    if not all(isinstance(text, str) and len(text) < 40 for text in texts.values()):
        # aliases in a yaml file can stand for gigabytes once they are turned to text
        raise StackError(f"{note}: Data Type and Byte Order must be short words such as uint16 and <")
    try:
        rows, columns, count = (int(values[key]) for key in ("Height", "Width", "Frames"))
        dtype = np.dtype(texts["Data Type"]).newbyteorder(texts["Byte Order"])
    except (TypeError, ValueError) as error:
        raise StackError(
            f"{note}: Height, Width, Frames, Data Type or Byte Order cannot be understood ({error}); example: 512, uint16, <"
        ) from error
    require_camera_type(dtype, str(note))
    if min(rows, columns, count) < 1:
        raise StackError(f"{note}: Height {rows}, Width {columns}, Frames {count}; all must be at least 1")
    step = rows * columns * dtype.itemsize
    if count > raw.stat().st_size // step + 1:  # before an array of offsets of a hostile length is made
        raise StackError(f"{raw}: {count:,} frames of {step:,} bytes promised, the file has {raw.stat().st_size:,} bytes; copy it again")
    frames = ContiguousFrames(raw, step * np.arange(count, dtype=np.int64), dtype, (rows, columns))
    opened = OpenedFile([], [raw, note], "raw + yaml")
    surplus = raw.stat().st_size - count * step
    if surplus:
        opened.warnings.append(f"{surplus:,} bytes follow the last frame that the yaml knows of; check Height, Width, Frames and Data Type")
    opened.pixel_nm = _number(values.get("Pixelsize"))
    found = (
        (ours, values[theirs] if ours == "name" else _number(values[theirs])) for theirs, ours in CAMERA_KEYS.items() if theirs in values
    )
    camera = {name: value for name, value in found if isinstance(value, (str, float))}
    if camera:
        opened.metadata["camera"] = camera
    split_axes(frames, "T", (count,), opened)
    return opened


def is_raw_pair(path: Path) -> bool:
    """Tell whether both files are there and the yaml describes frames; a yaml may describe anything.

    Raises
    ------
    StackError
        If one of the two is missing or the yaml cannot be read.
    """
    return all(key in _read_yaml(_find_pair(path)[1]) for key in NEEDED)


def _find_pair(path: Path) -> tuple[Path, Path]:
    raw, note = path.with_suffix(".raw"), path.with_suffix(".yaml")
    if not note.is_file() and path.with_suffix(".yml").is_file():
        note = path.with_suffix(".yml")
    for needed, what in ((raw, "the frames"), (note, "their size and type")):
        if not needed.is_file():
            raise StackError(f"{path}: {needed.name} with {what} is not there; a .raw stack needs both files in one folder")
    return raw, note


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_YAML_BYTES:
        raise StackError(f"{path}: {path.stat().st_size:,} bytes; a description of a stack has at most {LARGEST_YAML_BYTES:,}")
    try:
        # Picasso appends a document per processing step; the first describes the movie. Tags that build objects are refused by the loader.
        with path.open(encoding="utf-8") as stream:
            values = next(iter(yaml.safe_load_all(stream)), None)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise StackError(f"{path}: no plain yaml ({str(error).splitlines()[0]}); lines such as 'Height: 512' were expected") from error
    if not isinstance(values, dict):
        raise StackError(f"{path}: holds {type(values).__name__}; lines such as 'Height: 512' were expected")
    return values


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
