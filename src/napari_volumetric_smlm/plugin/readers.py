"""Reader hooks: decide by content and without raising, open without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..errors import SmlmError
from ..io.instruments import load_instrument
from ..io.stacks import open_stack, sniff_matlab, sniff_stack
from ..io.tables import read_table, sniff_format
from ..io.volume_files import is_volume_of_ours, open_volumes
from .layers import LayerData, lay_stack, lay_table
from .settings import preferences
from .volume_layers import lay_volume_file

Reader = Callable[[Any], list[Any]]
# napari's way to say "opened, but nothing to show"
NOTHING: list[Any] = [(None,)]


def stack_reader(path: str | list[str]) -> Reader | None:
    """Return a reader when the path is a raw stack, or a MATLAB file without molecules: one that holds no stack either is told in words.

    Several paths are left to others: which camera is which, only the widget can ask.
    """
    return _read_stack if isinstance(path, (str, os.PathLike)) and (sniff_stack(path) or sniff_matlab(path)) else None


def table_reader(path: str | list[str]) -> Reader | None:
    """Return a reader when the path is a table of molecules of a known format."""
    return _read_table if isinstance(path, (str, os.PathLike)) and Path(path).is_file() and sniff_format(path) else None


def _read_stack(path: Any) -> list[Any]:
    if is_volume_of_ours(path):
        return _in_words(lambda: [lay_volume_file(open_volumes(path), Path(path).name)])
    return _in_words(lambda: show_stack(open_stack(path)))


def _read_table(path: Any) -> list[Any]:
    return _in_words(lambda: show_table(read_table(path), Path(path).name))


def show_stack(stack: RawStack) -> list[LayerData]:
    """Return the layers of a stack; tell its warnings, and ask what it is where nobody has said."""
    from napari.utils.notifications import show_info, show_warning

    if stack.warnings:
        show_warning("\n".join(stack.warnings))
    if stack.kind is None:
        show_info(
            "Nothing says whether these are SMLM frames or beads, a light field or stripes: choose them in the widget where you need them."
        )
    return lay_stack(stack, instrument_beside(stack))


def show_table(table: Localizations, name: str) -> list[LayerData]:
    """Return the layers of a table; tell what its reader noticed."""
    from napari.utils.notifications import show_info, show_warning

    limit = preferences().point_limit
    notes = table.provenance.get("notes") or []
    if notes:
        show_warning("\n".join(map(str, notes)))
    if len(table) > limit:
        show_info(f"{len(table):,} molecules: the picture shows all, the points {limit:,} of them (see Preferences). Saving saves all.")
    return lay_table(table, name, limit)


def instrument_beside(stack: RawStack) -> Instrument | None:
    """Return the instrument that the note beside a stack names; a wrong one is told."""
    path = stack.metadata.get("instrument")
    if not path:
        return None
    try:
        return load_instrument(path)
    except SmlmError as error:
        from napari.utils.notifications import show_warning

        show_warning(f"The note beside the stack names an instrument that cannot be used: {error}")
        return None


def _in_words(read: Callable[[], list[Any]]) -> list[Any]:
    from napari.utils.notifications import show_error

    try:
        return read()
    except SmlmError as error:
        # raised, it would reach the user as a traceback
        show_error(str(error))
        return NOTHING
