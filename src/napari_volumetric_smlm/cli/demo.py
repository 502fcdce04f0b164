"""vsmlm demo: the main job on sample data, and a look at it in napari's window."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..domain.images import StackNote
from ..domain.plans import CalibrationPlan, EvaluatePlan, ReconstructPlan, RenderPlan
from ..errors import OutputError
from ..io.atomic import replacing
from ..io.instruments import save_instrument
from ..io.napari_version import napari_problem
from ..io.results import write_png
from ..io.samples import SAMPLES, open_sample, sample_instrument, sample_paths, sample_truth
from ..io.stacks import write_note
from ..io.tables import write_table
from .calibrate import lines as calibration_lines
from .doctor import has_display
from .evaluate import lines as score_lines
from .progress import carry_out, duration

NAME = "demo"
SUMMARY = "Do the main job on sample data: bead stack and frames to molecules, a picture, and napari's window."
DETAILS = (
    "The sample data travel with the package. Writes into a folder: bead stack and frames, the calibrated instrument and its "
    "report, the table of molecules, a picture and a screenshot of the window. Lengths are in nm. "
    "Without a display it ends with words instead of the window."
)

BEADS, MOVIE = "tetrapod_beads", "tetrapod"
BEAD_DIAMETER_NM = 100.0
PICTURE = RenderPlan(pixel_nm=40.0, smallest_sigma_nm=40.0, color_by_depth=True)
# Molecules that were on for a fraction of a frame are dim: neither missed nor false. What a calibration calls the centre of an
# image is a convention, so positions agree with the truth up to a constant.
SCORES = EvaluatePlan(dim_below_photons=3000.0, remove_offset=True)
WINDOW = "napari_volumetric_smlm.plugin.demo"
SCREENSHOT_SECONDS = 180


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="FOLDER", help="Folder for the results (default: demo-output)."
    )
    parser.add_argument("--no-window", action="store_true", help="Do not open napari.")


def run(args: argparse.Namespace) -> None:
    """Calibrate, reconstruct, score, draw, look."""
    folder: Path = args.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one with --output") from error
    from ..recipes.calibrate import calibrate
    from ..recipes.evaluate import evaluate
    from ..recipes.reconstruct import reconstruct
    from ..recipes.render import render_by_depth
    from ..recipes.report import write_report

    _copy_sample(BEADS, folder / "beads.tif")
    _copy_sample(MOVIE, folder / "frames.tif")
    print(f"1. Calibration: {SAMPLES[BEADS].sentence}")
    beads = open_sample(BEADS)
    plan = CalibrationPlan(z_step_nm=beads.z_step_nm or 0.0, bead_diameter_nm=BEAD_DIAMETER_NM)
    calibration = carry_out(calibrate([beads], sample_instrument(BEADS), plan), args.quiet)
    save_instrument(calibration.instrument, folder / "calibrated.json")
    write_report(calibration, folder / "calibration.html")
    print("\n".join(f"   {line}" for line in [*calibration_lines(calibration), f"Took {duration(calibration.seconds)}"]))

    print(f"2. Reconstruction: {SAMPLES[MOVIE].sentence}")
    result = carry_out(reconstruct(open_sample(MOVIE), calibration.instrument, ReconstructPlan()), args.quiet)
    write_table(result.localizations, folder / "molecules.csv")
    print(f"   {len(result.localizations)} molecules in {result.frames_done} frames, {duration(result.seconds)}")

    print("3. Against the truth, which is known because the sample is simulated")
    truth = sample_truth(MOVIE)
    if truth is not None:
        print("\n".join(f"   {line}" for line in score_lines(evaluate(truth, result.localizations, SCORES))))

    print("4. A picture with colours for depth")
    write_png(render_by_depth(result.localizations, PICTURE).rgb_yxc, folder / "picture.png")
    print("\n".join(f"   {folder / name}" for name in ("calibrated.json", "calibration.html", "molecules.csv", "picture.png")))
    if not args.no_window:
        print("5. The window")
        print(f"   {look(folder)}")


def look(folder: Path) -> str:
    """Show the results in napari: in a window where there is a display, else as a screenshot; return what happened, in words."""
    problem = napari_problem()
    if problem:
        return f"Not opened: {problem}"
    # the window lives in a process of its own: Qt ends a process that cannot open one
    command = [sys.executable, "-m", WINDOW, str(folder)]
    if has_display():
        print("   napari opens with the result; close its window to end the demo.", flush=True)
        ended = subprocess.run(command, check=False, text=True)
        return "Closed." if ended.returncode == 0 else f"napari ended with status {ended.returncode}; vsmlm doctor may tell why."
    invisible = shutil.which("xvfb-run")
    if invisible is None:
        return "Not opened: no display was found. The results are complete; with xvfb installed there would be a screenshot as well."
    screenshot = folder / "screenshot.png"
    screenshot.unlink(missing_ok=True)
    # the offscreen platform draws the canvas black
    surroundings = {name: value for name, value in os.environ.items() if name != "QT_QPA_PLATFORM"}
    display = [invisible, "-a", "-s", "-screen 0 1920x1200x24"]
    try:
        ended = subprocess.run(
            [*display, *command, "--screenshot", str(screenshot)],
            check=False, capture_output=True, text=True, timeout=SCREENSHOT_SECONDS, env=surroundings,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"No screenshot: napari did not answer within {SCREENSHOT_SECONDS} s. The other results are complete."
    if screenshot.is_file():
        return f"No display was found, so this is a screenshot of it: {screenshot}"
    reason = (ended.stderr.strip().splitlines() or ["no reason was given"])[-1]
    return f"No screenshot ({reason}); vsmlm doctor may tell why. The other results are complete."


def _copy_sample(name: str, place: Path) -> None:
    """Copy the stack of a sample beside the results, with a note that says what it is."""
    with replacing(place) as part:
        shutil.copyfile(sample_paths(name)[0], part)
    stack = open_sample(name)
    write_note(place, StackNote(kind=stack.kind, pixel_nm=stack.pixel_nm, z_step_nm=stack.z_step_nm, instrument="calibrated.json"))
