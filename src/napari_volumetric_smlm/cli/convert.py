"""vsmlm convert: a table into another format, a released checkpoint into a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.models import write_model_weights
from ..io.tables import FORMATS, columns_left_out, write_table
from .files import add_table_options, check_output, note, open_table

NAME = "convert"
SUMMARY = "Write a table of molecules in another format, or a released checkpoint as a model."
DETAILS = (
    "Formats: " + ", ".join(FORMATS) + ". Pixel origin, first frame and units are translated. With an --output that ends in "
    ".safetensors, the input is a PyTorch checkpoint of the published V-Net or L-Net; weights and numbers alone are read from it."
)
MODEL = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    writable = [name for name, rules in FORMATS.items() if rules.writable]
    parser.add_argument("table", type=Path, metavar="TABLE", help="Table (or checkpoint) to read.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="Table (or model) to write.")
    parser.add_argument("--from", dest="from_format", choices=list(FORMATS), help="Format to read; left out = recognised from the content.")
    parser.add_argument("--to", dest="to_format", choices=writable, help="Format to write; left out = from the ending of --output.")
    add_table_options(parser)


def run(args: argparse.Namespace) -> None:
    """Read and write."""
    check_output(args.output, [args.table])
    if args.output.suffix.lower() == MODEL:
        from ..recipes.released_weights import read_released

        weights, card = read_released(args.table)
        written_to = write_model_weights(weights, card.model_dump(mode="json"), args.output)
        units = card.units
        print(
            f"{sum(value.size for value in weights.values()):,} numbers written: {written_to}; for instruments with pixels of "
            f"{units['pixel_nm']:g} nm and depth_range_nm from {units['low_nm']:g} to {units['high_nm']:g}"
        )
        return
    table = open_table(args, args.table, args.from_format)
    written = write_table(table, args.output, args.to_format)
    if args.to_format is not None and (lost := columns_left_out(table, args.to_format)):
        note(args, f"{args.to_format} has no place for the columns {', '.join(lost)}")
    print(f"{len(table):,} molecules written: {', '.join(map(str, written))}")
