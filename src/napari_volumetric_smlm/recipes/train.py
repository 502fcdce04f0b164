"""Train: a network for an instrument, from frames that are simulated while it learns."""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import EvaluatePlan, TrainPlan
from ..domain.runs import ModelCard, Progress, TrainedModel
from ..engine.assemble.score import score
from ..engine.training.average import Batch
from ..engine.training.loop import LESS_MEMORY, Step, Trainer
from ..errors import EngineError, SmlmError, ran_out_of_memory
from .train_lean import LeanFamily
from .train_lnet import SIZES, LNetFamily
from .train_start import first_network
from .train_volume import VOLUME_KINDS, VolumeFamily
from .train_voxels import VoxelFamily
from .trained import weights_of
from .training_checkpoint import Keeper
from .training_frames import TrainingFrames

TEST_FRAMES = 32
AnyVolumeFamily = VolumeFamily | LNetFamily  # they test themselves
TELL_S = 0.4


class Family(Protocol):
    """What of a training depends on the architecture.

    kind, architecture, ground_px : as they stand in the card, from which `trained.build` makes the network.
    frames : what it learns from; frame_count of them, `batch` a step.
    """

    kind: str
    architecture: dict[str, Any]
    ground_px: float
    frames: TrainingFrames
    frame_count: int
    batch: int

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss for a batch, each a mean over its frames."""

    def find(self, network: nn.Module, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Frame (n) and place (n, 3) in nm of what the network finds alone."""


def train(
    instrument: Instrument, plan: TrainPlan, checkpoint: Path | None = None, command: str = ""
) -> Generator[Progress, None, TrainedModel]:
    """Train a network of the plan's architecture.

    Parameters
    ----------
    checkpoint : file (.safetensors) in which the state is kept every two minutes and when the training is stopped; where it is there
        and belongs to the same instrument and plan, the training goes on from it.
    command : how to make this model again, for its card.

    Yields
    ------
    Progress
        Several times a second: the parts of the loss, smoothed. The message tells where fewer frames at a time are computed because
        the memory is short, and where the state could not be kept.

    Raises
    ------
    EngineError
        If the loss is not finite, or the memory holds not even one frame.
    ModelError
        If the start model does not fit, or the checkpoint belongs to something else.
    PlanError
        If the architecture cannot read what the instrument sees.
    """
    try:
        return (yield from _train(instrument, plan, checkpoint, command))
    except SmlmError:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise EngineError(
                f"not enough memory for training frames of {plan.frame_px} x {plan.frame_px} pixels: {LESS_MEMORY}"
            ) from error
        raise


def begin(instrument: Instrument, plan: TrainPlan, command: str = "") -> tuple[Family | AnyVolumeFamily, ModelCard, Trainer]:
    """Make everything that a training needs, before its first step.

    Raises
    ------
    ModelError
        If the start model does not fit.
    """
    family: Family | AnyVolumeFamily
    if plan.architecture in VOLUME_KINDS:
        family = VolumeFamily(instrument, plan)
    elif plan.architecture in SIZES:
        family = LNetFamily(instrument, plan)
    else:
        family = LeanFamily(instrument, plan) if plan.architecture == "lean" else VoxelFamily(instrument, plan)
    total = max(1, round((plan.frame_count or family.frame_count) / family.batch))
    card = _card(instrument, plan, family, command)
    network = first_network(card, plan).to(family.frames.table.device)
    return family, card, Trainer(network, family.loss, total, plan.learning_rate, family.batch)


def _train(instrument: Instrument, plan: TrainPlan, checkpoint: Path | None, command: str) -> Generator[Progress, None, TrainedModel]:
    started = time.perf_counter()
    yield Progress(stage="prepare", message="Computing the point-spread function")
    family, card, trainer = begin(instrument, plan, command)
    keeper = Keeper(checkpoint, card, trainer)
    curve = keeper.resume()
    told = 0.0
    less_memory = ""
    smooth: dict[str, float] = {}
    for step in curve:
        smooth = _followed(smooth, step)
    try:
        for step in trainer.run():
            curve.append(step)
            smooth = _followed(smooth, step)
            less_memory = step.notice or less_memory
            keeper.now_and_then(curve)
            now = time.perf_counter()
            if now - told > TELL_S or step.number == trainer.steps:
                told = now
                yield Progress(stage="train", done=step.number, total=trainer.steps, numbers={**smooth, "loss": sum(smooth.values())},
                               message="; ".join(filter(None, [less_memory, keeper.trouble])))  # fmt: skip
        yield Progress(stage="test", message="Testing on frames that it never saw")
        averages = trainer.averages
        network = averages.best if averages.best_step else averages.mean
        test = family.test if isinstance(family, AnyVolumeFamily) else partial(_test, family)
        accuracy = yield from test(network, trainer.together)
    except GeneratorExit:
        keeper.at_a_stop(curve)
        raise
    except EngineError as error:
        # the last good checkpoint stays
        raise EngineError(f"{error}{keeper.words()}") from error
    seen = {"frames_seen": trainer.done * family.batch, "kept_step": averages.best_step or trainer.done}
    names = list(curve[0].losses) if curve else []
    return TrainedModel(
        weights=weights_of(network),
        card=card.model_copy(update={**seen, "accuracy": accuracy, "tested_frames": TEST_FRAMES}),
        curve={name: np.array([step.losses[name] for step in curve]) for name in names},
        complete=True,
        seconds=time.perf_counter() - started,
    )


def _followed(smooth: dict[str, float], step: Step) -> dict[str, float]:
    """Running mean of the parts of the loss."""
    return {name: 0.95 * smooth.get(name, value) + 0.05 * value for name, value in step.losses.items()}


def _card(instrument: Instrument, plan: TrainPlan, family: Family | AnyVolumeFamily, command: str) -> ModelCard:
    units = family.frames.units
    return ModelCard(
        kind=family.kind,
        architecture=family.architecture,
        units={"low_nm": units.low_nm, "high_nm": units.high_nm, "pixel_nm": units.pixel_nm, "photons": units.photons},
        window_px=family.frames.table.window_px,
        ground_px=family.ground_px,
        instrument=instrument.name,
        instrument_fingerprint=instrument.fingerprint,
        masks_sha256=instrument.masks_sha256,
        plan=plan.without_folders(),
        command=command,
        frames_seen=0,
        versions={"napari-volumetric-smlm": __version__, "torch": version("torch")},
    )


@torch.no_grad()
def _test(family: Family, network: nn.Module, together: int) -> Generator[Progress, None, dict[str, float]]:
    """Scores of the network alone on frames of another seed."""
    found: list[dict[str, Any]] = []
    true: list[dict[str, Any]] = []
    frames, plan = family.frames, family.frames.plan
    for first in range(0, TEST_FRAMES, together):
        channels, _, emissions = frames.batch(together, first, test=True)
        frame, position = family.find(network, channels)
        found.append(_columns(frame.cpu() + first, position.cpu()))
        rows = frames.inside(emissions)
        light = (emissions.photons_n[rows] * frames.detected).double().numpy()
        true.append({**_columns(emissions.frame_n[rows] + first, emissions.position_n3[rows]), "photons": light})
        yield Progress(stage="test", done=first + together, total=TEST_FRAMES)
    truth, mine = (_joined(parts, frames.instrument.z_reference) for parts in (true, found))
    result = score(truth, mine, EvaluatePlan(dim_below_photons=plan.least_wanted_photons * frames.detected))
    figures = {"jaccard": result.jaccard, "rmse_lateral_nm": result.rmse_lateral_nm, "rmse_axial_nm": result.rmse_axial_nm}
    return {name: float(value) for name, value in figures.items() if value is not None and np.isfinite(value)}


def _columns(frame: Tensor, position: Tensor) -> dict[str, Any]:
    z, y, x = position.double().numpy().T
    return {"frame": frame.numpy(), "z_nm": z, "y_nm": y, "x_nm": x}


def _joined(parts: list[dict[str, Any]], z_reference: str) -> Localizations:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Localizations(columns=columns, z_reference=z_reference)
