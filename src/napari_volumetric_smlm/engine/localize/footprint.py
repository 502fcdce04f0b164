"""How much room a point-spread function needs: window and search depths from the instrument alone."""

from __future__ import annotations

import torch

from ...domain.instrument import Instrument
from ..optics.psf import camera_images
from ..optics.pupil import view_pupil

SMALLEST_WINDOW_PX, LARGEST_WINDOW_PX = 9, 81
SHARE = 0.85  # of the light that a wide window holds
WIDE_NM = 12000.0


def choose_window(instrument: Instrument) -> int:
    """Side of the smallest odd window (pixels) that holds most of the light of every view at every depth."""
    low, high = instrument.depth_range_nm
    z = torch.linspace(low, high, 13)
    position = torch.stack([z, torch.zeros_like(z), torch.zeros_like(z)], 1)
    largest = SMALLEST_WINDOW_PX
    for v, view in enumerate(instrument.views):
        pupil, pixel = view_pupil(instrument, v), instrument.pixel_nm(v)
        period = float(pupil.wavelength_nm / (pupil.na_n[1] - pupil.na_n[0]))
        size = 2 * int(min(WIDE_NM, 0.8 * period) / pixel / 2) + 1
        image = camera_images(pupil, position, (size, pixel, instrument.pixel_model == "integrated"), view.blur_nm)
        middle = size // 2
        rings = torch.stack([image[:, middle - r : middle + r + 1, middle - r : middle + r + 1].sum((1, 2)) for r in range(middle + 1)])
        share = rings / rings[-1]
        radius = int((share < SHARE).sum(0).max())
        largest = max(largest, 2 * radius + 1)
    return min(largest, LARGEST_WINDOW_PX)


def choose_depth_step(instrument: Instrument) -> float:
    """Distance of search depths in nm: a fortieth of the range, within what a PSF can tell apart."""
    low, high = instrument.depth_range_nm
    return min(max((high - low) / 40, 25.0), 100.0)
