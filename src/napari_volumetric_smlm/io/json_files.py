"""Nouns as JSON files: read with words about every mistake, written whole or not at all."""

from __future__ import annotations

import difflib
import json
import math
import os
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from ..domain.noun import Noun
from ..errors import InputError, PlanError
from .atomic import replacing

N = TypeVar("N", bound=Noun)
SHOWN_PROBLEMS = 8


def read_noun(path: str | os.PathLike[str], noun: type[N], error: type[InputError] = PlanError, largest_mib: int = 16) -> N:
    """Read one noun from a JSON file.

    Parameters
    ----------
    noun
        The class that the file must describe.
    error
        The type that is raised for anything wrong in the file.
    largest_mib
        Largest size that is read; more is not a file of this kind.

    Raises
    ------
    InputError
        (as `error`) If the file is missing, too large, no JSON, holds a key twice or a number that is not finite, or does not
        describe the noun. The message names each key, what was found and what was expected.
    """
    tree = read_json(path, error, largest_mib)
    expected_version = noun.model_fields["schema_version"].default if "schema_version" in noun.model_fields else None
    found_version = tree.get("schema_version", expected_version)
    if found_version != expected_version:
        raise error(
            f"{path}: schema_version is {_shorten(found_version)}, expected {expected_version!r}: "
            "the file was written for another version of this program, or is another kind of file; write it anew"
        )
    try:
        return noun.model_validate(tree)
    except pydantic.ValidationError as problem:
        raise error(f"{path}: {explain(problem, noun)}") from problem


def write_noun(noun: Noun, path: str | os.PathLike[str]) -> Path:
    """Write one noun as a JSON file that takes its place only when complete.

    Raises
    ------
    OutputError
        If the file cannot be written; an older file of that name is then untouched.
    """
    text = noun.model_dump_json(indent=1)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def read_json(path: str | os.PathLike[str], error: type[InputError] = PlanError, largest_mib: int = 16) -> dict[str, Any]:
    """Read a JSON object strictly: no key twice, no NaN or infinity, bounded size and depth.

    Raises
    ------
    InputError
        (as `error`) With the place in the file and what to do.
    """
    source = Path(path)
    if not source.is_file():
        raise error(f"{source}: {'this is a folder' if source.is_dir() else 'there is no such file'}; a JSON file was expected")
    try:
        size = source.stat().st_size
        if size > largest_mib * 2**20:
            raise error(f"{source}: {size / 2**20:.0f} MiB; a file of this kind has at most {largest_mib} MiB, so this is something else")
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{source}: not a text file in UTF-8 (byte {problem.start}); a JSON file was expected") from problem
    except OSError as problem:
        raise error(f"{source}: cannot be read ({problem.strerror}); check that it exists and that you may read it") from problem
    if not text.strip():
        raise error(f"{source}: the file is empty; a JSON object was expected; write it anew or take a copy")
    try:
        tree = json.loads(text, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as problem:
        raise error(
            f"{source}: damaged JSON in line {problem.lineno}, column {problem.colno}: {problem.msg}; "
            "mend that line, or take an undamaged copy of the file"
        ) from problem
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise error(f"{source}: {reason}; a JSON file written by this program was expected") from problem
    if not isinstance(tree, dict):
        raise error(f"{source}: the JSON holds {_shorten(tree)}; an object {{...}} with named values was expected")
    place = _first_not_finite(tree)
    if place is not None:
        raise error(f"{source}: {place} is not a finite number (NaN or infinity); write a number, or remove the key")
    return tree


def explain(problem: pydantic.ValidationError, noun: type[Noun]) -> str:
    """Put a validation error into words: each key, what was found, what was expected, and the nearest known key."""
    by_place: dict[tuple[Any, ...], list[str]] = {}
    located = [(*_locate(noun, item["loc"]), item) for item in problem.errors(include_url=False)]
    for place, owner, item in located:
        # a wrong item also makes pydantic call its list too short
        if item["type"] == "too_short" and any(other[: len(place)] == place and other != place for other, _, _ in located):
            continue
        # where a number or a map may stand, a damaged map is not also called "no number"
        if item["type"] == "float_type" and isinstance(item["input"], (dict, list)) and sum(other == place for other, _, _ in located) > 1:
            continue
        words = _explain_item(item, place, owner)
        told = by_place.setdefault(place, [])
        if words not in told:
            told.append(words)
    lines = [f"{_spell(place)}: {', or '.join(told)}" if place else ", or ".join(told) for place, told in by_place.items()]
    more = len(lines) - SHOWN_PROBLEMS
    return "; ".join(lines[:SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _explain_item(item: Any, place: tuple[Any, ...], owner: type[pydantic.BaseModel]) -> str:
    found = _shorten(item["input"])
    if item["type"] == "extra_forbidden":
        known = list(owner.model_fields)
        near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key (value {found}); {hint}"
    if item["type"] == "missing":
        return "missing; add this key"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    expected = item["msg"].removeprefix("Input should be ").partition(", unable to")[0]
    return f"found {found}, expected {expected}"


def _locate(noun: type[pydantic.BaseModel], location: tuple[Any, ...]) -> tuple[tuple[Any, ...], type[pydantic.BaseModel]]:
    """Follow pydantic's location through the nouns: the keys as they stand in the file, and the noun that the last one belongs to."""
    place: list[Any] = []
    owner: type[pydantic.BaseModel] = noun
    kind: Any = noun
    for index, part in enumerate(location):
        inner = _noun_in(kind)
        if inner is not None and isinstance(part, str):
            owner = inner
            place.append(part)
            kind = inner.model_fields[part].annotation if part in inner.model_fields else None
        elif isinstance(part, int) or (typing.get_origin(kind) is dict and part != "[key]" and index >= len(location) - 2):
            place.append(part)
        # what remains are pydantic's own names of the alternatives of a union; they do not stand in the file
    return tuple(place), owner


def _noun_in(kind: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return kind
    if isinstance(kind, types.GenericAlias) or typing.get_origin(kind) is not None:
        for argument in typing.get_args(kind):
            inner = _noun_in(argument)
            if inner is not None:
                return inner
    return None


def _spell(place: tuple[Any, ...]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shorten(value: Any) -> str:
    text = f"an object with the keys {', '.join(map(str, value))}" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 90 else text[:87] + "..."


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object; keep one of them")
    return tree


def _first_not_finite(tree: Any, place: str = "") -> str | None:
    if isinstance(tree, float):
        return None if math.isfinite(tree) else place
    parts: Any = ()
    if isinstance(tree, dict):
        parts = ((f"{place}.{key}" if place else key, value) for key, value in tree.items())
    elif isinstance(tree, list):
        parts = ((f"{place}[{index}]", value) for index, value in enumerate(tree))
    for inner_place, value in parts:
        found = _first_not_finite(value, inner_place)
        if found is not None:
            return found
    return None
