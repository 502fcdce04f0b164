"""Localization without training: add the molecule that explains the residual best, refine all jointly, repeat, judge each.

The whole patch is explained at once, so overlapping images share their photons properly; every molecule must earn its place by
its likelihood ratio, and the background's stiffness is read from the data at every round.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .findings import Findings, covariance, findings, molecule_errors
from .latecomers import most_promising
from .linearize import Linearized
from .refine import Refiner
from .reseat import reseat
from .scene import Patches, State, padding
from .search import Candidates, MatchedFilter, Weighed, local_maxima

Propose = Callable[[Patches], Candidates]
FEW = 2
SHARED = 0.36  # of the distance between newcomers: molecules nearer than this share much of their light
STALL_ROUNDS, STALL_GAIN = 3, 5.0  # a patch is done when so many rounds gained less log-likelihood than this


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
    share_of_best: float = 0.3
    add_threshold: float = 12.0
    passes: int = 2
    suspicion: float = 3.0
    largest_reseats: int = 5
    weakest_first: bool = False  # of those that share their light; else all that fall short go at once
    neighbours_follow: bool = False  # in the end newcomers are weighed anew, with what is there following them
    sure: float = 0.0  # gain of first guesses that begin the fit; the others are newcomers in the end


@dataclass
class _Search:
    """What the search in one patch remembers: the noise, and how many molecules it added last, which is how far the noise holds.

    doubtful : guesses of a network that wait for the end.
    """

    known: Weighed | None = None
    added: int = 0
    doubtful: Candidates | None = None


class Localizer:
    """Finds and fits molecules on patches of one size.

    Parameters
    ----------
    propose : first guesses for patches, of a trained network; the search then only looks for what they miss. None = none.
    """

    def __init__(self, table: PsfTable, shape_yx: tuple[int, int], rules: Rules, propose: Propose | None = None) -> None:
        self.table, self.rules, self.propose = table, rules, propose
        self.pad = padding(table.window_px)
        self.background = CosineBackground(shape_yx, self.pad, rules.background_scale_px, table.device)
        self.start_background = CosineBackground(shape_yx, self.pad, 4 * rules.background_scale_px, table.device)
        knots = table.blur2_knots
        self.blur_nm = 0.0 if knots is None else float(knots.mean().sqrt())
        self.filter = MatchedFilter(table, shape_yx, rules.depth_step_nm, self.blur_nm if knots is not None else None)
        self.refiner = Refiner(table, self.background, rules.fit_blur)
        # trials of single molecules run on a small square with a constant correction of the background
        self.local_px = table.window_px + 2 * round(rules.apart_nm / table.pixel_v[0])
        local_shape = (self.local_px, self.local_px)
        self.local_refiner = Refiner(table, CosineBackground(local_shape, self.pad, 1e6, table.device), rules.fit_blur)
        self.local_filter = MatchedFilter(table, local_shape, rules.depth_step_nm, self.blur_nm if knots is not None else None)

    def run(self, patches: Patches) -> Generator[int, None, Findings]:
        """Localize; yields the number of molecules after every round, so that the caller can show it or stop."""
        state = self._start(patches)
        doubtful = None
        if self.propose is None:
            here = self.refiner.refine(patches, state, 3)[0]
        else:
            found = self.propose(patches)
            sure = found.gain_m >= self.rules.sure
            doubtful = found.only(~sure)
            here = yield from self._take_proposals(patches, state, found.only(sure))
        active = torch.ones(len(patches.photons_tvyx), dtype=torch.bool, device=self.table.device)
        for _ in range(self.rules.passes):
            here = yield from self._add_all(patches, state, here, active, doubtful)
            active = torch.zeros_like(active)
            for t in range(len(active)):
                one = state.of_patch(t)
                if (yield from reseat(self, patches.select(torch.tensor([t])), one)):
                    state.put_patch(t, one)
                    active[t] = True
            if not bool(active.any()):
                break
            here = self.refiner.linearize(patches, state)
        for _ in range(4):
            here = self.refiner.linearize(patches, state)
            for _ in range(8):  # in small bites, so that a cancel acts soon
                here, converged = self.refiner.refine(patches, state, 4, here)
                yield len(state.photons_m)
                if bool(converged.all()):
                    break
            before = len(state.photons_m)
            here = self._judge(patches, state, here, self.rules.threshold)
            if len(state.photons_m) == before:
                break
        return findings(patches, state, here, (self.refiner, converged))

    def _take_proposals(self, patches: Patches, state: State, found: Candidates) -> Generator[int, None, Linearized]:
        """Start from what a network found."""
        state.add(found.patch_m, found.position_m3, found.photons_m.clamp(min=1.0), torch.full_like(found.photons_m, self.blur_nm))
        yield len(state.photons_m)
        here = self.refiner.refine(patches, state, 3)[0]
        yield len(state.photons_m)
        return self._judge(patches, state, here, 0.5 * self.rules.threshold)

    def _add_all(
        self, patches: Patches, state: State, here: Linearized, active: Tensor, doubtful: Candidates | None
    ) -> Generator[int, None, Linearized]:
        """Add molecules to active patches until none of them gains enough."""
        active = active.clone()
        best = here.likelihood_t
        stalled = torch.zeros_like(best)
        searches = [_Search(doubtful=None if doubtful is None else doubtful.only(doubtful.patch_m == t)) for t in range(len(active))]
        for _ in range(self.rules.rounds):
            here, added = yield from self._add_best(patches, state, here, [s if a else None for s, a in zip(searches, active, strict=True)])
            active &= added
            if not bool(active.any()):
                break
            here = self.refiner.refine(patches, state, 3, here)[0]
            here = self._judge(patches, state, here, 0.5 * self.rules.threshold)
            yield len(state.photons_m)
            # newcomers that are judged away again and again would come back for ever
            stalled = torch.where(here.likelihood_t > best + STALL_GAIN, torch.zeros_like(stalled), stalled + 1)
            best = torch.maximum(best, here.likelihood_t)
            active &= stalled < STALL_ROUNDS
            if not bool(active.any()):
                break
        return here

    def _start(self, patches: Patches) -> State:
        """No molecules; background from a few terms."""
        t, c = patches.photons_tvyx.shape[:2]
        basis, device = self.start_background, self.table.device
        coefficients = torch.zeros((t, c, self.background.rows, self.background.columns), device=device)
        few, _ = basis.robust_fit(patches.photons_tvyx, patches.read_variance_tvyx, patches.seen_tvyx)
        coefficients[..., : basis.rows, : basis.columns] = few.unflatten(-1, (basis.rows, basis.columns))
        empty = torch.zeros(0, device=device)
        return State(
            patch_m=empty.long(), position_m3=empty.reshape(0, 3), photons_m=empty, blur_m=empty,
            coefficients_tvn=coefficients.flatten(-2), strength_tv=torch.full((t, c), 1.0, device=device),
        )  # fmt: skip

    def _add_best(
        self, patches: Patches, state: State, here: Linearized, searches: list[_Search | None]
    ) -> Generator[int, None, tuple[Linearized, Tensor]]:
        """Add what gains enough to the patches that are searched, and return which got some.

        One patch at a time, so that the maps stay small.
        """
        counts = torch.bincount(state.patch_m, minlength=len(searches)).tolist()
        added = torch.zeros(len(searches), dtype=torch.bool, device=state.patch_m.device)
        for t, search in enumerate(searches):
            if search is None:
                continue
            one = torch.tensor([t], device=added.device)
            patch, mean = patches.select(one), here.mean_tvyx[one]
            if search.known is None or search.added > FEW:
                search.known = self.filter.weigh_beyond(patch, mean)
            gain, photons = self.filter.gains_beyond(patch, mean, search.known)
            smallest = (self.rules.share_of_best * gain.max()).clamp(min=self.rules.add_threshold)
            limits = (smallest[None], self.rules.apart_nm)
            found = self.filter.told_apart(local_maxima(gain, photons, self.filter.z_nm, patches.pixel_v[0], limits), self.rules.apart_nm)
            if self.rules.neighbours_follow and not len(found.gain_m):
                found = most_promising(self, patch, (state.of_patch(t), here.of_patch(t, state)), (gain, photons), search.doubtful)
            room = max(0, self.rules.largest_count - counts[t])
            light = found.photons_m[:room]
            order = state.add(
                torch.full_like(found.patch_m[:room], t), found.position_m3[:room], light, torch.full_like(light, self.blur_nm)
            )
            here = self.refiner.with_more(state, here, order)
            search.added = len(light)
            added[t] = len(light) > 0
            yield len(state.photons_m)
        return here, added

    def _judge(self, patches: Patches, state: State, here: Linearized, threshold: float) -> Linearized:
        """Drop molecules whose likelihood ratio is too small, then update the background's strength."""
        while True:
            judged = [covariance(fisher) for fisher in here.fisher_t]
            views, nb = state.coefficients_tvn.shape[1:]
            for t, matrix in enumerate(judged):
                ground = matrix.diagonal()[len(matrix) - views * nb :].reshape(views, nb)
                state.strength_tv[t] = self.background.strength(state.coefficients_tvn[t], ground, state.strength_tv[t])
            _, ratio = molecule_errors(state, judged, self.refiner.parameters)
            weak = ~(ratio >= threshold)  # one without a number goes as well
            if not bool(weak.any()):
                return here
            going = weak & ~self._stays_for_now(state, weak, ratio) if self.rules.weakest_first else weak
            here = self.refiner.without(patches, state, here, ~going)
            here = self.refiner.refine(patches, state, 1, here, anew=False)[0]
            if bool((going == weak).all()):
                return here

    def _stays_for_now(self, state: State, weak: Tensor, ratio: Tensor) -> Tensor:
        """Which molecules have a weaker neighbour that falls short too: two at one place look superfluous each while the other is there."""
        place = state.position_m3[:, 1:]
        near = (torch.cdist(place, place) < SHARED * self.rules.apart_nm) & (state.patch_m[:, None] == state.patch_m)
        return (near & weak & (ratio < ratio[:, None])).any(1)
