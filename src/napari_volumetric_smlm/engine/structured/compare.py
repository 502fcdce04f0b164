"""What the same raw frames give without reconstruction: wide field, optical section, pseudo-confocal image.

Sections show what the pattern modulates, which is what lies in focus: the modulus of the coarsest wave's band (homodyne detection,
Neil et al. 1997), or maximum less minimum over the frames (Heintzmann & Benedetti 2006). The maximum + minimum - 2 mean of programs for
patterns of spots vanishes for stripes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..fourier import image_of, spectrum
from .bands import separate
from .reconstruct import Reconstructor, join_edges


def wide_field(frames_apyx: Tensor, made: Reconstructor) -> Tensor:
    """Mean of all frames (..., a, p, y, x) on the grid of a reconstruction."""
    return on_fine_grid(frames_apyx.mean((-4, -3)), made)


def optical_section(frames_apyx: Tensor, made: Reconstructor) -> Tensor:
    """Twice the modulus of the band of each orientation's first wave, mean of the orientations, on the grid of a reconstruction."""
    bands = [separate(frames_apyx[..., a, :, :, :], matrix[1:2])[..., 0, :, :] for a, matrix in enumerate(made.separations_abp)]
    return on_fine_grid(2 * torch.stack(bands).abs().mean(0), made)


def pseudo_confocal(frames_apyx: Tensor, made: Reconstructor) -> Tensor:
    """Half of maximum less minimum over each orientation's frames, mean of the orientations, on the grid of a reconstruction."""
    return on_fine_grid(0.5 * (frames_apyx.amax(-3) - frames_apyx.amin(-3)).mean(-3), made)


def on_fine_grid(images_yx: Tensor, made: Reconstructor) -> Tensor:
    """Images of the frames' size, interpolated by their Fourier series."""
    fine = image_of(spectrum(join_edges(images_yx, made.padded_yx)), (made.final_yx.shape[0], made.final_yx.shape[1])).real
    return fine[..., : made.zoom * made.shape_yx[0], : made.zoom * made.shape_yx[1]]
