"""Which order the frames are in, from the strength of the pattern that each possible order gives.

Frames in the right order have one wave vector an orientation, and none of the others'. With orientations and phases mixed up, every
supposed orientation has the waves of all; with planes in place of phases, both directions of a wave are there alike. So the evidence of
an order is the score at each orientation's own wave vector less its score at the others' and at the opposite of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .estimate import Found, Optics, Search, find

# the best order must lead by this share and this evidence (natural units of log-likelihood); else nobody knows
LEAST_LEAD, LEAST_EVIDENCE = 1.5, 20.0


@dataclass(frozen=True)
class OrderFound:
    """The most likely order, evidence of all, and whether it is beyond doubt. found : the search in the best order's frames."""

    order: str
    scores: dict[str, float]
    sure: bool
    found: Found


def find_order(frames_of: Callable[[str], Tensor], orders: list[str], optics: Optics, search: Search) -> OrderFound:
    """Try orders.

    Parameters
    ----------
    frames_of : gives the frames (a, p, y, x) of one plane, if they were in an order.
    """
    tried = {order: find(frames_of(order), optics, search) for order in orders}
    scores = {order: found.contrast for order, found in tried.items()}
    ranked = sorted(orders, key=lambda order: scores[order], reverse=True)
    best, second = scores[ranked[0]], scores[ranked[1]] if len(ranked) > 1 else 0.0
    sure = len(orders) == 1 or (best > LEAST_LEAD * second and best - second > LEAST_EVIDENCE)
    return OrderFound(ranked[0], scores, sure, tried[ranked[0]])
