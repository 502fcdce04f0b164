"""The small JSON file beside a stack that says what the stack is."""

from __future__ import annotations

import os
from pathlib import Path

from ...domain.images import StackNote
from ...errors import StackError
from ..json_files import read_noun, write_noun

NOTE_SUFFIX = ".vsmlm.json"


def note_path(path: str | os.PathLike[str]) -> Path:
    """Where the note of a stack stands: the stack's full name with .vsmlm.json behind it (movie.tif.vsmlm.json).

    The full name, as movie.tif, movie.mrc and a result movie.csv may lie in one folder.
    """
    stack = Path(path)
    return stack.with_name(stack.name + NOTE_SUFFIX)


def read_note(path: str | os.PathLike[str]) -> StackNote | None:
    """Read the note of a stack, or None where there is none.

    Raises
    ------
    StackError
        If there is a note and it is damaged or has an unknown key.
    """
    place = note_path(path)
    return read_noun(place, StackNote, StackError, largest_mib=1) if place.is_file() else None


def write_note(path: str | os.PathLike[str], note: StackNote) -> Path:
    """Write the note of a stack beside it and return where it stands.

    Raises
    ------
    OutputError
        If the folder is read-only or the disk full; an older note is then untouched.
    """
    return write_noun(note, note_path(path))
