"""Where a training begins: at random weights, or at those that another training learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..domain.plans import TrainPlan
from ..domain.runs import ModelCard
from ..errors import ModelError
from ..io.examples import start_model_path
from .trained import build, load_network

LONGEST_WORDS = 40


def first_network(card: ModelCard, plan: TrainPlan) -> nn.Module:
    """Return the network of a card with the weights of the plan's start model, which may have learned another microscope.

    Raises
    ------
    ModelError
        If the start model is another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = build(card)
    if plan.start_model is None:
        return network
    start, other = load_network(start_model_path(plan.start_model), None)
    theirs, mine = ({"network": one.kind, **_learned(one.architecture)} for one in (other, card))
    # what joins neighbouring frames is zero at first: a network that reads single ones is a whole start for one that sees more
    joins = "context_frames" in mine and "context_frames" not in theirs
    if joins:
        del mine["context_frames"]
    differ = [name for name in dict.fromkeys([*mine, *theirs]) if theirs.get(name) != mine.get(name)]
    if differ:
        # of two kinds of network the rest says nothing
        named = differ[:1] if differ[0] == "network" else differ
        found = ", ".join(f"{name} {_short(theirs.get(name))} instead of {_short(mine.get(name))}" for name in named)
        raise ModelError(
            f"this training cannot begin with {Path(plan.start_model).name}: {found}. {_advice(set(named), theirs, other)}, "
            "or leave the start model out"
        )
    # weights alone: the optics stay those of the card
    network.load_state_dict(start.state_dict(), strict=not joins)
    return network


def _learned(architecture: dict[str, Any]) -> dict[str, Any]:
    """What of an architecture its weights depend on; the parallax is known and not learned, so of it only how many views and planes."""
    rest = {name: value for name, value in architecture.items() if name != "parallax_px"}
    if "parallax_px" in architecture:
        rest["views"], rest["planes"] = np.shape(architecture["parallax_px"])[:2]
    return rest


def _advice(differ: set[str], theirs: dict[str, Any], other: ModelCard) -> str:
    if "views" in differ:
        return "Take a model of as many views as the instrument has"
    if differ == {"context_frames"}:
        return f"Train with --context-frames {theirs['context_frames']}"
    if differ <= {"planes", "coarse_planes"}:
        return f"Train with --depth-planes {theirs['planes']}"
    return f"Train with --architecture {other.plan.architecture} --preset {other.plan.preset}, which made it"


def _short(value: object) -> str:
    words = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else "none" if value is None else str(value)
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}..."
