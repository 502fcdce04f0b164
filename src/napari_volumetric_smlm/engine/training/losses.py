"""Losses of the localizer network: how many molecules there are, and where.

Count      L_c = (E - sum_k p_k)^2 / (2 V) + ln(V) / 2,   V = sum_k p_k (1 - p_k)
Position   L_u = - sum_e ln sum_k (p_k / sum p) N(u_e; mu_k, diag sigma_k^2),   u = (z, y, x, photons)
Presence   cross-entropy of p with the pixels that hold a molecule's centre
after DECODE (Speiser et al. 2021) and FD-DeepLoc (Fu et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..networks.localizer import Prediction

REACH_PX = 2  # pixels around a molecule that can speak for it: a pixel's offset is at most one pixel


@dataclass(frozen=True)
class Targets:
    """True molecules of T frames in the network's units, n rows.

    frame_n : frame. place_n4 : z (half depth ranges from the middle), y and x (pixels), photons (in units of the mean).
    background_tyx : true background as the network is asked for it.
    """

    frame_n: Tensor
    place_n4: Tensor
    background_tyx: Tensor


def localizer_loss(predicted: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Parts of the loss by name, each a mean over frames; their sum is what training lowers."""
    frames, height, width = predicted.logit_tyx.shape
    p = torch.sigmoid(predicted.logit_tyx)
    true_count = torch.bincount(targets.frame_n, minlength=frames).to(p.dtype)
    spread = (p * (1 - p)).sum((1, 2)) + 1e-3
    count = (true_count - p.sum((1, 2))) ** 2 / (2 * spread) + 0.5 * torch.log(spread)
    where = torch.zeros_like(p)
    nearest = torch.round(targets.place_n4[:, 1:3]).long()
    inside = ((nearest >= 0) & (nearest < torch.tensor([height, width], device=p.device))).all(1)
    where[targets.frame_n[inside], nearest[inside, 0], nearest[inside, 1]] = 1.0
    presence = binary_cross_entropy_with_logits(predicted.logit_tyx, where, reduction="none").sum((1, 2))
    ground = ((predicted.background_tyx - targets.background_tyx) ** 2).mean((1, 2))
    return {
        "count": count.mean(),
        "position": position_loss(predicted, targets).sum() / frames,
        "presence": presence.mean(),
        "background": 10 * ground.mean(),
    }


def position_loss(predicted: Prediction, targets: Targets) -> Tensor:
    """Negative log-likelihood of each true molecule under the mixture of all pixels of its frame, (n,)."""
    _, height, width = predicted.logit_tyx.shape
    log_share = torch.nn.functional.logsigmoid(predicted.logit_tyx)
    log_share = log_share - torch.logsumexp(log_share.flatten(1), 1)[:, None, None]
    losses = []
    for part in torch.arange(len(targets.frame_n), device=log_share.device).split(4096):
        frame, place = targets.frame_n[part], targets.place_n4[part]
        middle = torch.round(place[:, 1:3]).long()
        step = torch.arange(-REACH_PX, REACH_PX + 1, device=place.device)
        rows, columns = middle[:, 0, None, None] + step[:, None], middle[:, 1, None, None] + step
        seen = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        at = (frame[:, None, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1))
        mean = predicted.mean_tpyx.permute(0, 2, 3, 1)[at]  # (n, k, k, 4)
        sigma = predicted.sigma_tpyx.permute(0, 2, 3, 1)[at]
        offset = torch.stack([rows.expand_as(seen), columns.expand_as(seen)], -1).to(mean.dtype)
        mean = torch.cat([mean[..., :1], mean[..., 1:3] + offset, mean[..., 3:]], -1)
        terms = -0.5 * ((place[:, None, None] - mean) / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
        mixture = terms.sum(-1) + log_share[at]
        losses.append(-torch.logsumexp(mixture.masked_fill(~seen, -torch.inf).flatten(1), 1))
    return torch.cat(losses) if losses else predicted.logit_tyx.new_zeros(0)
