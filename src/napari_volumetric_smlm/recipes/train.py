"""Train: a network for an instrument, from frames that are simulated while it learns."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import EvaluatePlan, TrainPlan
from ..domain.runs import ModelCard, Progress, TrainedModel
from ..engine.assemble.score import score
from ..engine.localize.features import EXTRA_CHANNELS, Features
from ..engine.localize.footprint import choose_depth_step, choose_window
from ..engine.networks.localizer import LocalizerNetwork
from ..engine.optics.table import PsfTable
from ..engine.training.loop import Step, Trainer
from ..engine.training.losses import localizer_loss
from ..errors import ModelError
from .devices import chosen_device
from .photons import detected_shares
from .trained import build, load_network, weights_of
from .training_checkpoint import read_checkpoint, write_checkpoint
from .training_frames import TrainingFrames

GROUND_PX = 120.0  # structure that the first guess of the background follows
TEST_FRAMES, TEST_THRESHOLD = 32, 0.5
CHECKPOINT_S, TELL_S = 120.0, 0.4


@dataclass(frozen=True)
class Preset:
    """How long, and how large a network."""

    frames: int
    batch: int
    depths: int
    width: int
    dilations: tuple[int, ...]


PRESETS = {
    "quick": Preset(36_000, 8, 24, 64, (1, 2, 4, 8, 4, 2, 1)),
    "standard": Preset(200_000, 8, 24, 64, (1, 2, 4, 8, 4, 2, 1, 1)),
    "full": Preset(1_000_000, 16, 32, 96, (1, 2, 4, 8, 1, 2, 4, 8, 4, 2, 1)),
}


def train(
    instrument: Instrument, plan: TrainPlan, checkpoint: Path | None = None, command: str = ""
) -> Generator[Progress, None, TrainedModel]:
    """Train a localizer network.

    Parameters
    ----------
    checkpoint : file (.safetensors) in which the state is kept every two minutes and when the training is stopped; where it is there
        and belongs to the same instrument and plan, the training goes on from it.
    command : how to make this model again, for its card.

    Yields
    ------
    Progress
        Several times a second: the parts of the loss, smoothed.

    Raises
    ------
    EngineError
        If the loss is not finite.
    ModelError
        If the start model does not fit, or the checkpoint belongs to something else.
    """
    started = time.perf_counter()
    yield Progress(stage="prepare", message="Computing the point-spread function")
    preset = PRESETS[plan.preset]
    table, features = table_and_features(instrument, plan, (plan.frame_px, plan.frame_px), preset.depths)
    frames = TrainingFrames(instrument, plan, table, features)
    total = max(1, round((plan.frame_count or preset.frames) / preset.batch))
    card = _card(instrument, plan, (preset, frames, table.window_px), command)
    network = _first_network(card, plan, instrument).to(table.device)

    def loss_of(net: torch.nn.Module, k: int) -> dict[str, Tensor]:
        channels, targets, _ = frames.batch(preset.batch, k)
        return localizer_loss(net(channels), targets)

    trainer = Trainer(network, loss_of, total, plan.learning_rate)
    curve: list[Step] = []
    if checkpoint is not None and checkpoint.is_file():
        curve = read_checkpoint(checkpoint, card, trainer)
    kept, told = time.perf_counter(), 0.0
    smooth: dict[str, float] = {}
    for step in curve:
        smooth = _followed(smooth, step)
    try:
        for step in trainer.run():
            curve.append(step)
            smooth = _followed(smooth, step)
            now = time.perf_counter()
            if checkpoint is not None and now - kept > CHECKPOINT_S:
                write_checkpoint(checkpoint, card, trainer, curve)
                kept = now
            if now - told > TELL_S or step.number == total:
                told = now
                yield Progress(stage="train", done=step.number, total=total, numbers={**smooth, "loss": sum(smooth.values())})
        yield Progress(stage="test", message="Testing on frames that it never saw")
        accuracy = yield from _test(frames, trainer.average, preset)
    except GeneratorExit:
        # stopped; after an error the last good checkpoint stays
        if checkpoint is not None and trainer.done:
            write_checkpoint(checkpoint, card, trainer, curve)
        raise
    card = card.model_copy(update={"frames_seen": trainer.done * preset.batch, "accuracy": accuracy, "tested_frames": TEST_FRAMES})
    names = list(curve[0].losses) if curve else []
    return TrainedModel(
        weights=weights_of(trainer.average),
        card=card,
        curve={name: np.array([step.losses[name] for step in curve]) for name in names},
        complete=True,
        seconds=time.perf_counter() - started,
    )


def _followed(smooth: dict[str, float], step: Step) -> dict[str, float]:
    """Running mean of the parts of the loss."""
    return {name: 0.95 * smooth.get(name, value) + 0.05 * value for name, value in step.losses.items()}


def table_and_features(instrument: Instrument, plan: TrainPlan, shape_yx: tuple[int, int], depths: int) -> tuple[PsfTable, Features]:
    """The PSF of an instrument and what a network reads of frames of one size."""
    window = plan.window_px or choose_window(instrument)
    narrow = max(view.blur_nm for view in instrument.views)
    low, high = plan.blur_nm
    # the filter takes the blur that the molecules have on average
    blur = None if high <= 0 else math.sqrt(narrow**2 + (low**2 + low * high + high**2) / 3)
    table = PsfTable(detected_shares(instrument).instrument, window + 1 - window % 2, choose_depth_step(instrument) / 2,
                     None if blur is None else (0.7 * blur, 1.3 * blur), chosen_device(plan.device))  # fmt: skip
    return table, Features(table, shape_yx, depths, GROUND_PX, blur)


def _card(instrument: Instrument, plan: TrainPlan, made: tuple[Preset, TrainingFrames, int], command: str) -> ModelCard:
    preset, frames, window = made
    units = frames.units
    return ModelCard(
        architecture={"channels": preset.depths + EXTRA_CHANNELS, "depths": preset.depths, "width": preset.width,
                      "dilations": list(preset.dilations)},
        units={"low_nm": units.low_nm, "high_nm": units.high_nm, "pixel_nm": units.pixel_nm, "photons": units.photons},
        window_px=window,
        ground_px=GROUND_PX,
        instrument=instrument.name,
        instrument_fingerprint=instrument.fingerprint,
        plan=plan,
        command=command,
        frames_seen=0,
        versions={"napari-volumetric-smlm": __version__, "torch": version("torch")},
    )  # fmt: skip


def _first_network(card: ModelCard, plan: TrainPlan, instrument: Instrument) -> LocalizerNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = build(card)
    if plan.start_model is None:
        return network
    start, other = load_network(plan.start_model, instrument)
    if other.architecture != card.architecture:
        raise ModelError(
            f"the start model {plan.start_model} has the architecture {other.architecture}, the preset {plan.preset!r} has "
            f"{card.architecture}: take the preset that made it"
        )
    return start


@torch.no_grad()
def _test(frames: TrainingFrames, network: torch.nn.Module, preset: Preset) -> Generator[Progress, None, dict[str, float]]:
    """Scores of the network alone on frames of another seed."""
    found: list[dict[str, Any]] = []
    true: list[dict[str, Any]] = []
    plan = frames.plan
    side = frames.shape_yx[0]
    for first in range(0, TEST_FRAMES, preset.batch):
        channels, _, emissions = frames.batch(preset.batch, first, test=True)
        finds = frames.units.decode(network(channels), TEST_THRESHOLD)
        found.append(_columns(finds.frame_n.cpu() + first, finds.position_n3.cpu(), finds.photons_n.cpu()))
        inside = ((emissions.position_n3[:, 1:] / frames.units.pixel_nm - (side - 1) / 2).abs() < side / 2).all(1)
        true.append(
            _columns(emissions.frame_n[inside] + first, emissions.position_n3[inside], emissions.photons_n[inside] * frames.detected)
        )
        yield Progress(stage="test", done=first + preset.batch, total=TEST_FRAMES)
    truth, mine = (_joined(parts, frames.instrument.z_reference) for parts in (true, found))
    result = score(truth, mine, EvaluatePlan(dim_below_photons=plan.least_photons * frames.detected))
    figures = {"jaccard": result.jaccard, "rmse_lateral_nm": result.rmse_lateral_nm, "rmse_axial_nm": result.rmse_axial_nm}
    return {name: float(value) for name, value in figures.items() if value is not None and np.isfinite(value)}


def _columns(frame: Tensor, position: Tensor, photons: Tensor) -> dict[str, Any]:
    z, y, x = position.double().numpy().T
    return {"frame": frame.numpy(), "z_nm": z, "y_nm": y, "x_nm": x, "photons": photons.double().numpy()}


def _joined(parts: list[dict[str, Any]], z_reference: str) -> Localizations:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Localizations(columns=columns, z_reference=z_reference)
