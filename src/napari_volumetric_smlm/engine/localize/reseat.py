"""Moves that leave a local optimum: badly explained molecules are offered other places, or searched anew with their neighbours.

A long PSF looks alike at several depths, so a molecule that was added early may have settled at a wrong one, or stand for two.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .findings import covariance, molecule_errors
from .scene import SMALLEST_VARIANCE, Patches, State
from .search import Candidates, local_maxima

HOPELESS = 20.0  # a trial that is this much less likely after three steps will not overtake
WORTH = 3.0  # log-likelihood that a new place must gain
RIVAL = 0.6  # share of the best gain that another place must offer to be tried
LOCAL_MARGIN_NM = 300.0  # by how much farther than its molecules were a search anew may go
STARTS = 3  # places from which a search anew begins, each leading to a solution of its own

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
        moved = False
        for other, photons in _elsewhere(localizer, small, local, at):
            trial = State(**local.__dict__)
            trial.position_m3, trial.photons_m = local.position_m3.clone(), local.photons_m.clone()
            trial.position_m3[at], trial.photons_m[at] = other, photons
            reached = float(localizer.local_refiner.refine(small, trial, 3)[0].likelihood_t[0])
            if reached > best - HOPELESS:
                reached = float(localizer.local_refiner.refine(small, trial, 6)[0].likelihood_t[0])
            yield len(state.photons_m)
            if reached > best + WORTH:
                local, best, moved = trial, reached, True
                break
        changed |= moved
        if not moved:
            anew = yield from _searched_anew(localizer, small, local, (best, len(state.photons_m)))
            changed, local = (True, anew) if anew is not None else (changed, local)
        # the surroundings were refined, so they go back even where the molecule stayed
        state.keep(~near)
        shift = torch.cat([torch.zeros_like(origin[:1]), origin])
        state.add(torch.zeros_like(local.patch_m), local.position_m3 + shift, local.photons_m, local.blur_m)
    return changed


def _searched_anew(localizer: Localizer, small: Patches, local: State, now: tuple[float, int]) -> Generator[int, None, State | None]:
    """Molecules of a small patch found from nothing, from several first places at once; None where none of them is better.

    As everywhere a molecule costs `threshold` of log-likelihood. `now` is the likelihood to beat, and the number of molecules of the
    whole patch, which is told meanwhile.
    """
    best, told = now
    rules, refiner = localizer.rules, localizer.local_refiner
    empty = local.of_patch(-1)
    empty.coefficients_tvn, empty.strength_tv = local.coefficients_tvn.clone(), local.strength_tv.clone()
    gain, photons = localizer.local_filter.gains_beyond(small, refiner.mean(small, empty)[0])
    middle = small.pixel_v[0] * (localizer.local_px // 2)

    def reachable(limit: Tensor, gain: Tensor, photons: Tensor, apart_nm: float) -> Candidates:
        found = local_maxima(gain, photons, localizer.local_filter.z_nm, small.pixel_v[0], (limit, apart_nm))
        rows = (found.position_m3[:, 1:] - middle).norm(dim=1) < rules.apart_nm + LOCAL_MARGIN_NM
        return Candidates(found.patch_m[rows], found.position_m3[rows], found.photons_m[rows], found.gain_m[rows])

    first = reachable(gain.flatten(1).max(1).values * RIVAL, gain, photons, 0.0)
    count = min(STARTS, len(first.photons_m))
    if not count:
        return None
    copies = small.select(torch.zeros(count, dtype=torch.long, device=gain.device))
    ways = torch.arange(count, device=gain.device)
    trial = State(
        ways, first.position_m3[:count], first.photons_m[:count], torch.full_like(first.photons_m[:count], localizer.blur_nm),
        local.coefficients_tvn.expand(count, -1, -1).clone(), local.strength_tv.expand(count, -1).clone(),
    )  # fmt: skip
    for _ in range(len(local.photons_m)):
        here = refiner.refine(copies, trial, 3)[0]
        yield told
        gain, photons = localizer.local_filter.gains_beyond(copies, here.mean_tvyx)
        more = reachable(torch.full((count,), rules.add_threshold, device=gain.device), gain, photons, 1e6)
        if not len(more.photons_m):
            break
        trial.add(more.patch_m, more.position_m3, more.photons_m, torch.full_like(more.photons_m, localizer.blur_nm))
    here = refiner.refine(copies, trial, 6)[0]
    _, ratio = molecule_errors(trial, [covariance(fisher) for fisher in here.fisher_t], refiner.parameters)
    if bool((ratio < rules.threshold).any()):
        trial.keep(ratio >= rules.threshold)
        here = refiner.refine(copies, trial, 4)[0]
    yield told
    worth = here.likelihood_t - rules.threshold * torch.bincount(trial.patch_m, minlength=count)
    k = int(worth.argmax())
    if float(worth[k]) < best - rules.threshold * len(local.photons_m) + WORTH:
        return None
    return trial.of_patch(k)


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
    gain, photons = localizer.local_filter.gains_beyond(small, mean)
    limit = gain.flatten(1).max(1).values * RIVAL
    found = local_maxima(gain, photons, localizer.local_filter.z_nm, small.pixel_v[0], (limit, 0.0))
    offset = found.position_m3 - local.position_m3[at]
    lateral, apart = offset[:, 1:].norm(dim=1), offset.norm(dim=1)
    rows = ((lateral < localizer.rules.apart_nm) & (apart > 2.5 * localizer.rules.depth_step_nm)).nonzero()[:2, 0]
    return [(found.position_m3[k], found.photons_m[k]) for k in rows]
