"""vsmlm structured: patterns and reconstruction of structured illumination."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydantic

from .. import __version__
from ..domain.illumination import Illumination, StructuredImages
from ..domain.images import RawStack, StackNote
from ..domain.instrument import Instrument
from ..domain.noun import Noun
from ..domain.structured_plans import EstimatePlan, Microscope, StructuredPlan, StructuredSimulatePlan
from ..errors import InputError, OutputError, PlanError, StackError
from ..io.instruments import load_instrument, save_instrument
from ..io.json_files import explain
from ..io.otf_files import load_illumination, load_otf, save_illumination
from ..io.results import write_image, write_png, write_provenance, write_structured
from ..io.stacks import open_stack, sniff_stack, write_note
from .files import check_output, instrument_file, note
from .options import add_plan, option_of, plan_from
from .progress import carry_out

NAME = "structured"
SUMMARY = "Structured illumination: find patterns, reconstruct, simulate."
DETAILS = "Each task has its own help: vsmlm structured reconstruct --help."

# of files that this verb writes
ENDINGS = ("_structured", "_wide_field", "_optical_section", "_pseudo_confocal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three tasks and what they take."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    kinds: dict[str, tuple[str, type[Noun], Callable[[argparse.Namespace], int]]] = {
        "estimate": ("Find the patterns in a raw stack and say whether they can be trusted.", EstimatePlan, _estimate),
        "reconstruct": ("Reconstruct raw stacks; a bad file is told and left out.", StructuredPlan, _reconstruct),
        "simulate": ("Make a raw stack whose patterns are known.", StructuredSimulatePlan, _simulate),
    }
    for name, (summary, plan, work) in kinds.items():
        task = tasks.add_parser(name, help=summary, description=summary + " Lengths are in nm, frequencies in cycles per um.")
        task.set_defaults(work=work)
        if name == "estimate":
            task.add_argument("stack", type=Path, metavar="STACK", help="Raw stack (TIFF, MRC, DeltaVision, ND2, Zarr).")
            task.add_argument("--output", type=Path, metavar="PATTERNS.json", help="Patterns to write.")
            task.add_argument("--picture", type=Path, metavar="P.png", help="Picture to write: spectra above, overlap of the bands below.")
        elif name == "reconstruct":
            task.add_argument("stacks", type=Path, nargs="+", metavar="STACK", help="Raw stacks, or folders of them.")
            task.add_argument("--output", type=Path, required=True, metavar="SR.tif", help="Image to write; for several stacks, a folder.")
            task.add_argument("--patterns", type=Path, metavar="PATTERNS.json", help="Known patterns; left out = found in each stack.")
            task.add_argument("--wide-field", action="store_true", help="Write the wide-field image beside it (_wide_field.tif).")
        else:
            task.add_argument("--output", type=Path, required=True, metavar="RAW.tif", help="Stack to write; its patterns go beside it.")
        _add_optics(task, simulated=name == "simulate")
        add_plan(task, plan)
        for flag, words in (("--quiet", "No progress and no notes on stderr."), ("--debug", "Show the traceback of an error.")):
            task.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=words)


def run(args: argparse.Namespace) -> int:
    """Do the chosen task."""
    return int(args.work(args) or 0)


def _add_optics(parser: argparse.ArgumentParser, simulated: bool) -> None:
    group = parser.add_argument_group("microscope")
    group.add_argument("--instrument", type=instrument_file, metavar="I.json", help="The microscope; or the numbers below.")
    group.add_argument("--numerical-aperture", type=float, metavar="NA", help="Numerical aperture of the objective.")
    group.add_argument("--emission-nm", type=float, metavar="NM", help="Wavelength of the emitted light.")
    group.add_argument("--pixel-nm", type=float, metavar="NM", help="Pixel in the sample; left out = what the file says.")
    group.add_argument("--immersion-index", type=float, default=1.518, metavar="N", help="Refractive index of the immersion (1.518).")
    if not simulated:
        group.add_argument("--otf", type=Path, metavar="OTF", help="Measured radial OTF (.mrc, .otf, .tif).")
        group.add_argument("--otf-step-per-um", type=float, metavar="X", help="Step of the OTF, where its file does not say it.")


def _instrument(args: argparse.Namespace, stack: RawStack | None) -> Instrument:
    """The microscope from a file or from the numbers, with the camera that the stack knows of."""
    if args.instrument is not None:
        return load_instrument(args.instrument)
    pixel_nm = args.pixel_nm or (stack.pixel_nm if stack is not None else None)
    numbers = {"numerical_aperture": args.numerical_aperture, "emission_nm": args.emission_nm, "pixel_nm": pixel_nm}
    missing = [option_of(name) for name, value in numbers.items() if not value]
    if missing:
        raise PlanError(f"{', '.join(missing)}: needed to know which frequencies the lens passes; state them, or give --instrument")
    try:
        return Microscope.model_validate({**numbers, "immersion_index": args.immersion_index}).instrument(stack)
    except pydantic.ValidationError as problem:
        raise PlanError(explain(problem, Microscope)) from problem


def _open(args: argparse.Namespace, path: Path) -> tuple[RawStack, Instrument]:
    stack = open_stack(path, kind="structured")
    for words in stack.warnings:
        note(args, words)
    return stack, _instrument(args, stack)


def _estimate(args: argparse.Namespace) -> int:
    plan = plan_from(args, EstimatePlan)
    for path in (args.output, args.picture):
        if path is not None:
            check_output(path, [args.stack])
    stack, instrument = _open(args, args.stack)
    otf = load_otf(args.otf, args.otf_step_per_um) if args.otf is not None else None
    from ..recipes.structured import estimate_patterns
    from ..recipes.structured_picture import evidence_picture

    found = carry_out(estimate_patterns(stack, instrument, plan, otf), args.quiet)
    for words in found.notes:
        note(args, words)
    verdict = found.illumination.verdict
    print("\n".join(_table(found.illumination)))
    print(f"Order of the frames: {found.order}{'' if found.order_is_sure else ' (not certain: state it with --order)'}")
    print(verdict.words if verdict is not None else "")
    if args.output is not None:
        print(save_illumination(found.illumination, args.output))
    if args.picture is not None:
        print(write_png(evidence_picture(found), args.picture))
    return 0 if verdict is None or any(verdict.passed) else 1


def _table(illumination: Illumination) -> list[str]:
    axial = illumination.geometry.axial
    heading = "orientation  wave  period nm  angle deg  modulation  phase rad  z-score  error of k 1/um  modulation/noise"
    rows = [heading + ("  period along z nm" if axial else "")]
    for number, orientation in enumerate(illumination.orientations):
        for wave in orientation.waves:
            seen = wave.evidence
            proof = f"{seen.z_score:7.1f}  {seen.sigma_frequency_per_um:15.4f}  {seen.modulation_to_noise:16.2f}" if seen else "given"
            stands = f"{1000 / wave.axial_per_um:17.0f}" if wave.axial_per_um else " " * 16 + "-"
            rows.append(
                f"{number:11d}  {wave.step:4d}  {wave.period_nm:9.1f}  {math.degrees(wave.angle_rad):9.2f}  {wave.modulation:10.2f}  "
                f"{wave.phase_rad:9.2f}  {proof}" + (f"  {stands}" if axial else "")
            )
    return rows


def _reconstruct(args: argparse.Namespace) -> int:
    plan = plan_from(args, StructuredPlan)
    known = load_illumination(args.patterns) if args.patterns is not None else None
    stacks = _stacks(args.stacks)
    several = len(stacks) > 1 or args.output.is_dir()
    if several and not args.output.is_dir():
        raise OutputError(f"--output {args.output}: several stacks are written into a folder; make it or choose another one")
    if not several and args.output.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--output {args.output}: an image is written as .tif")
    failed = 0
    for path in stacks:
        target = args.output / f"{path.stem}_structured.tif" if several else args.output
        try:
            check_output(target, stacks)
            result = _one(args, plan, path, known)
            print(_write(result, target, args.wide_field, plan))
        except InputError as error:
            if not several:
                raise
            failed += 1
            print(f"{path}: left out: {error}")
    if several:
        print(f"{len(stacks) - failed} of {len(stacks)} stacks reconstructed")
    return 1 if failed else 0


def _stacks(given: Sequence[Path]) -> list[Path]:
    """Stacks, and in place of a folder the stacks in it, without results of ours."""
    found: list[Path] = []
    for path in given:
        if path.is_dir() and not path.suffix:
            inside = sorted(file for file in path.iterdir() if file.is_file() and sniff_stack(file) and not file.stem.endswith(ENDINGS))
            if not inside:
                raise StackError(f"{path}: no raw stack lies in this folder; choose another one")
            found += inside
        else:
            found.append(path)
    return found


def _one(args: argparse.Namespace, plan: StructuredPlan, path: Path, known: Illumination | None) -> StructuredImages:
    stack, instrument = _open(args, path)
    otf = load_otf(args.otf, args.otf_step_per_um) if args.otf is not None else None
    from ..recipes.structured import reconstruct_structured

    result = carry_out(reconstruct_structured(stack, instrument, plan, known, otf), args.quiet)
    for words in result.notes:
        note(args, words)
    return result


def _write(result: StructuredImages, target: Path, with_wide_field: bool, plan: StructuredPlan) -> str:
    names = [write_structured(result.images_tyx, result, target)]
    others = [("optical_section", result.section_tyx), ("pseudo_confocal", result.pseudo_confocal_tyx)]
    for ending, images in [("wide_field", result.wide_field_tyx if with_wide_field else None), *others]:
        if images is not None:
            names.append(write_structured(images, result, target.with_name(f"{target.stem}_{ending}.tif")))
    names.append(save_illumination(result.illumination, target.with_name(f"{target.stem}_patterns.json")))
    record = {
        "program": f"napari-volumetric-smlm {__version__}",
        "verb": "structured reconstruct",
        "plan": plan.model_dump(mode="json"),
        "notes": list(result.notes),
    }
    write_provenance(record, target)
    count, height, width = result.images_tyx.shape
    deep = f", {result.planes} planes each {result.plane_nm:g} nm" if result.plane_nm is not None else ""
    size = f"{count} images of {height} x {width}{deep}, pixel {result.pixel_nm:g} nm"
    return f"{', '.join(map(str, names))}: {size}, {result.seconds:.1f} s"


def _simulate(args: argparse.Namespace) -> int:
    plan = plan_from(args, StructuredSimulatePlan)
    check_output(args.output, [args.instrument] if args.instrument else [])
    if args.output.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--output {args.output}: a stack is written as .tif")
    instrument = _instrument(args, None)
    from ..recipes.structured_simulation import simulate_structured

    made = carry_out(simulate_structured(instrument, plan), args.quiet)
    pixel = instrument.pixel_nm()
    stack = write_image(np.asarray(made.stack.counts_tyx[0]), args.output, (1.0, pixel, pixel), axes="TYX")
    stem, folder = args.output.stem, args.output.parent
    beside = save_instrument(instrument, folder / f"{stem}_instrument.json")
    write_note(args.output, StackNote(kind="structured", instrument=beside.name, z_step_nm=made.stack.z_step_nm))
    patterns = save_illumination(made.illumination, folder / f"{stem}_patterns.json")
    sample = made.sample_yx if made.sample_zyx is None else made.sample_zyx
    truth = write_image(sample, folder / f"{stem}_sample.tif", (made.stack.z_step_nm or 1.0, pixel / 3, pixel / 3))
    print(f"{made.stack.frame_count} frames: {stack}, {patterns}, {truth}, {beside}")
    return 0
