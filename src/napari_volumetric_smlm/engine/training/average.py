"""Running means of the weights of a network that learns; the one that did best on held-out frames is what is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

AVERAGE_OVER = 0.03  # share of the steps so far over which the weights are averaged
CHECKS = 10  # how often the mean is judged, evenly spread and at the end
HELD_OUT_FRAMES = 32


@dataclass(frozen=True)
class Batch:
    """Which frames to draw: how many, and their number; `held_out` = from those that no training draws."""

    frames: int
    number: int
    held_out: bool = False


LossOf = Callable[[nn.Module, Batch], dict[str, Tensor]]


class Averages:
    """Mean of the weights, and the mean as it was at `best_step` (0 = the first weights) with the least loss."""

    def __init__(self, network: nn.Module, loss_of: LossOf, steps: int) -> None:
        self.mean, self.best = (copy.deepcopy(network).eval().requires_grad_(False) for _ in range(2))
        self.loss_of, self.steps = loss_of, steps
        self.least, self.best_step = math.inf, 0

    @torch.no_grad()
    def follow(self, network: nn.Module, done: int) -> None:
        """Take in the weights after some step."""
        new = 1 / max(1.0, AVERAGE_OVER * done)
        for mean, now in zip(self.mean.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, new)
        # what layers measured of their inputs (batch norm) belongs to the weights
        for kept, measured in zip(self.mean.buffers(), network.buffers(), strict=True):
            if measured.is_floating_point():
                kept.lerp_(measured, new)
            else:
                kept.copy_(measured)

    @torch.no_grad()
    def judged(self, done: int) -> float | None:
        """Loss of the mean on held-out frames, where it is time after some step and it is finite."""
        if done * CHECKS // self.steps == (done - 1) * CHECKS // self.steps:
            return None
        # one by one: the same frames, however many the memory holds at once
        each = [self.loss_of(self.mean, Batch(1, n, held_out=True)) for n in range(HELD_OUT_FRAMES)]
        loss = sum(float(value) for parts in each for value in parts.values()) / len(each)
        if not math.isfinite(loss):
            return None
        if loss < self.least:
            self.least, self.best_step = loss, done
            self.best.load_state_dict(self.mean.state_dict())
        return loss
