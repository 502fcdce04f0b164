"""Molecules in a volume: peaks above the noise, each fitted by a three-dimensional Gaussian on a constant; many at once.

m(r) = A exp(-sum_a (r_a - p_a)^2 / (2 s_a^2)) + c, least squares by damped Gauss-Newton steps:
(J^T J + damping diag J^T J) delta = J^T (values - m).
Errors are those of independent noise of the residual's size. Voxels of a volume that was made from views share their noise, so true errors
are larger; molecules that are fitted to the views themselves have honest ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .search import local_maxima

# A peak rises this many standard deviations of the voxels (from their median deviation) above their median.
PEAK_SIGMAS = 6.0
# A volume that is dark but for a few peaks has no deviation: then this share of its highest voxel.
LEAST_SHARE = 0.03
REACH_ZYX = (4, 3, 3)
STEPS = 12
# in voxels; a deconvolution puts a bright molecule into one voxel or two, whose shares still tell where it is
WIDTHS = (0.4, 4.0)
AT_ONCE = 2048


@dataclass(frozen=True)
class Gaussians:
    """Fitted peaks, n rows ordered by volume.

    volume_n : which volume. index_n3, width_n3 : centre and standard deviation (z, y, x) in voxels. height_n, floor_n : A and c.
    sigma_n3 : standard error of the centre in voxels. light_n : sum of A's Gaussian over all voxels.
    """

    volume_n: Tensor
    index_n3: Tensor
    width_n3: Tensor
    height_n: Tensor
    floor_n: Tensor
    sigma_n3: Tensor

    @property
    def light_n(self) -> Tensor:
        """Sum of the Gaussian over all voxels."""
        return self.height_n * self.width_n3.prod(1) * (2 * torch.pi) ** 1.5


def peak_limit(volumes_tzyx: Tensor) -> Tensor:
    """Height (T,) that a peak must have to be more than noise."""
    values = volumes_tzyx.flatten(1)
    middle = values.median(1).values
    spread = 1.4826 * (values - middle[:, None]).abs().median(1).values
    return torch.maximum(middle + PEAK_SIGMAS * spread, LEAST_SHARE * values.amax(1))


def fit_peaks(volumes_tzyx: Tensor) -> Gaussians:
    """Find the peaks of volumes and fit them; those that run away from their peak are left out."""
    depth = torch.arange(volumes_tzyx.shape[1], dtype=volumes_tzyx.dtype, device=volumes_tzyx.device)
    peaks = local_maxima(volumes_tzyx, volumes_tzyx, depth, 1.0, (peak_limit(volumes_tzyx), 0.0))
    if not len(peaks.patch_m):
        nothing = volumes_tzyx.new_zeros(0)
        return Gaussians(peaks.patch_m, *(peaks.position_m3,) * 2, nothing, nothing, peaks.position_m3)
    some = zip(peaks.patch_m.split(AT_ONCE), peaks.position_m3.split(AT_ONCE), strict=True)
    parts = [_fitted(volumes_tzyx, volume, place.long()) for volume, place in some]
    return Gaussians(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _fitted(volumes_tzyx: Tensor, volume_n: Tensor, peak_n3: Tensor) -> tuple[Tensor, ...]:
    """Columns of `Gaussians` for some peaks."""
    shape = torch.tensor(volumes_tzyx.shape[1:], device=peak_n3.device)
    step = [torch.arange(-reach, reach + 1, device=peak_n3.device) for reach in REACH_ZYX]
    offset_k3 = torch.cartesian_prod(*step)
    at = peak_n3[:, None] + offset_k3
    inside = ((at >= 0) & (at < shape)).all(-1)
    z, y, x = at.clamp(min=0).minimum(shape - 1).unbind(-1)
    value = volumes_tzyx[volume_n[:, None], z, y, x].double()
    place, weight = offset_k3.double(), inside.double()
    height = value[:, len(offset_k3) // 2]
    floor = torch.quantile(value, 0.2, dim=1)
    centre, width = value.new_zeros((len(value), 3)), value.new_tensor([2.0, 1.0, 1.0]).repeat(len(value), 1)
    state = torch.cat([centre, width, (height - floor)[:, None], floor[:, None]], 1)
    damping = torch.full((len(value), 1), 1e-2, dtype=value.dtype, device=value.device)
    model, jacobian = _model(state, place)
    error = (((value - model) * weight) ** 2).sum(1)
    for _ in range(STEPS):
        matrix = torch.einsum("nkp,nkq->npq", jacobian * weight[..., None], jacobian)
        gradient = torch.einsum("nkp,nk->np", jacobian, (value - model) * weight)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        damped = matrix + torch.diag_embed(damping * diagonal + 1e-12 * diagonal.amax(1, keepdim=True) + 1e-30)
        trial = _bounded(state + torch.linalg.solve(damped, gradient))
        trial_model, trial_jacobian = _model(trial, place)
        trial_error = (((value - trial_model) * weight) ** 2).sum(1)
        better = trial_error < error
        state, model = torch.where(better[:, None], trial, state), torch.where(better[:, None], trial_model, model)
        jacobian, error = torch.where(better[:, None, None], trial_jacobian, jacobian), torch.where(better, trial_error, error)
        damping = torch.where(better[:, None], damping / 5, damping * 10).clamp(1e-7, 1e4)
    matrix = torch.einsum("nkp,nkq->npq", jacobian * weight[..., None], jacobian)
    scale = matrix.diagonal(dim1=1, dim2=2).clamp(min=1e-30).sqrt()
    inverse = torch.linalg.pinv(matrix / (scale[:, :, None] * scale[:, None]), hermitian=True)
    noise = error / (weight.sum(1) - state.shape[1]).clamp(min=1)
    sigma = (inverse.diagonal(dim1=1, dim2=2).clamp(min=0) * noise[:, None]).sqrt() / scale
    reach = value.new_tensor(REACH_ZYX)
    good = (state[:, :3].abs() < reach / 2).all(1) & (state[:, 6] > 0)
    columns = (volume_n, peak_n3 + state[:, :3], state[:, 3:6], state[:, 6], state[:, 7], sigma[:, :3])
    return tuple(column[good].to(volumes_tzyx.dtype if column.is_floating_point() else column.dtype) for column in columns)


def _model(state_n8: Tensor, place_k3: Tensor) -> tuple[Tensor, Tensor]:
    """Values (n, k) and derivatives (n, k, 8) by centre, widths, height and floor."""
    width = state_n8[:, None, 3:6]
    away = (place_k3 - state_n8[:, None, :3]) / width
    shape = torch.exp(-0.5 * (away**2).sum(-1))
    bright = (state_n8[:, 6:7] * shape)[..., None]
    jacobian = torch.cat([bright * away / width, bright * away**2 / width, shape[..., None], torch.ones_like(bright)], -1)
    return bright[..., 0] + state_n8[:, 7:8], jacobian


def _bounded(state_n8: Tensor) -> Tensor:
    reach = state_n8.new_tensor(REACH_ZYX)
    centre = state_n8[:, :3].maximum(-reach).minimum(reach)
    return torch.cat([centre, state_n8[:, 3:6].clamp(*WIDTHS), state_n8[:, 6:]], 1)
