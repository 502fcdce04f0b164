"""Moves that leave a local optimum: badly explained molecules are offered other places.

A long PSF looks alike at several depths, so a molecule that was added early may have settled at a wrong one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .refine import SMALLEST_VARIANCE, Linearized
from .scene import Patches, State
from .search import local_maxima

HOPELESS = 20.0  # a trial that is this much less likely after three steps will not overtake
RIVAL = 0.6  # share of the best gain that another place must offer to be tried

if TYPE_CHECKING:
    from .localizer import Localizer


def reseat(localizer: Localizer, patches: Patches, state: State) -> Generator[int, None, bool]:
    """Offer badly explained molecules of one patch another place, and keep what raises the likelihood.

    A long PSF looks alike at several depths, so a molecule added early may have settled at a wrong one.
    """
    here = localizer.refiner.refine(patches, state, 4)[0]
    changed = False
    for place in _suspects(localizer, patches, state, here):
        distance = (state.position_m3 - place).norm(dim=1)
        if not len(distance) or float(distance.min()) > 1.0:
            continue  # an accepted change has moved it meanwhile
        i = int(distance.argmin())
        for other, photons in _elsewhere(localizer, patches, state, here, i):
            trial = State(**state.__dict__)
            trial.position_m3, trial.photons_m = state.position_m3.clone(), state.photons_m.clone()
            trial.position_m3[i], trial.photons_m[i] = other, photons
            there = localizer.refiner.refine(patches, trial, 3)[0]
            yield len(state.photons_m)
            if float(there.likelihood_t[0]) < float(here.likelihood_t[0]) - HOPELESS:
                continue
            there = localizer.refiner.refine(patches, trial, 6)[0]
            yield len(state.photons_m)
            if float(there.likelihood_t[0]) > float(here.likelihood_t[0]) + 3.0:
                state.__dict__.update(trial.__dict__)
                here, changed = there, True
                break
    return changed


def _suspects(localizer: Localizer, patches: Patches, state: State, here: Linearized) -> Tensor:
    """Positions of molecules in whose light the residual is larger than noise, worst first."""
    if not len(state.photons_m):
        return state.position_m3
    _, windows, index = localizer.refiner.mean(patches, state)
    variance = (here.mean_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    excess = ((patches.photons_tvyx - here.mean_tvyx) ** 2 / variance - 1) * patches.seen_tvyx
    light = windows.images.value
    misfit = (light * excess.view(-1)[index]).sum((1, 2, 3)) / (2 * light**2).sum((1, 2, 3)).sqrt()
    order = torch.argsort(misfit, descending=True)
    return state.position_m3[order[misfit[order] > localizer.rules.suspicion]][: localizer.rules.largest_reseats].clone()


def _elsewhere(localizer: Localizer, patches: Patches, state: State, here: Linearized, i: int) -> list[tuple[Tensor, Tensor]]:
    """Other places near molecule i that would explain its light, best first."""
    _, windows, index = localizer.refiner.mean(patches, state)
    mean = here.mean_tvyx.clone()
    mean.view(-1).index_add_(0, index[i].flatten(), -(windows.images.value[i] * state.photons_m[i]).flatten())
    gain, photons = localizer.gains(patches, mean)
    pixel = patches.pixel_v[0]
    found = local_maxima(gain, photons, localizer.filter.z_nm, pixel, (gain.flatten(1).max(1).values * RIVAL, 0.0))
    lateral = (found.position_m3 - state.position_m3[i])[:, 1:].norm(dim=1)
    apart = (found.position_m3 - state.position_m3[i]).norm(dim=1)
    rows = ((lateral < localizer.rules.apart_nm) & (apart > 2.5 * localizer.rules.depth_step_nm)).nonzero()[:2, 0]
    return [(found.position_m3[k], found.photons_m[k]) for k in rows]
