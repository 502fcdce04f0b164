"""Files as several verbs need them: stacks and tables with their notes, and results that can be written before a long job begins."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..domain.images import RawStack, StackKind
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..errors import OutputError, PlanError
from ..io.examples import START, example_instruments, example_models
from ..io.stacks import compare_with_instrument, open_stack
from ..io.stacks.extra_line import without_extra_line
from ..io.tables import read_table


def note(args: argparse.Namespace, words: str) -> None:
    """Tell the user something on stderr, unless told to be quiet."""
    if not args.quiet:
        print(f"Note: {words}", file=sys.stderr)


def open_frames(args: argparse.Namespace, paths: Sequence[Path], instrument: Instrument, kind: StackKind) -> RawStack:
    """Open one acquisition, one file a camera, and tell what looks wrong."""
    stack = without_extra_line(open_stack(list(paths), kind=kind), instrument)
    for words in (*stack.warnings, *compare_with_instrument(stack, instrument)):
        note(args, words)
    return stack


def instrument_file(word: str) -> Path:
    """Return the file of an instrument, given by its path or by the name of one that comes with the package."""
    try:
        return _file_or_shipped(word, example_instruments(), "instrument")
    except PlanError as error:
        # an option's type: argparse names the option
        raise argparse.ArgumentTypeError(str(error)) from None


def model_file(word: str) -> str:
    """Return the file of a model, given by its path or by the name of one that comes with the package.

    Raises
    ------
    PlanError
        If there is neither.
    """
    return str(_file_or_shipped(word, {name: path for name, path in example_models().items() if name != START}, "model"))


def _file_or_shipped(word: str, shipped: dict[str, Path], what: str) -> Path:
    path = Path(word)
    if path.exists() or path.name != word or path.suffix:
        return path
    if word not in shipped:
        raise PlanError(f"{word}: there is no such file, and no {what} of this name comes along ({', '.join(shipped)})")
    return shipped[word]


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how foreign tables are read."""
    parser.add_argument(
        "--camera-pixel-nm",
        type=float,
        metavar="NM",
        help="Camera pixel in the sample, in nm; needed for tables in pixels that do not know it.",
    )


def open_table(args: argparse.Namespace, path: Path, format_name: str | None = None) -> Localizations:
    """Read a table and tell its notes."""
    table = read_table(path, format=format_name, pixel_nm=args.camera_pixel_nm)
    for words in table.provenance.get("notes", []):
        note(args, f"{path.name}: {words}")
    return table


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before the work begins, a result that could not be written or would replace its own input.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, or a folder has the name.
    PlanError
        If the result would replace an input.
    """
    if output.is_dir():
        raise OutputError(f"cannot write {output}: a folder has this name; choose another file name")
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {output}: the folder {folder} does not exist; make it or choose another one")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {output}: the folder {folder} is read-only; choose a folder that you may write to")
    if any(path.exists() and output.exists() and path.samefile(output) for path in inputs):
        raise PlanError(f"--output {output} is the input itself; choose another name")
