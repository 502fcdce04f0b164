"""What a network reads of a frame: how well a molecule at every depth would explain what lies above the background.

For V views the scores of all views are one map a depth, so that the network does not know how many views there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..optics.table import PsfTable
from .background import CosineBackground
from .scene import SMALLEST_VARIANCE, Patches, padding
from .search import MatchedFilter

# Scores reach 100 for bright molecules; what matters is told apart best between 2 and 20.
KNEE = 3.0
EXTRA_CHANNELS = 2  # beside the depths: residual and background


class Features:
    """Makes the channels for patches of one size.

    Parameters
    ----------
    depths : number of score maps, evenly spread; the outermost lie one step inside the table's depths.
    ground_px : smallest structure that the first guess of the background follows.
    blur_nm : blur of the molecules where the table has one to choose.
    """

    def __init__(self, table: PsfTable, shape_yx: tuple[int, int], depths: int, ground_px: float, blur_nm: float | None = None) -> None:
        low, high = float(table.z_nm[0]), float(table.z_nm[-1])
        # the filter leaves out the outermost planes
        self.filter = MatchedFilter(table, shape_yx, (high - low) / (depths + 1), blur_nm)
        self.ground = CosineBackground(shape_yx, padding(table.window_px), ground_px, table.device)

    def __call__(self, patches: Patches) -> Tensor:
        """Channels (T, depths + 2, y, x): scores in standard deviations and the first view's residual, both squeezed, and background."""
        inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
        ground = self.ground.robust_fit(patches.photons_tvyx, patches.read_variance_tvyx, patches.seen_tvyx)[1][inner]
        variance = (ground + patches.read_variance_tvyx[inner]).clamp(min=SMALLEST_VARIANCE)
        weight = patches.seen_tvyx[inner] / variance
        residual = patches.photons_tvyx[inner] - ground
        known = self.filter.weigh(patches, weight)
        score = self.filter.numerator(patches, residual * weight, known).mul_(known.denominator.rsqrt_())
        whitened = residual[:, :1] * weight[:, :1].sqrt()
        level = torch.log1p(variance[:, :1]) / 5
        return torch.cat([torch.asinh(score / KNEE), torch.asinh(whitened / KNEE), level], 1)
