"""vsmlm simulate: a movie whose molecules are known, or a scan over beads to calibrate from."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..domain.bead_plans import BeadScanPlan
from ..domain.images import RawStack, StackNote
from ..domain.instrument import Instrument
from ..domain.plans import SimulatePlan
from ..errors import PlanError
from ..io.instruments import load_instrument, save_instrument
from ..io.json_files import read_json
from ..io.results import write_image
from ..io.stacks import write_note
from ..io.tables import write_table
from .files import check_output, instrument_file
from .options import add_plan, option_of, plan_from
from .progress import carry_out

NAME = "simulate"
SUMMARY = "Make frames of blinking molecules whose positions are known, or a scan over beads."
DETAILS = (
    "Writes MOVIE.tif (one file a camera: MOVIE_camera1.tif, ...), MOVIE_truth.csv and MOVIE_instrument.json. "
    "Lengths are in nm, brightness in photons; a table row is one molecule in one frame. "
    "With --bead-count: slices of beads on the coverslip, the focal plane moving, for vsmlm calibrate; no table."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="I.json", help="The microscope.")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="MOVIE.tif", help="Movie to write; truth and instrument go beside it."
    )
    add_plan(parser, SimulatePlan, BeadScanPlan)


def run(args: argparse.Namespace) -> None:
    """Simulate and write movie or scan, truth and instrument."""
    beads = _asks_for_beads(args)
    plan = plan_from(args, BeadScanPlan) if beads else plan_from(args, SimulatePlan)
    check_output(args.output, [args.instrument])
    if args.output.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--output {args.output}: a movie is written as .tif")
    instrument = load_instrument(args.instrument)
    if isinstance(plan, BeadScanPlan):
        from ..recipes.simulate_beads import simulate_beads

        scan = carry_out(simulate_beads(instrument, plan), args.quiet)
        names = _write(scan.stack, instrument, args.output)
        places = "; ".join(f"{row:.1f}, {column:.1f}" for row, column in scan.positions_yx_px)
        print(f"{scan.stack.frame_count} slices {plan.z_step_nm:g} nm apart, beads at row, column {places}: {', '.join(map(str, names))}")
        return
    from ..recipes.simulate import simulate

    simulation = carry_out(simulate(instrument, plan), args.quiet)
    *names, saved = _write(simulation.stack, instrument, args.output)
    truth = write_table(simulation.truth, args.output.parent / f"{args.output.stem}_truth.csv")
    print(f"{simulation.stack.frame_count} frames, {len(simulation.truth):,} molecules: {', '.join(map(str, [*names, truth[0], saved]))}")


def _asks_for_beads(args: argparse.Namespace) -> bool:
    """Whether a bead scan is asked for.

    Raises
    ------
    PlanError
        If options of a movie and of a bead scan stand beside each other.
    """
    beads = hasattr(args, "bead_count") or (args.plan is not None and "bead_count" in read_json(args.plan))
    mine, other = (BeadScanPlan, SimulatePlan) if beads else (SimulatePlan, BeadScanPlan)
    stray = [option_of(name) for name in other.model_fields if name not in mine.model_fields and hasattr(args, name)]
    if stray and beads:
        raise PlanError(f"{', '.join(stray)}: said of movies; leave it out for a bead scan, or leave --bead-count out for a movie")
    if stray:
        raise PlanError(f"{', '.join(stray)}: said of bead scans; give --bead-count as well, or leave it out for a movie")
    return beads


def _write(stack: RawStack, instrument: Instrument, output: Path) -> list[Path]:
    """Write one file a camera, each with a note, and the instrument; return the files, the instrument's last."""
    saved = save_instrument(instrument, output.parent / f"{output.stem}_instrument.json")
    names = []
    for number, counts in enumerate(stack.counts_tyx, start=1):
        path = output.with_name(f"{output.stem}_camera{number}{output.suffix}") if len(stack.counts_tyx) > 1 else output
        pixel_nm = instrument.cameras[number - 1].pixel_um * 1000 / instrument.objective.magnification
        names.append(write_image(np.asarray(counts), path, (1.0, pixel_nm, pixel_nm), axes="TYX"))
        write_note(path, StackNote(kind=stack.kind, z_step_nm=stack.z_step_nm, instrument=saved.name))
    return [*names, saved]
