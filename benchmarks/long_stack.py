"""A long movie: python benchmarks/long_stack.py [--frames 2000] [--lit 40] [--json FILE].

Writes a BigTIFF of 40,000 frames of 512 x 512 pixels (21 GB in name, a few dozen MB on a disk that keeps sparse files) whose frames are
zeros, but for some that hold about 100 simulated molecules of an astigmatic microscope, spread evenly over the frames that are read.
In a process of its own the file is opened, one frame is previewed (read, and explained with its molecules) and the first frames are
reconstructed, while the memory of the process is watched.

Bars: opened in under 2 s; the process stays under 4 GB; the last three quarters of the frames add less than 200 MB to the first quarter
(nothing leaks); every lit frame gives molecules and no other. Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import read_table, write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.evaluate import evaluate
from napari_volumetric_smlm.recipes.reconstruct import explain_frame, reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate

SHAPE = (40_000, 512, 512)
INSTRUMENT = "astigmatic"
MOLECULES_A_FRAME = 100
LONGEST_OPEN_S, LARGEST_GB, LARGEST_GROWTH_MB = 2.0, 4.0, 200.0


def write_movie(path: Path, frames: int, lit: int) -> list[int]:
    """Write the movie and its truth; returns the frames that hold molecules."""
    instrument = load_example(INSTRUMENT)
    field_um2 = (SHAPE[1] * instrument.pixel_nm() / 1000) ** 2
    plan = SimulatePlan(
        frame_count=lit,
        shape_yx_px=SHAPE[1:],
        density_per_um2=MOLECULES_A_FRAME / field_um2,
        photons=(1500, 6000),
        mean_on_frames=0,
        seed=1,
    )
    simulation = finish(simulate(instrument, plan))
    places = [round(k * frames / lit) for k in range(lit)]
    tifffile.imwrite(path, shape=SHAPE, dtype="uint16", bigtiff=True, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offsets = [tiff.pages[place].dataoffsets[0] for place in places]
    with path.open("r+b") as stream:
        for offset, counts in zip(offsets, simulation.stack.counts_tyx[0], strict=True):
            stream.seek(offset)
            stream.write(counts.astype("<u2").tobytes())
    truth = simulation.truth
    columns = {**truth.columns, "frame": np.array(places)[truth["frame"]]}
    write_table(truth.model_copy(update={"columns": columns}), path.with_suffix(".csv"))
    return places


def resident_mb() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def read_movie(path: Path, frames: int, threads: int) -> dict[str, Any]:
    """Open, preview and reconstruct; what the process of its own does."""
    import resource

    torch.set_num_threads(threads)
    instrument, plan = load_example(INSTRUMENT), ReconstructPlan(last_frame=frames - 1)
    started = time.perf_counter()
    stack = open_stack(path)
    opened = time.perf_counter() - started
    started = time.perf_counter()
    brightest = int(np.asarray(stack.counts_tyx[0][0]).max())
    shown = time.perf_counter() - started
    started = time.perf_counter()
    previewed = len(finish(explain_frame(stack, instrument, plan, 0)).localizations)
    explained = time.perf_counter() - started
    held: dict[int, float] = {}
    started, used, last, longest = time.perf_counter(), time.process_time(), time.perf_counter(), 0.0
    steps = reconstruct(stack, instrument, plan)
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result = end.value
            break
        now = time.perf_counter()
        if progress.stage == "localize":
            longest = max(longest, now - last)
        last = now
        if progress.preview is not None:
            held[progress.done] = resident_mb()
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    quarter = max(mb for done, mb in held.items() if done <= frames / 4)
    table = result.localizations
    scores = evaluate(read_table(path.with_suffix(".csv")), table, EvaluatePlan())
    return {
        "frames": frames,
        "open_s": opened,
        "read_a_frame_s": shown,
        "brightest_counts": brightest,
        "preview_s": explained,
        "preview_molecules": previewed,
        "reconstruct_s": seconds,
        "reconstruct_cpu_s": cpu,
        "molecules": len(table),
        "molecules_per_cpu_s": len(table) / cpu,
        "lit_frames": sorted({int(t) for t in table["frame"]}),
        "jaccard": scores.jaccard,
        "longest_step_s": longest,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "after_a_quarter_mb": quarter,
        "growth_mb": max(mb for done, mb in held.items() if done > frames / 4) - quarter,
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=2000, help="frames to reconstruct, of 40,000")
    parser.add_argument("--lit", type=int, default=40, help="frames among them that hold molecules")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/long_stack.json"))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.read is not None:
        print(json.dumps(read_movie(chosen.read, chosen.frames, chosen.threads)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.tif"
        lit = write_movie(path, chosen.frames, chosen.lit)
        size_gb, disk_gb = path.stat().st_size / 1e9, path.stat().st_blocks * 512 / 1e9
        command = [sys.executable, __file__, "--read", str(path), "--frames", str(chosen.frames), "--threads", str(chosen.threads)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    passed = {
        "opened in 2 s": found["open_s"] < LONGEST_OPEN_S,
        "under 4 GB": found["peak_gb"] < LARGEST_GB,
        "no growth": found["growth_mb"] < LARGEST_GROWTH_MB,
        "molecules where they are": found["lit_frames"] == lit and found["brightest_counts"] > 0,
    }
    print(f"movie                {SHAPE[0]:,} x {SHAPE[1]} x {SHAPE[2]}, {size_gb:.1f} GB in name, {disk_gb:.2f} GB on disk")
    print(f"opened               {found['open_s']:.2f} s; a frame read in {1000 * found['read_a_frame_s']:.0f} ms")
    print(f"previewed            {found['preview_s']:.1f} s, {found['preview_molecules']} molecules")
    print(
        f"reconstructed        {found['frames']:,} frames in {found['reconstruct_s']:.0f} s ({found['reconstruct_cpu_s']:.0f} CPU seconds)"
    )
    print(f"molecules            {found['molecules']:,} ({found['molecules_per_cpu_s']:.0f} a CPU second), Jaccard {found['jaccard']:.3f}")
    print(f"longest step         {found['longest_step_s']:.2f} s")
    print(f"memory               peak {found['peak_gb']:.2f} GB; {found['growth_mb']:+.0f} MB after the first quarter")
    for name, fine in passed.items():
        print(f"{name:20s} {'passed' if fine else 'MISSED'}")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({**found, "threads": chosen.threads, "torch": torch.__version__, "passed": passed}, indent=1))
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
