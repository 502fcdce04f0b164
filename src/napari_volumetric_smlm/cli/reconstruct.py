"""vsmlm reconstruct: raw frames into molecules."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from ..domain.molecules import Localizations
from ..domain.plans import ReconstructPlan
from ..domain.volume_plans import VolumePlan
from ..errors import OutputError, PlanError, TableError
from ..io.instruments import load_instrument
from ..io.tables import FORMATS, write_table
from ..io.tables.files import BY_SUFFIX
from ..recipes.record import Collector
from .deconvolve import add_each_frame, open_views, words_of, write_each_frame, write_volume
from .files import check_output, instrument_file, model_file, note, open_frames
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
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="CAL.json", help="The calibrated instrument.")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT.csv", help="Table to write; the ending chooses the format.")
    parser.add_argument("--format", choices=writable, help="Format of the table; left out = from the ending of --output.")
    parser.add_argument(
        "--volume",
        action="store_true",
        help="Write a volume (.tif) instead of a table: the mean of light-field frames, by a --model of the architecture vnet.",
    )
    add_each_frame(parser, "With --volume: a volume of every frame, with the axes t, z, y, x, instead of one volume of their mean.")
    add_plan(parser, ReconstructPlan, VolumePlan)


def run(args: argparse.Namespace) -> int:
    """Localize and write the table, also after Ctrl-C."""
    plan = plan_from(args, ReconstructPlan)
    if plan.model is not None:
        plan = plan.model_copy(update={"model": model_file(plan.model)})
    if args.volume:
        return _write_volume(args, plan)
    check_output(args.output, args.frames)
    if args.format is None and args.output.suffix.lower() not in BY_SUFFIX:
        raise TableError(f"--output {args.output}: no table format has this ending; use {', '.join(BY_SUFFIX)}, or name one with --format")
    instrument = load_instrument(args.instrument)
    stack = open_frames(args, args.frames, instrument, "frames")
    from ..recipes.reconstruct import reconstruct

    collector = Collector((stack, instrument, plan))
    try:
        result = carry_out(reconstruct(stack, instrument, plan), args.quiet, collector.take)
    except Stopped:
        kept = collector.partial("stopped by the user")
        if kept is None:
            note(args, "stopped before any frame was done; nothing was written")
            return INTERRUPTED
        written = write_or_rescue(kept.localizations, args.output, args.format)
        print(f"Stopped: {len(kept.localizations):,} molecules of the frames that were done: {written[0]} (marked as incomplete)")
        return INTERRUPTED
    except Exception as error:
        kept = collector.partial(f"failed: {error}")
        if kept is not None:
            # beside the name that was asked for: an older result there is complete, this one is not
            place = args.output.with_name(f"{args.output.stem}.incomplete{args.output.suffix}")
            written = write_or_rescue(kept.localizations, place, args.format)
            print(f"{len(kept.localizations):,} molecules of {kept.frames_done:,} frames, found until then: {written[0]}", file=sys.stderr)
        raise
    written = write_or_rescue(result.localizations, args.output, args.format)
    rate = result.frames_done / result.seconds if result.seconds > 0 else 0.0
    print(
        f"{len(result.localizations):,} molecules in {result.frames_done:,} frames, {duration(result.seconds)} "
        f"({rate:.3g} frames per second): {', '.join(map(str, written))}"
    )
    return 0


def _write_volume(args: argparse.Namespace, plan: ReconstructPlan) -> int:
    if plan.model is None:
        raise PlanError("--volume needs --model: one that vsmlm train --architecture vnet made; without a model use vsmlm deconvolve")
    stack, instrument = open_views(args)
    from ..recipes.volume import make_volume

    shared = {name: getattr(plan, name) for name in VolumePlan.model_fields if name in ReconstructPlan.model_fields}
    alone = {name: getattr(args, name) for name in VolumePlan.model_fields if name not in shared and hasattr(args, name)}
    chosen = VolumePlan.model_validate(shared | alone)
    if args.each_frame:
        return write_each_frame(args, stack, instrument, chosen)
    volume = carry_out(make_volume(stack, instrument, chosen), args.quiet)
    write_volume(volume, args.output, (stack, instrument, chosen))
    print(f"{words_of(volume)}: {args.output}")
    return 0


def write_or_rescue(table: Localizations, output: Path, format_name: str | None) -> list[Path]:
    """Write a table; where that fails (full disk, folder gone) put it into the folder for temporary files: hours went into it.

    Raises
    ------
    OutputError
        In any case when the first place failed; it names the second.
    """
    try:
        return write_table(table, output, format_name)
    except OutputError as error:
        folder = Path(tempfile.mkdtemp(prefix="vsmlm-rescued-"))
        try:
            written = write_table(table, folder / output.name, format_name)
        except OutputError:
            shutil.rmtree(folder, ignore_errors=True)
            raise error from None
        raise OutputError(f"{error}. The table is kept in {written[0]}") from error
