"""How long a training takes on this device, and how much memory: a few steps of each preset are measured."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import get_args

import torch

from ..domain.instrument import Instrument
from ..domain.plans import TrainPlan
from ..domain.runs import Progress, TrainingCost
from ..engine.training.loop import Trainer
from .devices import chosen_device
from .train import begin

WARM_UP_STEPS, MOST_STEPS, LEAST_SECONDS = 1, 1000, 3.0
PRESETS: tuple[str, ...] = get_args(TrainPlan.model_fields["preset"].annotation)


def estimate_training(instrument: Instrument, plan: TrainPlan) -> Generator[Progress, None, tuple[TrainingCost, ...]]:
    """Measure what each preset would take with the other settings of a plan; nothing is kept.

    Yields
    ------
    Progress
        After each measured step.

    Raises
    ------
    EngineError
        If the memory holds not even one frame.
    """
    device = chosen_device(plan.device)
    costs: list[TrainingCost] = []
    known: dict[str, tuple[float, float | None]] = {}
    for number, preset in enumerate(PRESETS):
        told = Progress(stage="estimate", done=number, total=len(PRESETS), message=f"Measuring a few steps of {preset}")
        yield told
        started = time.perf_counter()
        _, card, trainer = begin(instrument, plan.model_copy(update={"preset": preset, "start_model": None}))
        prepared = time.perf_counter() - started
        network = f"{card.architecture} {trainer.frames}"
        # presets may differ in the number of frames only
        if network not in known:
            _forget_peak(device)
            each = yield from _seconds_a_frame(trainer, told)
            known[network] = each, _peak_mib(device)
        each, peak = known[network]
        frames = trainer.steps * trainer.frames
        costs.append(TrainingCost(preset=preset, device=str(device), frames=frames, seconds=prepared + each * frames, peak_mib=peak))
    return tuple(costs)


def _seconds_a_frame(trainer: Trainer, told: Progress) -> Generator[Progress, None, float]:
    measured, since, now = 0, 0.0, 0.0
    # however short the training, there are steps enough to measure
    for step in trainer.run(until=MOST_STEPS):
        now = time.perf_counter()
        measured = step.number - WARM_UP_STEPS
        if measured == 0:
            since = now
        elif now - since >= LEAST_SECONDS:
            break
        yield told
        # what the caller did meanwhile is no time of the training
        since += time.perf_counter() - now
    return (now - since) / (measured * trainer.frames)


def _forget_peak(device: torch.device) -> None:
    """Let the highest memory count from now, where the system can; elsewhere what the program once held counts as well."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: torch.device) -> float | None:
    """Highest memory of the GPU, or of the whole program; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)
