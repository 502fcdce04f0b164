"""A training that can go on after a stop or a kill: weights, averages and moments as safetensors, the rest in their card."""

from __future__ import annotations

from pathlib import Path

import torch

from ..domain.runs import ModelCard
from ..engine.training.loop import Step, Trainer
from ..errors import ModelError
from ..io.models import read_model_weights, write_model_weights


def write_checkpoint(path: Path, card: ModelCard, trainer: Trainer, curve: list[Step]) -> Path:
    """Keep where a training stands.

    Raises
    ------
    OutputError
        If it cannot be written; an older checkpoint stays whole.
    """
    arrays = {name: value.cpu().numpy() for name, value in trainer.state().items()}
    note = {"checkpoint_of": _identity(card), "steps_done": trainer.done, "curve": [step.losses for step in curve]}
    return write_model_weights(arrays, note, path)


def read_checkpoint(path: Path, card: ModelCard, trainer: Trainer) -> list[Step]:
    """Put a trainer where the checkpoint stands and return the steps until then.

    Raises
    ------
    ModelError
        If the file is damaged, or belongs to another instrument, plan or version.
    """
    arrays, note = read_model_weights(path)
    mine, theirs = _identity(card), note.get("checkpoint_of")
    if theirs != mine:
        other = [name for name in mine if not isinstance(theirs, dict) or theirs.get(name) != mine[name]]
        raise ModelError(
            f"{path} is the checkpoint of another training ({', '.join(other)} differ): give this one another output name, "
            "or delete the checkpoint to begin anew"
        )
    trainer.restore({name: torch.from_numpy(value.copy()) for name, value in arrays.items()}, int(note["steps_done"]))
    return [Step(number, losses) for number, losses in enumerate(note["curve"], 1)]


def _identity(card: ModelCard) -> dict[str, object]:
    keep = card.model_dump(mode="json")
    return {name: keep[name] for name in ("architecture", "units", "window_px", "ground_px", "instrument_fingerprint", "plan", "versions")}
