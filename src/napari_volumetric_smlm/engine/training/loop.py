"""The loop: a batch, a step downhill, an average of the weights; knows no files, GUI or logging.

Batch k depends on the seed and k alone, and so does everything else that is random: weights, moments and k are a whole checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import EngineError

WARM_UP = 0.02  # share of the steps over which the rate rises
LAST_RATE = 0.02  # share of the rate at the end
LARGEST_GRADIENT = 1.0
AVERAGE_OVER = 0.03  # share of the steps so far over which the kept weights are averaged
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Step:
    """One step: its number (from 1) and the parts of the loss."""

    number: int
    losses: dict[str, float]


class Trainer:
    """A network while it learns.

    Parameters
    ----------
    network : its weights change in place; `average` holds their running mean, which is what is kept.
    loss_of : parts of the loss for batch k.
    steps : number of all steps, which the rate's fall depends on.
    """

    def __init__(self, network: nn.Module, loss_of: Callable[[nn.Module, int], dict[str, Tensor]], steps: int, rate: float) -> None:
        self.network, self.loss_of, self.steps, self.rate = network, loss_of, steps, rate
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
        self.done = 0

    def run(self, until: int | None = None) -> Generator[Step, None, None]:
        """Train from where it stands to the end, or until some step.

        Raises
        ------
        EngineError
            If the loss is not finite; the weights are those before that step.
        """
        self.network.train()
        for k in range(self.done, self.steps if until is None else until):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * self._fall(k)
            parts = self.loss_of(self.network, k)
            total = torch.stack(list(parts.values())).sum()
            if not bool(torch.isfinite(total)):
                told = ", ".join(f"{name} {float(value.detach()):g}" for name, value in parts.items())
                raise EngineError(
                    f"the loss of step {k + 1} is not finite ({told}): the training diverged; lower learning_rate "
                    f"(now {self.rate:g}) or check that the instrument and the ranges of the plan make sense"
                )
            self.optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
            self.optimizer.step()
            self._follow(k)
            self.done = k + 1
            yield Step(self.done, {name: float(value.detach()) for name, value in parts.items()})

    def state(self) -> dict[str, Tensor]:
        """Everything that a later run needs to go on as if it had never stopped, by name."""
        names = [name for name, _ in self.network.named_parameters()]
        moments = self.optimizer.state_dict()["state"]
        found = {f"network.{n}": v for n, v in self.network.state_dict().items()}
        found |= {f"average.{n}": v for n, v in self.average.state_dict().items()}
        found |= {f"moments.{key}.{names[i]}": torch.as_tensor(value) for i, kept in moments.items() for key, value in kept.items()}
        return {name: value.detach().clone() for name, value in found.items()}

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        """Go on from a state after `done` steps."""
        part = lambda prefix: {n[len(prefix) :]: v for n, v in state.items() if n.startswith(prefix)}  # noqa: E731
        self.network.load_state_dict(part("network."))
        self.average.load_state_dict(part("average."))
        moments = part("moments.")
        kept: dict[int, dict[str, Tensor]] = {}
        for i, (name, _) in enumerate(self.network.named_parameters()):
            entries = {key.split(".", 1)[0]: value for key, value in moments.items() if key.split(".", 1)[1] == name}
            if entries:
                kept[i] = entries
        self.optimizer.load_state_dict({"state": kept, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.done = done

    def _fall(self, k: int) -> float:
        """Share of the rate at step k: up, then down along a cosine."""
        up = max(1, round(WARM_UP * self.steps))
        if k < up:
            return (k + 1) / up
        part = (k - up) / max(1, self.steps - up)
        return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * part))

    @torch.no_grad()
    def _follow(self, k: int) -> None:
        keep = 1 - 1 / max(1.0, AVERAGE_OVER * (k + 1))
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        # what layers measured of their inputs (batch norm) belongs to the weights
        for kept, measured in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if measured.is_floating_point():
                kept.lerp_(measured, 1 - keep)
            else:
                kept.copy_(measured)
