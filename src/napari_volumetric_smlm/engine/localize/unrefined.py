"""What a network says, as it says it: the table of the published programs, to be compared with what the fit makes of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from .findings import Findings
from .localizer import Localizer
from .scene import Patches


@dataclass
class Unjudged(Findings):
    """Molecules that nothing was fitted to: their errors and likelihood ratios are not known (NaN), their photons guessed.

    confidence_m : what the network says of its own finds; 0 to 800 for the published voxel networks, else a probability.
    """

    confidence_m: Tensor


class Unrefined(Localizer):
    """Takes a network's proposals for the result, on patches of one size."""

    def run(self, patches: Patches) -> Generator[int, None, Findings]:
        """Localize; yields the number of molecules once."""
        if self.propose is None:
            raise ValueError("without a network there is nothing to take unrefined")
        state = self._start(patches)
        found = self.propose(patches)
        found = found.only(found.gain_m >= self.rules.sure)
        state.add(found.patch_m, found.position_m3, found.photons_m, torch.full_like(found.photons_m, self.blur_nm))
        yield len(state.photons_m)
        inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
        mean = self.refiner.mean(patches, state)[0][inner]
        unknown = torch.full_like(state.photons_m, torch.nan)
        sigma = unknown[:, None].expand(-1, self.refiner.parameters)
        fitted = torch.zeros_like(unknown, dtype=torch.bool)
        return Unjudged(state, sigma, unknown, unknown, unknown, fitted, mean, found.gain_m)
