"""Raw frames of a sample under structured illumination, before the camera.

D_n = (S I_n) * h + background: sample times pattern, then the lens. The sample is drawn on a grid three times finer than the camera's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...domain.illumination import Illumination
from ..fourier import filter_image, frequency_grid
from ..simulate.structures import Box, place_molecules
from .estimate import Optics
from .pattern import centred_places, pattern_images

# odd: the middle one of a pixel's fine samples lies at the pixel's centre
FINE = 3
MARGIN_PX = 16
BRIGHTEST_SHARE = 0.99


def sample_image(density_per_um2: float, structure: str, field: tuple[tuple[int, int], float], generator: torch.Generator) -> Tensor:
    """Emitters per fine sample, on a field with a margin, at one depth.

    Parameters
    ----------
    field : rows and columns of the frames, and the pixel in um.
    """
    (height, width), pixel_um = field
    shape = [FINE * (n + 2 * MARGIN_PX) for n in (height, width)]
    step_nm = 1000 * pixel_um / FINE
    box = Box(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([400.0, shape[0] * step_nm, shape[1] * step_nm]))
    count = round(density_per_um2 * box.area_um2)
    places = place_molecules(count, box, structure, generator)[:, 1:] / step_nm
    rows, columns = (places[:, axis].long().clamp(0, shape[axis] - 1) for axis in (0, 1))
    image = torch.zeros(shape[0] * shape[1])
    image.index_add_(0, rows * shape[1] + columns, torch.ones(len(rows)))
    return image.reshape(shape)


def frames_of(sample_yx: Tensor, illumination: Illumination, optics: Optics) -> Tensor:
    """Mean frames (a, p, y, x) of a sample on the fine grid with margin; differentiable in the sample.

    The brightest hundredth of the wide-field image has a mean of one.
    """
    step_um = optics.pixel_um / FINE
    y, x = (centred_places(n, step_um, sample_yx) for n in sample_yx.shape)
    light = pattern_images(illumination, y, x).clamp(min=0)
    fy, fx = frequency_grid((sample_yx.shape[0], sample_yx.shape[1]), step_um, sample_yx)
    transfer = optics.transfer(torch.hypot(fy, fx))
    first = MARGIN_PX * FINE + FINE // 2
    cut = [slice(first, n - MARGIN_PX * FINE, FINE) for n in sample_yx.shape]
    wide = filter_image(sample_yx, transfer)[..., cut[0], cut[1]]
    brightest = wide.detach().flatten().sort().values[int(BRIGHTEST_SHARE * wide.numel()) :].mean().clamp(min=1e-12)
    # tiny ripples of the transform below zero are no light
    return (filter_image(sample_yx * light, transfer)[..., cut[0], cut[1]] / brightest).clamp(min=0)
