"""The loop: a batch, a step downhill, an average of the weights; knows no files, GUI or logging.

Everything random depends on the seed, the step and how many frames are computed together: weights, moments and the steps so far are a
whole checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import EngineError, ran_out_of_memory
from .average import Averages, Batch, LossOf

WARM_UP = 0.02  # share of the steps over which the rate rises
LAST_RATE = 0.02  # share of the rate at the end
LARGEST_GRADIENT = 1.0
WEIGHT_DECAY = 0.01
LESS_MEMORY = "lower frame_px, take a smaller preset, or close other programs on this device"


@dataclass(frozen=True)
class Step:
    """One step: its number (from 1) and the parts of the loss.

    together : frames computed at once. held_out : loss of the averaged weights on held-out frames, where it was taken. notice : to tell.
    """

    number: int
    losses: dict[str, float]
    together: int
    held_out: float | None = None
    notice: str = ""


class Trainer:
    """A network while it learns.

    Parameters
    ----------
    network : its weights change in place; `averages` holds what is kept of them.
    loss_of : parts of the loss for a batch, each a mean over its frames.
    steps : number of all steps, which the rate's fall depends on.
    frames : frames of a step; computed in parts where the memory does not hold them at once.
    """

    def __init__(self, network: nn.Module, loss_of: LossOf, steps: int, rate: float, frames: int) -> None:
        self.network, self.loss_of, self.steps, self.rate, self.frames = network, loss_of, steps, rate, frames
        self.averages = Averages(network, loss_of, steps)
        self.optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
        self.together = frames
        self.done = 0

    def run(self, until: int | None = None) -> Generator[Step, None, None]:
        """Train from where it stands to the end, or until some step.

        Raises
        ------
        EngineError
            If the loss or its gradient is not finite, or not even one frame fits into the memory; the weights are those before that step.
        """
        self.network.train()
        for k in range(self.done, self.steps if until is None else until):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * self._fall(k)
            losses, notice = self._gradient(k)
            steepness = nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
            if not bool(torch.isfinite(steepness)):
                raise self._diverged(k, losses, "gradient")
            self.optimizer.step()
            self.done = k + 1
            self.averages.follow(self.network, self.done)
            yield Step(self.done, losses, self.together, self.averages.judged(self.done), notice)

    def state(self) -> dict[str, Tensor]:
        """Everything that a later run needs beside the steps so far to go on as if it had never stopped, by name."""
        names = [name for name, _ in self.network.named_parameters()]
        moments = self.optimizer.state_dict()["state"]
        found = {f"{part}.{n}": v for part, network in self._networks().items() for n, v in network.state_dict().items()}
        found |= {f"moments.{key}.{names[i]}": torch.as_tensor(value) for i, kept in moments.items() for key, value in kept.items()}
        return {name: value.detach().clone() for name, value in found.items()}

    def restore(self, state: Mapping[str, Tensor], past: Sequence[Step]) -> None:
        """Go on from a state and the steps that led to it."""
        part = lambda prefix: {n[len(prefix) :]: v for n, v in state.items() if n.startswith(prefix)}  # noqa: E731
        for name, network in self._networks().items():
            network.load_state_dict(part(f"{name}."))
        moments = part("moments.")
        kept = {
            i: {key.split(".", 1)[0]: value for key, value in moments.items() if key.split(".", 1)[1] == name}
            for i, (name, _) in enumerate(self.network.named_parameters())
        }
        self.optimizer.load_state_dict({"state": kept, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.done = len(past)
        self.together = past[-1].together if past else self.frames
        judged = ((step.held_out, step.number) for step in past if step.held_out is not None)
        self.averages.least, self.averages.best_step = min(judged, default=(math.inf, 0))

    def _networks(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.averages.mean, "best": self.averages.best}

    def _gradient(self, k: int) -> tuple[dict[str, float], str]:
        """Leave the gradient of step k, computed in smaller parts where the memory asks for it; the losses and what to tell."""
        notice = ""
        while True:
            try:
                return self._sum_up(k), notice
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                if self.together == 1:
                    raise EngineError(f"not even one training frame at a time fits into the memory: {LESS_MEMORY}") from error
            # only here, where the error no longer holds what did not fit
            self.optimizer.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            notice = f"Out of memory: batch {self.together} -> {self.together // 2}"
            self.together //= 2

    def _sum_up(self, k: int) -> dict[str, float]:
        """Sum the gradients of the parts of step k: a step learns from the same number of frames, however they are computed."""
        self.optimizer.zero_grad()
        told: dict[str, float] = {}
        for part, first in enumerate(range(0, self.frames, self.together)):
            frames = min(self.together, self.frames - first)
            share = frames / self.frames
            # numbers beyond the last step: further parts draw what no step draws
            losses = self.loss_of(self.network, Batch(frames, k + part * self.steps))
            total = torch.stack(list(losses.values())).sum()
            if not bool(torch.isfinite(total)):
                raise self._diverged(k, {name: float(value.detach()) for name, value in losses.items()}, "loss")
            (total * share).backward()  # type: ignore[no-untyped-call]
            told = {name: told.get(name, 0.0) + share * float(value.detach()) for name, value in losses.items()}
        return told

    def _diverged(self, k: int, losses: dict[str, float], what: str) -> EngineError:
        told = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        return EngineError(
            f"the {what} of step {k + 1} is not finite ({told}): the training diverged; lower learning_rate "
            f"(now {self.rate:g}) or check that the instrument and the ranges of the plan make sense"
        )

    def _fall(self, k: int) -> float:
        """Share of the rate at step k: up, then down along a cosine."""
        up = max(1, round(WARM_UP * self.steps))
        part = (k - up) / max(1, self.steps - up)
        return (k + 1) / up if k < up else LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * part))
