"""What a localization returns: molecules with the uncertainty that the joint Fisher matrix gives them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .linearize import Linearized
from .refine import Refiner
from .scene import Patches, State


@dataclass
class Findings:
    """Molecules of a batch of patches with their uncertainty, m rows.

    sigma_mp : (m, P) standard errors of z, y, x (nm), photons (and blur); log_likelihood_ratio_m, background_m, sigma_background_m : (m,).
    mean_tvyx : the model's mean without padding.
    """

    state: State
    sigma_mp: Tensor
    log_likelihood_ratio_m: Tensor
    background_m: Tensor
    sigma_background_m: Tensor
    converged_m: Tensor
    mean_tvyx: Tensor


def molecule_errors(state: State, covariance_t: list[Tensor], parameters: int) -> tuple[Tensor, Tensor]:
    """Standard errors (m, P) and likelihood ratios (m,) from the covariance matrix of every patch."""
    views, nb = state.coefficients_tvn.shape[1:]
    variance = torch.cat([c.diagonal()[: len(c) - views * nb].reshape(-1, parameters) for c in covariance_t])
    sigma = variance.clamp(min=0).sqrt()
    # profile likelihood to second order: all other parameters follow when the molecule goes
    return sigma, 0.5 * (state.photons_m / sigma[:, 3].clamp(min=1e-9)) ** 2


def findings(patches: Patches, state: State, here: Linearized, fit: tuple[Refiner, Tensor]) -> Findings:
    """Collect the result; `fit` is the refiner and whether each patch converged."""
    refiner, converged_t = fit
    matrices = [covariance(fisher) for fisher in here.fisher_t]
    sigma, ratio = molecule_errors(state, matrices, refiner.parameters)
    yx = torch.round(state.position_m3[:, 1:] / patches.pixel_v[0]).long() + patches.pad
    last = torch.tensor(patches.photons_tvyx.shape[-2:], device=yx.device) - 1
    yx = torch.minimum(yx.clamp(min=0), last)
    terms = refiner.background.at(yx[:, 0], yx[:, 1])
    background = (terms * state.coefficients_tvn[state.patch_m, 0]).sum(1)
    views, nb = state.coefficients_tvn.shape[1:]
    spread = torch.zeros_like(background)
    for t, matrix in enumerate(matrices):
        rows, first = state.patch_m == t, len(matrix) - views * nb
        block = matrix[first : first + nb, first : first + nb]
        spread[rows] = torch.einsum("mi,ij,mj->m", terms[rows], block, terms[rows]).clamp(min=0).sqrt()
    inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
    return Findings(state, sigma, ratio, background, spread, converged_t.to(sigma.device)[state.patch_m], here.mean_tvyx[inner])


def covariance(fisher: Tensor) -> Tensor:
    """Inverse of a Fisher matrix, scaled first so that units do not spoil it."""
    scale = fisher.diagonal().clamp(min=1e-12).rsqrt()
    scaled = (fisher * scale[:, None] * scale).double()
    scaled.diagonal().add_(1e-9)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed):
        scaled.diagonal().add_(1e-5)
        factor, _ = torch.linalg.cholesky_ex(scaled)
    return torch.cholesky_inverse(factor).to(fisher.dtype) * scale[:, None] * scale
