"""Does a network find more when it sees the frames before and after? python benchmarks/context.py [--data FOLDER] [--json FILE].

Two lean networks for the astigmatic example microscope learn from as many blinking frames, alike in all but `context_frames`: one sees
single frames, one their neighbours too. Both then read a movie of the simulator that no training drew, in which molecules stay on for
three frames on average and begin and end within frames: their finds alone (--no-refine), and what the fit makes of these.

Jaccard index with a 3D gate of 150 nm; molecules that shine in a frame by less than a quarter of the lowest brightness are neutral.
Differences with a 95 % bootstrap interval over blocks of ten frames, drawn for both networks alike. Models that lie in the folder
already are not trained again. Exits 1 when the network that sees neighbours is behind in what it finds alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, SimulatePlan, TrainPlan
from napari_volumetric_smlm.domain.runs import Simulation
from napari_volumetric_smlm.engine.assemble.score import score
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.models import read_model_card, write_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.train import train

INSTRUMENT = "astigmatic"
PHOTONS, BACKGROUND, ON_FRAMES = (1000.0, 6000.0), (10.0, 30.0), 3.0
DENSITIES = (0.05, 0.6)
NETWORKS = {"single frames": 0, "with neighbours": 1}
MOVIE_FRAMES, MOVIE_PX, BLOCK, SEED = 100, 64, 10, 4711
DRAWS = 2000


def main() -> int:
    """Train what is missing, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("benchmark-output/context"), help="Folder of the two models.")
    parser.add_argument("--frames", type=int, default=6000, help="Simulated frames that each network learns from.")
    parser.add_argument("--densities", type=float, nargs="+", default=[0.2, 0.5], help="Molecules that are on, per square micrometre.")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/context.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = {name: model(args.data, context, args.frames) for name, context in NETWORKS.items()}
    rows = [row for density in args.densities for row in measure(density, models)]
    print(f"{'density':>8} {'finds':>8}  {'single frames':>28}  {'with neighbours':>28}  difference of the Jaccard index")
    for row in rows:
        told = [f"{row[n]['jaccard']:.3f}, {row[n]['lateral_nm']:.1f} / {row[n]['axial_nm']:.1f} nm" for n in NETWORKS]
        low, high = row["difference_95"]
        way = "fitted" if row["refine"] else "alone"
        print(f"{row['density']:8g} {way:>8}  {told[0]:>28}  {told[1]:>28}  {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(rows, indent=1))
    behind = [row["density"] for row in rows if not row["refine"] and row["difference"] < 0]
    print(f"neighbours do not help at {behind}" if behind else "with neighbours the network alone finds at least as many")
    return 1 if behind else 0


def model(folder: Path, context: int, frames: int) -> Path:
    """Train a network, unless it is there."""
    place = folder / f"{INSTRUMENT}-{context}.safetensors"
    plan = TrainPlan(
        frame_count=frames, frame_px=64, density_per_um2=DENSITIES, photons=PHOTONS, background_photons=BACKGROUND,
        context_frames=context, mean_on_frames=ON_FRAMES, device="cpu",
    )  # fmt: skip
    if not place.is_file():
        started = time.process_time()
        result = finish(train(load_example(INSTRUMENT), plan))
        place.parent.mkdir(parents=True, exist_ok=True)
        write_model_weights(result.weights, result.card.model_dump(mode="json"), place)
        print(f"{place}: {frames} frames in {(time.process_time() - started) / 60:.1f} CPU-minutes", flush=True)
    if read_model_card(place).plan != plan:
        raise SystemExit(f"{place} was trained with another plan: give another --data, or delete it")
    return place


def measure(density: float, models: dict[str, Path]) -> list[dict[str, Any]]:
    """Both networks on one movie, with and without the fit."""
    instrument = load_example(INSTRUMENT)
    plan = SimulatePlan(
        frame_count=MOVIE_FRAMES, shape_yx_px=(MOVIE_PX, MOVIE_PX), density_per_um2=density, border_px=4, photons=PHOTONS,
        mean_on_frames=ON_FRAMES, background_photons=BACKGROUND, background_structure="perlin", seed=SEED, device="cpu",
    )  # fmt: skip
    movie = finish(simulate(instrument, plan))
    rows = []
    for refine in (False, True):
        row: dict[str, Any] = {"density": density, "refine": refine}
        counts = {}
        for name, place in models.items():
            started = time.process_time()
            run = ReconstructPlan(model=str(place), refine=refine, device="cpu", processes=1)
            found = finish(reconstruct(movie.stack, instrument, run)).localizations
            seconds = (time.process_time() - started) / MOVIE_FRAMES
            row[name] = figures(movie, found) | {"cpu_s_a_frame": round(seconds, 3)}
            counts[name] = np.array([list(counted(movie, found, first)) for first in range(0, MOVIE_FRAMES, BLOCK)])
        single, neighbours = (counts[name] for name in NETWORKS)
        row["difference"] = float(jaccard(neighbours.sum(0)) - jaccard(single.sum(0)))
        drawn = np.random.default_rng(0).integers(len(single), size=(DRAWS, len(single)))
        spread = jaccard(neighbours[drawn].sum(1)) - jaccard(single[drawn].sum(1))
        row["difference_95"] = [float(value) for value in np.quantile(spread, (0.025, 0.975))]
        rows.append(row)
    return rows


def rules(movie: Simulation) -> EvaluatePlan:
    """Who must be found: in photons that the camera detects."""
    plan = TrainPlan(photons=PHOTONS, mean_on_frames=ON_FRAMES)
    return EvaluatePlan(dim_below_photons=plan.least_wanted_photons * movie.instrument.cameras[0].quantum_efficiency)


def figures(movie: Simulation, found: Localizations) -> dict[str, Any]:
    """Scores on the whole movie."""
    result = score(movie.truth, found, rules(movie))
    return {
        "jaccard": result.jaccard, "precision": result.precision, "recall": result.recall,
        "lateral_nm": result.rmse_lateral_nm or 0.0, "axial_nm": result.rmse_axial_nm or 0.0,
    }  # fmt: skip


def counted(movie: Simulation, found: Localizations, first: int) -> tuple[int, int, int]:
    """Right, false and missed molecules of a block of frames."""
    block = [table.select((table["frame"] >= first) & (table["frame"] < first + BLOCK)) for table in (movie.truth, found)]
    result = score(block[0], block[1], rules(movie))
    return result.true_positives, result.false_positives, result.false_negatives


def jaccard(counts: np.ndarray) -> np.ndarray:
    """Of counts (..., 3)."""
    return counts[..., 0] / np.maximum(counts.sum(-1), 1)


if __name__ == "__main__":
    sys.exit(main())
