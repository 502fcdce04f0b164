"""Weights of trained models: safetensors with a JSON card beside them. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from ..domain.instrument import Instrument
from ..domain.runs import ModelCard
from ..errors import ModelError, OutputError
from .atomic import PART, replacing
from .content import recognise_content
from .json_files import explain, read_json

CARD_VERSION = "vsmlm-model-1"
PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".npy", ".npz"}
LARGEST_CARD_MIB = 64
CHECKPOINT = ".checkpoint"


def card_path(path: str | os.PathLike[str]) -> Path:
    """Where the card of a weights file stands: the same name ending in .json."""
    return Path(path).with_suffix(".json")


def read_model_weights(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read weights and card of a trained model.

    Returns
    -------
    dict of arrays
        Weights by name.
    dict
        The card: architecture, plan, instrument, accuracy, versions, as they were written; `weights_sha256` is that of the file read.

    Raises
    ------
    ModelError
        If the file is a pickle in any guise (PyTorch checkpoints are), damaged, holds weights that are not finite, or its card
        is missing, damaged or belongs to other weights.
    """
    source = Path(path)
    _refuse_unsafe(source)
    card = read_json(_card_of(source), ModelError, LARGEST_CARD_MIB)
    if card.get("schema_version") != CARD_VERSION:
        raise ModelError(
            f"{card_path(source)}: schema_version is {card.get('schema_version')!r}, expected {CARD_VERSION!r}; "
            "the card was written by another version; export the model again"
        )
    found = weights_hash(source)
    if found not in (card.get("weights_sha256"), card.get("weights_before_sha256")):
        raise ModelError(
            f"{source}: these are not the weights that the card {card_path(source).name} describes (SHA-256 {found[:12]}..., "
            f"the card says {str(card.get('weights_sha256'))[:12]}...); copy weights and card together again"
        )
    try:
        arrays = dict(safetensors.numpy.load_file(source))
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise ModelError(f"{source}: damaged safetensors file ({error}); copy it again") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"{source}: weights {name} hold values that are not finite; the training diverged; train again or take an earlier model"
            )
    return arrays, {**card, "weights_sha256": found}


def write_model_weights(arrays: Mapping[str, NDArray[Any]], card: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write weights and card; both take their places together, or neither does.

    A kill may come between the two: then the new card lies beside the weights before, whose hash a card may therefore name as
    `weights_before_sha256`, if it describes both.

    Raises
    ------
    ModelError
        If the name does not end in .safetensors, or the card holds what JSON cannot.
    OutputError
        If the files cannot be written; older ones are then untouched.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise ModelError(f"{target}: models are written as .safetensors with a .json card; found the ending {target.suffix or 'none'}")
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(target) as weights:
        # not save_file: it tells of a full disk by an error of its own
        weights.write_bytes(safetensors.numpy.save(plain))
        full_card = {**card, "schema_version": CARD_VERSION, "weights_sha256": weights_hash(weights)}
        try:
            text = json.dumps(full_card, indent=1, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ModelError(f"the model card cannot be written as JSON ({error}); use finite numbers, text, lists and dicts") from error
        with replacing(card_path(target)) as note:
            note.write_text(text + "\n", encoding="utf-8")
    return target


def checkpoint_path(model: str | os.PathLike[str]) -> Path:
    """Where the state of a training stands that will become a model: beside it."""
    place = Path(model)
    return place.with_name(f"{place.stem}{CHECKPOINT}{place.suffix}")


def forget_checkpoint(model: str | os.PathLike[str]) -> None:
    """Delete the state of the training that was to become a model, and what a kill left of it half-written.

    Raises
    ------
    OutputError
        If it cannot be deleted.
    """
    place = checkpoint_path(model)
    try:
        for part in (place, card_path(place), *place.parent.glob(f".{glob.escape(place.stem)}.*{PART}.*")):
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot delete {place}: {error.strerror}; delete it by hand, or give another name") from error


def read_model_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read what a model is without reading its weights.

    Raises
    ------
    ModelError
        If the weights or their card are missing, or the card is damaged or describes no model that reconstructs.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelError(f"{source}: there is no such file; a model (.safetensors with its .json card) was expected")
    return model_card(read_json(_card_of(source), ModelError, LARGEST_CARD_MIB), source)


def model_card(written: Mapping[str, Any], path: str | os.PathLike[str]) -> ModelCard:
    """Understand a card as it was written beside the weights at `path`.

    Raises
    ------
    ModelError
        If it lacks something or holds what no card holds.
    """
    try:
        return ModelCard.model_validate({name: value for name, value in written.items() if name in ModelCard.model_fields})
    except pydantic.ValidationError as error:
        raise ModelError(f"{card_path(path)}: {explain(error, ModelCard)}; train again or take another model") from error


def list_models(folder: str | os.PathLike[str]) -> dict[Path, ModelCard]:
    """Return the models of a folder with their cards, the newest first; checkpoints and what is damaged are left out."""
    found: dict[Path, ModelCard] = {}
    for place in sorted(Path(folder).glob("*.safetensors"), key=_age, reverse=True):
        if place.stem.endswith(CHECKPOINT) or place.name.startswith("."):
            continue
        with contextlib.suppress(ModelError):
            found[place] = read_model_card(place)
    return found


def check_fit(card: ModelCard, instrument: Instrument, path: str | os.PathLike[str]) -> None:
    """Refuse a model that measures in other units than the instrument.

    Raises
    ------
    ModelError
        With both values.
    """
    low, high = instrument.depth_range_nm
    for name, value in {"pixel_nm": instrument.pixel_nm(), "low_nm": low, "high_nm": high}.items():
        if name not in card.units:
            raise ModelError(f"{card_path(path)}: its units lack {name}; train again or take another model")
        if not np.isclose(card.units[name], value, rtol=0.002, atol=0.5):
            raise ModelError(
                f"{path} was trained for {card.instrument!r} with {name} {card.units[name]:g}, the instrument {instrument.name!r} has "
                f"{value:g}: train a model for this instrument, or leave the model out"
            )
    if card.views not in (None, len(instrument.views)):
        raise ModelError(
            f"{path} was trained for {card.views} views, the instrument {instrument.name!r} has {len(instrument.views)}: "
            "train a model for this instrument"
        )


def _age(place: Path) -> float:
    # a file may go while the folder is read
    return place.stat().st_mtime if place.is_file() else 0.0


def _refuse_unsafe(source: Path) -> None:
    if not source.is_file():
        raise ModelError(f"{source}: there is no such file; a model (.safetensors with its .json card) was expected")
    # the header comes first: it begins with its length, and a length of 640 looks like the beginning of a pickle
    genuine = _has_safetensors_header(source)
    if genuine and source.suffix.lower() not in PICKLE_SUFFIXES:
        return
    content = recognise_content(source)
    if content in {"a Python pickle", "a ZIP archive"} or source.suffix.lower() in PICKLE_SUFFIXES:
        guise = " (as PyTorch checkpoints are)" if content == "a ZIP archive" else ""
        what = f"{content}{guise}" if content else f"a file with the ending {source.suffix}"
        raise ModelError(
            f"{source}: this is {what}; such files can run any code on your computer when they are opened, so it was not opened; "
            "ask for the model as .safetensors with its .json card"
        )
    raise ModelError(f"{source}: this is {content or 'damaged or of another kind'}, not a safetensors file; choose or copy the model again")


def _has_safetensors_header(source: Path) -> bool:
    size = source.stat().st_size
    with source.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _card_of(source: Path) -> Path:
    card = card_path(source)
    if not card.is_file():
        raise ModelError(
            f"{source}: its card {card.name} is not beside it; without it nobody knows what the weights are for; copy both files"
        )
    return card


def weights_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a weights file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
