"""Open raw stacks of any format: choose the reader by content, join cameras, apply the note, warn."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydantic

from ...domain.images import RawStack, StackKind, StackNote
from ...errors import StackError
from ..content import recognise_content
from ..json_files import explain
from .checks import judge_pixel_nm, look_at_samples
from .fingerprint import fingerprint_files
from .matlab_arrays import open_matlab
from .mrc import open_mrc, read_mrc_header
from .nd2_files import open_nd2
from .notes import note_path, read_note
from .opened import OpenedFile
from .raw_yaml import is_raw_pair, open_raw
from .sequence import find_images, open_sequence
from .tiff import open_tiff
from .zarr_arrays import is_zarr, open_zarr
from .zipped import holds_images, open_zipped

PathLike = str | os.PathLike[str]
READERS: dict[str, Callable[[Path], OpenedFile]] = {
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".btf": open_tiff,
    ".tf8": open_tiff,
    ".stk": open_tiff,
    ".lsm": open_tiff,
    ".mrc": open_mrc,
    ".mrcs": open_mrc,
    ".dv": open_mrc,
    ".r3d": open_mrc,
    ".otf": open_mrc,
    ".raw": open_raw,
    ".yaml": open_raw,
    ".yml": open_raw,
    ".nd2": open_nd2,
    ".mat": open_matlab,
    ".zip": open_zipped,
}
CAMERA_FIELDS = ("offset_counts", "gain_e_per_count", "read_noise_e", "em_gain", "saturation_counts")
AGREEMENT_TOLERANCE = 0.02


def open_stack(paths: PathLike | Sequence[PathLike], kind: StackKind | None = None) -> RawStack:
    """Open a raw stack without reading its frames.

    Parameters
    ----------
    paths
        One path, or one a camera in the instrument's order. A file (TIFF and its dialects, MRC, Priism/DV, raw + yaml, ND2, an array of a
        .mat file, a .zip of images), a Zarr folder, or a folder or pattern (``img_*.tif``) of TIFF files that make one sequence.
    kind
        What the stack is. Empty = what the note beside the first file says, or the file itself, else unknown: it is never guessed.

    Returns
    -------
    RawStack
        Lazy frames (t, y, x) per camera, metadata in our units, and warnings in words.

    Raises
    ------
    StackError
        If a file is missing, damaged, truncated, in colour, of an unknown format, or the cameras differ in length.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise StackError("no file was given; choose at least one raw stack")
    sources = [Path(path) for path in given]
    opened = [_open_one(source) for source in sources]
    note = read_note(sources[0]) or StackNote()
    warnings: list[str] = []
    for source, item in zip(sources, opened, strict=True):
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        item.pixel_nm, words = judge_pixel_nm(item.pixel_nm, "the file's metadata")
        for counts in item.cameras:
            words += look_at_samples(counts, note.saturation_counts)
        warnings += [prefix + word for word in [*item.warnings, *dict.fromkeys(words)]]
    # light-field frames are frames of molecules as well: only the instrument tells them apart
    if kind and note.kind and kind != note.kind and {kind, note.kind} != {"frames", "light_field"}:
        warnings.append(f"opened as {kind}, but {note_path(sources[0]).name} says {note.kind}")
    values = _merge_values(note, opened, warnings)
    metadata = {**opened[0].metadata, "format": opened[0].format}
    metadata["camera"] = {**metadata.get("camera", {}), **_camera_of(note)}
    if note.instrument:
        metadata["instrument"] = str((sources[0].parent / note.instrument).resolve())
    files = [path for item in opened for path in item.files]
    try:
        return RawStack(
            counts_tyx=tuple(counts for item in opened for counts in item.cameras),
            kind=kind or note.kind or opened[0].kind,
            source=tuple(str(path) for path in given),
            fingerprint=fingerprint_files(files),
            metadata=metadata,
            warnings=tuple(warnings),
            **values,
        )
    except pydantic.ValidationError as error:
        raise StackError(f"{', '.join(map(str, given))}: {explain(error, RawStack)}") from error
    except OSError as error:
        raise StackError(f"{error.filename}: cannot be read ({error.strerror}); check that you may read it") from error


def sniff_stack(path: PathLike | Sequence[PathLike]) -> bool:
    """Tell quickly, from endings and first bytes, whether `open_stack` would try this path; never raises."""
    try:
        if not isinstance(path, (str, os.PathLike)):
            return bool(path) and all(sniff_stack(item) for item in path)
        source = Path(path)
        if source.is_dir():
            return is_zarr(source) or bool(find_images(source))
        suffix = source.suffix.lower()
        if not source.is_file() or suffix not in READERS:
            return False
        reader, content = READERS[suffix], recognise_content(source) or ""
        if reader is open_mrc:
            read_mrc_header(source)
            return True
        if reader is open_raw:
            return is_raw_pair(source)
        if reader is open_zipped:
            return holds_images(source)
        if reader is open_matlab:
            # such files hold anything, tables of molecules too: `sniff_matlab` is for who wants words about any of them
            return False
        return "ND2" in content if reader is open_nd2 else "TIFF" in content
    except Exception:  # a reader hook that raises takes the whole drop down with it
        return False


def _open_one(source: Path) -> OpenedFile:
    try:
        if source.is_dir():
            if is_zarr(source):
                return open_zarr(source)
            return open_sequence(find_images(source), str(source))
        if source.is_file():
            return _reader_of(source)(source)
        if glob.has_magic(str(source)):
            return open_sequence([Path(path) for path in glob.glob(str(source))], str(source))
    except OSError as error:
        raise StackError(f"{source}: cannot be read ({error.strerror or error}); check that it exists and that you may read it") from error
    raise StackError(f"{source}: there is no such file or folder; check the name")


def _reader_of(source: Path) -> Callable[[Path], OpenedFile]:
    suffix, content = source.suffix.lower(), recognise_content(source)
    if content is not None and content.startswith("empty"):
        raise StackError(f"{source}: the file is {content}; the copy or the recording failed; copy it again")
    reader = READERS.get(suffix)
    if reader is None:
        known = ", ".join(sorted(READERS))
        what = f"this is {content}, " if content else ""
        raise StackError(f"{source}: {what}raw stacks have one of the endings {known}, or are Zarr folders; convert it to TIFF")
    return reader


def _merge_values(note: StackNote, opened: list[OpenedFile], warnings: list[str]) -> dict[str, Any]:
    """Note before file before nothing; contradictions become warnings."""
    values: dict[str, Any] = {}
    for name in ("pixel_nm", "z_step_nm", "frame_interval_ms"):
        noted = getattr(note, name)
        found = [value for item in opened if (value := getattr(item, name)) is not None]
        offers = ([noted] if noted is not None else []) + found
        values[name] = offers[0] if offers else None
        for other in offers[1:]:
            # a step's sign says which way the stage moves; files state its size only
            if abs(abs(other) / abs(offers[0]) - 1) > AGREEMENT_TOLERANCE:
                first = "the note" if noted is not None else "the first file"
                warnings.append(f"{name} contradicts itself: {first} says {offers[0]:g}, a file says {other:g}; the first is used")
                break
    return values


def _camera_of(note: StackNote) -> dict[str, Any]:
    named = {"name": note.camera_name, **{field: getattr(note, field) for field in CAMERA_FIELDS}}
    return {name: value for name, value in named.items() if value is not None}
