"""What a plan's field is, for whoever builds options or forms from it: its type, whether it may be left out, its unit."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from .noun import Noun

# last word of a field's name -> unit in words
UNITS = {
    "nm": "nm",
    "um": "µm",
    "um2": "per µm²",
    "mm": "mm",
    "px": "pixels",
    "ms": "ms",
    "rad": "rad",
    "na": "n sin θ",
    "photons": "photons",
    "counts": "counts",
    "e": "electrons",
    "frames": "frames",
}


@dataclass(frozen=True)
class FieldKind:
    """One field.

    plain : bool, int, float or str; of the parts, for a tuple.
    length : number of parts of a tuple, None for a single value, 0 for a tuple of any length.
    inner_length : number of parts of each part, for a tuple of tuples.
    choices : allowed words, or nothing.
    optional : whether None is allowed, which means "automatic".
    unit : unit in words, or empty.
    """

    plain: type
    length: int | None = None
    inner_length: int | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    unit: str = ""


def field_kind(noun: type[Noun], name: str) -> FieldKind:
    """Look at one field of a noun whose value is a number, word or tuple of those."""
    kind, optional = _without_limits(noun.model_fields[name].annotation)
    unit = UNITS.get(name.rsplit("_", 1)[-1], "")
    if get_origin(kind) is Literal:
        return FieldKind(str, choices=tuple(str(choice) for choice in get_args(kind)), optional=optional)
    if get_origin(kind) is not tuple:
        return FieldKind(kind, optional=optional, unit=unit)
    parts = get_args(kind)
    length = 0 if parts[-1] is Ellipsis else len(parts)
    inner, _ = _without_limits(parts[0])
    if get_origin(inner) is tuple:
        deepest, _ = _without_limits(get_args(inner)[0])
        return FieldKind(deepest, length, len(get_args(inner)), optional=optional, unit=unit)
    return FieldKind(inner, length, optional=optional, unit=unit)


def _without_limits(annotation: Any) -> tuple[Any, bool]:
    """Return the type without limits and None, and whether it may be None."""
    optional = False
    if get_origin(annotation) in (typing.Union, types.UnionType):
        choices = [choice for choice in get_args(annotation) if choice is not type(None)]
        optional, annotation = len(choices) < len(get_args(annotation)), choices[0]
    while get_origin(annotation) is typing.Annotated:
        annotation = get_args(annotation)[0]
    return annotation, optional
