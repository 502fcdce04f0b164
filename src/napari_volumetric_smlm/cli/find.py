"""vsmlm find: volumes that are there already into a table of molecules or of blobs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..domain.molecules import Localizations
from ..domain.volume_plans import FindPlan
from ..errors import TableError
from ..io.tables import FORMATS, columns_left_out, write_table
from ..io.tables.files import BY_SUFFIX
from ..io.volume_files import open_volumes
from .files import check_output, note
from .options import add_plan, plan_from
from .progress import Stopped, carry_out

NAME = "find"
SUMMARY = "Find molecules or blobs (lysosomes, peroxisomes) in volumes."
DETAILS = (
    "Reads a volume (z, y, x) or a series of volumes (t, z, y, x), such as those of vsmlm deconvolve and vsmlm reconstruct --volume. One "
    "row each: place in nm, light in the volume's quantity (of ours: detected photons), of blobs also the diameter. The frame of a row is "
    "the one that its volume shows. Ctrl-C writes what was found until then and marks the table as incomplete."
)
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    writable = [name for name, rules in FORMATS.items() if rules.writable]
    parser.add_argument("volumes", type=Path, metavar="VOLUMES.tif", help="A volume, or a series of them.")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT.csv", help="Table to write; the ending chooses the format.")
    parser.add_argument("--format", choices=writable, help="Format of the table; left out = from the ending of --output.")
    add_plan(parser, FindPlan)


def run(args: argparse.Namespace) -> int:
    """Find and write the table, also after Ctrl-C."""
    plan = plan_from(args, FindPlan)
    check_output(args.output, [args.volumes])
    if args.format is None and args.output.suffix.lower() not in BY_SUFFIX:
        raise TableError(f"--output {args.output}: no table format has this ending; use {', '.join(BY_SUFFIX)}, or name one with --format")
    file = open_volumes(args.volumes, plan.voxel_zyx_nm)
    from ..recipes.volume_molecules import find_in_volumes, tell_origin

    try:
        table, done = carry_out(find_in_volumes(file, plan), args.quiet), True
    except Stopped as stop:
        if not stop.previews:
            note(args, "stopped before any volume was done; nothing was written")
            return INTERRUPTED
        table, done = tell_origin(Localizations.joined(stop.previews), file, plan, complete=False), False
    written = _write(args, table)
    words = f"{len(table):,} {plan.what} in {len(set(table['frame'].tolist())):,} of {file.count:,} volumes: {', '.join(map(str, written))}"
    print(words if done else f"Stopped: {words} (marked as incomplete)")
    return 0 if done else INTERRUPTED


def _write(args: argparse.Namespace, table: Localizations) -> list[Path]:
    written = write_table(table, args.output, args.format)
    if args.format is not None and (lost := columns_left_out(table, args.format)):
        note(args, f"{args.format} has no place for the columns {', '.join(lost)}")
    return written
