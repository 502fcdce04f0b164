"""Draw a table as a super-resolved picture: histogram, Gaussians of each molecule's own uncertainty, averaged shifted histogram.

Every molecule adds one to the sum of the picture (less what lies outside it).
Source of the averaged shifted histogram: Scott, Ann. Stat. 13, 1024 (1985).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...domain.molecules import Localizations
from ...domain.plans import RenderPlan
from ...errors import PlanError, TableError

# 1 GiB of float32 in one channel
LARGEST_PICTURE_VOXELS = 2**28
# A Gaussian is cut at this many standard deviations.
REACH_SIGMAS = 3.0
# Wider Gaussians are drawn on pixels twice as large; nothing that fine is in them.
WIDEST_SIGMA_PX = 3.0
# What drawing on double pixels and interpolating back adds to the variance, in double pixels squared:
# 3/16 by the linear interpolation, 1/12 - 1/48 by integrating over the larger pixel.
COARSE_VARIANCE_PX2 = 0.25
# A molecule that is known less well than this is haze; it is drawn this wide.
LARGEST_SIGMA_NM = 1000.0
# Left around the molecules of a volume.
MARGIN_NM = 500.0
# Kernel values that are held at once: they stay in the processor's cache.
CHUNK_VALUES = 2**18


@dataclass(frozen=True)
class Canvas:
    """Where the voxels of a picture are: voxel (0, 0, 0) has its centre at origin_zyx_nm."""

    shape_zyx: tuple[int, int, int]
    voxel_zyx_nm: tuple[float, float, float]
    origin_zyx_nm: tuple[float, float, float]


def canvas_of(localizations: Localizations, plan: RenderPlan) -> Canvas:
    """Choose the voxels: the camera's field of view where the table knows it, else the molecules' extent.

    A projection has one plane, centred in the depth that the molecules fill. A volume covers the part of the field in which there are
    molecules, with a margin, on the pixels of the projection.

    Raises
    ------
    TableError
        If the table is empty and does not know its field of view.
    PlanError
        If the picture would not fit into memory.
    """
    if localizations.shape_yx_px is not None and localizations.pixel_nm is not None:
        low = [-localizations.pixel_nm / 2] * 2
        high = [edge + side * localizations.pixel_nm for edge, side in zip(low, localizations.shape_yx_px, strict=True)]
        if plan.dimensions == "3d" and len(localizations):
            low, high = _around(localizations, plan.pixel_nm, low, high)
    elif len(localizations):
        low = [math.floor(localizations[n].min() / plan.pixel_nm) * plan.pixel_nm for n in ("y_nm", "x_nm")]
        high = [float(localizations[n].max()) for n in ("y_nm", "x_nm")]
    else:
        raise TableError("the table holds no molecules and does not say how large the frames were: there is nothing to draw")
    rows, columns = (max(1, math.ceil((b - a) / plan.pixel_nm)) for a, b in zip(low, high, strict=True))
    z = localizations["z_nm"]
    bottom, top = (float(z.min()), float(z.max())) if len(z) else (0.0, 0.0)
    if plan.dimensions == "3d":
        bottom = math.floor(bottom / plan.depth_step_nm) * plan.depth_step_nm
        planes, step = math.floor((top - bottom) / plan.depth_step_nm) + 1, plan.depth_step_nm
    else:
        planes, step = 1, max(top - bottom, plan.depth_step_nm)
    if planes * rows * columns > LARGEST_PICTURE_VOXELS:
        # both sides shrink with the pixel; a little more than needed, for a round number
        fits = math.ceil(1.02 * plan.pixel_nm * math.sqrt(planes * rows * columns / LARGEST_PICTURE_VOXELS))
        depth = "" if planes == 1 else f", depth_step_nm {plan.depth_step_nm:g}"
        raise PlanError(
            f"a picture of {planes} x {rows} x {columns} voxels (z, y, x) is larger than {LARGEST_PICTURE_VOXELS / 1e6:.0f} million; "
            f"pixel_nm is {plan.pixel_nm:g}{depth}: choose larger ones (a pixel_nm of {fits} fits), or draw a part of the table"
        )
    first_z = bottom + step / 2 if plan.dimensions == "3d" else (bottom + top) / 2
    return Canvas(
        shape_zyx=(planes, rows, columns),
        voxel_zyx_nm=(step, plan.pixel_nm, plan.pixel_nm),
        origin_zyx_nm=(first_z, low[0] + plan.pixel_nm / 2, low[1] + plan.pixel_nm / 2),
    )


def _around(localizations: Localizations, pixel_nm: float, low: list[float], high: list[float]) -> tuple[list[float], list[float]]:
    """Edges of the pixels that hold the molecules of a field from `low` to `high`, with a margin; the field where it holds none."""
    place = localizations.position_zyx_nm[:, 1:]
    inside = ((place >= low) & (place < high)).all(1)
    if not inside.any():
        return low, high
    first, last = place[inside].min(0) - MARGIN_NM, place[inside].max(0) + MARGIN_NM
    begin = [edge + max(0, math.floor((a - edge) / pixel_nm)) * pixel_nm for edge, a in zip(low, first, strict=True)]
    return begin, [min(edge, float(b)) for edge, b in zip(high, last, strict=True)]


def draw(localizations: Localizations, plan: RenderPlan, canvas: Canvas, colors: NDArray[np.floating] | None = None) -> Tensor:
    """Draw the molecules.

    Parameters
    ----------
    colors : (n, c) what each molecule adds to each channel; None = one channel, one each.

    Returns
    -------
    (c, z, y, x) float32 tensor.
    """
    voxel = torch.tensor(canvas.voxel_zyx_nm, dtype=torch.float64)
    place = (torch.tensor(localizations.position_zyx_nm) - torch.tensor(canvas.origin_zyx_nm, dtype=torch.float64)) / voxel
    weight = torch.ones((len(localizations), 1)) if colors is None else torch.tensor(np.asarray(colors, np.float32))
    if canvas.shape_zyx[0] == 1:
        place[:, 0] = 0  # a projection
    if plan.method == "gaussian":
        sigma = torch.tensor(_sigmas(localizations, plan)) / voxel
        picture = _gaussians(place, sigma, weight, canvas)
    else:
        picture = _histogram(place, weight, canvas)
        if plan.method == "ash":
            picture = _average_shifted(picture)
    return picture


def _sigmas(localizations: Localizations, plan: RenderPlan) -> NDArray[np.float64]:
    """Standard errors in nm, (n, 3); where the table gives none, the median of the others or the smallest that is drawn."""
    given = localizations.sigma_zyx_nm
    sigma = np.full((len(localizations), 3), np.nan) if given is None else given.copy()
    sigma[~np.isfinite(sigma) | (sigma < 0)] = np.nan
    for column in sigma.T:
        known = column[np.isfinite(column)]
        column[np.isnan(column)] = np.median(known) if len(known) else plan.smallest_sigma_nm
    return sigma.clip(plan.smallest_sigma_nm, LARGEST_SIGMA_NM)


def _histogram(place: Tensor, weight: Tensor, canvas: Canvas) -> Tensor:
    shape = torch.tensor(canvas.shape_zyx)
    voxel = torch.floor(place + 0.5).long()
    inside = ((voxel >= 0) & (voxel < shape)).all(1)
    flat = (voxel[inside, 0] * shape[1] + voxel[inside, 1]) * shape[2] + voxel[inside, 2]
    picture = torch.zeros((weight.shape[1], int(shape.prod())))
    for channel, amount in zip(picture, weight[inside].T, strict=True):
        channel.scatter_add_(0, flat, amount.contiguous())
    return picture.reshape(-1, *canvas.shape_zyx)


def _average_shifted(picture: Tensor) -> Tensor:
    """Mean of the histograms with bins of two voxels, shifted by one voxel: weights 1/4, 1/2, 1/4 along each axis."""
    for axis, size in enumerate(picture.shape[1:], start=1):
        if size > 1:
            before, after = torch.zeros_like(picture), torch.zeros_like(picture)
            before.narrow(axis, 1, size - 1).copy_(picture.narrow(axis, 0, size - 1))
            after.narrow(axis, 0, size - 1).copy_(picture.narrow(axis, 1, size - 1))
            picture = picture / 2 + (before + after) / 4
    return picture


def _gaussians(place: Tensor, sigma: Tensor, weight: Tensor, canvas: Canvas) -> Tensor:
    """Draw Gaussians, each integrated over the voxels; broad ones on double pixels that are then interpolated."""
    planes, rows, columns = canvas.shape_zyx
    picture = torch.zeros((weight.shape[1], planes * rows * columns))
    broad = sigma[:, 1:].min(1).values > WIDEST_SIGMA_PX
    narrow = torch.nonzero(~broad)[:, 0]
    reach = torch.ceil(REACH_SIGMAS * sigma[narrow] + 0.5).long()
    reach[:, 0] *= planes > 1
    # molecules whose kernels have the same size are drawn together, row by row, which keeps the writes close to each other
    base = int(reach.max()) + 1 if len(reach) else 1
    size = (reach[:, 0] * base + reach[:, 1]) * base + reach[:, 2]
    order = narrow[torch.argsort(size * rows + place[narrow, 1].long().clamp(0, rows - 1))]
    for code, count in zip(*torch.unique(size, return_counts=True), strict=True):
        members, order = order[:count], order[count:]
        half = [int(code) // base**2, int(code) // base % base, int(code) % base]
        values = math.prod(2 * h + 1 for h in half) * weight.shape[1]
        for chunk in torch.split(members, max(1, CHUNK_VALUES // values)):
            _add_kernels(picture, place[chunk], sigma[chunk], weight[chunk], half, canvas.shape_zyx)
    image = picture.reshape(-1, planes, rows, columns)
    if broad.any():
        image = image + _gaussians_on_double_pixels(place[broad], sigma[broad], weight[broad], canvas)
    return image


def _add_kernels(picture: Tensor, place: Tensor, sigma: Tensor, weight: Tensor, half: list[int], shape: tuple[int, int, int]) -> None:
    """Add separable kernels of 2 half + 1 voxels to the flat picture (c, voxels), in place."""
    index, value = [], []
    for axis, (reach, size) in enumerate(zip(half, shape, strict=True)):
        if size == 1 and reach == 0:
            index.append(torch.zeros((len(place), 1), dtype=torch.long))
            value.append(torch.ones((len(place), 1)))
            continue
        centre = torch.floor(place[:, axis] + 0.5)
        steps = torch.arange(-reach, reach + 2)
        edge = (steps - 0.5 - (place[:, axis] - centre).float()[:, None]) / (math.sqrt(2) * sigma[:, axis, None]).float()
        voxel = centre.long()[:, None] + steps[:-1]
        inside = (voxel >= 0) & (voxel < size)
        index.append(voxel.clamp(0, size - 1))
        value.append(torch.where(inside, torch.erf(edge).diff(dim=1) / 2, 0.0))
    flat = ((index[0] * shape[1])[:, :, None, None] + index[1][:, None, :, None]) * shape[2] + index[2][:, None, None, :]
    kernel = value[0][:, :, None, None] * value[1][:, None, :, None] * value[2][:, None, None, :]
    for channel, amount in zip(picture, weight.T, strict=True):
        channel.scatter_add_(0, flat.reshape(-1), (kernel * amount[:, None, None, None]).reshape(-1))


def _gaussians_on_double_pixels(place: Tensor, sigma: Tensor, weight: Tensor, canvas: Canvas) -> Tensor:
    planes, rows, columns = canvas.shape_zyx
    lateral = torch.tensor([1.0, 0.5, 0.5], dtype=place.dtype)
    # a margin of one double pixel on each side, so that the interpolation at the edge knows its neighbours;
    # the centre of double pixel k is that of pixel 2 (k - 1) + 1/2
    coarse_place = place * lateral + torch.tensor([0.0, 0.75, 0.75], dtype=place.dtype)
    coarse_sigma = sigma * lateral
    coarse_sigma[:, 1:] = torch.sqrt(coarse_sigma[:, 1:] ** 2 - COARSE_VARIANCE_PX2)
    coarse = replace(canvas, shape_zyx=(planes, (rows + 1) // 2 + 2, (columns + 1) // 2 + 2))
    image = _gaussians(coarse_place, coarse_sigma, weight, coarse)
    fine = torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False) / 4
    return fine[..., 2 : 2 + rows, 2 : 2 + columns]
