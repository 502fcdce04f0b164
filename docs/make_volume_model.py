"""Train the V-Net that ships with the package: python docs/make_volume_model.py [--frames 90000] [--seed 0] [--output DIR].

For the example instrument `light_field_3`, cut into views. Microtubules, clathrin pits, mitochondria, beads, mixtures of them and single
molecules, 7 to 140 photons per pixel and view on average, 2 to 30 photons of background. Everything is drawn from a seed; the accuracy on
the card is measured on frames that no training draws. More than an hour and a half of one core. A stopped run goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.models import checkpoint_path, forget_checkpoint, write_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.split_views import cut_instrument
from napari_volumetric_smlm.recipes.train import train

FOLDER = Path(__file__).resolve().parents[1] / "src" / "napari_volumetric_smlm" / "resources" / "models"
NAME = "light_field_3"
FRAMES = 90_000
# frames large enough that most of what overlaps is seen by all views
PLAN = TrainPlan(architecture="vnet", photons=(1000, 20_000), background_photons=(2, 30), density_per_um2=(0.02, 0.6), frame_px=96)


def main() -> int:
    """Train the model and put it into its folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    words = "python docs/make_volume_model.py"
    if (chosen.frames, chosen.seed) != (FRAMES, 0):
        words += f" --frames {chosen.frames} --seed {chosen.seed}"
    plan = PLAN.model_copy(update={"seed": chosen.seed, "device": chosen.device, "frame_count": chosen.frames})
    place = chosen.output / f"{NAME}.safetensors"
    told = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] > 20:
            told[0] = time.monotonic()
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in progress.numbers.items())
            print(f"{progress.stage} {progress.done}/{progress.total} {numbers} ({time.process_time():.0f} CPU-s)", flush=True)

    result = finish(train(cut_instrument(load_example(NAME)), plan, checkpoint_path(place), words), tell)
    write_model_weights(result.weights, result.card.model_dump(mode="json"), place)
    forget_checkpoint(place)
    print(f"{place.name}: {result.card.accuracy}, {time.process_time():.0f} CPU-s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
