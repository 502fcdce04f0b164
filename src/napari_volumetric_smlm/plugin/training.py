"""What the Train button runs, and where models and the states of stopped trainings lie. In the worker's thread, no Qt."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..domain.runs import ModelCard, Progress, TrainingCost
from ..errors import ModelError, OutputError, PlanError, SmlmError
from ..io.json_files import read_json
from ..io.models import CHECKPOINT, LARGEST_CARD_MIB, card_path, checkpoint_path, forget_checkpoint, write_model_weights
from .calls import instrument_file, on_command_line
from .jobs import on_device, prepare_engine
from .settings import Preferences

SUFFIX = ".safetensors"
# two trainings of one name would write into each other's checkpoint: another window, or one that has not ended yet
_UNDER_WAY: set[Path] = set()


@dataclass(frozen=True)
class Trained:
    """A model that was written, and its card."""

    place: Path
    card: ModelCard


@dataclass(frozen=True)
class Kept:
    """A training that was stopped. `curve` : parts of the loss, step by step."""

    steps: int
    curve: list[dict[str, float]] = field(default_factory=list)


def models_folder(chosen: Preferences) -> Path:
    """Return the folder in which models are looked for."""
    return chosen.work_folder / "models"


def place_of(name: str, folder: Path) -> Path:
    """Return the file that a model's name stands for: a whole path, or a name in our folder.

    Raises
    ------
    PlanError
        If it is no name for a model.
    """
    text = name.strip().removesuffix(SUFFIX)
    path = Path(text).expanduser()
    if not path.name:
        raise PlanError("Give the model a name")
    if path.name.endswith(CHECKPOINT):
        raise PlanError(f"Names that end in {CHECKPOINT} are for stopped trainings; give the model another name")
    if not path.is_absolute() and len(path.parts) > 1:
        raise PlanError(f"{text!r} is neither a plain name nor a whole path; press Choose... for another folder")
    return folder / f"{path}{SUFFIX}"


def suggested_name(instrument: Instrument, folder: Path) -> str:
    """Return a name after the instrument that no finished model has."""
    stem = re.sub(r"[^\w-]+", "-", instrument.name.lower()).strip("-")[:60] or "model"
    names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, 1000))
    return next((name for name in names if not (folder / f"{name}{SUFFIX}").exists()), stem)


def kept_training(place: Path) -> Kept | None:
    """Return where a stopped training of this model stands; None without one."""
    note = card_path(checkpoint_path(place))
    if not (note.is_file() and checkpoint_path(place).is_file()):
        return None
    try:
        tree = read_json(note, ModelError, LARGEST_CARD_MIB)
        return Kept(int(tree["steps_done"]), [dict(losses) for losses in tree["curve"]])
    except (SmlmError, KeyError, TypeError, ValueError):
        # what is wrong with it the training itself will say
        return Kept(0)


def train_job(
    instrument: Instrument, plan: TrainPlan, place: Path, chosen: Preferences, instrument_path: Path | None = None
) -> Generator[Progress, None, Trained]:
    """Train a model, or go on with it; write it with its card and delete the checkpoint.

    Raises
    ------
    PlanError
        If a model of this name is being trained already.
    """
    if place in _UNDER_WAY:
        raise PlanError(f"{place.name} is being trained already, or has not stopped yet: wait a moment, or give another name")
    _UNDER_WAY.add(place)
    try:
        return (yield from _train(instrument, plan, place, chosen, instrument_path))
    finally:
        _UNDER_WAY.discard(place)


def estimate_job(instrument: Instrument, plan: TrainPlan, chosen: Preferences) -> Generator[Progress, None, tuple[TrainingCost, ...]]:
    """Measure what the presets would take here."""
    from ..recipes.training_estimate import estimate_training

    prepare_engine(chosen)
    return (yield from estimate_training(instrument, on_device(plan, chosen)))


def _train(
    instrument: Instrument, plan: TrainPlan, place: Path, chosen: Preferences, instrument_path: Path | None
) -> Generator[Progress, None, Trained]:
    from ..recipes.train import train

    prepare_engine(chosen)
    plan = on_device(plan, chosen)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {place.parent}: {error.strerror}; choose another one") from error
    command = on_command_line("train", [], instrument_file(instrument, instrument_path, chosen.work_folder), plan, str(place))
    steps = train(instrument, plan, checkpoint_path(place), command)
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                model = end.value
                break
            yield _in_words(progress)
    finally:
        # a stop keeps the state; where that fails the state before stays, and the window says from which step it goes on
        with contextlib.suppress(OutputError):
            steps.close()
    yield Progress(stage="save", message="Saving the model")
    try:
        write_model_weights(model.weights, model.card.model_dump(mode="json"), place)
    except OutputError as error:
        if not checkpoint_path(place).is_file():
            raise
        raise OutputError(f"{error}; the training is kept: mend this and press Train again, it goes on near the end") from error
    with contextlib.suppress(OutputError):
        forget_checkpoint(place)
    return Trained(place, model.card)


def _in_words(progress: Progress) -> Progress:
    loss = progress.numbers.get("loss")
    if loss is None:
        return progress
    notice = f"⚠ {progress.message} · " if progress.message else ""
    return progress.model_copy(update={"message": f"{notice}Training, loss {loss:.4g}"})
