"""A training that can go on after a stop or a kill: weights, averages and moments as safetensors, the rest in their card.

The two files take their places one after the other. So the card says of the weights before, too, at which step they stood: a kill
between the two loses what lies between two checkpoints, no more.
"""

from __future__ import annotations

import time
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from ..domain.plans import TrainPlan
from ..domain.runs import ModelCard
from ..engine.training.loop import Step, Trainer
from ..errors import ModelError, OutputError
from ..io.json_files import read_json
from ..io.models import LARGEST_CARD_MIB, card_path, read_model_weights, weights_hash, write_model_weights

CHECKPOINT_S = 120.0


class Keeper:
    """Keeps a training every two minutes and at a stop; a disk that is full costs checkpoints, not the training.

    path : file (.safetensors), or None to keep nothing. trouble : why the last try failed, in words, or empty.
    """

    def __init__(self, path: Path | None, card: ModelCard, trainer: Trainer) -> None:
        self.path, self.card, self.trainer = path, card, trainer
        self.trouble = ""
        self._step, self._tried = 0, time.perf_counter()

    def resume(self) -> list[Step]:
        """Put the trainer where the checkpoint stands, if there is one, and return the steps until then.

        Raises
        ------
        ModelError
            If it is damaged or belongs to another training.
        """
        past = read_checkpoint(self.path, self.card, self.trainer) if self.path is not None and self.path.is_file() else []
        self._step = len(past)
        return past

    def now_and_then(self, curve: list[Step]) -> None:
        """Keep the state if it is time; where that fails the one before stays."""
        if self.path is None or time.perf_counter() - self._tried < CHECKPOINT_S:
            return
        try:
            self._keep(self.path, curve)
        except OutputError as error:
            self.trouble = f"The state could not be kept ({error}){self.words()}"
        self._tried = time.perf_counter()

    def at_a_stop(self, curve: list[Step]) -> None:
        """Keep the state.

        Raises
        ------
        OutputError
            If it cannot be written; the one before stays.
        """
        if self.path is None or not self.trainer.done:
            return
        try:
            self._keep(self.path, curve)
        except OutputError as error:
            raise OutputError(f"{error}{self.words() or '; nothing was kept of this training'}") from error

    def words(self) -> str:
        """What is kept, as the end of a sentence; empty where nothing is."""
        return f"; what was learned until step {self._step} is kept in {self.path}" if self._step else ""

    def _keep(self, path: Path, curve: list[Step]) -> None:
        write_checkpoint(path, self.card, self.trainer, curve)
        self._step, self.trouble = self.trainer.done, ""


def write_checkpoint(path: Path, card: ModelCard, trainer: Trainer, curve: list[Step]) -> Path:
    """Keep where a training stands.

    Raises
    ------
    OutputError
        If it cannot be written; an older checkpoint stays whole.
    """
    arrays = {name: value.cpu().numpy() for name, value in trainer.state().items()}
    note = {
        "checkpoint_of": _identity(card),
        "steps_done": trainer.done,
        "curve": [step.losses for step in curve],
        "together": [(first.number, first.together) for first in (next(steps) for _, steps in groupby(curve, lambda s: s.together))],
        "held_out": [(step.number, step.held_out) for step in curve if step.held_out is not None],
    }
    return write_model_weights(arrays, {**note, **_before(path)}, path)


def read_checkpoint(path: Path, card: ModelCard, trainer: Trainer) -> list[Step]:
    """Put a trainer where the checkpoint stands and return the steps until then.

    Raises
    ------
    ModelError
        If the file is damaged, or belongs to another instrument, plan or version.
    """
    arrays, note = read_model_weights(path)
    mine, theirs = _identity(card), note.get("checkpoint_of")
    if isinstance(theirs, dict) and isinstance(theirs.get("plan"), dict):
        # a setting that a checkpoint does not know yet was what it is by default
        theirs = {**theirs, "plan": {**TrainPlan().model_dump(mode="json"), **theirs["plan"]}}
    if theirs != mine:
        other = [name for name in mine if not isinstance(theirs, dict) or theirs.get(name) != mine[name]]
        raise ModelError(
            f"{path} is the checkpoint of another training ({', '.join(other)} differ): give this one another output name, "
            "or delete the checkpoint to begin anew"
        )
    try:
        past = _past(note)
        trainer.restore({name: torch.from_numpy(value.copy()) for name, value in arrays.items()}, past)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path} is no checkpoint that this version can go on from ({type(error).__name__}: {' '.join(str(error).split())[:200]}): "
            "delete it to begin anew, or give another output name"
        ) from error
    return past


def _past(note: dict[str, Any]) -> list[Step]:
    """Steps until the weights that were read, which may be those before the last."""
    done = int(note["steps_done"] if note["weights_sha256"] != note.get("weights_before_sha256") else note["steps_before"])
    together, held_out = dict(note["together"]), dict(note["held_out"])
    past: list[Step] = []
    for number, losses in enumerate(note["curve"][:done], 1):
        size = together[number] if number in together else past[-1].together
        past.append(Step(number, losses, size, held_out.get(number)))
    if len(past) != done:
        raise ValueError(f"{len(past)} steps in its curve, {done} done")
    return past


def _before(path: Path) -> dict[str, Any]:
    """Which weights lie there now, and of which step they are, as far as their card is worth reading."""
    try:
        note = read_json(card_path(path), ModelError, LARGEST_CARD_MIB)
        now = weights_hash(path)
    except (ModelError, OSError):
        return {}
    known = {note.get("weights_before_sha256"): note.get("steps_before"), note.get("weights_sha256"): note.get("steps_done")}
    return {"weights_before_sha256": now, "steps_before": known[now]} if now in known else {}


def _identity(card: ModelCard) -> dict[str, Any]:
    keep = card.model_dump(mode="json")
    return {name: keep[name] for name in ("architecture", "units", "window_px", "ground_px", "instrument_fingerprint", "plan", "versions")}
