"""What the buttons run: a recipe with what the window adds to it (device, threads, picture, autosave). In the worker's thread, no Qt."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..domain.images import DepthPicture, RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.noun import Noun
from ..domain.plans import CalibrationPlan, ReconstructPlan, RenderPlan
from ..domain.runs import Calibration, FrameExplanation, Progress, Reconstruction
from ..errors import OutputError, SmlmError, ran_out_of_memory
from ..io.instruments import save_instrument
from ..io.json_files import write_noun
from ..io.tables import write_table
from .settings import Preferences

P = TypeVar("P", bound=Noun)
# the stage that tells the window to forget what has streamed in
RESTART = "Starting again"


@dataclass(frozen=True)
class Result:
    """A table with its picture; `saved` is the file of the autosave, `trouble` why there is none."""

    table: Localizations
    picture: Volume | DepthPicture | None
    reconstruction: Reconstruction | None = None
    saved: Path | None = None
    trouble: str = ""


def reconstruct_job(
    stack: RawStack, instrument: Instrument, plan: ReconstructPlan, drawing: RenderPlan, chosen: Preferences
) -> Generator[Progress, None, Result]:
    """Reconstruct, draw, save. Out of memory: again with half as many frames at once, and the user is told."""
    from ..recipes.reconstruct import reconstruct

    prepare_engine(chosen)
    plan = on_device(plan, chosen)
    while True:
        try:
            reconstruction = yield from reconstruct(stack, instrument, plan)
            break
        except Exception as error:
            if not ran_out_of_memory(error) or plan.batch_frames == 1:
                raise
            plan = plan.model_copy(update={"batch_frames": max(1, plan.batch_frames // 2)})
        yield Progress(stage=RESTART, message=f"Not enough memory: starting again with {plan.batch_frames} frames together")
    result = yield from finish_job(reconstruction.localizations, drawing, chosen, plan)
    return Result(result.table, result.picture, reconstruction, result.saved, result.trouble)


def finish_job(
    table: Localizations, drawing: RenderPlan, chosen: Preferences, plan: ReconstructPlan | None = None
) -> Generator[Progress, None, Result]:
    """Draw a table and save it; what goes wrong here must not cost the table."""
    saved, trouble = None, ""
    if chosen.autosave and plan is not None and len(table):
        yield Progress(stage="Saving")
        try:
            saved = autosave(table, plan, chosen.work_folder)
        except OutputError as error:
            trouble = f"Not saved: {error}"
    yield Progress(stage="Drawing the picture")
    picture = None
    try:
        picture = draw(table, drawing)
    except SmlmError as error:
        trouble = trouble or f"No picture: {error}"
    return Result(table, picture, None, saved, trouble)


def draw_job(table: Localizations, drawing: RenderPlan) -> Generator[Progress, None, Volume | DepthPicture]:
    """Draw a table."""
    yield Progress(stage="Drawing the picture")
    return draw(table, drawing)


def draw(table: Localizations, drawing: RenderPlan) -> Volume | DepthPicture:
    """Draw a table in colours for depth, or as brightness, or as a volume."""
    from ..recipes.render import render, render_by_depth

    return render_by_depth(table, drawing) if drawing.color_by_depth and drawing.dimensions == "2d" else render(table, drawing)


def explain_job(
    stack: RawStack, instrument: Instrument, plan: ReconstructPlan, frame: int, chosen: Preferences
) -> Generator[Progress, None, FrameExplanation]:
    """Explain one frame."""
    from ..recipes.reconstruct import explain_frame

    prepare_engine(chosen)
    return (yield from explain_frame(stack, instrument, on_device(plan, chosen), frame))


def calibrate_job(
    stacks: list[RawStack], instrument: Instrument, plan: CalibrationPlan, chosen: Preferences
) -> Generator[Progress, None, tuple[Calibration, Path | None]]:
    """Calibrate; the new instrument is saved."""
    from ..recipes.calibrate import calibrate

    prepare_engine(chosen)
    calibration = yield from calibrate(stacks, instrument, on_device(plan, chosen))
    saved = None
    if chosen.autosave:
        try:
            place = new_name(chosen.work_folder, "calibration", ".json")
            saved = save_instrument(calibration.instrument, place)
        except OutputError:
            saved = None
    return calibration, saved


def find_beads_job(
    stack: RawStack, instrument: Instrument, crop_px: int | None, chosen: Preferences
) -> Generator[Progress, None, tuple[tuple[float, float], ...]]:
    """Find the beads that a calibration would use: centres (row, column) in pixels."""
    from ..recipes.calibrate import find_beads

    prepare_engine(chosen)
    yield Progress(stage="Looking for beads")
    return find_beads(stack, instrument, crop_px)


def prepare_engine(chosen: Preferences) -> None:
    """Load torch and give it the number of threads that the user wants."""
    import torch

    if chosen.threads > 0:
        torch.set_num_threads(chosen.threads)


def on_device(plan: P, chosen: Preferences) -> P:
    """Return the plan with the preferred device where it leaves the choice."""
    if getattr(plan, "device", "") == "auto" and chosen.device != "auto":
        return plan.model_copy(update={"device": chosen.device})
    return plan


def autosave(table: Localizations, plan: ReconstructPlan, folder: Path) -> Path:
    """Write a table as Parquet and its plan beside it, under a new name.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    place = new_name(folder, "molecules", ".parquet")
    write_table(table, place, "parquet")
    write_noun(plan, place.with_suffix(".plan.json"))
    return place


def new_name(folder: Path, stem: str, suffix: str) -> Path:
    """Return a name with date and time that is not taken.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one in the preferences") from error
    base = f"{stem}-{time.strftime('%Y-%m-%d-%H%M%S')}"
    names: list[Any] = [folder / f"{base}{suffix}", *(folder / f"{base}-{n}{suffix}" for n in range(2, 1000))]
    return next(name for name in names if not name.exists())
