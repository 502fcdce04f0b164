"""Evaluate: found molecules against true ones."""

from __future__ import annotations

from ..domain.molecules import Localizations
from ..domain.plans import EvaluatePlan
from ..domain.runs import Evaluation
from ..engine.assemble.score import score
from ..errors import TableError


def evaluate(truth: Localizations, found: Localizations, plan: EvaluatePlan) -> Evaluation:
    """Pair the molecules frame by frame and score the pairs.

    Raises
    ------
    TableError
        If the two tables measure z from different places, or the truth has no photons although dim molecules are to be neutral.
    """
    known = {"coverslip", "focus"}
    if {truth.z_reference, found.z_reference} == known:
        raise TableError(
            f"the truth measures z from the {truth.z_reference}, the found table from the {found.z_reference}: "
            "the depths cannot be compared; shift one of them by the focal plane first"
        )
    if plan.dim_below_photons > 0 and "photons" not in truth:
        raise TableError(
            f"dim_below_photons is {plan.dim_below_photons:g}, but the table of true molecules has no column photons; "
            "set it to 0 or add the column"
        )
    return score(truth, found, plan)
