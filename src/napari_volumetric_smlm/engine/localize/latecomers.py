"""Molecules that show only when their neighbours make room: these took their light, so that the residual holds hardly any of it.

The search weighs a newcomer with all others held. Here all others follow, to first order (profile likelihood):
    score = sum r h / v,    N = score / I,    gain = score^2 / (2 I),    I = sum h^2 / v - b^T F^-1 b,    b_i = sum h / v  d_i mu
with residual r, variance v, the newcomer's image h, derivatives d_i mu by all parameters and their Fisher matrix F.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .linearize import Linearized, Linearizer
from .scene import SMALLEST_VARIANCE, Patches, State, place_windows, window_index
from .search import Candidates, local_maxima

LEAST_GAIN = 4.0  # of a maximum of the residual, all others held, to be weighed
MOST_MAXIMA = 16  # that are weighed
PROMISING = 15.0  # gain that is worth a fit
LEAST_SHARE = 0.02  # of the information on a newcomer; with less it cannot be told from what is there
STIFFNESS = 1e-4  # of the scaled Fisher matrix, so that two molecules at one place leave it positive

if TYPE_CHECKING:
    from .localizer import Localizer


def most_promising(
    localizer: Localizer, patch: Patches, at: tuple[State, Linearized], maps: tuple[Tensor, Tensor], doubtful: Candidates | None = None
) -> Candidates:
    """Newcomers to one patch whose gain is large when all others follow, best first, and as far apart as the rules want them.

    Parameters
    ----------
    at : what is there, and its linearization. maps : gain and photons of a newcomer anywhere with all others held, (1, d, y, x).
    doubtful : places to be weighed beside the maxima of the gain.
    """
    rules = localizer.rules
    maxima = local_maxima(*maps, localizer.filter.z_nm, patch.pixel_v[0], (maps[0].new_tensor([LEAST_GAIN]), 0.0))
    place, light = maxima.position_m3[:MOST_MAXIMA], maxima.photons_m[:MOST_MAXIMA]
    if doubtful is not None:
        place, light = torch.cat([place, doubtful.position_m3]), torch.cat([light, _left_for(doubtful, localizer, patch, maps[1])])
    found = Candidates(torch.zeros_like(light).long(), place, light, torch.zeros_like(light))
    if not len(found.gain_m):
        return found
    state, here = at
    blur = torch.full_like(found.photons_m, localizer.blur_nm)
    new = State(found.patch_m, found.position_m3, found.photons_m, blur, state.coefficients_tvn, state.strength_tv)
    gain = profile_gain(localizer.refiner, patch, new, here)[0]
    order = torch.argsort(gain, descending=True)
    kept: list[int] = []
    for k in order[gain[order] > max(PROMISING, rules.share_of_best * float(gain.max()))].tolist():
        if all(float((found.position_m3[k] - found.position_m3[i])[1:].norm()) >= rules.apart_nm for i in kept):
            kept.append(k)
    # they begin with the photons that the others leave them: more at once than what is there can give up at once stalls the fit
    return Candidates(found.patch_m[kept], found.position_m3[kept], found.photons_m[kept], gain[kept])


def _left_for(found: Candidates, localizer: Localizer, patch: Patches, photons_tdyx: Tensor) -> Tensor:
    """Photons that the others leave for molecules at places."""
    depth = (found.position_m3[:, :1] - localizer.filter.z_nm).abs().argmin(1)
    y, x = (
        (found.position_m3[:, a] / patch.pixel_v[0]).round().long().clamp(0, n - 1)
        for a, n in zip((1, 2), photons_tdyx.shape[2:], strict=True)
    )
    return photons_tdyx[0, depth, y, x].clamp(min=1.0)


def profile_gain(refiner: Linearizer, patches: Patches, newcomers: State, here: Linearized) -> tuple[Tensor, Tensor]:
    """Gain and photons of each newcomer to one patch when all that is there follows."""
    windows = place_windows(refiner.table, patches, newcomers, derivatives=False)
    index = window_index(windows, patches, newcomers, refiner.table.window_px).flatten(1)
    weight = patches.seen_tvyx / (here.mean_tvyx + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    image = windows.images.value.flatten(1)
    weighted = image * weight.view(-1)[index]
    score = (weighted * (patches.photons_tvyx - here.mean_tvyx).view(-1)[index]).sum(1)
    information = (weighted * image).sum(1)
    canvas_ck = image.new_zeros((len(image), weight.numel())).scatter_add_(1, index, weighted)
    seen_by = torch.einsum("mpk,cmk->mpc", here.jacobian.flatten(2), canvas_ck[:, here.layout.index.flatten(1)]).flatten(0, 1)
    ground = refiner.background.project(canvas_ck.unflatten(1, weight.shape[1:])).flatten(1)
    shared = torch.cat([seen_by, ground.T])  # b of every newcomer in a column
    scale = here.fisher_t[0].diagonal().clamp(min=1e-12).rsqrt()
    scaled = here.fisher_t[0] * scale[:, None] * scale
    scaled.diagonal().add_(STIFFNESS)
    shared = shared * scale[:, None]
    follow = torch.cholesky_solve(shared, torch.linalg.cholesky(scaled))
    information = torch.maximum(information - (shared * follow).sum(0), LEAST_SHARE * information).clamp(min=1e-12)
    # what the others have still to go is not counted as theirs: far from the optimum that leads astray
    return score.clamp(min=0) ** 2 / information / 2, score / information
