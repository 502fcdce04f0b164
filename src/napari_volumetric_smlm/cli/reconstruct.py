"""vsmlm reconstruct: raw frames into molecules."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..domain.molecules import Localizations
from ..domain.plans import ReconstructPlan
from ..errors import TableError
from ..io.instruments import load_instrument
from ..io.tables import FORMATS, write_table
from ..io.tables.files import BY_SUFFIX
from .files import check_output, note, open_frames
from .options import add_plan, plan_from
from .progress import Stopped, carry_out, duration

NAME = "reconstruct"
SUMMARY = "Find the molecules in raw frames."
DETAILS = (
    "With several cameras give one file a camera, in the instrument's order. Positions and their errors are in nm, brightness in "
    "detected photons, frames count from 0. Ctrl-C writes what was found until then and marks the table as incomplete."
)
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    writable = [name for name, rules in FORMATS.items() if rules.writable]
    parser.add_argument("frames", nargs="+", type=Path, metavar="FRAMES.tif", help="Raw frames.")
    parser.add_argument("--instrument", type=Path, required=True, metavar="CAL.json", help="The calibrated instrument.")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT.csv", help="Table to write; the ending chooses the format.")
    parser.add_argument("--format", choices=writable, help="Format of the table; left out = from the ending of --output.")
    add_plan(parser, ReconstructPlan)


def run(args: argparse.Namespace) -> int:
    """Localize and write the table, also after Ctrl-C."""
    plan = plan_from(args, ReconstructPlan)
    check_output(args.output, args.frames)
    if args.format is None and args.output.suffix.lower() not in BY_SUFFIX:
        raise TableError(f"--output {args.output}: no table format has this ending; use {', '.join(BY_SUFFIX)}, or name one with --format")
    instrument = load_instrument(args.instrument)
    stack = open_frames(args, args.frames, instrument, "frames")
    from ..recipes.reconstruct import reconstruct

    try:
        result = carry_out(reconstruct(stack, instrument, plan), args.quiet)
    except Stopped as stopped:
        table = partial_table(stopped.previews, stopped.done)
        if table is None:
            note(args, "stopped before any frame was done; nothing was written")
            return INTERRUPTED
        made_with = {"plan": plan.model_dump(mode="json"), "instrument_fingerprint": instrument.fingerprint, "source": list(stack.source)}
        table = table.model_copy(update={"provenance": {**made_with, **table.provenance}})
        written = write_table(table, args.output, args.format)
        print(f"Stopped: {len(table):,} molecules of the frames that were done: {written[0]} (marked as incomplete)")
        return INTERRUPTED
    written = write_table(result.localizations, args.output, args.format)
    rate = result.frames_done / result.seconds if result.seconds > 0 else 0.0
    print(
        f"{len(result.localizations):,} molecules in {result.frames_done:,} frames, {duration(result.seconds)} "
        f"({rate:.3g} frames per second): {', '.join(map(str, written))}"
    )
    return 0


def partial_table(previews: list[Any], done: int) -> Localizations | None:
    """Join the molecules that were told until the stop; None when there were none."""
    batches = [batch for batch in previews if isinstance(batch, Localizations)]
    if not batches:
        return None
    table = Localizations.joined(batches)
    record = {
        **table.provenance,
        "complete": False,
        "frames_done": done,
        "notes": [*table.provenance.get("notes", []), "stopped by the user"],
    }
    return table.model_copy(update={"provenance": record})
