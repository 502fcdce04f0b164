"""vsmlm convert: a table into another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.tables import FORMATS, columns_left_out, write_table
from .files import add_table_options, check_output, note, open_table

NAME = "convert"
SUMMARY = "Write a table of molecules in another format."
DETAILS = "Formats: " + ", ".join(FORMATS) + ". Pixel origin, first frame and units are translated."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    writable = [name for name, rules in FORMATS.items() if rules.writable]
    parser.add_argument("table", type=Path, metavar="TABLE", help="Table to read.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="Table to write.")
    parser.add_argument("--from", dest="from_format", choices=list(FORMATS), help="Format to read; left out = recognised from the content.")
    parser.add_argument("--to", dest="to_format", choices=writable, help="Format to write; left out = from the ending of --output.")
    add_table_options(parser)


def run(args: argparse.Namespace) -> None:
    """Read and write."""
    check_output(args.output, [args.table])
    table = open_table(args, args.table, args.from_format)
    written = write_table(table, args.output, args.to_format)
    if args.to_format is not None and (lost := columns_left_out(table, args.to_format)):
        note(args, f"{args.to_format} has no place for the columns {', '.join(lost)}")
    print(f"{len(table):,} molecules written: {', '.join(map(str, written))}")
