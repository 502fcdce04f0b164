"""Moves that leave a local optimum: badly explained molecules are offered other places.

A long PSF looks alike at several depths, so a molecule that was added early may have settled at a wrong one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .refine import SMALLEST_VARIANCE
from .scene import Patches, State
from .search import local_maxima

HOPELESS = 20.0  # a trial that is this much less likely after three steps will not overtake
WORTH = 3.0  # log-likelihood that a new place must gain
RIVAL = 0.6  # share of the best gain that another place must offer to be tried

if TYPE_CHECKING:
    from .localizer import Localizer


def reseat(localizer: Localizer, patches: Patches, state: State) -> Generator[int, None, bool]:
    """Offer badly explained molecules of one patch another place, and keep what raises the likelihood.

    Each trial is refined with its neighbours on a small square; the rest of the patch stays as it is meanwhile.
    """
    changed = False
    for place in _suspects(localizer, patches, state):
        distance = (state.position_m3 - place).norm(dim=1)
        if float(distance.min()) > 1.0:
            continue  # an accepted change has moved it meanwhile
        i = int(distance.argmin())
        near, small, local, origin = _surroundings(localizer, patches, state, i)
        at = int((near[:i]).sum())
        best = float(localizer.local_refiner.refine(small, local, 3)[0].likelihood_t[0])
        yield len(state.photons_m)
        for other, photons in _elsewhere(localizer, small, local, at):
            trial = State(**local.__dict__)
            trial.position_m3, trial.photons_m = local.position_m3.clone(), local.photons_m.clone()
            trial.position_m3[at], trial.photons_m[at] = other, photons
            reached = float(localizer.local_refiner.refine(small, trial, 3)[0].likelihood_t[0])
            if reached > best - HOPELESS:
                reached = float(localizer.local_refiner.refine(small, trial, 6)[0].likelihood_t[0])
            yield len(state.photons_m)
            if reached > best + WORTH:
                local, best, changed = trial, reached, True
                break
        # the surroundings were refined, so they go back even where the molecule stayed
        state.position_m3[near] = local.position_m3 + torch.cat([torch.zeros_like(origin[:1]), origin])
        state.photons_m[near], state.blur_m[near] = local.photons_m, local.blur_m
    return changed


def _surroundings(localizer: Localizer, patches: Patches, state: State, i: int) -> tuple[Tensor, Patches, State, Tensor]:
    """Molecules around molecule i, the small patch that holds them, their state on it and its first pixel (y, x) in nm."""
    reach = localizer.rules.apart_nm
    near = (state.position_m3 - state.position_m3[i])[:, 1:].norm(dim=1) <= reach
    mean, windows, index = localizer.refiner.mean(patches, state)
    light = windows.images.value[near] * state.photons_m[near][:, None, None, None]
    mean.view(-1).index_add_(0, index[near].flatten(), -light.flatten())
    small, origin, given = patches.around(localizer.table, state.position_m3[i, 1:], localizer.local_px, mean)
    small.given_tvyx = given
    shift = torch.cat([torch.zeros_like(origin[:1]), origin])
    ground = torch.zeros((1, state.coefficients_tvn.shape[1], 1), device=shift.device)
    rows = state.patch_m[near]
    local = State(rows, state.position_m3[near] - shift, state.photons_m[near], state.blur_m[near], ground, torch.ones_like(ground[..., 0]))
    return near, small, local, origin


def _suspects(localizer: Localizer, patches: Patches, state: State) -> Tensor:
    """Positions of molecules in whose light the residual is larger than noise, worst first."""
    if not len(state.photons_m):
        return state.position_m3
    mean, windows, index = localizer.refiner.mean(patches, state)
    variance = (mean + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    excess = ((patches.photons_tvyx - mean) ** 2 / variance - 1) * patches.seen_tvyx
    light = windows.images.value
    misfit = (light * excess.view(-1)[index]).sum((1, 2, 3)) / (2 * light**2).sum((1, 2, 3)).sqrt()
    order = torch.argsort(misfit, descending=True)
    return state.position_m3[order[misfit[order] > localizer.rules.suspicion]][: localizer.rules.largest_reseats].clone()


def _elsewhere(localizer: Localizer, small: Patches, local: State, at: int) -> list[tuple[Tensor, Tensor]]:
    """Other places near a molecule of a small patch that would explain its light, best first."""
    mean, windows, index = localizer.local_refiner.mean(small, local)
    mean.view(-1).index_add_(0, index[at].flatten(), -(windows.images.value[at] * local.photons_m[at]).flatten())
    inner = (..., slice(small.pad, -small.pad), slice(small.pad, -small.pad))
    weight = small.seen_tvyx[inner] / (mean[inner] + small.read_variance_tvyx[inner]).clamp(min=SMALLEST_VARIANCE)
    gain, photons = localizer.local_filter.gains(small, (small.photons_tvyx[inner] - mean[inner]) * weight, weight)
    limit = gain.flatten(1).max(1).values * RIVAL
    found = local_maxima(gain, photons, localizer.local_filter.z_nm, small.pixel_v[0], (limit, 0.0))
    offset = found.position_m3 - local.position_m3[at]
    lateral, apart = offset[:, 1:].norm(dim=1), offset.norm(dim=1)
    rows = ((lateral < localizer.rules.apart_nm) & (apart > 2.5 * localizer.rules.depth_step_nm)).nonzero()[:2, 0]
    return [(found.position_m3[k], found.photons_m[k]) for k in rows]
