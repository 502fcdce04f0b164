"""Targets and losses of the published voxel networks; p = predicted voxels, 0 to 800.

DeepSTORM3D [nehme2020], target t = 1 in the voxel of every molecule:

    L = mean (K * p - 800 K * t)^2 + 1 - (2 sum q t + 1) / (sum q^2 + sum t^2 + 1),   q = p / 800

with K a Gaussian (sigma one voxel, highest value 1) that forgives a molecule in the neighbouring voxel. The published overlap has
sum q t in the denominator, which a false molecule does not change; sum q^2 [milletari2016] is what makes it count.

AutoDS3D [saguy2025], target b = a Gaussian blob at the true place between the voxels, as high as the molecule is bright:
L = mean (p - b)^2 where a voxel is as wide as a camera pixel, mean (K * p - K * b)^2 on finer grids.

L-Net, target t = a molecule's brightness in its voxel: L = sum (K * p - K * t)^2, also over what K spreads beyond the patch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv3d, pad

from ..networks.published import LARGEST

KERNEL_REACH, KERNEL_SIGMA = 3, 1.0
BLOB_REACH, BLOB_SIGMA = 2, 0.65


def occupied_voxels(frame_n: Tensor, index_n3: Tensor, shape_tzyx: tuple[int, int, int, int]) -> Tensor:
    """Voxels that hold a molecule are 1, all others 0; molecules outside the grid are left out.

    Parameters
    ----------
    index_n3 : fractional z, y, x index of each molecule (see `VoxelGrid.index`); the centre of a voxel is its whole number.
    """
    found = torch.zeros(shape_tzyx, dtype=index_n3.dtype, device=index_n3.device)
    nearest = torch.round(index_n3).long()
    inside = ((nearest >= 0) & (nearest < torch.tensor(shape_tzyx[1:], device=nearest.device))).all(1)
    z, y, x = nearest[inside].unbind(1)
    found[frame_n[inside], z, y, x] = 1.0
    return found


def blob_voxels(frame_n: Tensor, index_n3: Tensor, brightness_n: Tensor, shape_tzyx: tuple[int, int, int, int]) -> Tensor:
    """Sum of Gaussian blobs of 5 x 5 x 5 voxels, each centred at the molecule's place and 800 brightness high.

    Parameters
    ----------
    brightness_n : photons in units of the most photons that the training knows, so that confidence grows with brightness.
    """
    found = torch.zeros(shape_tzyx, dtype=index_n3.dtype, device=index_n3.device)
    step = torch.arange(-BLOB_REACH, BLOB_REACH + 1, device=index_n3.device)
    at = torch.round(index_n3).long()[:, None] + torch.cartesian_prod(step, step, step)  # (n, 125, 3)
    height = LARGEST * brightness_n[:, None] * torch.exp(-((at - index_n3[:, None]) ** 2).sum(-1) / (2 * BLOB_SIGMA**2))
    inside = ((at >= 0) & (at < torch.tensor(shape_tzyx[1:], device=at.device))).all(-1)
    z, y, x = at[inside].unbind(1)
    frame = frame_n[:, None].expand(inside.shape)[inside]
    return found.index_put_((frame, z, y, x), height[inside], accumulate=True)


def forgiving(voxels_tzyx: Tensor) -> Tensor:
    """K * voxels: every voxel spreads over 7 x 7 x 7."""
    step = torch.arange(-KERNEL_REACH, KERNEL_REACH + 1, dtype=voxels_tzyx.dtype, device=voxels_tzyx.device)
    profile = torch.exp(-(step**2) / (2 * KERNEL_SIGMA**2))
    found = voxels_tzyx[:, None]
    # the kernel is a product of its profiles
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(profile)
        found = conv3d(found, profile.view(shape), padding="same")
    return found[:, 0]


def deepstorm3d_loss(voxels_tzyx: Tensor, occupied_tzyx: Tensor) -> dict[str, Tensor]:
    """Parts of DeepSTORM3D's loss by name, each a mean over frames; their sum is what training lowers."""
    distance = (forgiving(voxels_tzyx - LARGEST * occupied_tzyx) ** 2).mean()
    q, t = (voxels_tzyx / LARGEST).flatten(1), occupied_tzyx.flatten(1)
    overlap = 1 - (2 * (q * t).sum(1) + 1) / ((q * q).sum(1) + (t * t).sum(1) + 1)
    return {"volume": distance, "overlap": overlap.mean()}


def autods3d_loss(voxels_tzyx: Tensor, blobs_tzyx: Tensor, upsampling: int) -> dict[str, Tensor]:
    """AutoDS3D's loss by name, a mean over frames; upsampling is the number of voxels per camera pixel."""
    difference = voxels_tzyx - blobs_tzyx
    return {"volume": ((difference if upsampling == 1 else forgiving(difference)) ** 2).mean()}


def lnet_loss(voxels_tzyx: Tensor, bright_tzyx: Tensor) -> dict[str, Tensor]:
    """L-Net's loss by name, a mean over patches of the sum over voxels."""
    reach = 2 * KERNEL_REACH + 1
    # without room beyond the patch what is spread over its edge would count for nothing, and answers would gather there
    return {"volume": (forgiving(pad(voxels_tzyx - bright_tzyx, (reach,) * 6)) ** 2).sum((1, 2, 3)).mean()}
