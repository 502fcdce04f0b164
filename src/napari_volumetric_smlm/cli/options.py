"""Between plans and options, the only place: every field of a plan is an option, its description the help text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from ..domain.fields import FieldKind, field_kind
from ..domain.noun import Noun
from ..errors import PlanError
from ..io.json_files import explain, read_json

N = TypeVar("N", bound=Noun)
PARTS = {
    "region_yx_px": ("TOP", "LEFT", "BOTTOM", "RIGHT"),
    "shape_yx_px": ("ROWS", "COLUMNS"),
    "bead_positions_yx_px": ("ROW", "COLUMN"),
}


def option_of(name: str) -> str:
    """Return the option of a field: `z_step_nm` becomes `--z-step-nm`."""
    return "--" + name.replace("_", "-")


def add_plan(parser: argparse.ArgumentParser, plan: type[Noun], other: type[Noun] | None = None) -> None:
    """Add an option for each field of a plan, and `--plan` for all of them from a file; then what only the `other` plan has."""
    group = parser.add_argument_group("settings")
    group.add_argument("--plan", metavar="PLAN.json", type=Path, help="Settings from a file; options given beside it go before it.")
    more = {} if other is None else {name: other for name in other.model_fields if name not in plan.model_fields}
    for name, owner in {**dict.fromkeys(plan.model_fields, plan), **more}.items():
        kind = field_kind(owner, name)
        group.add_argument(option_of(name), dest=name, default=argparse.SUPPRESS, help=_help(owner, name, kind), **_form(name, kind))
        if not owner.model_fields[name].description:
            raise TypeError(f"{owner.__name__}.{name} has no description")


def plan_from(args: argparse.Namespace, plan: type[N]) -> N:
    """Build the plan from the options that were given, over the file, over the defaults.

    Raises
    ------
    PlanError
        If a value is missing, out of its limits or contradicts another; all of them are named.
    """
    values: dict[str, Any] = read_json(args.plan) if args.plan is not None else {}
    for name in plan.model_fields:
        if hasattr(args, name):
            value = getattr(args, name)
            values[name] = [group for groups in value for group in groups] if field_kind(plan, name).inner_length else value
    missing = [name for name, field in plan.model_fields.items() if field.is_required() and name not in values]
    if missing:
        raise PlanError("; ".join(f"{option_of(name)} is required: {plan.model_fields[name].description}" for name in missing))
    try:
        return plan.model_validate(values)
    except pydantic.ValidationError as problem:
        raise PlanError(explain(problem, plan)) from problem


def _number(value: object) -> str:
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _groups(word: str) -> list[list[float]]:
    """Read `10,20` or `[[10, 20], [30, 40]]`."""
    try:
        value = json.loads(word if word.startswith("[[") else f"[[{word.strip('[]')}]]")
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither numbers with commas (10,20) nor a list ([[10, 20], [30, 40]])") from None
    return list(value)


def _form(name: str, kind: FieldKind) -> dict[str, Any]:
    """How argparse reads a field."""
    if kind.plain is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind.choices:
        return {"choices": kind.choices}
    metavar = {"nm": "NM", "pixels": "PX", "photons": "PHOTONS", "frames": "FRAMES"}.get(kind.unit) or {int: "N", float: "X"}.get(
        kind.plain, "NAME"
    )
    if kind.inner_length:
        return {"type": _groups, "nargs": "+", "metavar": ",".join(PARTS.get(name, (metavar,) * kind.inner_length))}
    if kind.length is None:
        return {"type": kind.plain, "metavar": metavar}
    if kind.length == 0:
        return {"type": kind.plain, "nargs": "+", "metavar": metavar}
    return {"type": kind.plain, "nargs": kind.length, "metavar": PARTS.get(name, (metavar,) * kind.length)}


def _help(plan: type[Noun], name: str, kind: FieldKind) -> str:
    field = plan.model_fields[name]
    # in a form a line is empty, on the command line an option is left out
    text = (field.description or "").replace("empty = ", "left out = ")
    notes = []
    if kind.unit:
        notes.append(f"unit: {kind.unit}")
    if kind.inner_length:
        notes.append("several, with blanks between them")
    if field.is_required():
        notes.append("required")
    elif field.default is not None:
        value = field.default
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        else:
            shown = " ".join(map(_number, value)) if isinstance(value, tuple) else _number(value)
        notes.append(f"default: {shown}")
    return (text + (f" ({'; '.join(notes)})" if notes else "")).replace("%", "%%")
