"""Matching pursuit: fit and subtract one molecule after the other, the comparator of DeepSTORM3D [nehme2020].

The dictionary holds the PSF at every search depth and pixel. The atom whose gain is largest (see `search`) is refined continuously by
maximum likelihood, together with a constant under it, and subtracted for good. For an isolated molecule this is the
maximum-likelihood fit. Where images overlap, the first atoms take light of their neighbours, which no later atom gives back.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from .findings import Findings, findings
from .linearize import log_likelihood
from .localizer import Localizer
from .scene import Patches, State

ATOM_STEPS = 20


class Pursuit(Localizer):
    """Finds molecules one by one, on patches of one size; it stops when the best atom gains less than the rules' threshold."""

    def run(self, patches: Patches) -> Generator[int, None, Findings]:
        """Localize; yields the number of molecules after every atom. Errors are those of a joint fit at the places found."""
        state = self._start(patches)
        # once and for all: fitted again after every atom, it follows what wrong atoms leave, and begets more of them
        state.coefficients_tvn = self.background.robust_fit(patches.photons_tvyx, patches.read_variance_tvyx, patches.seen_tvyx)[0]
        converged = torch.ones(len(patches.photons_tvyx), dtype=torch.bool, device=self.table.device)
        for t in range(len(converged)):
            one = state.of_patch(t)
            converged[t] = yield from self._pursue(patches.select(torch.tensor([t], device=converged.device)), one)
            state.put_patch(t, one)
        return findings(patches, state, self.refiner.linearize(patches, state), (self.refiner, converged))

    def _pursue(self, patches: Patches, state: State) -> Generator[int, None, bool]:
        """Add molecules to a single patch; returns whether all their fits converged."""
        converged = True
        mean = self.refiner.mean(patches, state)[0]
        while len(state.photons_m) < self.rules.largest_count:
            atom = self._best_atom(patches, mean)
            if atom is None:
                break
            fitted, settled = self._refined(patches, atom, mean)
            longer = state.of_patch(0)
            longer.add(fitted.patch_m, fitted.position_m3, fitted.photons_m, fitted.blur_m)
            after = self.refiner.mean(patches, longer)[0]
            if float(log_likelihood(patches, after) - log_likelihood(patches, mean)) < self.rules.threshold:
                # it left its place for one that explains too little; the next would do the same
                break
            state.put_patch(0, longer)
            mean, converged = after, converged and settled
            yield len(state.photons_m)
        return converged

    def _best_atom(self, patches: Patches, mean_tvyx: Tensor) -> tuple[Tensor, Tensor] | None:
        """Place (1, 3) and photons (1) of the atom that explains the residual of a single patch best; None where it gains too little."""
        gain, photons = self.filter.gains_beyond(patches, mean_tvyx)
        best = int(gain.argmax())
        if float(gain.flatten()[best]) < self.rules.threshold:
            return None
        d, y, x = torch.unravel_index(torch.tensor(best), gain.shape[1:])
        pixel = patches.pixel_v[0]
        place = torch.stack([self.filter.z_nm[d], y.to(gain) * pixel, x.to(gain) * pixel])
        return place[None], photons.flatten()[best : best + 1]

    def _refined(self, patches: Patches, atom: tuple[Tensor, Tensor], mean_tvyx: Tensor) -> tuple[State, bool]:
        """Fit an atom with a constant around it to what `mean_tvyx` leaves: the molecule, and whether its fit converged."""
        position, photons = atom
        small, origin, given = patches.around(self.table, position[0, 1:], self.local_px, mean_tvyx)
        small.given_tvyx = given
        shift = torch.cat([torch.zeros_like(origin[:1]), origin])
        ground = torch.zeros((1, len(patches.pixel_v), 1), device=shift.device)
        blur = torch.full_like(photons, self.blur_nm)
        local = State(torch.zeros_like(photons).long(), position - shift, photons, blur, ground, torch.ones_like(ground[..., 0]))
        _, converged = self.local_refiner.refine(small, local, ATOM_STEPS)
        local.position_m3 = local.position_m3 + shift
        return local, bool(converged.all())
