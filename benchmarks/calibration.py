"""Calibration from real bead stacks: python benchmarks/calibration.py [--beads FILE ... --z-step-nm 100 --instrument I.json].

Per stack: seconds of the whole calibration (both fits, both directions of z, Cramér-Rao curve; median over `--repeats`), and the Pearson
correlation over all raw pixels of the crop on slices that the fit did not see: every third one, and a block of five in the middle. Beside
them the mean of the two neighbouring slices (which sees what the fit does not) and, unless `--without-published`, the published
retrieval on the same held-out slices.

The model's image counts as it would have been recorded: its expectation after clipping, where the stack was clipped. No parameter is
fitted to an unseen slice: photons, background and shift come from its neighbours.

Exits 1 when a bar is missed: mean at least 0.975, no slice under 0.88, median under 30 s. The two measured PSFs are shown without bar.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bead_files import BeadFile, add_bead_arguments, bead_files
from napari_volumetric_smlm.domain.plans import CalibrationPlan
from napari_volumetric_smlm.domain.runs import Calibration
from napari_volumetric_smlm.engine.retrieve.score import correlations
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.calibrate import calibrate
from published_retrieval import PublishedModel, retrieve

LEAST_MEAN, LEAST_SLICE, MOST_SECONDS = 0.975, 0.88, 30.0
MASK_PIXEL_UM, FOURIER_LENS_MM = 24.0, 150.0  # of the relay behind the public stacks; only the published grid depends on them


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_bead_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3, help="runs whose median time counts")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--without-published", action="store_true", help="leave out the published retrieval")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/calibration.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = bead_files(args, with_measured_psfs=True)
    rows = [measure(file, args) for file in files]
    print_table(rows)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"threads": args.threads, "load": os.getloadavg(), "rows": rows}, indent=1))
    missed = [words for row in rows for words in row["missed"]]
    print("\n".join(missed) or ("every bar is met" if rows else "no stack was there: nothing measured"))
    return 1 if missed else 0


def measure(file: BeadFile, args: argparse.Namespace) -> dict:
    """Run all fits of one stack."""
    slices = file.stack.frame_count
    block = tuple(range(slices // 2 - 2, slices // 2 + 3))
    seconds, processor = [], []
    for _ in range(args.repeats):
        cpu = time.process_time()
        third = run(file, CalibrationPlan(z_step_nm=file.z_step_nm))
        seconds.append(third.seconds)
        processor.append(time.process_time() - cpu)
    blocked = run(file, CalibrationPlan(z_step_nm=file.z_step_nm, held_out_slices=block, try_both_signs=False))
    row = {
        "name": file.name,
        "seconds": statistics.median(seconds),
        "processor_seconds": statistics.median(processor),
        "third": scores_of(third),
        "block": scores_of(blocked),
        "opposite": third.opposite_correlation_held_out,
        "blur_nm": third.instrument.views[0].blur_nm,
        "verdict": third.verdict,
        "per_slice": np.round(third.correlation_z, 4).tolist(),
    }
    row["missed"] = missed_bars(row) if file.barred else []
    if file.barred and not args.without_published:
        row["published"] = published(file, third)
    print(f"{file.name}: {third.verdict}")
    return row


def run(file: BeadFile, plan: CalibrationPlan) -> Calibration:
    """Calibrate once."""
    return finish(calibrate([file.stack], file.instrument, plan))


def scores_of(calibration: Calibration) -> dict[str, float]:
    """Mean and lowest correlation on unseen slices, ours and of the neighbours' mean."""
    held = calibration.held_out_z
    ours, near = calibration.correlation_z[held], calibration.neighbour_correlation_z[held]
    return {"mean": float(ours.mean()), "least": float(ours.min()), "neighbours": float(near.mean()), "neighbours_least": float(near.min())}


def published(file: BeadFile, ours: Calibration) -> dict[str, float]:
    """The published retrieval without every third slice; it starts from the same focal plane as ours ends with."""
    started = time.perf_counter()
    counts = file.counts
    model = PublishedModel(file.instrument, MASK_PIXEL_UM, FOURIER_LENS_MM, counts.shape[-1])
    images = retrieve(counts, ours.focus_z_nm, ~ours.held_out_z, model)
    scores = correlations(counts, images)[ours.held_out_z]
    return {"mean": float(scores.mean()), "least": float(scores.min()), "seconds": time.perf_counter() - started}


def missed_bars(row: dict) -> list[str]:
    """Say in words what a stack misses."""
    words = []
    for kind in ("third", "block"):
        if row[kind]["mean"] < LEAST_MEAN:
            words.append(f"{row['name']}: mean on unseen slices ({kind}) {row[kind]['mean']:.4f} is below {LEAST_MEAN}")
        if row[kind]["least"] < LEAST_SLICE:
            words.append(f"{row['name']}: lowest unseen slice ({kind}) {row[kind]['least']:.4f} is below {LEAST_SLICE}")
    if row["seconds"] >= MOST_SECONDS:
        words.append(f"{row['name']}: {row['seconds']:.1f} s is not under {MOST_SECONDS:.0f} s (computer's load {os.getloadavg()[0]:.1f})")
    return words


def print_table(rows: list[dict]) -> None:
    """Print one line a stack."""
    print(
        f"{'stack':>11} {'s':>6} {'cpu s':>6} | every third: mean least neighbours | "
        "block of five: mean least neighbours | published: mean least s"
    )
    for row in rows:
        third, block, other = row["third"], row["block"], row.get("published")
        line = f"{row['name']:>11} {row['seconds']:6.1f} {row['processor_seconds']:6.1f} | "
        line += f"{third['mean']:.4f} {third['least']:.4f} {third['neighbours']:.4f} | "
        line += f"{block['mean']:.4f} {block['least']:.4f} {block['neighbours']:.4f} | "
        print(line + ("-" if other is None else f"{other['mean']:.4f} {other['least']:.4f} {other['seconds']:.0f}"))


if __name__ == "__main__":
    sys.exit(main())
