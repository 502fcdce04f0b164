"""The fit of a pupil to bead images: Adam over small batches of slices, first Zernike terms, then every pixel of the pupil.

Zernike terms go first because few of them carry a start far from the truth, where a free phase would fall into a vortex; the smooth
amplitude is free from the beginning, since a wrong apodization bends the phase. The likelihood begins with a generous relative error of
the model, so that bright cores do not rule while the shape is still wrong, and ends close to pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .model import PupilModel

ERROR_FIRST, ERROR_LAST = 0.1, 0.01  # relative error of the model in the likelihood, from the first to the last step
BATCH = 9  # images a step
SMOOTHNESS = 4.0  # log-likelihood that one unit of roughness costs


@dataclass(frozen=True)
class Stage:
    """Part of a fit: how many steps, and the learning rate of each parameter that is free."""

    name: str
    steps: int
    rates: dict[str, float]
    errors: tuple[float, float] = (ERROR_FIRST, ERROR_LAST)
    last_rate: float = 0.02


@dataclass(frozen=True)
class Step:
    """Where a fit stands: loss is the negative log-likelihood per pixel of the last batch."""

    stage: str
    done: int
    total: int
    loss: float


IMAGING = {"shift_bk2": 0.03, "focus_b": 0.3, "blur": 0.02, "log_photons_bk": 0.03, "background_bk": 0.05}
SEARCH_STEPS, ZERNIKE_STEPS, PIXEL_STEPS, POLISH_STEPS = 40, 110, 500, 60


def zernike_stage(steps: int = ZERNIKE_STEPS, amplitude: bool = True) -> Stage:
    """Zernike terms of phase and amplitude with everything that concerns single images."""
    rates = {"phase_terms_rad": 0.08, **IMAGING} | ({"log_amplitude_terms": 0.02} if amplitude else {})
    return Stage("Zernike terms", steps, rates, (ERROR_FIRST, ERROR_FIRST))


def pixel_stage(steps: int = PIXEL_STEPS, amplitude: bool = True) -> Stage:
    """Every pixel of the phase, beside all that the Zernike stage fits."""
    rates = {"phase_rad_yx": 0.1, "phase_terms_rad": 0.02, **{k: 0.7 * v for k, v in IMAGING.items()}, "focus_b": 0.1}
    rates |= {"log_amplitude_terms": 0.02} if amplitude else {}
    return Stage("Pixels of the pupil", steps, rates)


def polish_stage(name: str, steps: int = POLISH_STEPS, amplitude: bool = True, pixel_wise: bool = True) -> Stage:
    """Small steps around a solution."""
    whole = pixel_stage(steps, amplitude) if pixel_wise else zernike_stage(steps, amplitude)
    return Stage(name, steps, {k: 0.3 * v for k, v in whole.rates.items()}, (ERROR_LAST, ERROR_LAST))


def places_stage(steps: int = ZERNIKE_STEPS) -> Stage:
    """What concerns single images, with the pupil as it is."""
    return Stage("Places", steps, dict(IMAGING), (ERROR_FIRST, ERROR_LAST))


def together(stage: Stage) -> Stage:
    """The same stage for views that share their drift: each has a place of its own."""
    return replace(stage, rates=stage.rates | {"place_b2": stage.rates["shift_bk2"]})


def fit(model: PupilModel, stage: Stage, seed: int = 0) -> Generator[Step, None, None]:
    """Change a model's parameters in place until its images match the seen slices; yields after every step."""
    yield from fit_views([model], stage, seed)


def fit_views(models: list[PupilModel], stage: Stage, seed: int = 0) -> Generator[Step, None, None]:
    """The same for views of the same beads; a tensor that several of them hold is one parameter."""
    # by identity: what is shared must be stepped once
    free = [list({id(model.parameters()[name]): model.parameters()[name] for model in models}.values()) for name in stage.rates]
    groups = [
        {"params": [tensor.requires_grad_(True) for tensor in tensors], "lr": rate}
        for tensors, rate in zip(free, stage.rates.values(), strict=True)
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    batches = _batches(models[0], seed)
    first, last = stage.errors
    try:
        for k in range(stage.steps):
            part = k / stage.steps
            cosine = stage.last_rate + (1 - stage.last_rate) * 0.5 * (1 + math.cos(math.pi * part))
            for group, rate in zip(optimizer.param_groups, stage.rates.values(), strict=True):
                group["lr"] = rate * cosine
            optimizer.zero_grad()
            error = max(last, first * (last / first) ** (1.2 * part))
            items, total = next(batches), 0.0
            for model in models:
                value = loss(model, items, error) / len(models)
                value.backward()  # type: ignore[no-untyped-call]
                total += float(value.detach())
            optimizer.step()
            yield Step(stage.name, k + 1, stage.steps, total)
    finally:
        for tensor in (tensor for tensors in free for tensor in tensors):
            tensor.requires_grad_(False)
            tensor.grad = None


def loss(model: PupilModel, items: Tensor, error: float) -> Tensor:
    """Negative log-likelihood per pixel and the smoothness prior."""
    images = model.images
    counts = images.counts_bkyx.flatten(0, 1)[items]
    likelihood = images.noise.negative_log_likelihood(counts, model.mean_counts(items), error).mean()
    size, seen = images.camera[0], int(images.seen_k.sum()) * len(images.counts_bkyx)
    return likelihood + SMOOTHNESS / (size * size * seen) * roughness(model)


def roughness(model: PupilModel) -> Tensor:
    """Sum of 1 - cos(second difference) of the phase along rows and columns: blind to wraps, zero for tilts and flats."""
    phase = model.total_phase_yx()
    wave = torch.polar(torch.ones_like(phase), phase)
    total = torch.zeros((), device=phase.device, dtype=phase.dtype)
    for w, inside in ((wave, model.inside_yx), (wave.T, model.inside_yx.T)):
        bend = (w[2:] * w[:-2] * torch.conj(w[1:-1]) ** 2).real
        total = total + ((1 - bend) * inside[2:] * inside[:-2]).sum()
    return total


@torch.no_grad()
def mean_loss(model: PupilModel, error: float = ERROR_FIRST, images: int = 18) -> float:
    """Negative log-likelihood per pixel over evenly spread seen slices: to compare starts."""
    items = _seen_items(model)
    picked = items[np.unique(np.linspace(0, len(items) - 1, images).round().astype(int))]
    parts = torch.as_tensor(picked).split(BATCH)
    return float(np.mean([float(loss(model, part.to(model.blur.device), error)) for part in parts]))


def best_start(starts: Iterable[PupilModel], amplitude: bool, seed: int) -> Generator[Step, None, PupilModel]:
    """Try every start with a few Zernike steps and return the model that came furthest."""
    candidates = list(starts)
    if len(candidates) == 1:
        return candidates[0]
    scores = []
    for number, model in enumerate(candidates):
        for step in fit(model, zernike_stage(SEARCH_STEPS, amplitude), seed):
            yield Step("Looking for a start", number * SEARCH_STEPS + step.done, len(candidates) * SEARCH_STEPS, step.loss)
        scores.append(mean_loss(model))
    return candidates[int(np.argmin(scores))]


def _seen_items(model: PupilModel) -> np.ndarray:
    beads, slices = model.images.counts_bkyx.shape[:2]
    items = np.arange(beads * slices).reshape(beads, slices)
    return items[:, model.images.seen_k].ravel()


def _batches(model: PupilModel, seed: int) -> Generator[Tensor, None, None]:
    """Shuffled items, each as often as any other."""
    random, items = np.random.default_rng(seed), _seen_items(model)
    pool = np.empty(0, dtype=items.dtype)
    while True:
        while len(pool) < BATCH:
            pool = np.concatenate([pool, random.permutation(items)])
        yield torch.as_tensor(pool[:BATCH], device=model.blur.device)
        pool = pool[BATCH:]
