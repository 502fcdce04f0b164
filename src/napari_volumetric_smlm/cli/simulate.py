"""vsmlm simulate: a movie whose molecules are known."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..domain.images import StackNote
from ..domain.plans import SimulatePlan
from ..errors import PlanError
from ..io.instruments import load_instrument, save_instrument
from ..io.results import write_image
from ..io.stacks import write_note
from ..io.tables import write_table
from .files import check_output, instrument_file
from .options import add_plan, plan_from
from .progress import carry_out

NAME = "simulate"
SUMMARY = "Make frames of blinking molecules whose positions are known."
DETAILS = (
    "Writes MOVIE.tif (one file a camera: MOVIE_camera1.tif, ...), MOVIE_truth.csv and MOVIE_instrument.json. "
    "Lengths are in nm, brightness in photons; a table row is one molecule in one frame."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="I.json", help="The microscope.")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="MOVIE.tif", help="Movie to write; truth and instrument go beside it."
    )
    add_plan(parser, SimulatePlan)


def run(args: argparse.Namespace) -> None:
    """Simulate and write movie, truth and instrument."""
    plan = plan_from(args, SimulatePlan)
    check_output(args.output, [args.instrument])
    if args.output.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--output {args.output}: a movie is written as .tif")
    instrument = load_instrument(args.instrument)
    from ..recipes.simulate import simulate

    simulation = carry_out(simulate(instrument, plan), args.quiet)
    stem = args.output.stem
    several = len(simulation.stack.counts_tyx) > 1
    beside = args.output.parent
    saved = save_instrument(simulation.instrument, beside / f"{stem}_instrument.json")
    names = []
    for number, counts in enumerate(simulation.stack.counts_tyx, start=1):
        path = beside / f"{stem}_camera{number}{args.output.suffix}" if several else args.output
        pixel_nm = simulation.instrument.cameras[number - 1].pixel_um * 1000 / simulation.instrument.objective.magnification
        names.append(write_image(np.asarray(counts), path, (1.0, pixel_nm, pixel_nm), axes="TYX"))
        write_note(path, StackNote(kind="frames", instrument=saved.name))
    truth = write_table(simulation.truth, beside / f"{stem}_truth.csv")
    print(f"{simulation.stack.frame_count} frames, {len(simulation.truth):,} molecules: {', '.join(map(str, [*names, truth[0], saved]))}")
