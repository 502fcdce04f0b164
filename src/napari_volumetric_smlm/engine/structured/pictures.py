"""Pictures of the evidence: power spectra of the frames, and how well the bands overlap at each trial wave vector."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fourier import spectrum
from .bands import field_window
from .estimate import Found


def power_spectra(frames_apyx: Tensor) -> Tensor:
    """Decadic logarithm of the mean power of each orientation's frames (a, y, x), frequency zero at n // 2."""
    shape = (frames_apyx.shape[-2], frames_apyx.shape[-1])
    ready = (frames_apyx - frames_apyx.mean((-2, -1), keepdim=True)) * field_window(shape, frames_apyx)
    power = (spectrum(ready).abs() ** 2).mean(-3)
    return torch.log10(power.clamp(min=1e-12 * float(power.max()) + 1e-38))


def overlap_maps(found: Found) -> Tensor:
    """Score of every band at every trial wave vector (band, y, x), zero at n // 2; all bands of the first orientation, then the next.

    Scores are those of `overlap`: one by chance, on the frequency step of the spectra.
    """
    return torch.stack([laid.score_yx for mine in found.overlaps for laid in mine])
