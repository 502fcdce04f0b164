"""What the fit sees: patches of camera frames in photons, and the state that explains them.

All cameras' patches share one canvas size; a canvas is padded so that every molecule's window fits, with weight zero on the padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..optics.table import PsfTable, WindowImages
from .background import CosineBackground

OUTSIDE = 4  # pixels by which a molecule's centre may lie outside the patch


def padding(window_px: int) -> int:
    """Padding that lets the window of every allowed molecule lie on the canvas."""
    return window_px // 2 + OUTSIDE


@dataclass
class Patches:
    """T patches of C cameras in photons.

    photons_tcyx : (T, C, Hp, Wp) padded canvas; read_variance_tcyx : variance of the read noise, photons^2;
    seen_tcyx : 1 where a pixel is used, 0 on padding and on dead or saturated pixels.
    pad : padding in pixels. camera_v : camera of each view.
    """

    photons_tcyx: Tensor
    read_variance_tcyx: Tensor
    seen_tcyx: Tensor
    pad: int
    camera_v: list[int]
    pixel_c: list[float]

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Size without padding."""
        return self.photons_tcyx.shape[-2] - 2 * self.pad, self.photons_tcyx.shape[-1] - 2 * self.pad

    def select(self, index: Tensor) -> Patches:
        """Only these patches."""
        return Patches(
            self.photons_tcyx[index], self.read_variance_tcyx[index], self.seen_tcyx[index], self.pad, self.camera_v, self.pixel_c
        )


@dataclass
class State:
    """Molecules and background of T patches.

    patch_m : (m,) patch of each molecule. position_m3 : (m, 3) z, y, x in nm (y, x from the centre of the patch's first pixel, first view).
    photons_m, blur_m : (m,). coefficients_tcn : background (T, C, n). strength_tc : its prior.
    """

    patch_m: Tensor
    position_m3: Tensor
    photons_m: Tensor
    blur_m: Tensor
    coefficients_tcn: Tensor
    strength_tc: Tensor

    def keep(self, mask: Tensor) -> None:
        """Drop the molecules outside the mask."""
        self.patch_m, self.position_m3 = self.patch_m[mask], self.position_m3[mask]
        self.photons_m, self.blur_m = self.photons_m[mask], self.blur_m[mask]

    def of_patch(self, t: int) -> State:
        """The state of one patch alone, as patch 0."""
        rows = self.patch_m == t
        return State(
            torch.zeros_like(self.patch_m[rows]), self.position_m3[rows], self.photons_m[rows], self.blur_m[rows],
            self.coefficients_tcn[t : t + 1].clone(), self.strength_tc[t : t + 1].clone(),
        )  # fmt: skip

    def put_patch(self, t: int, one: State) -> None:
        """Put back what `of_patch` took out."""
        self.keep(self.patch_m != t)
        self.add(torch.full_like(one.patch_m, t), one.position_m3, one.photons_m, one.blur_m)
        self.coefficients_tcn[t], self.strength_tc[t] = one.coefficients_tcn[0], one.strength_tc[0]

    def add(self, patch: Tensor, position: Tensor, photons: Tensor, blur: Tensor) -> None:
        """Append molecules, keeping the order of patches."""
        order = torch.argsort(torch.cat([self.patch_m, patch]), stable=True)
        self.patch_m = torch.cat([self.patch_m, patch])[order]
        self.position_m3 = torch.cat([self.position_m3, position])[order]
        self.photons_m = torch.cat([self.photons_m, photons])[order]
        self.blur_m = torch.cat([self.blur_m, blur])[order]


@dataclass
class Windows:
    """Where each molecule's window lies on the padded canvases, (m, V), and the images in it."""

    top_mv: Tensor
    left_mv: Tensor
    images: WindowImages


def place_windows(table: PsfTable, patches: Patches, state: State, derivatives: bool = True, blur: bool = False) -> Windows:
    """Put a window around each molecule in each view and compute its images."""
    yx_v = torch.einsum("vij,mj->mvi", table.linear_v22, state.position_m3[:, 1:]) + table.shift_v2
    pixel_v = torch.tensor([patches.pixel_c[c] for c in patches.camera_v], device=yx_v.device)[:, None]
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
    """Flat index of every window pixel on the canvases (T, C, Hp, Wp): (m, V, size, size)."""
    _, cameras, height, width = patches.photons_tcyx.shape
    step = torch.arange(size, device=windows.top_mv.device)
    rows = windows.top_mv[..., None] + step
    columns = windows.left_mv[..., None] + step
    camera = torch.tensor(patches.camera_v, device=rows.device)
    base = (state.patch_m[:, None] * cameras + camera) * (height * width)
    return base[..., None, None] + rows[..., :, None] * width + columns[..., None, :]


def model_image(patches: Patches, state: State, windows: Windows, index: Tensor, background: CosineBackground) -> Tensor:
    """Expected photons on the canvases (T, C, Hp, Wp)."""
    mean = background.image(state.coefficients_tcn).contiguous()
    light = windows.images.value * state.photons_m[:, None, None, None]
    mean.view(-1).index_add_(0, index.flatten(), light.flatten())
    return mean
