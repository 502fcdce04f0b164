"""Localization without training: add the molecule that explains the residual best, refine all jointly, repeat, judge each.

The whole patch is explained at once, so overlapping images share their photons properly; every molecule must earn its place by
its likelihood ratio, and the background's stiffness is read from the data at every round.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .refine import SMALLEST_VARIANCE, Linearized, Refiner
from .scene import Patches, State, padding
from .search import Candidates, MatchedFilter, local_maxima


@dataclass(frozen=True)
class Rules:
    """When a molecule is added, kept and when to stop; gains and ratios are log-likelihoods."""

    threshold: float
    depth_step_nm: float
    apart_nm: float
    largest_count: int
    background_scale_px: float
    fit_blur: bool = False
    rounds: int = 40
    share_of_best: float = 0.4
    add_threshold: float = 12.0
    passes: int = 3
    suspicion: float = 2.5
    largest_reseats: int = 8


@dataclass
class Findings:
    """Molecules of a batch of patches with their uncertainty, m rows.

    sigma_mp : (m, P) standard errors of z, y, x (nm), photons (and blur); log_likelihood_ratio_m, background_m, sigma_background_m : (m,).
    mean_tcyx : the model's mean without padding.
    """

    state: State
    sigma_mp: Tensor
    log_likelihood_ratio_m: Tensor
    background_m: Tensor
    sigma_background_m: Tensor
    converged_m: Tensor
    mean_tcyx: Tensor


class Localizer:
    """Finds and fits molecules on patches of one size."""

    def __init__(self, table: PsfTable, shape_yx: tuple[int, int], rules: Rules) -> None:
        self.table, self.rules = table, rules
        self.pad = padding(table.window_px)
        self.background = CosineBackground(shape_yx, self.pad, rules.background_scale_px, table.device)
        self.start_background = CosineBackground(shape_yx, self.pad, 4 * rules.background_scale_px, table.device)
        knots = table.blur2_knots
        self.blur_nm = 0.0 if knots is None else float(knots.mean().sqrt())
        self.filter = MatchedFilter(table, shape_yx, rules.depth_step_nm, self.blur_nm if knots is not None else None)
        self.refiner = Refiner(table, self.background, rules.fit_blur)

    def run(self, patches: Patches) -> Generator[int, None, Findings]:
        """Localize; yields the number of molecules after every round, so that the caller can show it or stop."""
        state = self._start(patches)
        here = self.refiner.refine(patches, state, 3)[0]
        active = torch.ones(len(patches.photons_tcyx), dtype=torch.bool, device=self.table.device)
        for _ in range(self.rules.passes):
            here = yield from self._add_all(patches, state, here, active)
            active = torch.zeros_like(active)
            for t in range(len(active)):
                one = state.of_patch(t)
                if (yield from self._reseat(patches.select(torch.tensor([t])), one)):
                    state.put_patch(t, one)
                    active[t] = True
            if not bool(active.any()):
                break
            here = self.refiner.linearize(patches, state)
        for _ in range(4):
            here, converged = self.refiner.refine(patches, state, 30)
            yield len(state.photons_m)
            before = len(state.photons_m)
            here = self._judge(patches, state, here, self.rules.threshold)
            if len(state.photons_m) == before:
                break
        return self._findings(patches, state, here, converged)

    def _add_all(self, patches: Patches, state: State, here: Linearized, active: Tensor) -> Generator[int, None, Linearized]:
        """Add molecules to active patches until none of them gains enough."""
        active = active.clone()
        for _ in range(self.rules.rounds):
            found = self._candidates(patches, state, here, active)
            active &= torch.bincount(found.patch_m, minlength=len(active)) > 0
            if not bool(active.any()):
                break
            blur = torch.full_like(found.photons_m, self.blur_nm)
            state.add(found.patch_m, found.position_m3, found.photons_m, blur)
            here = self.refiner.refine(patches, state, 4)[0]
            here = self._judge(patches, state, here, 0.5 * self.rules.threshold)
            yield len(state.photons_m)
        return here

    def _reseat(self, patches: Patches, state: State) -> Generator[int, None, bool]:
        """Offer badly explained molecules of one patch another place, and keep what raises the likelihood.

        A long PSF looks alike at several depths, so a molecule added early may have settled at a wrong one.
        """
        here = self.refiner.refine(patches, state, 10)[0]
        changed = False
        for place in self._suspects(patches, state, here):
            distance = (state.position_m3 - place).norm(dim=1)
            if not len(distance) or float(distance.min()) > 1.0:
                continue  # an accepted change has moved it meanwhile
            i = int(distance.argmin())
            for other, photons in self._elsewhere(patches, state, here, i):
                trial = State(**state.__dict__)
                trial.position_m3, trial.photons_m = state.position_m3.clone(), state.photons_m.clone()
                trial.position_m3[i], trial.photons_m[i] = other, photons
                there = self.refiner.refine(patches, trial, 8)[0]
                yield len(state.photons_m)
                if float(there.likelihood_t[0]) > float(here.likelihood_t[0]) + 3.0:
                    state.__dict__.update(trial.__dict__)
                    here, changed = there, True
                    break
        return changed

    def _suspects(self, patches: Patches, state: State, here: Linearized) -> Tensor:
        """Positions of molecules in whose light the residual is larger than noise, worst first."""
        if not len(state.photons_m):
            return state.position_m3
        _, windows, index = self.refiner.mean(patches, state)
        variance = (here.mean_tcyx + patches.read_variance_tcyx).clamp(min=SMALLEST_VARIANCE)
        excess = ((patches.photons_tcyx - here.mean_tcyx) ** 2 / variance - 1) * patches.seen_tcyx
        light = windows.images.value
        misfit = (light * excess.view(-1)[index]).sum((1, 2, 3)) / (2 * light**2).sum((1, 2, 3)).sqrt()
        order = torch.argsort(misfit, descending=True)
        return state.position_m3[order[misfit[order] > self.rules.suspicion]][: self.rules.largest_reseats].clone()

    def _elsewhere(self, patches: Patches, state: State, here: Linearized, i: int) -> list[tuple[Tensor, Tensor]]:
        """Other places near molecule i that would explain its light, best first."""
        _, windows, index = self.refiner.mean(patches, state)
        mean = here.mean_tcyx.clone()
        mean.view(-1).index_add_(0, index[i].flatten(), -(windows.images.value[i] * state.photons_m[i]).flatten())
        gain, photons = self._gains(patches, mean)
        pixel = patches.pixel_c[patches.camera_v[0]]
        found = local_maxima(gain, photons, self.filter.z_nm, pixel, (gain.flatten(1).max(1).values * 0.3, 0.0))
        lateral = (found.position_m3 - state.position_m3[i])[:, 1:].norm(dim=1)
        apart = (found.position_m3 - state.position_m3[i]).norm(dim=1)
        rows = ((lateral < self.rules.apart_nm) & (apart > 2.5 * self.rules.depth_step_nm)).nonzero()[:3, 0]
        return [(found.position_m3[k], found.photons_m[k]) for k in rows]

    def _start(self, patches: Patches) -> State:
        """No molecules; background from a few terms, pixels above it counted less and less."""
        t, c = patches.photons_tcyx.shape[:2]
        basis, device = self.start_background, self.table.device
        weight = patches.seen_tcyx.clone()
        for _ in range(6):
            fisher = basis.normal_matrix(weight) + 1e-3 * torch.eye(basis.count, device=device)
            ground = basis.image(torch.linalg.solve(fisher, basis.project(weight * patches.photons_tcyx)))
            residual = patches.photons_tcyx - ground
            noise = (ground + patches.read_variance_tcyx).clamp(min=1.0).sqrt()
            # asymmetric weights: light of molecules only ever adds
            weight = patches.seen_tcyx / (1 + (residual / noise).clamp(min=0) ** 2)
        coefficients = torch.zeros((t, c, self.background.rows, self.background.columns), device=device)
        few = torch.linalg.solve(fisher, basis.project(weight * patches.photons_tcyx)).unflatten(-1, (basis.rows, basis.columns))
        coefficients[..., : basis.rows, : basis.columns] = few
        empty = torch.zeros(0, device=device)
        return State(
            patch_m=empty.long(), position_m3=empty.reshape(0, 3), photons_m=empty, blur_m=empty,
            coefficients_tcn=coefficients.flatten(-2), strength_tc=torch.full((t, c), 1.0, device=device),
        )  # fmt: skip

    def _candidates(self, patches: Patches, state: State, here: Linearized, active: Tensor) -> Candidates:
        """Places that gain enough, in active patches only."""
        rows = active.nonzero()[:, 0]
        gain, photons = self._gains(patches.select(rows), here.mean_tcyx[rows])
        best = gain.flatten(1).max(1).values
        smallest = torch.clamp(self.rules.share_of_best * best, min=self.rules.add_threshold)
        full = torch.bincount(state.patch_m, minlength=len(active))[rows] >= self.rules.largest_count
        smallest = torch.where(full, torch.full_like(smallest, torch.inf), smallest)
        found = local_maxima(gain, photons, self.filter.z_nm, patches.pixel_c[patches.camera_v[0]], (smallest, self.rules.apart_nm))
        found.patch_m = rows[found.patch_m]
        return found

    def _gains(self, patches: Patches, mean_tcyx: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and photons of one more molecule anywhere, (T, d, y, x)."""
        inner = (..., slice(self.pad, -self.pad), slice(self.pad, -self.pad))
        mean = mean_tcyx[inner]
        weight = patches.seen_tcyx[inner] / (mean + patches.read_variance_tcyx[inner]).clamp(min=SMALLEST_VARIANCE)
        return self.filter.gains(patches, (patches.photons_tcyx[inner] - mean) * weight, weight)

    def _judge(self, patches: Patches, state: State, here: Linearized, threshold: float) -> Linearized:
        """Drop molecules whose likelihood ratio is too small, then update the background's strength."""
        _, ratio, diagonal = self._errors(state, here)
        for t in range(len(here.fisher_t)):
            state.strength_tc[t] = self.background.strength(state.coefficients_tcn[t], diagonal[t], state.strength_tc[t])
        keep = ratio >= threshold
        if bool(keep.all()):
            return here
        state.keep(keep)
        return self.refiner.refine(patches, state, 3)[0]

    def _errors(self, state: State, here: Linearized) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Standard errors (m, P), likelihood ratios (m,) and the variances of the background terms per patch."""
        p, nb = self.refiner.parameters, self.background.count
        variances, grounds = [], []
        cameras = state.coefficients_tcn.shape[1]
        for fisher in here.fisher_t:
            variance = covariance(fisher).diagonal()
            k = len(variance) - cameras * nb
            variances.append(variance[:k].reshape(-1, p))
            grounds.append(variance[k:].reshape(cameras, nb))
        sigma = torch.cat(variances).clamp(min=0).sqrt()
        # profile likelihood to second order: all other parameters follow when the molecule goes
        ratio = 0.5 * (state.photons_m / sigma[:, 3].clamp(min=1e-9)) ** 2
        return sigma, ratio, grounds

    def _findings(self, patches: Patches, state: State, here: Linearized, converged_t: Tensor) -> Findings:
        sigma, ratio, grounds = self._errors(state, here)
        pixel = patches.pixel_c[patches.camera_v[0]]
        yx = torch.round(state.position_m3[:, 1:] / pixel).long() + self.pad
        first = patches.camera_v[0]
        ground = self.background.image(state.coefficients_tcn[:, first])
        spread = torch.stack([self.background.image(g[first].sqrt()).abs() for g in grounds])  # an upper bound: terms are correlated
        inner = (..., slice(self.pad, -self.pad), slice(self.pad, -self.pad))
        return Findings(
            state=state,
            sigma_mp=sigma,
            log_likelihood_ratio_m=ratio,
            background_m=ground[state.patch_m, yx[:, 0], yx[:, 1]],
            sigma_background_m=spread[state.patch_m, yx[:, 0], yx[:, 1]],
            converged_m=converged_t.to(sigma.device)[state.patch_m],
            mean_tcyx=here.mean_tcyx[inner],
        )


def covariance(fisher: Tensor) -> Tensor:
    """Inverse of a Fisher matrix, scaled first so that units do not spoil it."""
    scale = fisher.diagonal().clamp(min=1e-12).rsqrt()
    scaled = (fisher * scale[:, None] * scale).double()
    scaled.diagonal().add_(1e-9)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed):
        scaled.diagonal().add_(1e-5)
        factor, _ = torch.linalg.cholesky_ex(scaled)
    return (torch.cholesky_inverse(factor).to(fisher.dtype)) * scale[:, None] * scale
