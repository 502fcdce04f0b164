"""The localizer network: for every camera pixel the probability of a molecule, where in it, how bright, and how sure.

Physics carries the input (a score for every depth, see `localize.features`), so the trunk can be small: it works at half resolution,
where a cell holds the four pixels' channels side by side, and sees neighbours through dilated convolutions. One output a pixel, none a
depth: the cost does not depend on the depth range (as in DECODE, Speiser et al., Nat. Methods 18, 1082 (2021)).

With temporal context the first layers read every frame alike, and what they say of the neighbours is added to what they say of the
frame through one convolution that mixes channels only. So the first layers need to run once a frame of a movie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, softplus

PARAMETERS = 4  # z, y, x, photons
OUTPUTS = 2 + 2 * PARAMETERS
LEAST_SIGMA = 0.02  # in the units of the outputs; without a floor the likelihood of one lucky molecule runs away
RARE = -5.0  # first guess of a pixel's logit: molecules are rare
SHARED_BLOCKS = 2  # blocks among the first layers: enough to tell a molecule from an accident of the noise


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


@dataclass(frozen=True)
class Glance:
    """What the first layers say of frames at half resolution, (T, width, y, x): before and after their blocks."""

    entered: Tensor
    seen: Tensor


class LocalizerNetwork(nn.Module):
    """Channels to a `Prediction`; any frame size, odd sizes are padded.

    Parameters
    ----------
    channels : input channels.
    width : channels of the trunk at half resolution.
    dilations : one block each.
    context_frames : neighbouring frames on each side that have a say.
    """

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...], context_frames: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * channels, width, 1)
        self.blocks = nn.Sequential(*(Block(width, d) for d in dilations))
        self.leave = nn.Conv2d(2 * width, 4 * OUTPUTS, 1)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)
            self.leave.bias.zero_()  # type: ignore[union-attr]
            self.leave.bias[:4] = RARE  # type: ignore[index]
        self.context_frames = context_frames
        self.shared = SHARED_BLOCKS if context_frames else 0
        if context_frames:
            # without a bias and from zero: a frame that has no neighbours is read as by a network without context, and so is any at first
            self.join = nn.Conv2d(2 * context_frames * width, width, 1, bias=False)
            nn.init.zeros_(self.join.weight)

    def forward(self, features: Tensor) -> Prediction:
        """Read frames (T, c, y, x), or each with its neighbours, in the order of time, (T, 2 context_frames + 1, c, y, x).

        A neighbour whose channels are all zero is not there: features of a frame never are, since their background is above zero.
        """
        shape = (features.shape[-2], features.shape[-1])
        if features.ndim == 4:
            return self.judge(self.look(features), (), shape)
        glance = self.look(features.flatten(0, 1))
        count, frames = features.shape[:2]
        there = features.flatten(2).any(2)[..., None, None, None].to(glance.seen.dtype)
        entered, seen = (part.unflatten(0, (count, frames)) for part in (glance.entered, glance.seen))
        beside = [seen[:, k] * there[:, k] for k in range(frames) if k != self.context_frames]
        return self.judge(Glance(entered[:, self.context_frames], seen[:, self.context_frames]), beside, shape)

    def look(self, features: Tensor) -> Glance:
        """First layers, which read every frame (T, c, y, x) alone."""
        height, width = features.shape[-2:]
        even = torch.nn.functional.pad(features, (0, width % 2, 0, height % 2))
        first = self.enter(pixel_unshuffle(even, 2))
        return Glance(first, self.blocks[: self.shared](first))

    def judge(self, glance: Glance, beside: Sequence[Tensor], shape_yx: tuple[int, int]) -> Prediction:
        """All other layers.

        Parameters
        ----------
        beside : what the first layers have `seen` of the frames before and after, zero where there is none; nothing = a still.
        shape_yx : size of the frames.
        """
        height, width = shape_yx
        seen = glance.seen + self.join(torch.cat(list(beside), 1)) if len(beside) else glance.seen
        last = torch.cat([self.blocks[self.shared :](seen), glance.entered], 1).to(self.leave.weight.dtype)
        # whatever precision the caller runs us in: eight bits would round z to nanometres
        with torch.autocast(last.device.type, enabled=False):
            out = pixel_shuffle(self.leave(last), 2)[..., :height, :width]
        mean = out[:, 1 : 1 + PARAMETERS]
        # a molecule just beyond a pixel's edge may still be told by that pixel
        mean = torch.cat([1.1 * torch.tanh(mean[:, :1]), torch.tanh(mean[:, 1:3]), softplus(mean[:, 3:])], 1)
        sigma = LEAST_SIGMA + softplus(out[:, 1 + PARAMETERS : 1 + 2 * PARAMETERS] - 1)
        return Prediction(out[:, 0], mean, sigma, out[:, -1])
