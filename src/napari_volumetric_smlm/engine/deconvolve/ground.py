"""The dark level of light-field views: what is there where no structure is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

BLOCK_PX = 8
DARK_SHARE = 0.02


def dark_level(views_tvyx: Tensor) -> Tensor:
    """Level (t, v) below which only the darkest blocks of 8 x 8 pixels lie: a constant background, where a view shows some of it.

    In views that are full of structure it is too high, because their darkest part still receives light from it: state the background then.
    """
    side = min(BLOCK_PX, *views_tvyx.shape[-2:])
    blocks = avg_pool2d(views_tvyx, side).flatten(2)
    return torch.quantile(blocks, DARK_SHARE, dim=2)
