"""Train the models that ship with the package: python docs/make_models.py NAME [--threads 2] [--output FOLDER].

NAME is `start`, or an example instrument that has a model: tetrapod, astigmatic, double_helix. `start` learns from all of their
microscopes and from two with random aberrations in turn, so that a training for another microscope can begin with it; the others begin
with it themselves. Everything is drawn from seeds; the accuracy on a card is measured on frames that no training draws.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.domain.runs import ModelCard, Progress
from napari_volumetric_smlm.engine.training.average import Batch
from napari_volumetric_smlm.engine.training.loop import Trainer
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.models import checkpoint_path, forget_checkpoint, write_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.train import begin, train
from napari_volumetric_smlm.recipes.train_lean import LeanFamily
from napari_volumetric_smlm.recipes.trained import weights_of

FOLDER = Path(__file__).resolve().parents[1] / "src" / "napari_volumetric_smlm" / "resources" / "models"
START = "start"
FRAMES = {START: 24_000, "tetrapod": 8_000, "astigmatic": 5_000, "double_helix": 5_000}
LIGHT = {"photons": (1_500, 20_000), "background_photons": (5, 80), "background_structure": "perlin"}
# what a microscope of the kind is used for: the smaller the image of a molecule, the more of them fit into a frame
PLANS: dict[str, TrainPlan] = {
    "tetrapod": TrainPlan.model_validate({**LIGHT, "density_per_um2": (0.01, 0.4), "least_photons": 1_000}),
    "astigmatic": TrainPlan.model_validate({**LIGHT, "density_per_um2": (0.02, 1.0), "frame_px": 64}),
    "double_helix": TrainPlan.model_validate({**LIGHT, "density_per_um2": (0.02, 0.7), "frame_px": 64}),
}


def aberrated(seed: int) -> Instrument:
    """A microscope with random aberrations of a few radians, such as an engineered pupil has."""
    example = load_example("astigmatic")
    coefficients = np.random.default_rng(seed).normal(0, 0.6, 18)
    view = View(name="random", zernike_noll_rad={5 + k: float(c) for k, c in enumerate(coefficients)})
    return example.model_copy(update={"views": (view,), "name": f"random aberrations {seed}", "depth_range_nm": (0, 2000)})


def main() -> int:
    """Train one model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", choices=[START, *PLANS])
    parser.add_argument("--frames", type=int, help=f"simulated frames; left out = {FRAMES}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    words = f"python docs/make_models.py {chosen.name}" + (f" --frames {chosen.frames}" if chosen.frames else "")
    if chosen.name == START:
        card, weights = start_model(chosen.frames or FRAMES[START], words)
    else:
        card, weights = model_of(chosen.name, chosen.frames or FRAMES[chosen.name], words, chosen.output)
    write_model_weights(weights, card.model_dump(mode="json"), chosen.output / f"{chosen.name}.safetensors")
    print(f"{chosen.name}: {card.accuracy}, {time.process_time():.0f} CPU-s")
    return 0


def start_model(frames: int, command: str) -> tuple[ModelCard, Mapping[str, np.ndarray]]:
    """Train on the frames of several microscopes in turn."""
    worlds = [(load_example(name), plan) for name, plan in PLANS.items()]
    worlds += [(aberrated(seed), PLANS["double_helix"]) for seed in (1, 2)]
    families = [LeanFamily(instrument, plan) for instrument, plan in worlds]
    _, card, first = begin(*worlds[0], command)

    def loss(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        # held-out frames come from all of them as well
        turn, number = batch.number % len(families), batch.number // len(families)
        return families[turn].loss(network, replace(batch, number=number))

    trainer = Trainer(first.network, loss, max(1, round(frames / families[0].batch)), worlds[0][1].learning_rate, families[0].batch)
    told = time.monotonic()
    for step in trainer.run():
        if time.monotonic() - told > 20:
            told = time.monotonic()
            print(f"step {step.number} of {trainer.steps}: {sum(step.losses.values()):.2f}, held out {step.held_out}", flush=True)
    kept = trainer.averages.best if trainer.averages.best_step else trainer.averages.mean
    seen = {"frames_seen": trainer.done * families[0].batch, "kept_step": trainer.averages.best_step or trainer.done}
    names = f"start model: {', '.join(instrument.name for instrument, _ in worlds)}"
    accuracy = {"held_out_loss": trainer.averages.least}
    return card.model_copy(update={**seen, "instrument": names, "accuracy": accuracy, "tested_frames": 32}), weights_of(kept)


def model_of(name: str, frames: int, command: str, folder: Path) -> tuple[ModelCard, Mapping[str, np.ndarray]]:
    """Train for one example instrument, from the start model."""
    place = folder / f"{name}.safetensors"
    plan = PLANS[name].model_copy(update={"frame_count": frames, "start_model": str(folder / f"{START}.safetensors")})
    told = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] > 20:
            told[0] = time.monotonic()
            print(f"{progress.stage} {progress.done}/{progress.total}, loss {progress.numbers.get('loss', 0):.2f}", flush=True)

    result = finish(train(load_example(name), plan, checkpoint_path(place), command), tell)
    forget_checkpoint(place)
    return result.card, result.weights


if __name__ == "__main__":
    sys.exit(main())
