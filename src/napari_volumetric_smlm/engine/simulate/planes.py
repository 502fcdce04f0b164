"""Imaging of a volume plane by plane: every depth has its own image in every view, the same all over the field.

view_v(x) = sum_z sum_x' h_vz(x - x') g_z(x'),    g_z'(x') = sum_v sum_x h_vz'(x - x') view_v(x)

The second line is the exact adjoint of the first. The volume is larger than the views by half a kernel on each side, because light from
beyond the field falls into it; so nothing wraps around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ...errors import InstrumentError
from ..fourier import correlation_spectrum, fast_length, image_spectrum, real_image
from ..optics.psf import camera_images
from ..optics.pupil import view_pupil
from ..optics.views import whole_pupil

# A view that is turned or stretched by more than this would miss by a pixel over a field of 1000.
LARGEST_WARP = 1e-3
# A wide-field image fades out over this share of its reach in depth.
FADES_OVER = 0.25


@dataclass(frozen=True)
class DepthGrid:
    """Planes of a volume: the first one's depth, their distance and number; rows and columns are those of the first view's pixels."""

    first_nm: float
    step_nm: float
    planes: int
    pixel_nm: float

    @classmethod
    def of(cls, instrument: Instrument, step_nm: float) -> DepthGrid:
        """Planes from the lowest to the highest depth of an instrument, about `step_nm` apart."""
        low, high = instrument.depth_range_nm
        planes = max(2, round((high - low) / step_nm) + 1)
        return cls(low, (high - low) / (planes - 1), planes, instrument.pixel_nm())

    @property
    def z_nm(self) -> Tensor:
        """Depth of every plane."""
        return self.first_nm + self.step_nm * torch.arange(self.planes)

    def wider(self, planes: int) -> DepthGrid:
        """The grid with further planes on both sides."""
        return DepthGrid(self.first_nm - planes * self.step_nm, self.step_nm, self.planes + 2 * planes, self.pixel_nm)


def view_kernels(instrument: Instrument, grid: DepthGrid, window_px: int) -> Tensor:
    """Images (v, z, k, k) of a point in the middle of a pixel at every depth, per photon that all views receive together.

    Raises
    ------
    InstrumentError
        If a view has other pixels than the first one, or is turned or stretched against it.
    """
    total = sum(view.photon_fraction for view in instrument.views)
    kernels = []
    for v, view in enumerate(instrument.views):
        (a, b, shift_y), (c, d, shift_x) = view.affine_yx
        warp = max(abs(a - 1), abs(b), abs(c), abs(d - 1), abs(instrument.pixel_nm(v) / instrument.pixel_nm() - 1))
        if warp > LARGEST_WARP:
            raise InstrumentError(
                f"view {view.name!r} is turned, stretched or of other pixels than the first view (by {warp:.4f}, at most {LARGEST_WARP:g} "
                "can be neglected): volumes need views that differ by shifts only"
            )
        place = torch.zeros((grid.planes, 3))
        place[:, 0], place[:, 1], place[:, 2] = grid.z_nm, shift_y, shift_x
        camera = (window_px, grid.pixel_nm, instrument.pixel_model == "integrated")
        kernels.append(camera_images(view_pupil(instrument, v), place, camera, view.blur_nm) * (view.photon_fraction / total))
    return torch.stack(kernels)


def wide_field_kernels(instrument: Instrument, grid: DepthGrid, window_px: int, reach_nm: float) -> Tensor:
    """Images (2 r + 1, k, k) of a point that lies r planes below the focal plane to r planes above it, seen by the same objective alone.

    They fade out towards `reach_nm`: haze from farther away is left out of what a volume should show.
    """
    reach = max(1, round(reach_nm / grid.step_nm))
    away = torch.arange(-reach, reach + 1)
    microscope = whole_pupil(instrument)
    place = torch.zeros((len(away), 3))
    place[:, 0] = instrument.focal_plane_nm + away * grid.step_nm
    images = camera_images(view_pupil(microscope), place, (window_px, grid.pixel_nm, instrument.pixel_model == "integrated"))
    # one plane beyond the last would be dark
    near = ((1 + reach - away.abs()) / (FADES_OVER * (1 + reach))).clamp(max=1)
    return images * (0.5 - 0.5 * torch.cos(math.pi * near))[:, None, None]


def parallax_px(kernel_vzyx: Tensor) -> Tensor:
    """Centre of light (v, z, 2) of every view's image at every depth, rows and columns from the middle pixel."""
    size = kernel_vzyx.shape[-1]
    step = torch.arange(size, dtype=kernel_vzyx.dtype, device=kernel_vzyx.device) - size // 2
    light = kernel_vzyx.sum((2, 3))
    return torch.stack([(kernel_vzyx.sum(3) @ step) / light, (kernel_vzyx.sum(2) @ step) / light], -1)


class PlaneImaging:
    """Linear imaging of volumes by kernels (v, z, k, k) for views of one size.

    shape_yx : of the views. margin : pixels by which the volume is larger on each side. planes : of the volume.
    """

    def __init__(self, kernel_vzyx: Tensor, shape_yx: tuple[int, int]) -> None:
        self.shape_yx, self.margin, self.planes = shape_yx, kernel_vzyx.shape[-1] // 2, kernel_vzyx.shape[1]
        self.volume_yx = (shape_yx[0] + 2 * self.margin, shape_yx[1] + 2 * self.margin)
        self._padded = (fast_length(self.volume_yx[0]), fast_length(self.volume_yx[1]))
        # resolved once: a lazy conjugate would be copied with every use
        self._correlating = correlation_spectrum(kernel_vzyx, self._padded).resolve_conj()
        self._convolving = self._correlating.conj().resolve_conj()

    def forward(self, volume_zyx: Tensor) -> Tensor:
        """Views (v, y, x) of a volume (z, *volume_yx)."""
        spectrum = image_spectrum(volume_zyx, self._padded)
        views = torch.stack([(spectrum * kernels).sum(0) for kernels in self._convolving])
        rows, columns = (slice(self.margin, self.margin + n) for n in self.shape_yx)
        return real_image(views, self._padded)[:, rows, columns]

    def adjoint(self, views_vyx: Tensor) -> Tensor:
        """Volume (z, *volume_yx) to which every view gives back its light."""
        m = self.margin
        spectrum = image_spectrum(torch.nn.functional.pad(views_vyx, (m, m, m, m)), self._padded)
        given = spectrum[0] * self._correlating[0]
        for view, kernels in zip(spectrum[1:], self._correlating[1:], strict=True):
            given.addcmul_(view, kernels)
        return real_image(given, self._padded)[:, : self.volume_yx[0], : self.volume_yx[1]]


class FocusScan:
    """A volume as the objective alone would show it while its focal plane moves from plane to plane.

    Parameters
    ----------
    kernel_zyx : `wide_field_kernels`, perhaps filtered.
    shape_yx : rows and columns of the images.
    beyond : planes of the volume below the first image and above the last.
    """

    def __init__(self, kernel_zyx: Tensor, shape_yx: tuple[int, int], beyond: int) -> None:
        self.shape_yx, self.margin, self.beyond, self.reach = shape_yx, kernel_zyx.shape[-1] // 2, beyond, len(kernel_zyx) // 2
        self._padded = (fast_length(shape_yx[0] + 2 * self.margin), fast_length(shape_yx[1] + 2 * self.margin))
        self._kernels = correlation_spectrum(kernel_zyx, self._padded).conj().resolve_conj()

    def images(self, volume_zyx: Tensor) -> Tensor:
        """Images (z - 2 beyond, *shape_yx) of a volume that is larger by an equal margin on all sides, at least half a kernel."""
        extra = (volume_zyx.shape[-1] - self.shape_yx[1]) // 2 - self.margin
        rows, columns = (slice(extra, n - extra) for n in volume_zyx.shape[1:])
        spectrum = image_spectrum(volume_zyx[:, rows, columns], self._padded)
        planes, reach = len(volume_zyx), self.reach
        focused = []
        for focus in range(self.beyond, planes - self.beyond):
            first, last = max(0, focus - reach), min(planes, focus + reach + 1)
            focused.append((spectrum[first:last] * self._kernels[first - focus + reach : last - focus + reach]).sum(0))
        rows, columns = (slice(self.margin, self.margin + n) for n in self.shape_yx)
        return real_image(torch.stack(focused), self._padded)[:, rows, columns]
