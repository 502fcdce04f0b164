"""Between a grid of voxels and molecules: what the published networks need after their last layer [nehme2020, saguy2025]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from ...errors import EngineError

MOLECULES_AT_ONCE = 4096  # bounds the memory of the windows


@dataclass(frozen=True)
class VoxelFinds:
    """Molecules that a voxel network found, n rows ordered by frame: frame, z, y, x (nm) and confidence.

    confidence_n : the highest voxel, 0 to 800; says how sure the network is, not how many photons there are.
    """

    frame_n: Tensor
    position_n3: Tensor
    confidence_n: Tensor


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie: `depth_planes` fill the depth range, `upsampling` voxels fill a camera pixel along y and along x.

    The centre of camera pixel (0, 0) is at 0 nm, so the first voxel of a finer grid lies at less than 0.
    """

    low_nm: float
    high_nm: float
    depth_planes: int
    pixel_nm: float
    upsampling: int

    @property
    def voxel_zyx_nm(self) -> tuple[float, float, float]:
        """Sides of a voxel."""
        side = self.pixel_nm / self.upsampling
        return (self.high_nm - self.low_nm) / self.depth_planes, side, side

    def position_nm(self, index_n3: Tensor) -> Tensor:
        """Places z, y, x in nm of indices, which may be fractions; the centre of a voxel is its whole number."""
        return index_n3 * self._voxel(index_n3) + self._first(index_n3)

    def index(self, position_n3: Tensor) -> Tensor:
        """Indices, with their fractions, of places in nm."""
        return (position_n3 - self._first(position_n3)) / self._voxel(position_n3)

    def _voxel(self, like: Tensor) -> Tensor:
        return torch.tensor(self.voxel_zyx_nm, dtype=_real(like), device=like.device)

    def _first(self, like: Tensor) -> Tensor:
        voxel = self._voxel(like)
        edge = torch.tensor([self.low_nm, -self.pixel_nm / 2, -self.pixel_nm / 2], dtype=voxel.dtype, device=like.device)
        return edge + voxel / 2


@dataclass(frozen=True)
class VoxelRules:
    """Which voxels are molecules.

    threshold : of the highest voxel, 0 to 800. reach_voxels : half width of the neighbourhood: 4 = 9 x 9 x 9 voxels (DeepSTORM3D),
    2 = 5 x 5 x 5 (AutoDS3D). axis_by_axis : take the maximum along z, then y, then x, which finds the same in a fraction of the time;
    False = over the whole neighbourhood at once, as published.
    """

    threshold: float = 40.0
    reach_voxels: int = 4
    axis_by_axis: bool = True


def largest_around(voxels_tzyx: Tensor, reach_voxels: int, axis_by_axis: bool = True) -> Tensor:
    """Maximum over the cube of 2 reach + 1 voxels around every voxel, same shape."""
    side = 2 * reach_voxels + 1
    found = voxels_tzyx[:, None]
    # the maximum over a cube is the maximum along x of those along y of those along z: 3 * 9 comparisons instead of 9^3
    kernels = [(side, 1, 1), (1, side, 1), (1, 1, side)] if axis_by_axis else [(side, side, side)]
    for kernel in kernels:
        found = max_pool3d(found, kernel, 1, tuple(k // 2 for k in kernel))
    return found[:, 0]


def decode_voxels(voxels_tzyx: Tensor, grid: VoxelGrid, rules: VoxelRules = VoxelRules()) -> VoxelFinds:
    """Molecules where a voxel is the highest of its neighbourhood and above the threshold, each at the centre of mass of that.

    Voxels below the threshold count for nothing. Of equally high neighbours (a network's output is cut off at 800) the first stays.

    Raises
    ------
    EngineError
        If the network said something that is not a finite number.
    """
    if not bool(torch.isfinite(voxels_tzyx.sum())):
        raise EngineError("the network's voxels hold numbers that are not finite; expected 0 to 800: check the weights and the frames")
    kept = torch.where(voxels_tzyx > rules.threshold, voxels_tzyx, 0.0)
    peak = (kept == largest_around(kept, rules.reach_voxels, rules.axis_by_axis)) & (kept > 0)
    place = peak.nonzero()
    if len(place) > MOLECULES_AT_ONCE:
        # a network gone wrong: whole regions at the limit; of touching peaks, which are equally high, only the first can stay
        place = _without_those_behind(peak).nonzero()
    parts = [_centres(kept, some, rules.reach_voxels) for some in place.split(MOLECULES_AT_ONCE)]
    rows = torch.cat(parts) if parts else kept.new_zeros((0, 5))
    return VoxelFinds(rows[:, 0].long(), grid.position_nm(rows[:, 1:4]), rows[:, 4])


def _without_those_behind(peak_tzyx: Tensor) -> Tensor:
    """Peaks without those that have another peak as the voxel before them along an axis."""
    first = peak_tzyx.clone()
    for axis in (1, 2, 3):
        length = peak_tzyx.shape[axis] - 1
        first.narrow(axis, 1, length).logical_and_(~peak_tzyx.narrow(axis, 0, length))
    return first


def _centres(voxels_tzyx: Tensor, peak_n4: Tensor, reach: int) -> Tensor:
    """Rows of frame, fractional z, y, x index and height of the peaks that stay, (n, 5)."""
    step = torch.arange(-reach, reach + 1, device=peak_n4.device)
    offset_k3 = torch.cartesian_prod(step, step, step)
    at = peak_n4[:, None, 1:] + offset_k3
    shape = torch.tensor(voxels_tzyx.shape[1:], device=at.device)
    inside = ((at >= 0) & (at < shape)).all(-1)
    z, y, x = at.minimum(shape - 1).clamp(min=0).unbind(-1)
    value = voxels_tzyx[peak_n4[:, :1], z, y, x] * inside
    middle = len(offset_k3) // 2
    height = value[:, middle]
    first = ~(value[:, :middle] == height[:, None]).any(1)
    moved = (value @ offset_k3.to(value.dtype)) / value.sum(1, keepdim=True)
    return torch.cat([peak_n4[:, :1].to(value.dtype), peak_n4[:, 1:] + moved, height[:, None]], 1)[first]


def _real(like: Tensor) -> torch.dtype:
    return like.dtype if like.is_floating_point() else torch.get_default_dtype()
