"""Spectra of stacks of planes, with a margin in which the last plane turns into the first one."""

from __future__ import annotations

from torch import Tensor

from ..fourier import axial_spectrum, cut_spectrum, spectrum
from .reconstruct import join_edges


def deep_spectrum(volume_zyx: Tensor, half_yx: tuple[int, int], planes: int) -> Tensor:
    """Middle part (k_z, q_y, q_x) of the spectrum of planes (z, y, x) that are joined over a period of so many planes.

    k_z begins with zero, q is centred. Rows and columns were cut before the transform along z, which is short then.
    """
    cut = cut_spectrum(spectrum(volume_zyx), half_yx)
    joined = join_edges(cut.movedim(0, 1), (planes, cut.shape[-1])).movedim(1, 0)
    return axial_spectrum(joined)


def joined_planes(recorded: int, planes: int) -> float:
    """How many independent planes have as much noise as a period of so many that was joined from the recorded ones."""
    # each plane of the margin is a mixture c a + (1 - c) b with c = cos^2
    return recorded + 0.75 * (planes - recorded)
