"""Where the views of a molecule lie against its position, depth by depth: parallax of microlenses, wobble of masks and aberrations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...domain.instrument import Instrument
from .psf import camera_images
from .pupil import view_pupil

# Light beyond this radius is too faint to say where an image is, but far away.
SIDE_PX = 81


def image_shifts(instrument: Instrument, depth_z_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of the light of a molecule at (z, 0, 0) in every view, (views, depths, 2) as (y, x) in nm; affines are left out."""
    z = torch.as_tensor(depth_z_nm, dtype=torch.float32)
    position = torch.stack([z, torch.zeros_like(z), torch.zeros_like(z)], 1)
    shifts = []
    for v, view in enumerate(instrument.views):
        pixel = instrument.pixel_nm(v)
        images = camera_images(view_pupil(instrument, v), position, (SIDE_PX, pixel, instrument.pixel_model == "integrated"), view.blur_nm)
        place = (torch.arange(SIDE_PX) - SIDE_PX // 2) * pixel
        total = images.sum((1, 2))
        shifts.append(torch.stack([(images.sum(2) * place).sum(1) / total, (images.sum(1) * place).sum(1) / total], 1))
    return torch.stack(shifts).double().numpy()
