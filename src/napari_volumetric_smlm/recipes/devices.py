"""Where to compute: a plan's word turned into a torch device."""

from __future__ import annotations

import torch

from ..domain.plans import Device
from ..errors import PlanError


def chosen_device(word: Device) -> torch.device:
    """Return the device that a plan asks for; auto takes a CUDA GPU when there is one, else the processor.

    Raises
    ------
    PlanError
        If the asked device is not there.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if word == "auto":
        return torch.device("cuda" if here["cuda"] else "cpu")
    if not here[word]:
        present = ", ".join(name for name, there in here.items() if there)
        raise PlanError(f"device {word} was asked for, but this machine offers {present}; choose one of these or auto")
    return torch.device(word)
