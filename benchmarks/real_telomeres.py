"""Real telomeres through a learned mask: two frames reconstructed, and rendered again beside the camera's.

    python benchmarks/real_telomeres.py [--data DIR] [--models DIR] [--output DIR] [--json FILE]

DIR holds frame1.tif, frame2.tif and phase_mask.mat (../shared/data/engineered_psf/telomeres_learned_psf). "search" is localization
without training, "network" begins with what the model telomeres.safetensors of --models finds (made by `train_models.py telomeres`).
For each frame camera, model and residual side by side (-5 to 5 standard deviations) and the table go into --output. There is no
truth: the share of the residual's variance that is noise is told (1 = nothing but noise), and the picture is to be looked at.
Exit status 1 when the better path finds fewer than 60 molecules in the first frame, 2 when the data are not there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, View
from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.io.instruments import load_phase_mask
from napari_volumetric_smlm.io.results import write_png
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import explain_frame
from real_tetrapod import SHARED, side_by_side

TELOMERES = SHARED / "engineered_psf" / "telomeres_learned_psf"
# Telomeres are bright and not quite points: their blur is fitted, and what is left of them is too dim to be another.
PLAN = ReconstructPlan(fit_blur=True, min_photons=3000, detection_threshold=300)
LEAST_MOLECULES = 60
FRAMES = ("frame1", "frame2")


def telomere_instrument(folder: Path) -> Instrument:
    """The microscope of the frames."""
    return Instrument(
        name="telomeres, learned mask",
        objective=Objective(numerical_aperture=1.45, magnification=100, immersion_index=1.518),
        cameras=(Camera(pixel_um=11.0),),
        views=(View(mask=load_phase_mask(folder / "phase_mask.mat", 24.0, 150.0), blur_nm=110.0),),
        emission_nm=580,
        sample_index=1.33,
        focal_plane_nm=4500,
        depth_range_nm=(2000, 6000),
        apodization="none",
        pixel_model="point",
    )


def main() -> int:
    """Reconstruct both frames along both paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=TELOMERES)
    parser.add_argument("--models", type=Path, default=Path(__file__).resolve().parent / "models", help="folder of telomeres.safetensors")
    parser.add_argument("--paths", nargs="+", choices=("network", "search"), default=("network", "search"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmark-output/real_telomeres"), help="folder for tables and pictures")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/real_telomeres.json"))
    chosen = parser.parse_args()
    missing = [name for name in ("frame1.tif", "frame2.tif", "phase_mask.mat") if not (chosen.data / name).is_file()]
    if missing:
        print(f"{chosen.data}: there is no {', '.join(missing)}", file=sys.stderr)
        return 2
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    instrument, model = telomere_instrument(chosen.data), chosen.models / "telomeres.safetensors"
    plans = {"search": PLAN}
    if model.is_file():
        plans = {"network": PLAN.model_copy(update={"model": str(model)}), **plans}
    plans = {name: plan for name, plan in plans.items() if name in chosen.paths}
    if not plans:
        print(f"{model}: there is no such model; `train_models.py telomeres` makes it", file=sys.stderr)
        return 2
    print("frame   path     molecules  seconds  residual variance")
    record = []
    for name in FRAMES:
        stack = open_stack(chosen.data / f"{name}.tif", kind="frames")
        for path, plan in plans.items():
            started = time.perf_counter()
            explained = finish(explain_frame(stack, instrument, plan, 0))
            entry = {
                "frame": name, "path": path, "molecules": len(explained.localizations), "seconds": time.perf_counter() - started,
                "residual_variance": float(np.mean(np.square(explained.residual_vyx))),
            }  # fmt: skip
            record.append(entry)
            print(f"{name:7} {path:8} {entry['molecules']:9d} {entry['seconds']:8.1f} {entry['residual_variance']:18.2f}", flush=True)
            write_png(side_by_side(explained), chosen.output / f"{name}_{path}.png")
            write_table(explained.localizations, chosen.output / f"{name}_{path}.csv")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"threads": chosen.threads, "frames": record}, indent=1))
    most = max(entry["molecules"] for entry in record if entry["frame"] == FRAMES[0])
    print(f"{'met   ' if most >= LEAST_MOLECULES else 'MISSED'} {most} molecules in the first frame, at least {LEAST_MOLECULES}")
    return 0 if most >= LEAST_MOLECULES else 1


if __name__ == "__main__":
    sys.exit(main())
