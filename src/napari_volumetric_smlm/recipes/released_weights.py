"""Checkpoints of the published V-Net and L-Net, as released, made models of ours. Only weights and plain numbers are read."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..domain.plans import TrainPlan
from ..domain.runs import ModelCard
from ..engine.networks.published_lnet import WIDTH, PublishedLNet
from ..engine.networks.released_lnet import released_lnet
from ..engine.networks.released_vnet import PIXEL_NM, PLANE_NM, ReleasedVNet, released_weights, size_of
from ..errors import ModelError
from .train_lnet import SIZES
from .trained import weights_of

# what their checkpoints hold beside numbers: the settings, as lists of numbers and words
PLAIN: list[Any] = [argparse.Namespace, range]
STATISTICS = ("mean_imgs", "std_images")
PLANES = 64  # of the published volumes


def read_released(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], ModelCard]:
    """Weights by our names, and their card.

    Raises
    ------
    ModelError
        If the file is damaged, holds objects other than numbers, or is the checkpoint of another network.
    """
    source = Path(path)
    content = _load(source)
    try:
        network, kind, architecture = _lnet(content) if "feats" in content else _vnet(content)
    except (ModelError, RuntimeError) as error:
        words = str(error).strip().splitlines()
        raise ModelError(f"{source}: {words[0]} {' '.join(words[1:3])}".rstrip()) from error
    # the planes of the published volumes lie around the middle one of the point-spread function
    planes = int(architecture.get("planes", PLANES))
    low = -(planes // 2) * PLANE_NM
    card = ModelCard(
        kind=kind,
        architecture=architecture,
        units={"low_nm": low, "high_nm": low + (planes - 1) * PLANE_NM, "pixel_nm": PIXEL_NM, "photons": 1.0},
        window_px=1,
        ground_px=0.0,
        instrument="the published light-field microscope",
        instrument_fingerprint="",
        plan=TrainPlan(architecture=kind, depth_planes=planes if kind == "vnet_paper" else None),
        command=f"vsmlm convert {source.name}",
        frames_seen=0,
        versions={"napari-volumetric-smlm": __version__},
    )
    return weights_of(network), card


def _vnet(content: dict[Any, Any]) -> tuple[nn.Module, Literal["vnet_paper"], dict[str, Any]]:
    state, statistics = content.get("model_state_dict"), content.get("statistics")
    if not isinstance(state, dict) or not isinstance(statistics, dict) or any(name not in statistics for name in STATISTICS):
        listed = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise ModelError(
            f"found {listed}; a checkpoint of the published V-Net with model_state_dict and statistics "
            f"({', '.join(STATISTICS)}), or of the L-Net with model and feats, was expected"
        )
    weights = released_weights({name: value for name, value in state.items() if isinstance(value, Tensor)})
    size = size_of(weights)
    mean, sd = (float(statistics[name]) for name in STATISTICS)
    if not (np.isfinite([mean, sd]).all() and sd > 0):
        raise ModelError(f"its statistics are {mean:g} and {sd:g}; a mean and a standard deviation above 0 were expected")
    network = ReleasedVNet(**size, counts=(mean, sd))
    network.load_state_dict(weights)
    return network, "vnet_paper", {**size, "counts": [mean, sd]}


def _lnet(content: dict[Any, Any]) -> tuple[nn.Module, Literal["lnet4", "lnet8"], dict[str, Any]]:
    feats, state = content["feats"], content.get("model")
    sizes = {(1, *(WIDTH * 2**k for k in range(levels))): kind for kind, (_, levels) in SIZES.items()}
    kind = sizes.get(tuple(feats)) if isinstance(feats, list) and all(isinstance(f, int) for f in feats) else None
    if kind is None or not isinstance(state, dict) or content.get("use_res") or content.get("use_cbam"):
        listed = " or ".join(str(list(size)) for size in sizes)
        raise ModelError(f"an L-Net with the channels {feats}; the published ones have {listed}, without residual or attention paths")
    scale, levels = SIZES[kind]
    network = PublishedLNet(scale, levels)
    network.load_state_dict(released_lnet({name: value for name, value in state.items() if isinstance(value, Tensor)}, levels))
    return network, "lnet4" if kind == "lnet4" else "lnet8", {"scale_zyx": list(scale), "levels": levels}


def _load(source: Path) -> dict[Any, Any]:
    if not source.is_file():
        raise ModelError(f"{source}: there is no such file; a checkpoint of the published V-Net or L-Net was expected")
    try:
        with torch.serialization.safe_globals(PLAIN):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # a checkpoint can name any program to be run on opening; PyTorch tells which one and runs none
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of the kind {named[1]}" if named else "more than weights and numbers, or is damaged"
        raise ModelError(f"{source}: holds {what}; it was not opened: ask for a checkpoint with weights and settings alone") from error
    except Exception as error:  # zip, struct and many others on damaged files
        raise ModelError(f"{source}: damaged or no PyTorch checkpoint ({type(error).__name__}: {error}); copy the file again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{source}: holds {type(content).__name__}; a checkpoint of the published V-Net or L-Net was expected")
    return content
