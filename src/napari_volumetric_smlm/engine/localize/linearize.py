"""Likelihood of patches under a state, with its gradient and Fisher information.

Counts n with read noise of variance s^2 follow n + s^2 ~ Poisson(mu + s^2) closely (Huang et al., Nat. Methods 10, 653 (2013)):
    L = sum_k (n_k + s_k^2) ln v_k - v_k,   v = mu + s^2
    gradient_i = sum_k (n_k - mu_k) / v_k  d_i mu_k,    F_ij = sum_k d_i mu_k d_j mu_k / v_k   (Fisher information)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .information import Layout, molecule_blocks
from .scene import SMALLEST_VARIANCE, Patches, State, Windows, model_image, place_windows, window_index

# Derivatives hold while a molecule moves less than this from where they were computed: nm in z, y and x, share of its photons, nm of blur.
HOLD_NM, HOLD_PHOTONS, HOLD_BLUR_NM = (25.0, 8.0, 8.0), 0.15, 8.0


@dataclass
class Linearized:
    """Likelihood, gradient and Fisher matrix of every patch at the present state; parameters: molecules by patch, then background.

    jacobian : derivatives in the molecules' windows, (m, P, V, n, n). layout : where those windows lay.
    place_m5 : z, y, x, photons and blur for which a molecule's derivatives were computed; not a number where they are still to come.
    damping_t : how far the last refinement had to damp its steps from here, None where none began here.
    """

    likelihood_t: Tensor
    gradient_t: list[Tensor]
    fisher_t: list[Tensor]
    mean_tvyx: Tensor
    jacobian: Tensor
    layout: Layout
    place_m5: Tensor
    damping_t: Tensor | None = None

    def of_patch(self, t: int, state: State) -> Linearized:
        """That of one patch of the state alone, as patch 0."""
        rows, one = state.patch_m == t, slice(t, t + 1)
        layout = self.layout.only(rows)
        return Linearized(
            self.likelihood_t[one], self.gradient_t[one], self.fisher_t[one], self.mean_tvyx[one], self.jacobian[rows],
            replace(layout, index=layout.index - t * self.mean_tvyx[0].numel()), self.place_m5[rows],
        )  # fmt: skip


class Linearizer:
    """Evaluates states on patches with one PSF table."""

    def __init__(self, table: PsfTable, background: CosineBackground, fit_blur: bool = False) -> None:
        self.table, self.background = table, background
        self.fit_blur = fit_blur and table.blur2_knots is not None
        self.parameters = 5 if self.fit_blur else 4

    def mean(self, patches: Patches, state: State) -> tuple[Tensor, Windows, Tensor]:
        """Expected photons on the canvases, with the windows and their indices."""
        windows = place_windows(self.table, patches, state, derivatives=False)
        index = window_index(windows, patches, state, self.table.window_px)
        return model_image(patches, state, windows, index, self.background), windows, index

    def linearize(self, patches: Patches, state: State, near: Linearized | None = None) -> Linearized:
        """Evaluate likelihood, gradient and Fisher information of every patch.

        Parameters
        ----------
        near : linearization of a state near by with the same molecules; those that hardly moved since keep their derivatives, and two
            such what couples them.
        """
        place = torch.cat([state.position_m3, state.photons_m[:, None], state.blur_m[:, None]], 1)
        fresh = _moved(place, torch.full_like(place, torch.nan) if near is None else near.place_m5)
        windows = place_windows(self.table, patches, state.only(fresh))
        layout = Layout(windows.top_mv, windows.left_mv, window_index(windows, patches, state.only(fresh), self.table.window_px))
        jacobian = self._jacobian(state.only(fresh), windows)
        if near is None:
            mean = model_image(patches, state, windows, layout.index, self.background)
        else:
            mean = self.mean(patches, state)[0]
            layout = near.layout.with_rows(fresh, layout)
            jacobian = near.jacobian.clone().masked_scatter_(fresh[:, None, None, None, None], jacobian)
            place = torch.where(fresh[:, None], place, near.place_m5)
        weight = _weight(patches, mean)
        likelihood, gradients = self._likelihood_and_gradient(patches, state, mean, (jacobian, layout.index))
        fishers = self._information(state, (jacobian, layout), weight, (fresh, None if near is None else near.fisher_t))
        return Linearized(likelihood, gradients, fishers, mean, jacobian, layout, place)

    def followed(self, patches: Patches, state: State, near: Linearized) -> Linearized:
        """Evaluate likelihood and gradient with the derivatives and the Fisher information of a state near by.

        A fraction of the work of `linearize`; close to the optimum the steps are as good.
        """
        mean = self.mean(patches, state)[0]
        likelihood, gradients = self._likelihood_and_gradient(patches, state, mean, (near.jacobian, near.layout.index))
        return replace(near, likelihood_t=likelihood, gradient_t=gradients, mean_tvyx=mean, damping_t=None)

    def without(self, patches: Patches, state: State, here: Linearized, keep: Tensor) -> Linearized:
        """Drop molecules from the state, in place, and return what follows from `here` for those that stay."""
        p, nb = self.parameters, state.coefficients_tvn[0].numel()
        fishers = []
        for fisher, (first, last) in zip(here.fisher_t, pairwise(state.bounds()), strict=True):
            rows = torch.cat([keep[first:last].repeat_interleave(p), keep.new_ones(nb)])
            fishers.append(fisher[rows][:, rows])
        state.keep(keep)
        near = replace(here, fisher_t=fishers, jacobian=here.jacobian[keep], layout=here.layout.only(keep), place_m5=here.place_m5[keep])
        return self.followed(patches, state, near)

    def with_more(self, state: State, here: Linearized, order: Tensor) -> Linearized:
        """Make room in `here` for molecules that the state has got; `order` is what `State.add` returned."""
        p, nb = self.parameters, state.coefficients_tvn[0].numel()
        more = len(order) - len(here.place_m5)
        fishers = []
        for old, (first, last) in zip(here.fisher_t, pairwise(state.bounds()), strict=True):
            before, now = len(old) - nb, (last - first) * p
            fisher = old.new_zeros((now + nb, now + nb))
            for rows, old_rows in ((slice(0, before), slice(0, before)), (slice(now, None), slice(before, None))):
                for columns, old_columns in ((slice(0, before), slice(0, before)), (slice(now, None), slice(before, None))):
                    fisher[rows, columns] = old[old_rows, old_columns]
            fishers.append(fisher)
        room = lambda a, value: torch.cat([a, a.new_full((more, *a.shape[1:]), value)])[order]  # noqa: E731
        return replace(
            here, fisher_t=fishers, jacobian=room(here.jacobian, 0.0), layout=here.layout.with_more(more, order),
            place_m5=room(here.place_m5, torch.nan),
        )  # fmt: skip

    def _likelihood_and_gradient(
        self, patches: Patches, state: State, mean: Tensor, derivatives: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Log-likelihood less the background's prior, (T,), and its gradient for every patch."""
        jacobian, index = derivatives
        score = (patches.photons_tvyx - mean) * _weight(patches, mean)
        gradient_m = torch.bmm(jacobian.flatten(2), score.view(-1)[index].flatten(1)[:, :, None])[:, :, 0]
        rough = state.strength_tv[..., None] * self.background.roughness * state.coefficients_tvn
        gradient_b = self.background.project(score) - rough
        gradients = [
            torch.cat([gradient_m[first:last].flatten(), gradient_b[t].flatten()])
            for t, (first, last) in enumerate(pairwise(state.bounds()))
        ]
        return log_likelihood(patches, mean) - (rough * state.coefficients_tvn).sum((-1, -2)) / 2, gradients

    def _information(
        self, state: State, derivatives: tuple[Tensor, Layout], weight: Tensor, known: tuple[Tensor, list[Tensor] | None]
    ) -> list[Tensor]:
        """Fisher matrix of every patch.

        Parameters
        ----------
        known : which molecules have fresh derivatives, and the matrices that hold for the others; None where all are fresh.
        """
        (jacobian, layout), (fresh, before) = derivatives, known
        rows = fresh.nonzero()[:, 0]
        weighted = jacobian[rows] * weight.view(-1)[layout.index[rows]][:, None]
        cross = [  # molecules against the background of each view
            self.background.project_windows(weighted[:, :, v], layout.top_mv[rows, v], layout.left_mv[rows, v])
            for v in range(weight.shape[1])
        ]
        fisher_b = self.background.normal_matrix(weight) + torch.diag_embed(state.strength_tv[..., None] * self.background.roughness)
        fishers = []
        p, nb = self.parameters, self.background.count
        for t, (first, last) in enumerate(pairwise(state.bounds())):
            k = (last - first) * p
            size = k + weight.shape[1] * nb
            fisher = weight.new_zeros((size, size)) if before is None else before[t].clone()
            mine = (rows >= first) & (rows < last)
            at = rows[mine] - first
            molecule_blocks(fisher[:k, :k], (weighted[mine], jacobian[first:last]), layout.only(slice(first, last)), at)
            lines = (at[:, None] * p + torch.arange(p, device=at.device)).flatten()
            for v in range(weight.shape[1]):
                ground = slice(k + v * nb, k + (v + 1) * nb)
                fisher[ground, ground] = fisher_b[t, v]
                block = cross[v][mine].flatten(0, 1)
                fisher[lines, ground] = block
                fisher[ground, lines] = block.T
            fishers.append(fisher)
        return fishers

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


def log_likelihood(patches: Patches, mean_tvyx: Tensor) -> Tensor:
    """Log-likelihood of every patch minus that of a perfect model, (T,): minus half the deviance."""
    variance = (mean_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    seen = (patches.photons_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    terms = seen * torch.log(variance / seen) - (variance - seen)
    return (terms * patches.seen_tvyx).sum((-1, -2, -3))


def _weight(patches: Patches, mean: Tensor) -> Tensor:
    return patches.seen_tvyx / (mean + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)


def _moved(place_m5: Tensor, old_m5: Tensor) -> Tensor:
    """Which molecules are too far from where their derivatives were computed."""
    reach = place_m5.new_tensor([*HOLD_NM, 0.0, HOLD_BLUR_NM]).repeat(len(place_m5), 1)
    reach[:, 3] = HOLD_PHOTONS * place_m5[:, 3]
    return ~((place_m5 - old_m5).abs() < reach).all(1)  # also where the old place is not a number
