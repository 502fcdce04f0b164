"""Train the network of `light_field_volume.py`: python benchmarks/train_volume_model.py [--frames 60000] [--seed 0] [--output DIR].

Microtubules, clathrin pits, mitochondria, beads and single molecules behind the shipped `light_field_3`, 7 to 140 photons per pixel and
view on average, 2 to 30 photons of background. The model and its card go into --output (`benchmarks/models`), with a checkpoint from which
the same command goes on; about 40 minutes of one core. --start goes on from such a model, with larger frames and a lower rate.
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

PLAN = TrainPlan(architecture="vnet", photons=(1000, 20_000), background_photons=(2, 30), density_per_um2=(0.02, 0.6))

REFINED = {"frame_px": 96, "learning_rate": 5e-4}


def main() -> int:
    """Train the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", choices=["quick", "standard", "full"], default="quick")
    parser.add_argument("--frames", type=int, default=60_000, help="frames to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="model to go on from, with larger frames and a lower rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "models")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    asked = {"preset": chosen.preset, "seed": chosen.seed, "device": chosen.device, "frame_count": chosen.frames}
    asked |= {"start_model": str(chosen.start), **REFINED} if chosen.start else {}
    plan = TrainPlan.model_validate(PLAN.model_copy(update=asked).model_dump())
    place = chosen.output / "light_field_volume.safetensors"
    chosen.output.mkdir(parents=True, exist_ok=True)
    told = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] > 20:
            told[0] = time.monotonic()
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in progress.numbers.items())
            print(f"{progress.stage} {progress.done}/{progress.total} {numbers} ({time.process_time():.0f} CPU-s)", flush=True)

    words = f"python benchmarks/train_volume_model.py --preset {chosen.preset} --frames {chosen.frames} --seed {chosen.seed}"
    words += f" --start {chosen.start.name}" if chosen.start else ""
    result = finish(train(cut_instrument(load_example("light_field_3")), plan, checkpoint_path(place), words), tell)
    write_model_weights(result.weights, result.card.model_dump(mode="json"), place)
    forget_checkpoint(place)
    print(f"{place.name}: {result.card.accuracy}, {result.seconds:.0f} s, {time.process_time():.0f} CPU-s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
