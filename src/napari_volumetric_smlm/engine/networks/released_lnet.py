"""Weights of the published L-Net as its authors released them (tianrui-qi/DSMLM, MIT licence), by the names of our layers.

Their blocks keep convolution and norm in pairs, count the way up from its last level, and put what comes from the side before what comes
from below; in `published_lnet` it is the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import ModelError

BLOCK = re.compile(r"(encoder|decoder)\.(\d+)\.conv([12])\.([01])\.(.+)")
RISE = re.compile(r"upconv\.(\d+)\.1\.(.+)")
LEAVE = re.compile(r"outconv\.0\.(.+)")


def released_lnet(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """The authors' weights for a network of so many levels.

    Raises
    ------
    ModelError
        If a weight belongs to no layer of the published network.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        short = name.removeprefix("module.")
        if block := BLOCK.fullmatch(short):
            side, number, half, part, what = block[1], int(block[2]), int(block[3]), int(block[4]), block[5]
            place = f"down.{number}" if side == "encoder" else f"up.{levels - 2 - number}"
            weights = value
            if side == "decoder" and (half, part) == (1, 0):
                beside, below = value.chunk(2, 1)
                weights = torch.cat([below, beside], 1)
            # convolution, norm and ReLU, twice
            found[f"{place}.{3 * (half - 1) + part}.{what}"] = weights
        elif rise := RISE.fullmatch(short):
            found[f"rise.{levels - 2 - int(rise[1])}.1.{rise[2]}"] = value
        elif leave := LEAVE.fullmatch(short):
            found[f"leave.{leave[1]}"] = value
        else:
            raise ModelError(f"weights {name!r} belong to no layer of the published L-Net (encoder, upconv, decoder, outconv)")
    return found
