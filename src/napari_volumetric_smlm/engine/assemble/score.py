"""Pair found with true molecules and score the pairs.

Pairs beyond the gate are made impossible before the assignment: a far molecule must not break a good pair.
Sources: Kuhn, Nav. Res. Logist. Q. 2, 83 (1955); Sage et al., Nat. Methods 16, 387 (2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ...domain.molecules import Localizations
from ...domain.plans import EvaluatePlan
from ...domain.runs import Evaluation

LATERAL_WEIGHT_PER_NM = 1.0
AXIAL_WEIGHT_PER_NM = 0.5
WIDER_GATE = 3.0
# Median of |error| / sigma of a normal distribution.
NORMAL_MEDIAN = 0.6744897501960817

Rows = NDArray[np.intp]


def match(truth: Localizations, found: Localizations, plan: EvaluatePlan) -> tuple[Rows, Rows]:
    """Pair molecules frame by frame: as many pairs inside the gate as possible, then the smallest sum of distances (nm).

    Returns
    -------
    Row numbers in `truth` and, in the same order, of their partners in `found`.
    """
    nothing = np.empty(0, np.intp)
    if not len(truth) or not len(found):
        return nothing, nothing
    left, right, distance_nm = _candidates(truth, found, plan)
    if not len(left):
        return nothing, nothing
    # a pair belongs to one cluster of molecules that can reach each other; each cluster is a small problem of its own
    graph = coo_array((np.ones(len(left), bool), (left, right + len(truth))), shape=(len(truth) + len(found),) * 2)
    cluster = connected_components(graph, directed=False)[1][left]
    order = np.argsort(cluster, kind="stable")
    edges = np.flatnonzero(np.diff(cluster[order])) + 1
    pairs_left, pairs_right = [], []
    for members in np.split(order, edges):
        if len(members) == 1:
            pairs_left.append(left[members])
            pairs_right.append(right[members])
            continue
        rows, row = np.unique(left[members], return_inverse=True)
        columns, column = np.unique(right[members], return_inverse=True)
        # one impossible pair costs more than all possible ones together, so the number of pairs comes first
        cost = np.full((len(rows), len(columns)), 1.0 + distance_nm[members].sum())
        cost[row, column] = distance_nm[members]
        possible = np.zeros(cost.shape, bool)
        possible[row, column] = True
        i, j = linear_sum_assignment(cost)
        kept = possible[i, j]
        pairs_left.append(rows[i[kept]])
        pairs_right.append(columns[j[kept]])
    return np.concatenate(pairs_left), np.concatenate(pairs_right)


def _candidates(truth: Localizations, found: Localizations, plan: EvaluatePlan) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """All pairs of the same frame inside the gate, with their 3D distance in nm."""
    if plan.gate == "sphere":
        reach = np.array([plan.gate_nm] * 3)
        radius = 1.0
    else:
        reach = np.array([plan.gate_axial_nm, plan.gate_lateral_nm, plan.gate_lateral_nm])
        radius = np.sqrt(2.0)

    def places(table: Localizations) -> NDArray[np.float64]:
        # frames lie far apart along a fourth axis
        return np.column_stack([table["frame"] * 3.0, table.position_zyx_nm / reach])

    # a little wider than the gate: the exact comparison follows in nm
    near = KDTree(places(truth)).sparse_distance_matrix(KDTree(places(found)), radius * (1 + 1e-6), output_type="coo_matrix")
    left, right = near.row.astype(np.intp), near.col.astype(np.intp)
    offset = truth.position_zyx_nm[left] - found.position_zyx_nm[right]
    distance = np.sqrt((offset**2).sum(1))
    if plan.gate == "sphere":
        inside = distance <= plan.gate_nm
    else:
        inside = (np.hypot(offset[:, 1], offset[:, 2]) <= plan.gate_lateral_nm) & (np.abs(offset[:, 0]) <= plan.gate_axial_nm)
    return left[inside], right[inside], distance[inside]


def score(truth: Localizations, found: Localizations, plan: EvaluatePlan) -> Evaluation:
    """Count pairs, missed and false molecules, and measure the errors of the pairs.

    True molecules below `plan.dim_below_photons` are neutral: they are offered only to molecules that no bright one wants,
    and a found molecule that takes one is neither right nor false.
    """
    bright = np.arange(len(truth))
    dim = bright[:0]
    if plan.dim_below_photons > 0 and "photons" in truth:
        is_dim = truth["photons"] < plan.dim_below_photons
        bright, dim = np.flatnonzero(~is_dim), np.flatnonzero(is_dim)
    offset = constant_offset(truth, found, plan) if plan.remove_offset else None
    if offset is not None:
        found = found.moved(-offset)
    left, right = match(truth.select(bright), found, plan)
    left = bright[left]
    free = np.setdiff1d(np.arange(len(found)), right)
    neutral = len(match(truth.select(dim), found.select(free), plan)[0])
    pairs, missed, false = len(left), len(bright) - len(left), len(free) - neutral
    counts = {"true_positives": pairs, "false_positives": false, "false_negatives": missed}
    rates: dict[str, Any] = {
        "jaccard": _share(pairs, pairs + false + missed),
        "precision": pairs / (pairs + false) if pairs + false else None,
        "recall": pairs / (pairs + missed) if pairs + missed else None,
        "offset_zyx_nm": None if offset is None else _triple(offset),
    }
    if not pairs:
        return Evaluation(**counts, **rates)
    error = found.position_zyx_nm[right] - truth.position_zyx_nm[left]
    lateral = float(np.sqrt((error[:, 1:] ** 2).sum(1).mean()))
    axial = float(np.sqrt((error[:, 0] ** 2).mean()))
    has_depth = "none" not in (truth.z_reference, found.z_reference)
    sides = [efficiency(rates["jaccard"], lateral, LATERAL_WEIGHT_PER_NM), efficiency(rates["jaccard"], axial, AXIAL_WEIGHT_PER_NM)]
    return Evaluation(
        **counts,
        **rates,
        rmse_lateral_nm=lateral,
        rmse_axial_nm=axial if has_depth else None,
        bias_zyx_nm=_triple(error.mean(0)),
        efficiency_lateral=sides[0],
        efficiency_axial=sides[1] if has_depth else None,
        efficiency_3d=sum(sides) / 2 if has_depth else None,
        **_against_sigmas(error, found.select(right)),
    )


def constant_offset(truth: Localizations, found: Localizations, plan: EvaluatePlan) -> NDArray[np.float64]:
    """Median of found minus true position (z, y, x) in nm over the pairs; first with wider gates, as the offset may exceed the gate."""
    offset = np.zeros(3)
    for factor in (WIDER_GATE, 1.0, 1.0):
        gates = {name: getattr(plan, name) * factor for name in ("gate_nm", "gate_lateral_nm", "gate_axial_nm")}
        left, right = match(truth, found.moved(-offset), plan.model_copy(update=gates))
        if len(left):
            offset = np.median(found.position_zyx_nm[right] - truth.position_zyx_nm[left], axis=0)
    return offset


def efficiency(jaccard: float, rmse_nm: float, weight_per_nm: float) -> float:
    """Efficiency of the localization challenge in percent, which joins detection and precision; negative for very large errors.

    E = 100 - sqrt((100 - 100 J)^2 + weight^2 RMSE^2)
    """
    return float(100.0 - np.hypot(100.0 - 100.0 * jaccard, weight_per_nm * rmse_nm))


def _against_sigmas(error_zyx_nm: NDArray[np.float64], found: Localizations) -> dict[str, tuple[float, float, float]]:
    """Errors of the pairs over the standard errors that the table gives; nothing when it gives none."""
    sigma = found.sigma_zyx_nm
    if sigma is None:
        return {}
    usable = (np.isfinite(sigma) & (sigma > 0)).all(1)
    if not usable.any():
        return {}
    ratio = error_zyx_nm[usable] / sigma[usable]
    return {
        "ratio_to_bound_zyx": _triple(np.sqrt((ratio**2).mean(0))),
        "median_ratio_to_bound_zyx": _triple(np.median(np.abs(ratio), axis=0) / NORMAL_MEDIAN),
        "within_one_sigma_zyx": _triple((np.abs(ratio) <= 1).mean(0)),
    }


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _share(part: int, whole: int) -> float:
    # an empty frame that is found empty is perfect
    return part / whole if whole else 1.0
