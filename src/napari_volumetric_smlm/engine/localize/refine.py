"""Joint maximum-likelihood refinement of all molecules and the background of a patch.

Counts n with read noise of variance s^2 follow n + s^2 ~ Poisson(mu + s^2) closely (Huang et al., Nat. Methods 10, 653 (2013)):
    L = sum_k (n_k + s_k^2) ln v_k - v_k,   v = mu + s^2
    gradient_i = sum_k (n_k - mu_k) / v_k  d_i mu_k,    F_ij = sum_k d_i mu_k d_j mu_k / v_k   (Fisher information)
Each step solves (F + damping diag F) delta = gradient for all overlapping molecules and the background together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .scene import OUTSIDE, SMALLEST_VARIANCE, Patches, State, Windows, model_image, place_windows, window_index

# Largest step of one iteration in nm: beyond it the linear model of the PSF says nothing.
LARGEST_STEP_NM = (250.0, 150.0, 150.0)
NEAR = 0.8  # windows farther apart than this share of their side have only dark corners in common


@dataclass
class Linearized:
    """Likelihood, gradient and Fisher matrix of every patch at the present state; parameters: molecules by patch, then background.

    damping_t : how far the last refinement had to damp its steps from here, None where none began here.
    """

    likelihood_t: Tensor
    gradient_t: list[Tensor]
    fisher_t: list[Tensor]
    mean_tvyx: Tensor
    damping_t: Tensor | None = None


class Refiner:
    """Refines states on patches with one PSF table."""

    def __init__(self, table: PsfTable, background: CosineBackground, fit_blur: bool = False) -> None:
        self.table, self.background = table, background
        self.fit_blur = fit_blur and table.blur2_knots is not None
        self.parameters = 5 if self.fit_blur else 4
        low, high = float(table.z_nm[0]), float(table.z_nm[-1])
        self.z_range = (low + 1.0, high - 1.0)

    def mean(self, patches: Patches, state: State) -> tuple[Tensor, Windows, Tensor]:
        """Expected photons on the canvases, with the windows and their indices."""
        windows = place_windows(self.table, patches, state, derivatives=False)
        index = window_index(windows, patches, state, self.table.window_px)
        return model_image(patches, state, windows, index, self.background), windows, index

    def linearize(self, patches: Patches, state: State) -> Linearized:
        """Evaluate likelihood, gradient and Fisher information of every patch."""
        windows = place_windows(self.table, patches, state)
        size = self.table.window_px
        index = window_index(windows, patches, state, size)
        mean = model_image(patches, state, windows, index, self.background)
        variance = (mean + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
        weight = patches.seen_tvyx / variance
        score = (patches.photons_tvyx - mean) * weight
        likelihood = log_likelihood(patches, mean)

        jacobian = self._jacobian(state, windows)  # (m, P, V, n, n)
        gradient_m = torch.einsum("mpvab,mvab->mp", jacobian, score.view(-1)[index])
        weighted = jacobian * weight.view(-1)[index][:, None]
        own = torch.einsum("mpvab,mqvab->mpq", weighted, jacobian)
        views = patches.photons_tvyx.shape[1]
        cross = [  # molecules against the background of each view
            self.background.project_windows(weighted[:, :, v], windows.top_mv[:, v], windows.left_mv[:, v]) for v in range(views)
        ]
        gradient_b = self.background.project(score) - state.strength_tv[..., None] * self.background.roughness * state.coefficients_tvn
        fisher_b = self.background.normal_matrix(weight) + torch.diag_embed(state.strength_tv[..., None] * self.background.roughness)
        gradients, fishers = [], []
        bounds = torch.searchsorted(state.patch_m, torch.arange(len(mean) + 1, device=mean.device)).tolist()
        p, nb = self.parameters, self.background.count
        for t, (first, last) in enumerate(pairwise(bounds)):
            k = (last - first) * p
            fisher = mean.new_zeros((k + views * nb, k + views * nb))
            rows = slice(first, last)
            fisher[:k, :k] = _molecule_blocks(weighted[rows], jacobian[rows], own[rows], (windows.top_mv[rows], windows.left_mv[rows]))
            for v in range(views):
                at = k + v * nb
                fisher[at : at + nb, at : at + nb] = fisher_b[t, v]
                if k:
                    block = cross[v][first:last].reshape(k, nb)
                    fisher[:k, at : at + nb] = block
                    fisher[at : at + nb, :k] = block.T
            gradients.append(torch.cat([gradient_m[first:last].flatten(), gradient_b[t].flatten()]))
            fishers.append(fisher)
        prior = (state.strength_tv[..., None] * self.background.roughness * state.coefficients_tvn**2).sum((-1, -2)) / 2
        return Linearized(likelihood - prior, gradients, fishers, mean)

    def _jacobian(self, state: State, windows: Windows) -> Tensor:
        """Derivatives by z, y, x (reference view), photons and blur: (m, P, V, n, n)."""
        images, linear = windows.images, self.table.linear_v22
        if images.by_z is None or images.by_y is None or images.by_x is None:
            raise ValueError("the windows were placed without derivatives")
        by_z, by_y, by_x = images.by_z, images.by_y, images.by_x
        # y and x of a view follow from the reference by the view's affine
        ref_y = by_y * linear[:, 0, 0, None, None] + by_x * linear[:, 1, 0, None, None]
        ref_x = by_y * linear[:, 0, 1, None, None] + by_x * linear[:, 1, 1, None, None]
        n = state.photons_m[:, None, None, None]
        parts = [by_z * n, ref_y * n, ref_x * n, images.value]
        if self.fit_blur and images.by_blur is not None:
            parts.append(images.by_blur * n)
        return torch.stack(parts, 1)

    def refine(
        self, patches: Patches, state: State, iterations: int, tolerance: float = 0.02, here: Linearized | None = None
    ) -> tuple[Linearized, Tensor]:
        """Improve the state in place; `here` is its linearization where that is known.

        Returns
        -------
        The linearization at the final state, and whether each patch converged: the next step is below `tolerance` standard errors.
        """
        here = self.linearize(patches, state) if here is None else here
        # a step that was refused must not be tried again by the next call
        damping = torch.full((len(patches.photons_tvyx),), 1e-3) if here.damping_t is None else here.damping_t
        converged = torch.zeros(len(damping), dtype=torch.bool)
        for _ in range(iterations):
            steps, sizes = self._steps(here, damping)
            converged |= sizes < tolerance
            if bool(converged.all()):
                break
            trial = self._moved(state, steps, converged, patches)
            there = self.linearize(patches, trial)
            better = (there.likelihood_t >= here.likelihood_t - 1e-3).cpu() | converged  # those that stay are where they were
            damping = torch.where(better, (damping * 0.2).clamp(min=1e-6), (damping * 10 + 1e-3).clamp(max=1e6))
            converged |= ~better & (damping > 1e4)
            if bool(better.all()):
                state.__dict__.update(trial.__dict__)
                here = there
            elif bool(better.any()):
                _take(state, trial, better)
                here = _mixed(here, there, better)
            here.damping_t = damping
        return here, converged

    def _steps(self, here: Linearized, damping: Tensor) -> tuple[list[Tensor], Tensor]:
        """Damped steps, and their largest size in standard errors of each parameter alone."""
        steps, sizes = [], []
        for t, (gradient, fisher) in enumerate(zip(here.gradient_t, here.fisher_t, strict=True)):
            diagonal = fisher.diagonal().clamp(min=1e-12)
            scale = diagonal.rsqrt()
            scaled = fisher * scale[:, None] * scale
            scaled.diagonal().add_(float(damping[t]) + 1e-6)
            factor, failed = torch.linalg.cholesky_ex(scaled)
            if int(failed):
                scaled.diagonal().add_(1e-2)
                factor, _ = torch.linalg.cholesky_ex(scaled)
            step = torch.cholesky_solve((gradient * scale)[:, None], factor)[:, 0]
            sizes.append(float(step.abs().max()) if len(step) else 0.0)
            steps.append(step * scale)
        return steps, torch.tensor(sizes)

    def _moved(self, state: State, steps: list[Tensor], still: Tensor, patches: Patches) -> State:
        """State after the steps, kept inside its physical range; patches in `still` stay."""
        p, nb = self.parameters, self.background.count
        views = state.coefficients_tvn.shape[1]
        molecules = torch.cat([s[: len(s) - views * nb].reshape(-1, p) for s in steps])
        moving = (~still).to(state.photons_m.device)
        molecules = molecules * moving[state.patch_m][:, None]
        largest = torch.tensor(LARGEST_STEP_NM, device=molecules.device)
        position = state.position_m3 + torch.maximum(torch.minimum(molecules[:, :3], largest), -largest)
        position[:, 0].clamp_(*self.z_range)
        for axis, pixels in ((1, patches.shape_yx[0]), (2, patches.shape_yx[1])):
            position[:, axis].clamp_(-OUTSIDE * patches.pixel_v[0], (pixels - 1 + OUTSIDE) * patches.pixel_v[0])
        photons = torch.maximum(state.photons_m + molecules[:, 3], 0.2 * state.photons_m).clamp(min=1.0)
        blur = state.blur_m
        if self.fit_blur and self.table.blur2_knots is not None:
            knots = self.table.blur2_knots.sqrt()
            blur = (state.blur_m + molecules[:, 4].clamp(-20, 20)).clamp(float(knots[0]), float(knots[-1]))
        ground = torch.stack([s[len(s) - views * nb :].reshape(views, nb) for s in steps]) * moving[:, None, None]
        return State(state.patch_m, position, photons, blur, state.coefficients_tvn + ground, state.strength_tv)


def log_likelihood(patches: Patches, mean_tvyx: Tensor) -> Tensor:
    """Log-likelihood of every patch minus that of a perfect model, (T,): minus half the deviance."""
    variance = (mean_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    seen = (patches.photons_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    terms = seen * torch.log(variance / seen) - (variance - seen)
    return (terms * patches.seen_tvyx).sum((-1, -2, -3))


def _molecule_blocks(weighted: Tensor, jacobian: Tensor, own: Tensor, corner_mv: tuple[Tensor, Tensor]) -> Tensor:
    """Fisher matrix of the molecules of one patch, (m P, m P), from the common parts of their windows."""
    m, p, views, size, _ = jacobian.shape
    blocks = own.new_zeros((m, m, p, p))
    blocks.diagonal(dim1=0, dim2=1).copy_(own.permute(1, 2, 0))
    top, left = corner_mv
    dy, dx = top[None] - top[:, None], left[None] - left[:, None]  # (m, m, V): from window i to window j
    shared = ((dy.abs() < NEAR * size) & (dx.abs() < NEAR * size)).any(-1).triu(1)
    i_list, j_list = (index.tolist() for index in shared.nonzero(as_tuple=True))
    if i_list:
        dy_list, dx_list = dy[shared].tolist(), dx[shared].tolist()
        found = []
        for i, j, dys, dxs in zip(i_list, j_list, dy_list, dx_list, strict=True):
            total = None
            for v in range(views):
                y, x = dys[v], dxs[v]
                if abs(y) < size and abs(x) < size:
                    a = weighted[i, :, v, max(y, 0) : size + min(y, 0), max(x, 0) : size + min(x, 0)].reshape(p, -1)
                    b = jacobian[j, :, v, max(-y, 0) : size + min(-y, 0), max(-x, 0) : size + min(-x, 0)].reshape(p, -1)
                    total = a @ b.T if total is None else total + a @ b.T
            found.append(total)
        pairs = torch.stack(found)  # type: ignore[arg-type]
        blocks[i_list, j_list] = pairs
        blocks[j_list, i_list] = pairs.transpose(1, 2)
    return blocks.permute(0, 2, 1, 3).reshape(m * p, m * p)


def _mixed(here: Linearized, there: Linearized, taken: Tensor) -> Linearized:
    """Linearization of a state that takes some patches from `there`."""
    pick = lambda a, b: [y if t else x for x, y, t in zip(a, b, taken.tolist(), strict=True)]  # noqa: E731
    taken = taken.to(here.mean_tvyx.device)
    return Linearized(
        torch.where(taken, there.likelihood_t, here.likelihood_t),
        pick(here.gradient_t, there.gradient_t),
        pick(here.fisher_t, there.fisher_t),
        torch.where(taken[:, None, None, None], there.mean_tvyx, here.mean_tvyx),
    )


def _take(state: State, trial: State, patches: Tensor) -> None:
    """Copy the trial's molecules and background of some patches into the state."""
    patches = patches.to(state.photons_m.device)
    rows = patches[state.patch_m]
    state.position_m3 = torch.where(rows[:, None], trial.position_m3, state.position_m3)
    state.photons_m = torch.where(rows, trial.photons_m, state.photons_m)
    state.blur_m = torch.where(rows, trial.blur_m, state.blur_m)
    state.coefficients_tvn = torch.where(patches[:, None, None], trial.coefficients_tvn, state.coefficients_tvn)
