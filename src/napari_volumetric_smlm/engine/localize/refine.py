"""Joint maximum-likelihood refinement of all molecules and the background of a patch.

Each step solves (F + damping diag F) delta = gradient for all overlapping molecules and the background together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .linearize import Linearized, Linearizer
from .scene import OUTSIDE, Patches, State

# Largest step of one iteration in nm: beyond it the linear model of the PSF says nothing.
LARGEST_STEP_NM = (250.0, 150.0, 150.0)
FEWEST_PHOTONS = 1.0
# Log-likelihood that the next step may promise, for a patch and each of its molecules, for the fit to count as done: a step of a
# twentieth of a standard error, all parameters together. Where images overlap and steps shrink slowly, what follows may add up to a fifth.
DONE_GAIN = (0.001, 0.0005)
# Below this promise for a patch and each of its molecules the derivatives of the state before serve one more step.
FOLLOW_GAIN = (2.0, 0.6)


class Refiner(Linearizer):
    """Refines states on patches with one PSF table."""

    def __init__(self, table: PsfTable, background: CosineBackground, fit_blur: bool = False) -> None:
        super().__init__(table, background, fit_blur)
        low, high = float(table.z_nm[0]), float(table.z_nm[-1])
        self.z_range = (low + 1.0, high - 1.0)

    def refine(
        self, patches: Patches, state: State, iterations: int, here: Linearized | None = None, anew: bool = True
    ) -> tuple[Linearized, Tensor]:
        """Improve the state in place.

        Parameters
        ----------
        here : the state's linearization where it is known.
        anew : compute derivatives anew where the steps are large; else those of `here` serve for all.

        Returns
        -------
        The linearization at the final state (its derivatives may be those of the step before), and whether each patch converged: the
        next step promises less than DONE_GAIN of log-likelihood.
        """
        if here is None or len(here.place_m5) != len(state.photons_m):
            here = self.linearize(patches, state)
        elif bool(here.place_m5.isnan().any()):
            here = self.linearize(patches, state, here)
        # a step that was refused must not be tried again by the next call
        damping = torch.full((len(patches.photons_tvyx),), 1e-3) if here.damping_t is None else here.damping_t
        converged = torch.zeros(len(damping), dtype=torch.bool)
        followed, counts = False, torch.bincount(state.patch_m, minlength=len(damping)).cpu()
        near, done = (first + each * counts for first, each in (FOLLOW_GAIN, DONE_GAIN))
        for k in range(iterations):
            steps, promised = self._steps(here, damping, self._pinned(patches, state, here))
            converged |= promised < done
            if bool(converged.all()):
                break
            trial = self._moved(state, steps, converged, patches)
            # the last state is only looked at: whoever goes on from it decides which derivatives are too old
            follow = not anew or k == iterations - 1 or bool((converged | (promised < near)).all())
            there = self.followed(patches, trial, here) if follow else self.linearize(patches, trial, here)
            better = (there.likelihood_t >= here.likelihood_t - 1e-3).cpu() | converged  # those that stay are where they were
            if followed and anew and not bool(better.all()):
                # the derivatives had become too old
                here, followed = self.linearize(patches, state, here), False
                continue
            followed = follow
            damping = torch.where(better, (damping * 0.2).clamp(min=1e-6), (damping * 10 + 1e-3).clamp(max=1e6))
            converged |= ~better & (damping > 1e4)
            if bool(better.all()):
                state.__dict__.update(trial.__dict__)
                here = there
            elif bool(better.any()):
                _take(state, trial, better)
                here = _mixed(here, there, better, state)
            here.damping_t = damping
        return here, converged

    def _pinned(self, patches: Patches, state: State, here: Linearized) -> Tensor:
        """Whether the gradient pushes a parameter beyond its bound, (m, P): such a one stays where it is."""
        p, nb = self.parameters, state.coefficients_tvn[0].numel()
        gradient = torch.cat([g[: len(g) - nb].reshape(-1, p) for g in here.gradient_t])
        low, high = self._position_bounds(patches)
        pinned = torch.zeros_like(gradient, dtype=torch.bool)
        position, slope = state.position_m3, gradient[:, :3]
        pinned[:, :3] = ((position <= low) & (slope < 0)) | ((position >= high) & (slope > 0))
        pinned[:, 3] = (state.photons_m <= FEWEST_PHOTONS) & (gradient[:, 3] < 0)
        if self.fit_blur and self.table.blur2_knots is not None:
            first, last = self.table.blur2_knots[[0, -1]].sqrt()
            pinned[:, 4] = ((state.blur_m <= first) & (gradient[:, 4] < 0)) | ((state.blur_m >= last) & (gradient[:, 4] > 0))
        return pinned

    def _position_bounds(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """Lowest and highest z, y, x in nm."""
        pixel, outside = patches.pixel_v[0], OUTSIDE * patches.pixel_v[0]
        height, width = ((n - 1) * pixel + outside for n in patches.shape_yx)
        device = patches.photons_tvyx.device
        low = torch.tensor([self.z_range[0], -outside, -outside], device=device)
        return low, torch.tensor([self.z_range[1], height, width], device=device)

    def _steps(self, here: Linearized, damping: Tensor, pinned: Tensor) -> tuple[list[Tensor], Tensor]:
        """Damped steps, and the log-likelihood that each promises."""
        steps, promised = [], []
        first = 0
        for t, (gradient, fisher) in enumerate(zip(here.gradient_t, here.fisher_t, strict=True)):
            count = (len(gradient) - here.mean_tvyx.shape[1] * self.background.count) // self.parameters
            free = torch.ones_like(gradient)
            free[: count * self.parameters] = (~pinned[first : first + count]).flatten().to(gradient.dtype)
            first += count
            scale = fisher.diagonal().clamp(min=1e-12).rsqrt()
            scaled = fisher * (scale * free)[:, None] * (scale * free)
            scaled.diagonal().add_(float(damping[t]) + 1e-6 + (1 - free))
            factor, failed = torch.linalg.cholesky_ex(scaled)
            if int(failed):
                scaled.diagonal().add_(1e-2)
                factor, _ = torch.linalg.cholesky_ex(scaled)
            slope = gradient * scale * free
            step = torch.cholesky_solve(slope[:, None], factor)[:, 0]
            # what the damping holds back is still to be gained
            promised.append(float(slope @ step) / 2 * (1 + float(damping[t])))
            steps.append(step * scale)
        return steps, torch.tensor(promised)

    def _moved(self, state: State, steps: list[Tensor], still: Tensor, patches: Patches) -> State:
        """State after the steps, kept inside its physical range; patches in `still` stay."""
        p, nb = self.parameters, self.background.count
        views = state.coefficients_tvn.shape[1]
        molecules = torch.cat([s[: len(s) - views * nb].reshape(-1, p) for s in steps])
        moving = (~still).to(state.photons_m.device)
        molecules = molecules * moving[state.patch_m][:, None]
        largest = torch.tensor(LARGEST_STEP_NM, device=molecules.device)
        position = state.position_m3 + torch.maximum(torch.minimum(molecules[:, :3], largest), -largest)
        position = torch.clamp(position, *self._position_bounds(patches))
        photons = torch.maximum(state.photons_m + molecules[:, 3], 0.2 * state.photons_m).clamp(min=FEWEST_PHOTONS)
        blur = state.blur_m
        if self.fit_blur and self.table.blur2_knots is not None:
            knots = self.table.blur2_knots.sqrt()
            blur = (state.blur_m + molecules[:, 4].clamp(-20, 20)).clamp(float(knots[0]), float(knots[-1]))
        ground = torch.stack([s[len(s) - views * nb :].reshape(views, nb) for s in steps]) * moving[:, None, None]
        return State(state.patch_m, position, photons, blur, state.coefficients_tvn + ground, state.strength_tv)


def _mixed(here: Linearized, there: Linearized, taken: Tensor, state: State) -> Linearized:
    """Linearization of a state that takes some patches from `there`."""
    pick = lambda a, b: [y if t else x for x, y, t in zip(a, b, taken.tolist(), strict=True)]  # noqa: E731
    taken = taken.to(here.mean_tvyx.device)
    rows = taken[state.patch_m][:, None, None, None]
    return Linearized(
        torch.where(taken, there.likelihood_t, here.likelihood_t),
        pick(here.gradient_t, there.gradient_t),
        pick(here.fisher_t, there.fisher_t),
        torch.where(taken[:, None, None, None], there.mean_tvyx, here.mean_tvyx),
        torch.where(rows[..., None], there.jacobian, here.jacobian),
        here.layout.with_rows(rows[:, 0, 0, 0], there.layout.only(rows[:, 0, 0, 0])),
        torch.where(rows[:, :, 0, 0], there.place_m5, here.place_m5),
    )


def _take(state: State, trial: State, patches: Tensor) -> None:
    """Copy the trial's molecules and background of some patches into the state."""
    patches = patches.to(state.photons_m.device)
    rows = patches[state.patch_m]
    state.position_m3 = torch.where(rows[:, None], trial.position_m3, state.position_m3)
    state.photons_m = torch.where(rows, trial.photons_m, state.photons_m)
    state.blur_m = torch.where(rows, trial.blur_m, state.blur_m)
    state.coefficients_tvn = torch.where(patches[:, None, None], trial.coefficients_tvn, state.coefficients_tvn)
