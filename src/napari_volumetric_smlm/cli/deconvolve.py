"""vsmlm deconvolve: light-field frames into a volume, without a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.noun import Noun
from ..domain.volume_plans import DeconvolvePlan, ViewsPlan
from ..errors import PlanError
from ..io.instruments import load_instrument
from ..io.results import write_image, write_provenance
from ..io.volume_series import incomplete_path
from .files import check_output, instrument_file, note, open_frames
from .options import add_plan, plan_from
from .progress import Stopped, carry_out, duration

NAME = "deconvolve"
SUMMARY = "Make a volume from light-field frames by Richardson-Lucy deconvolution."
DETAILS = (
    "Give raw frames, or one file a view with an instrument that has one camera a view. The mean of the frames is deconvolved. Lengths are "
    "in nm, brightness in detected photons. Ctrl-C writes the volume of the last whole iteration."
)
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("frames", nargs="+", type=Path, metavar="FRAMES.tif", help="Light-field frames.")
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="CAL.json", help="The calibrated instrument.")
    parser.add_argument("--output", type=Path, required=True, metavar="VOLUME.tif", help="Volume to write, with its voxel size.")
    add_each_frame(parser, "Write a volume of every frame, with the axes t, z, y, x, instead of one volume of their mean.")
    add_plan(parser, DeconvolvePlan)


def run(args: argparse.Namespace) -> int:
    """Deconvolve and write the volume, also after Ctrl-C."""
    plan = plan_from(args, DeconvolvePlan)
    stack, instrument = open_views(args)
    if args.each_frame:
        return write_each_frame(args, stack, instrument, plan)
    from ..recipes.deconvolve import deconvolve

    latest: list[Any] = []
    try:
        volume = carry_out(deconvolve(stack, instrument, plan), args.quiet, lambda progress: latest.append(progress.preview))
    except Stopped:
        reached = latest[-1] if latest else None
        if reached is None:
            note(args, "stopped before the first iteration was done; nothing was written")
            return INTERRUPTED
        write_volume(reached.volume(), args.output, (stack, instrument, plan), iterations=reached.iterations)
        print(f"Stopped: the volume of {reached.iterations} of {plan.iterations} iterations is in {args.output}")
        return INTERRUPTED
    write_volume(volume, args.output, (stack, instrument, plan), iterations=plan.iterations)
    print(f"{words_of(volume)}, {plan.iterations} iterations: {args.output}")
    return 0


def open_views(args: argparse.Namespace) -> tuple[RawStack, Instrument]:
    """Open the frames and the instrument, once the volume is known to be writable.

    Raises
    ------
    PlanError
        If the output is no TIFF.
    """
    if args.output.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--output {args.output}: a volume is written as .tif")
    check_output(args.output, args.frames)
    instrument = load_instrument(args.instrument)
    return open_frames(args, args.frames, instrument, "frames"), instrument


def write_volume(volume: Volume, output: Path, made_from: tuple[RawStack, Instrument, Noun], **record: Any) -> None:
    """Write a volume as OME-TIFF, and beside it how it came about."""
    from ..recipes.volume_series import record_of

    write_image(volume.values_zyx, output, volume.voxel_zyx_nm, origin_zyx_nm=volume.origin_zyx_nm)
    write_provenance(record_of(volume, made_from, **record), output)


def write_each_frame(args: argparse.Namespace, stack: RawStack, instrument: Instrument, plan: ViewsPlan) -> int:
    """Write a volume of every frame, also after Ctrl-C."""
    from ..recipes.volume_series import write_volumes

    try:
        written = carry_out(write_volumes(stack, instrument, plan, args.output), args.quiet)
    except Stopped:
        kept = incomplete_path(args.output)
        print(f"Stopped: the volumes until then are in {kept}" if kept.is_file() else "Stopped before the first volume was done")
        return INTERRUPTED
    print(f"{written.count} volumes of {words_of(written.last)}, {duration(written.seconds)}: {written.place}")
    return 0


def add_each_frame(parser: argparse.ArgumentParser, words: str) -> None:
    """Add the option for one volume a frame."""
    parser.add_argument("--each-frame", action="store_true", help=words)


def words_of(volume: Volume) -> str:
    """Size and voxel of a volume."""
    planes, rows, columns = volume.values_zyx.shape
    depth, pixel, _ = volume.voxel_zyx_nm
    return f"{planes} planes {depth:g} nm apart, {rows} x {columns} pixels of {pixel:g} nm"
