"""Between nanometres and photons and the numbers that a network learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from .localizer import Prediction


@dataclass(frozen=True)
class Finds:
    """Molecules that a network found, n rows ordered by frame: frame, z, y, x (nm), photons, and their standard errors (n, 4)."""

    frame_n: Tensor
    position_n3: Tensor
    photons_n: Tensor
    sigma_n4: Tensor
    probability_n: Tensor


@dataclass(frozen=True)
class Units:
    """z counts in half depth ranges from the middle, y and x in pixels of the first view, photons in their mean while training."""

    low_nm: float
    high_nm: float
    pixel_nm: float
    photons: float

    def encode(self, position_n3: Tensor, photons_n: Tensor) -> Tensor:
        """Places (n, 4) as the loss compares them."""
        z = (position_n3[:, :1] - (self.low_nm + self.high_nm) / 2) / self._half_nm
        return torch.cat([z, position_n3[:, 1:] / self.pixel_nm, photons_n[:, None] / self.photons], 1)

    def decode(self, predicted: Prediction, threshold: float) -> Finds:
        """Molecules where a pixel's probability is the largest around it and its neighbourhood's sum reaches the threshold."""
        p = torch.sigmoid(predicted.logit_tyx)
        # a molecule near a pixel's edge shares its probability with the neighbour
        together = (9 * avg_pool2d(p[:, None], 3, 1, 1)[:, 0]).clamp(max=1)
        peak = (p == max_pool2d(p[:, None], 3, 1, 1)[:, 0]) & (together > threshold)
        frame, row, column = peak.nonzero(as_tuple=True)
        at = (frame, slice(None), row, column)
        mean, sigma = predicted.mean_tpyx[at], predicted.sigma_tpyx[at]
        scale = torch.tensor([self._half_nm, self.pixel_nm, self.pixel_nm, self.photons], device=p.device)
        corner = torch.stack([torch.full_like(row, 0), row, column], 1) * scale[:3]
        position = mean[:, :3] * scale[:3] + corner
        position[:, 0] += (self.low_nm + self.high_nm) / 2
        return Finds(frame, position, mean[:, 3] * self.photons, sigma * scale, together[frame, row, column])

    @property
    def _half_nm(self) -> float:
        return (self.high_nm - self.low_nm) / 2
