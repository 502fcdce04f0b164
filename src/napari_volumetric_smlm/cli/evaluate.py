"""vsmlm evaluate: found molecules against true ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..domain.molecules import Localizations
from ..domain.plans import EvaluatePlan
from ..domain.runs import Evaluation
from .files import add_table_options, note, open_table
from .options import add_plan, plan_from

NAME = "evaluate"
SUMMARY = "Score found molecules against true ones."
# of true molecules before the first or after the last found one: a sparse movie has few, a half of a movie has half
WORRYING_SHARE = 0.2
DETAILS = "Both are tables of any known format. Errors and gates are in nm."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("truth", type=Path, metavar="TRUTH.csv", help="Table of the true molecules.")
    parser.add_argument("found", type=Path, metavar="FOUND.csv", help="Table of the found molecules.")
    parser.add_argument("--json", action="store_true", help="Print the scores as JSON.")
    add_table_options(parser)
    add_plan(parser, EvaluatePlan)


def run(args: argparse.Namespace) -> None:
    """Score and print."""
    plan = plan_from(args, EvaluatePlan)
    truth, found = open_table(args, args.truth), open_table(args, args.found)
    beyond = _frames_beyond(truth, found)
    if beyond:
        note(args, beyond)
    from ..recipes.evaluate import evaluate

    scores = evaluate(truth, found, plan)
    print(scores.model_dump_json(indent=1) if args.json else "\n".join(lines(scores)))


def _frames_beyond(truth: Localizations, found: Localizations) -> str:
    """Say when the true table goes on where the found one has ended, as it does when a part of a movie was reconstructed."""
    if not len(truth) or not len(found):
        return ""
    (low, high), (first, last) = ((int(table["frame"].min()), int(table["frame"].max())) for table in (truth, found))
    missed = int(((truth["frame"] < first) | (truth["frame"] > last)).sum())
    if missed < WORRYING_SHARE * len(truth):
        return ""
    return (
        f"molecules were found in frames {first} to {last}, the true ones are in frames {low} to {high}: {missed} of {len(truth)} true "
        "ones lie in frames without any found; they count as missed"
    )


def lines(scores: Evaluation) -> list[str]:
    """Return the scores as a small table in words."""
    gone = "-"

    def nm(value: float | None) -> str:
        return gone if value is None else f"{value:.1f} nm"

    def share(value: float | None) -> str:
        return gone if value is None else f"{value:.3f}"

    def percent(value: float | None) -> str:
        return gone if value is None else f"{value:.1f} %"

    def three(values: tuple[float, float, float] | None, form: str) -> str:
        return gone if values is None else " / ".join(form.format(v) for v in values)

    rows = [
        ("pairs, false, missed", f"{scores.true_positives}, {scores.false_positives}, {scores.false_negatives}"),
        ("Jaccard index", f"{scores.jaccard:.3f}"),
        ("precision, recall", f"{share(scores.precision)}, {share(scores.recall)}"),
        ("RMSE lateral (2D), axial", f"{nm(scores.rmse_lateral_nm)}, {nm(scores.rmse_axial_nm)}"),
        *([("constant taken off, z / y / x", three(scores.offset_zyx_nm, "{:.1f}") + " nm")] if scores.offset_zyx_nm else []),
        ("bias z / y / x", three(scores.bias_zyx_nm, "{:.1f}") + (" nm" if scores.bias_zyx_nm else "")),
        (
            "efficiency lateral, axial, 3D",
            f"{percent(scores.efficiency_lateral)}, {percent(scores.efficiency_axial)}, {percent(scores.efficiency_3d)}",
        ),
        ("error / sigma z / y / x, RMS", three(scores.ratio_to_bound_zyx, "{:.2f}")),
        ("error / sigma z / y / x, median", three(scores.median_ratio_to_bound_zyx, "{:.2f}")),
        ("within one sigma z / y / x", three(scores.within_one_sigma_zyx, "{:.0%}")),
    ]
    return [f"{name:<33}{value}" for name, value in rows]
