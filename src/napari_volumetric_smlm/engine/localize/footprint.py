"""How much room a point-spread function needs: window and search depths from the instrument alone."""

from __future__ import annotations

import torch

from ...domain.instrument import Instrument
from ..optics.psf import camera_images
from ..optics.pupil import view_pupil

SMALLEST_WINDOW_PX, LARGEST_WINDOW_PX = 9, 81
SHARE = 0.85  # of the light that a wide window holds
# The light beyond the window is taken for background, which bends z: at the end of an astigmatic lens's range by 5 nm with a share
# of 0.85 (37 px), under 2 nm with this one. Long engineered PSFs hardly mind (under 1 nm), and their windows cost most.
LARGER_SHARE, AFFORDABLE_WINDOW_PX = 0.92, 49
WIDE_NM = 12000.0


def choose_window(instrument: Instrument) -> int:
    """Side of the smallest odd window (pixels) that holds most of the light of every view at every depth; more of it while it is small."""
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
        least, wanted = (2 * int((share < s).sum(0).max()) + 1 for s in (SHARE, LARGER_SHARE))
        largest = max(largest, least, min(wanted, AFFORDABLE_WINDOW_PX))
    return min(largest, LARGEST_WINDOW_PX)


def choose_depth_step(instrument: Instrument) -> float:
    """Distance of search depths in nm, at least four steps over the range.

    Midway between depths 100 nm apart a matched filter keeps 97 % of a molecule's gain or more (astigmatic, biplane, double helix
    and Tetrapod at NA 1.4 to 1.5); the refinement does the rest.
    """
    low, high = instrument.depth_range_nm
    return min((high - low) / 4, 100.0)
