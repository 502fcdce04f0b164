"""Train the networks of `deepstorm3d.py` and `real_telomeres.py`: python benchmarks/train_models.py SETTING [--preset quick] [--seed 0].

SETTING is high_snr or storm: the frames are simulated with the optics, photons, background and blur of DeepSTORM3D's two test sets (see
`instruments_of_peers`); or telomeres: those of the real frames. None of the test frames is seen. The mask is read from --data at run time.
The model and its card go into --output (`benchmarks/models`), with a checkpoint from which the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from deepstorm3d import PEERS
from instruments_of_peers import SETTINGS
from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.io.models import checkpoint_path, forget_checkpoint, write_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.train import train
from real_telomeres import TELOMERES, telomere_instrument

PIXEL_NM = 110.0
PLANS = {
    # 0.75 to 1.25 pixels of blur: the instrument's own is taken down to 0.75, what is drawn beside it adds up to 1 pixel
    "high_snr": TrainPlan(photons=(10_000, 60_000), background_photons=(25, 125), background_structure="gaussian",
                          blur_nm=(0.0, PIXEL_NM), density_per_um2=(0.01, 0.6)),
    "storm": TrainPlan(photons=(6_000, 12_000), photon_distribution="gamma", background_photons=(0, 5), background_structure="flat",
                       least_photons=4_000, density_per_um2=(0.01, 0.6)),
    "telomeres": TrainPlan(photons=(3_000, 60_000), background_photons=(300, 1_500), background_structure="gaussian",
                           blur_nm=(0.0, PIXEL_NM), density_per_um2=(0.01, 0.5)),
}  # fmt: skip
NARROWEST_BLUR = {"high_snr": 0.75, "storm": 1.0, "telomeres": 0.75}


def main() -> int:
    """Train one model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("setting", choices=list(PLANS))
    parser.add_argument("--data", type=Path, help="folder with the phase masks; left out = where they lie in the shared data")
    parser.add_argument("--preset", choices=["quick", "standard", "full"], default="quick")
    parser.add_argument("--frames", type=int, help="simulated frames; left out = what the preset says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="model to start from (.safetensors), of the same preset")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "models")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    instrument = (
        telomere_instrument(chosen.data or TELOMERES)
        if chosen.setting == "telomeres"
        else SETTINGS[chosen.setting].instrument(chosen.data or PEERS, as_drawn=True)
    )
    view = instrument.views[0]
    instrument = instrument.model_copy(
        update={"views": (view.model_copy(update={"blur_nm": view.blur_nm * NARROWEST_BLUR[chosen.setting]}),)}
    )
    asked = {"preset": chosen.preset, "seed": chosen.seed, "frame_count": chosen.frames, "device": chosen.device}
    asked |= {"start_model": str(chosen.start)} if chosen.start else {}
    plan = TrainPlan.model_validate(PLANS[chosen.setting].model_copy(update=asked).model_dump())
    place = chosen.output / f"{chosen.setting}.safetensors"
    chosen.output.mkdir(parents=True, exist_ok=True)
    told = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] > 20:
            told[0] = time.monotonic()
            numbers = ", ".join(f"{name} {value:.2f}" for name, value in progress.numbers.items())
            print(f"{progress.stage} {progress.done}/{progress.total} {numbers} ({time.process_time():.0f} CPU-s)", flush=True)

    words = f"python benchmarks/train_models.py {chosen.setting} --preset {chosen.preset} --seed {chosen.seed}"
    words += f" --frames {chosen.frames}" if chosen.frames else ""
    words += f" --start {chosen.start.name}" if chosen.start else ""
    result = finish(train(instrument, plan, checkpoint_path(place), words), tell)
    write_model_weights(result.weights, result.card.model_dump(mode="json"), place)
    forget_checkpoint(place)
    print(f"{place.name}: {result.card.accuracy}, {result.seconds:.0f} s, {time.process_time():.0f} CPU-s on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
