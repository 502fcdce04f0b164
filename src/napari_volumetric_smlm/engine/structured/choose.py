"""Choose the wave vectors of all orientations together: strong ones by themselves, weak ones with the help of the others.

Orientations are expected at equal angles and with the same period, but real ones differ by several per cent and degrees. So the
expectation is a soft one: a Gaussian penalty with a limit, so that a maximum that is strong by itself wins anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ANCHORS = 4
LENGTH_SIGMA, ANGLE_SIGMA_RAD = 0.03, math.radians(2.0)
LARGEST_PENALTY = 8.0
# beyond this a score counts by its logarithm: a very strong false maximum must not outvote all others
FULL_SCORE = 30.0
NEIGHBOURHOOD_PX = 3.0


@dataclass(frozen=True)
class Ring:
    """Trial wave vectors between two lengths, flattened (n,). row_n, column_n : distances from zero in samples."""

    row_n: Tensor
    column_n: Tensor
    ky_n: Tensor
    kx_n: Tensor

    @property
    def length_n(self) -> Tensor:
        """Lengths of the wave vectors."""
        return torch.hypot(self.ky_n, self.kx_n)

    @property
    def angle_n(self) -> Tensor:
        """Directions, from +x towards +y."""
        return torch.atan2(self.ky_n, self.kx_n)

    def distance_px(self, index: int) -> Tensor:
        """Distance of all from one, in samples."""
        return torch.hypot(self.row_n - self.row_n[index], self.column_n - self.column_n[index])


@dataclass(frozen=True)
class Choice:
    """One wave vector a line. index_l : into the ring. total : joint evidence, natural units of log-likelihood.

    rival_l : largest score elsewhere. support_l : penalty of the expectation from the other lines, for the chosen wave vector.
    """

    index_l: tuple[int, ...]
    total: float
    rival_l: tuple[float, ...]
    penalty_l: tuple[float, ...]


def choose(scores_ln: Tensor, ring: Ring) -> Choice:
    """Best set of wave vectors, given the score of every trial wave vector for every line (l, n).

    Each strong maximum of each line is tried as an anchor; from it, length and angle of the others are expected, in both senses of
    rotation, and each of them takes its best compromise of score and expectation.
    """
    lines = len(scores_ln)
    evidence = torch.where(scores_ln > FULL_SCORE, FULL_SCORE * (1 + torch.log(scores_ln.clamp(min=FULL_SCORE) / FULL_SCORE)), scores_ln)
    log_length, angle = torch.log(ring.length_n), ring.angle_n
    tops = [_maxima(scores, ring, ANCHORS) for scores in scores_ln]
    best: tuple[float, tuple[int, ...], tuple[float, ...]] | None = None
    for line in range(lines):
        for anchor in tops[line]:
            length_term = ((log_length - log_length[anchor]) / LENGTH_SIGMA) ** 2
            for sense in (1, -1) if lines > 1 else (1,):
                picks, penalties, total = [], [], 0.0
                for other in range(lines):
                    penalty = torch.zeros_like(length_term)
                    if other != line:
                        turn = angle - angle[anchor] - sense * (other - line) * math.pi / lines
                        away = torch.remainder(turn + math.pi / 2, math.pi) - math.pi / 2
                        penalty = (0.5 * (length_term + (away / ANGLE_SIGMA_RAD) ** 2)).clamp(max=LARGEST_PENALTY)
                    pick = anchor if other == line else int((evidence[other] - penalty).argmax())
                    picks.append(pick)
                    penalties.append(float(penalty[pick]))
                    total += float(evidence[other][pick] - penalty[pick])
                if best is None or total > best[0]:
                    best = total, tuple(picks), tuple(penalties)
    if best is None:
        raise ValueError("no line was given")
    rivals = tuple(rival_of(scores, ring, pick) for scores, pick in zip(scores_ln, best[1], strict=True))
    return Choice(best[1], best[0], rivals, best[2])


def rival_of(score_n: Tensor, ring: Ring, index: int) -> float:
    """Largest score that does not belong to the maximum at an index."""
    return float(score_n[ring.distance_px(index) > NEIGHBOURHOOD_PX].max())


def _maxima(score_n: Tensor, ring: Ring, count: int) -> list[int]:
    """Places of the largest scores, apart from each other."""
    left = score_n.clone()
    found = []
    for _ in range(count):
        place = int(left.argmax())
        found.append(place)
        left[ring.distance_px(place) <= NEIGHBOURHOOD_PX] = -1.0
    return found
