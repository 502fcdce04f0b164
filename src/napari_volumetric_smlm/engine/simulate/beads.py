"""A focus scan over fluorescent beads that lie on the coverslip: what reaches the cameras at each position of the focal plane."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ..optics.psf import camera_images
from ..optics.pupil import view_pupil
from .scene import choose_window_px


def scan_beads(
    instrument: Instrument, position_zyx_nm: Tensor, focus_nm: Tensor, shape_yx: tuple[int, int], bead_diameter_nm: float = 0.0
) -> Tensor:
    """Light of the beads in each slice, per photon that a bead sends in a slice; (t, cameras, y, x).

    Parameters
    ----------
    position_zyx_nm : (m, 3) centres of the beads in the first view's coordinates, z above the coverslip (or the nominal focus).
    focus_nm : (t,) focal plane of each slice, in place of the instrument's.
    bead_diameter_nm : a filled sphere is drawn as a Gaussian of the same lateral variance, diameter^2 / 20.
    """
    canvas = torch.zeros((len(focus_nm), len(instrument.cameras), *shape_yx))
    total = sum(view.photon_fraction for view in instrument.views)
    for v, view in enumerate(instrument.views):
        pixel, window = instrument.pixel_nm(v), choose_window_px(instrument, v, shape_yx)
        affine = torch.tensor(view.affine_yx)
        blur = math.hypot(view.blur_nm, bead_diameter_nm / math.sqrt(20))
        for bead in position_zyx_nm:
            yx = affine[:, :2] @ bead[1:] + affine[:, 2]
            nearest = torch.round(yx / pixel)
            place = torch.cat([bead[:1], yx - nearest * pixel]).expand(len(focus_nm), 3)
            focus = focus_nm + view.focus_shift_nm
            images = camera_images(view_pupil(instrument, v), place, (window, pixel, instrument.pixel_model == "integrated"), blur, focus)
            _paste(canvas[:, view.camera], images * (view.photon_fraction / total), nearest.long().tolist())
    return canvas.clamp(min=0)


def _paste(canvas_tyx: Tensor, images_tyx: Tensor, centre: list[int]) -> None:
    """Add images with their centre at a pixel of the canvas; what lies outside is lost."""
    half, (height, width) = images_tyx.shape[-1] // 2, canvas_tyx.shape[1:]
    top, left = centre[0] - half, centre[1] - half
    rows = slice(max(top, 0), min(top + images_tyx.shape[1], height))
    columns = slice(max(left, 0), min(left + images_tyx.shape[2], width))
    if rows.start < rows.stop and columns.start < columns.stop:
        canvas_tyx[:, rows, columns] += images_tyx[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
