"""What the fit sees: patches of camera frames in photons, and the state that explains them.

Each view has a canvas of its own, also where several views share a camera. All canvases have one size and are padded so that
every molecule's window fits, with weight zero on the padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..optics.table import PsfTable, WindowImages
from .background import CosineBackground

if TYPE_CHECKING:
    from .search import Candidates

SMALLEST_VARIANCE = 0.05  # photons^2; pixels that expect less are not trusted more
OUTSIDE = 4  # pixels by which a molecule's centre may lie outside the patch


def padding(window_px: int) -> int:
    """Padding that lets the window of every allowed molecule lie on the canvas."""
    return window_px // 2 + OUTSIDE


@dataclass
class Patches:
    """T patches of V views in photons.

    photons_tvyx : (T, V, Hp, Wp) padded canvas of each view; read_variance_tvyx : variance of the read noise, photons^2;
    seen_tvyx : 1 where a pixel is used, 0 on padding and on dead or saturated pixels.
    shift_tv2 : (T, V, 2) nm from the linear part of a view's affine, applied to patch coordinates, to the view's own patch coordinates.
    pixel_v : pixel of each view in nm. pad : padding in pixels.
    given_tvyx : expected photons that are known beforehand and not fitted, or None.
    found : first guesses of a network that was shown the neighbouring frames as well, or None; a selection of patches has none.
    """

    photons_tvyx: Tensor
    read_variance_tvyx: Tensor
    seen_tvyx: Tensor
    shift_tv2: Tensor
    pixel_v: list[float]
    pad: int
    given_tvyx: Tensor | None = None
    found: Candidates | None = None

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Size without padding."""
        return self.photons_tvyx.shape[-2] - 2 * self.pad, self.photons_tvyx.shape[-1] - 2 * self.pad

    def select(self, index: Tensor) -> Patches:
        """Only these patches."""
        given = None if self.given_tvyx is None else self.given_tvyx[index]
        images = (self.photons_tvyx[index], self.read_variance_tvyx[index], self.seen_tvyx[index])
        return Patches(*images, self.shift_tv2[index], self.pixel_v, self.pad, given)

    def around(self, table: PsfTable, position_yx_nm: Tensor, size: int, more_tvyx: Tensor) -> tuple[Patches, Tensor, Tensor]:
        """A square of `size` pixels around a point of a single patch, in every view.

        Returns
        -------
        The small patch; its first pixel (y, x) in nm, to be subtracted from positions; and `more_tvyx` (a canvas) cut alike.
        """
        first_pixel = torch.round(position_yx_nm / self.pixel_v[0]) - size // 2
        origin = first_pixel * self.pixel_v[0]
        middle = (size // 2) * self.pixel_v[0]
        pieces, shifts = [], []
        canvases = (self.photons_tvyx, self.read_variance_tvyx, self.seen_tvyx, more_tvyx)
        for v, pixel in enumerate(self.pixel_v):
            place = table.linear_v22[v] @ (origin + middle) + self.shift_tv2[0, v] - middle
            corner = torch.round(place / pixel)
            shifts.append(table.linear_v22[v] @ origin + self.shift_tv2[0, v] - corner * pixel)
            at = (int(corner[0]) + self.pad, int(corner[1]) + self.pad)
            pieces.append([cut_padded(c[:, v], at, (size, size), self.pad) for c in canvases])
        photons, variance, seen, more = (torch.stack([p[k] for p in pieces], 1) for k in range(4))
        return Patches(photons, variance, seen, torch.stack(shifts)[None], self.pixel_v, self.pad), origin, more


def cut_padded(image_tyx: Tensor, first: tuple[int, int], shape_yx: tuple[int, int], pad: int) -> Tensor:
    """Cut a patch whose first pixel is `first` and pad it with zeros; parts outside the image are zeros too."""
    top, left = first
    height, width = image_tyx.shape[-2:]
    result = image_tyx.new_zeros((len(image_tyx), shape_yx[0] + 2 * pad, shape_yx[1] + 2 * pad))
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + shape_yx[0], height), min(left + shape_yx[1], width)
    if y1 > y0 and x1 > x0:
        result[:, pad + y0 - top : pad + y1 - top, pad + x0 - left : pad + x1 - left] = image_tyx[:, y0:y1, x0:x1]
    return result


@dataclass
class State:
    """Molecules and background of T patches.

    patch_m : (m,) patch of each molecule. position_m3 : (m, 3) z, y, x in nm (y, x from the centre of the patch's first pixel, first view).
    photons_m, blur_m : (m,). coefficients_tvn : background of each view (T, V, n). strength_tv : its prior.
    """

    patch_m: Tensor
    position_m3: Tensor
    photons_m: Tensor
    blur_m: Tensor
    coefficients_tvn: Tensor
    strength_tv: Tensor

    def keep(self, mask: Tensor) -> None:
        """Drop the molecules outside the mask."""
        self.patch_m, self.position_m3 = self.patch_m[mask], self.position_m3[mask]
        self.photons_m, self.blur_m = self.photons_m[mask], self.blur_m[mask]

    def of_patch(self, t: int) -> State:
        """The state of one patch alone, as patch 0."""
        rows = self.patch_m == t
        return State(
            torch.zeros_like(self.patch_m[rows]), self.position_m3[rows], self.photons_m[rows], self.blur_m[rows],
            self.coefficients_tvn[t : t + 1].clone(), self.strength_tv[t : t + 1].clone(),
        )  # fmt: skip

    def put_patch(self, t: int, one: State) -> None:
        """Put back what `of_patch` took out."""
        self.keep(self.patch_m != t)
        self.add(torch.full_like(one.patch_m, t), one.position_m3, one.photons_m, one.blur_m)
        self.coefficients_tvn[t], self.strength_tv[t] = one.coefficients_tvn[0], one.strength_tv[0]

    def bounds(self) -> list[int]:
        """First molecule of every patch, and their number."""
        return torch.searchsorted(self.patch_m, torch.arange(len(self.strength_tv) + 1, device=self.patch_m.device)).tolist()

    def only(self, mask: Tensor) -> State:
        """Some of the molecules, over the same background."""
        molecules = (self.patch_m[mask], self.position_m3[mask], self.photons_m[mask], self.blur_m[mask])
        return State(*molecules, self.coefficients_tvn, self.strength_tv)

    def add(self, patch: Tensor, position: Tensor, photons: Tensor, blur: Tensor) -> Tensor:
        """Append molecules, keeping the order of patches; returns which of the old and then the new ones each now is."""
        order = torch.argsort(torch.cat([self.patch_m, patch]), stable=True)
        self.patch_m = torch.cat([self.patch_m, patch])[order]
        self.position_m3 = torch.cat([self.position_m3, position])[order]
        self.photons_m = torch.cat([self.photons_m, photons])[order]
        self.blur_m = torch.cat([self.blur_m, blur])[order]
        return order


@dataclass
class Windows:
    """Where each molecule's window lies on the padded canvases, (m, V), and the images in it."""

    top_mv: Tensor
    left_mv: Tensor
    images: WindowImages


def place_windows(table: PsfTable, patches: Patches, state: State, derivatives: bool = True) -> Windows:
    """Put a window around each molecule in each view and compute its images."""
    yx_v = torch.einsum("vij,mj->mvi", table.linear_v22, state.position_m3[:, 1:]) + patches.shift_tv2[state.patch_m]
    pixel_v = torch.tensor(patches.pixel_v, device=yx_v.device)[:, None]
    height, width = patches.shape_yx
    nearest = torch.round(yx_v / pixel_v)
    # a molecule may leave the patch in one view; its window stays on the canvas, where the padding has weight zero
    last = torch.tensor([height - 1 + OUTSIDE, width - 1 + OUTSIDE], device=yx_v.device, dtype=yx_v.dtype)
    nearest = torch.minimum(nearest.clamp(min=-OUTSIDE), last)
    offset = (yx_v - nearest * pixel_v).clamp(-pixel_v, pixel_v)
    position = torch.cat([state.position_m3[:, None, :1].expand(-1, yx_v.shape[1], -1), offset], -1)
    corner = nearest.long() + patches.pad - table.window_px // 2
    images = table.images(position, state.blur_m if table.blur2_knots is not None else None, derivatives)
    return Windows(corner[..., 0], corner[..., 1], images)


def window_index(windows: Windows, patches: Patches, state: State, size: int) -> Tensor:
    """Flat index of every window pixel on the canvases (T, V, Hp, Wp): (m, V, size, size)."""
    _, views, height, width = patches.photons_tvyx.shape
    step = torch.arange(size, device=windows.top_mv.device)
    rows = windows.top_mv[..., None] + step
    columns = windows.left_mv[..., None] + step
    base = (state.patch_m[:, None] * views + torch.arange(views, device=step.device)) * (height * width)
    return base[..., None, None] + rows[..., :, None] * width + columns[..., None, :]


def model_image(patches: Patches, state: State, windows: Windows, index: Tensor, background: CosineBackground) -> Tensor:
    """Expected photons on the canvases (T, V, Hp, Wp)."""
    mean = background.image(state.coefficients_tvn).contiguous()
    if patches.given_tvyx is not None:
        mean = mean + patches.given_tvyx
    light = windows.images.value * state.photons_m[:, None, None, None]
    mean.view(-1).index_add_(0, index.flatten(), light.flatten())
    return mean
