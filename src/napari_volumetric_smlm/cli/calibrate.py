"""vsmlm calibrate: bead stacks into a calibrated instrument."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..domain.plans import CalibrationPlan
from ..domain.runs import Calibration
from ..errors import CalibrationError, PlanError
from ..io.instruments import load_instrument, save_instrument
from .files import check_output, instrument_file, open_frames
from .options import add_plan, plan_from
from .progress import carry_out

NAME = "calibrate"
SUMMARY = "Fit the point-spread function to stacks of bead images."
DETAILS = (
    "Slices are the first axis of a stack. With several cameras give one file a camera, in the instrument's order; "
    "more files are further stacks of the same instrument. The z step is in nm and signed. Ends with 1 when the calibration is not usable."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("beads", nargs="+", type=Path, metavar="BEADS.tif", help="Bead stacks.")
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="I.json", help="The microscope as far as it is known.")
    parser.add_argument("--output", type=Path, required=True, metavar="CAL.json", help="The calibrated instrument.")
    parser.add_argument("--report", type=Path, metavar="REPORT.html", help="Pictures and words about the fit, in one file for a browser.")
    add_plan(parser, CalibrationPlan)


def run(args: argparse.Namespace) -> None:
    """Fit, write the instrument, tell the verdict."""
    plan = plan_from(args, CalibrationPlan)
    check_output(args.output, args.beads)
    if args.output.suffix.lower() != ".json":
        raise PlanError(f"--output {args.output}: a calibration is a .json file")
    if args.report is not None:
        check_output(args.report, args.beads)
        if args.report.suffix.lower() != ".html":
            raise PlanError(f"--report {args.report}: a report is an .html file")
    instrument = load_instrument(args.instrument)
    cameras = len(instrument.cameras)
    # one file may also hold all cameras
    each = cameras if len(args.beads) % cameras == 0 else 1
    stacks = [open_frames(args, args.beads[first : first + each], instrument, "beads") for first in range(0, len(args.beads), each)]
    from ..recipes.calibrate import calibrate

    calibration = carry_out(calibrate(stacks, instrument, plan), args.quiet)
    save_instrument(calibration.instrument, args.output)
    print("\n".join(lines(calibration)))
    written = [args.output]
    if args.report is not None:
        from ..recipes.report import write_report

        written.append(write_report(calibration, args.report))
    print(f"Written: {', '.join(map(str, written))}")
    if not calibration.passed:
        raise CalibrationError("the calibration was written, but it is not good enough to be trusted; see the verdict above")


def lines(calibration: Calibration) -> list[str]:
    """Return the evidence in words."""
    unseen = calibration.correlation_z[calibration.held_out_z.astype(bool)]
    rows = [f"Verdict: {calibration.verdict}"]
    if len(unseen):
        rows.append(f"Correlation on {len(unseen)} slices that the fit did not see: mean {unseen.mean():.3f}, lowest {unseen.min():.3f}")
    if calibration.opposite_correlation_held_out is not None:
        rows.append(f"With the opposite z direction: {calibration.opposite_correlation_held_out:.3f}")
    return rows
