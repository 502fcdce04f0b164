"""Models that are there already: what took hours is not replaced without a word."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..errors import ModelError
from .models import checkpoint_path, read_model_card


@dataclass(frozen=True)
class Finished:
    """What a new training would replace, in words. same : whether it is what the new training would make."""

    words: str
    same: bool


def finished_model(path: str | os.PathLike[str], instrument: Instrument, plan: TrainPlan) -> Finished | None:
    """Return what is there under the name of a training's model; None where nothing is, or a stopped training is to go on."""
    place = Path(path)
    if not place.is_file() or checkpoint_path(place).is_file():
        return None
    try:
        card = read_model_card(place)
    except ModelError:
        return Finished(f"{place}: there is a file of this name, but it is no model with its card", same=False)
    by = f", trained by: {card.command}" if card.command else ""
    if card.instrument_fingerprint == instrument.fingerprint and card.plan == plan.without_folders():
        return Finished(f"{place}: this training is finished already ({card.frames_seen:,} frames{by})", same=True)
    return Finished(f"{place}: there is a finished model of this name, for {card.instrument!r}{by}", same=False)
