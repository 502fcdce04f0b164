"""The localizer network: for every camera pixel the probability of a molecule, where in it, how bright, and how sure.

Physics carries the input (a score for every depth, see `localize.features`), so the trunk can be small: it works at half resolution,
where a cell holds the four pixels' channels side by side, and sees neighbours through dilated convolutions. One output a pixel, none a
depth: the cost does not depend on the depth range (as in DECODE, Speiser et al., Nat. Methods 18, 1082 (2021)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, softplus

PARAMETERS = 4  # z, y, x, photons
OUTPUTS = 2 + 2 * PARAMETERS
LEAST_SIGMA = 0.02  # in the units of the outputs; without a floor the likelihood of one lucky molecule runs away
RARE = -5.0  # first guess of a pixel's logit: molecules are rare


@dataclass(frozen=True)
class Prediction:
    """What the network says of every pixel.

    logit_tyx : of the probability that a molecule's centre lies in the pixel. mean_tpyx, sigma_tpyx : (T, 4, y, x) of z (half depth
    ranges from the middle), y and x (pixels from the pixel's centre) and photons (in units of the training's mean).
    background_tyx : ln(1 + photons of background per pixel) / 5.
    """

    logit_tyx: Tensor
    mean_tpyx: Tensor
    sigma_tpyx: Tensor
    background_tyx: Tensor


class Block(nn.Module):
    """Two convolutions around a residual path; the second mixes channels only."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.spread = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the block adds."""
        return x + self.mix(torch.relu(self.spread(self.norm(x))))


class LocalizerNetwork(nn.Module):
    """Channels (T, c, y, x) to a `Prediction`; any frame size, odd sizes are padded.

    Parameters
    ----------
    channels : input channels.
    width : channels of the trunk at half resolution.
    dilations : one block each.
    """

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * channels, width, 1)
        self.blocks = nn.Sequential(*(Block(width, d) for d in dilations))
        self.leave = nn.Conv2d(2 * width, 4 * OUTPUTS, 1)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)
            self.leave.bias.zero_()  # type: ignore[union-attr]
            self.leave.bias[:4] = RARE  # type: ignore[index]

    def forward(self, features: Tensor) -> Prediction:
        """Read features (T, c, y, x)."""
        height, width = features.shape[-2:]
        even = torch.nn.functional.pad(features, (0, width % 2, 0, height % 2))
        first = self.enter(pixel_unshuffle(even, 2))
        last = torch.cat([self.blocks(first), first], 1).to(self.leave.weight.dtype)
        # whatever precision the caller runs us in: eight bits would round z to nanometres
        with torch.autocast(last.device.type, enabled=False):
            out = pixel_shuffle(self.leave(last), 2)[..., :height, :width]
        mean = out[:, 1 : 1 + PARAMETERS]
        # a molecule just beyond a pixel's edge may still be told by that pixel
        mean = torch.cat([1.1 * torch.tanh(mean[:, :1]), torch.tanh(mean[:, 1:3]), softplus(mean[:, 3:])], 1)
        sigma = LEAST_SIGMA + softplus(out[:, 1 + PARAMETERS : 1 + 2 * PARAMETERS] - 1)
        return Prediction(out[:, 0], mean, sigma, out[:, -1])
