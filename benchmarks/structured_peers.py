"""Structured illumination beside other programs: python benchmarks/structured_peers.py [--data DIR] [--threads N].

The programs are napari-sim-processor and pyfairsim, each as a separate process in an environment of its own, which is made in
--environments where it is not there (or say which Python to use: --napari-sim-processor, --pyfairsim).

B3: seconds for 512 x 512 x 9, estimation and reconstruction, ours and napari-sim-processor's in turns on the same stack, medians. It is
timed with every acceleration that is asked for, and as its widget starts or without measuring phases, which is faster.
B4, lines: simulated line pairs (B-SIM) with the patterns that come with them. NRMSE against the truth after the best gain, offset and shift
across the lines, over the range of the truth: whole field but for a border, and its middle, since pyfairsim fades the edges. Resolved: two
maxima within a sample (30 nm) of the lines and between them at most 0.735 of the lower one (Rayleigh).
B4, vendor: correlation with the vendor's reconstruction of the DL-SIM stack at high dose, patterns found by each program.
Every program is taken with its defaults and with the settings listed here. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from napari_volumetric_smlm.domain.illumination import Illumination
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.structured_plans import EstimatePlan, Microscope, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured import estimate_patterns, reconstruct_structured
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured
from peers.structured_programs import Answer, FairSim, Processor, Raw, environment, processor
from structured import DATA, LONGEST_ESTIMATE_S, LONGEST_RECONSTRUCT_S, SIDE, cases_of, load, registered_correlation
from structured_peers_lines import BORDER, MIDDLE, RAYLEIGH, SAMPLE_NM, best_nrmse, dips, supplied

Array = NDArray[Any]
Program = Callable[..., Answer]
LINES = "bsim/example_1_simulated_line_pairs"
LEAST_CORRELATION = 0.85
DEFAULTS: dict[str, Any] = {}
SETTINGS_LINES: dict[str, list[dict[str, Any]]] = {
    "ours": [DEFAULTS, {"apodization": 0.5}, {"apodization": 0.3}, {"apodization": 0.0}, {"wiener": 0.05}],
    "napari-sim-processor": [
        DEFAULTS,
        {"refined": False, "usePhases": False},
        {"usePhases": False},
        {"a_type": "exp", "w": 0.02},
        {"a_type": "sph", "w": 0.02},
        {"a_type": "exp", "w": 0.02, "refined": False, "usePhases": False},
        {"a_type": "sph", "w": 0.02, "refined": False, "usePhases": False},
    ],
    "pyfairsim": [
        DEFAULTS,
        {"wiener_filter_parameter": 0.01},
        {"apodization_bend": 0.3},
        {"apodization_bend": 0.3, "wiener_filter_parameter": 0.01},
        {"apodization_bend": 0.0},
        {"otf_before_shift": False},
    ],
}
# the finest wave lies at 0.82 of the cut-off, the coarse one at 0.41: search radii are chosen by hand
SETTINGS_VENDOR: dict[str, list[dict[str, Any]]] = {
    "ours": [DEFAULTS, {"wiener": 0.1}, {"attenuation_per_um": 3.0}],
    "napari-sim-processor": [
        DEFAULTS,
        {"mode": "SIM3D"},
        {"mode": "SIM3D", "usePhases": False},
        {"mode": "SIM3D", "usePhases": False, "w": 0.4},
        {"mode": "SIM3D", "usePhases": False, "a_type": "exp"},
        {"eta": 0.3, "usePhases": False},
        {"eta": 0.3, "usePhases": False, "w": 0.1},
        {"eta": 0.3, "usePhases": False, "a_type": "exp"},
    ],
    "pyfairsim": [
        DEFAULTS,
        {"fit_exclude": 0.3},
        {"fit_exclude": 0.3, "wiener_filter_parameter": 0.1},
        {"fit_exclude": 0.3, "wiener_filter_parameter": 0.2},
        {"fit_exclude": 0.3, "attenuation_fwhm": 2.0},
        {"fit_band": 2, "fit_exclude": 0.7},
    ],
}


def ours(raw: Raw, known: Illumination | None = None, **settings: Any) -> Answer:
    """Our own functions, called as the others are."""
    geometry = "2d-3x5" if raw.frames_apyx.shape[1] == 5 else "2d-3x3"
    stack, lens = RawStack(counts_tyx=(raw.flat_tyx,)), raw.lens.instrument()
    estimate_s = 0.0
    if known is None:
        found = finish(estimate_patterns(stack, lens, EstimatePlan(geometry=geometry, order="apz", device="cpu")))
        known, estimate_s = found.illumination, found.seconds
    plan = StructuredPlan(geometry=geometry, order="apz", device="cpu", **settings)
    result = finish(reconstruct_structured(stack, lens, plan, known))
    return Answer(np.asarray(result.images_tyx[0], float), estimate_s, result.seconds)


def times(programs: dict[str, Callable[[], Answer]], repeats: int) -> list[dict[str, Any]]:
    """B3: in turns; the first turn makes the plans of the transforms."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, run in programs.items():
            answer = run()
            if turn:
                seconds[name].append((answer.estimate_s, answer.reconstruct_s))
    return [
        {
            "program": name, "estimate_s": statistics.median(e for e, _ in found), "reconstruct_s": statistics.median(r for _, r in found),
            "together_s": statistics.median(e + r for e, r in found), "shortest_s": min(e + r for e, r in found),
        }
        for name, found in seconds.items()
    ]  # fmt: skip


def lines(data: Path, programs: dict[str, Program], pictures: Path | None) -> list[dict[str, Any]]:
    """B4 with supplied patterns: one row a program and setting."""
    truth = tifffile.imread(data / LINES / "ground_truth.tif").astype(float)
    lens = Microscope(numerical_aperture=1.49, emission_nm=500, pixel_nm=2 * SAMPLE_NM)
    frames = tifffile.imread(data / LINES / "raw_images.tif").astype(np.float32) - 100
    raw = Raw(frames.reshape(3, 3, *frames.shape[1:]), lens)
    known = supplied(tifffile.imread(data / LINES / "patterns.tif").astype(float), SAMPLE_NM * 1e-3)
    rows = []
    for name, run in programs.items():
        for settings in SETTINGS_LINES[name]:
            image = run(raw, known, **settings).image_yx
            keep(pictures, f"lines_{name}_{len(rows)}", image)
            (whole, _), (middle, move) = best_nrmse(image, truth, BORDER), best_nrmse(image, truth, MIDDLE)
            found = dips(image, truth, move)
            spacing = min((nm for nm, dip in found.items() if dip <= RAYLEIGH), default=math.inf)
            rows.append({
                "program": name, "settings": settings, "nrmse": whole, "nrmse_middle": middle, "resolved_nm": spacing,
                "dips": found, "lowest": float(image.min() / image.max()),
            })  # fmt: skip
            show("lines", rows[-1])
    return rows


def vendor(data: Path, programs: dict[str, Program], pictures: Path | None) -> list[dict[str, Any]]:
    """B4 against the vendor's reconstruction: one row a program and setting."""
    case = next(case for case in cases_of(data) if case.get("least_correlation"))
    frames, _ = load(case, data)
    lens = Microscope(**{name: case[name] for name in ("numerical_aperture", "emission_nm", "pixel_nm")})
    raw = Raw(frames.reshape(3, -1, *frames.shape[1:]), lens)
    reference = tifffile.imread(data / case["vendor"]).astype(float)
    rows = []
    for name, run in programs.items():
        for settings in SETTINGS_VENDOR[name]:
            image = run(raw, None, **settings).image_yx
            keep(pictures, f"vendor_{name}_{len(rows)}", image)
            rows.append({"program": name, "settings": settings, "correlation": registered_correlation(image, reference)})
            show("vendor", rows[-1])
    return rows


def keep(folder: Path | None, name: str, image: Array) -> None:
    """Write a picture to look at."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{name}.tif", image.astype(np.float32))


def verdict(result: dict[str, Any]) -> dict[str, bool]:
    """Which bars are met."""
    bars = {}
    if rows := result.get("times"):
        mine, others = rows[0], rows[1:]
        bars["B3 estimate"] = mine["estimate_s"] < LONGEST_ESTIMATE_S
        bars["B3 reconstruct"] = mine["reconstruct_s"] < LONGEST_RECONSTRUCT_S
        bars["B3 faster"] = mine["together_s"] < min(row["together_s"] for row in others)
    figures = (("lines", "resolved_nm", 1), ("lines", "nrmse", 1), ("lines", "nrmse_middle", 1), ("vendor", "correlation", -1))
    for part, figure, sign in figures:
        rows = result.get(part, [])
        for which in ("defaults", "best settings") if rows else ():
            chosen = [row for row in rows if which != "defaults" or not row["settings"]]
            mine, others = ([sign * row[figure] for row in chosen if (row["program"] == "ours") == own] for own in (True, False))
            bars[f"B4 {part}, {figure}, {which}"] = min(mine) <= min(others)
            if part == "vendor":
                bars[f"B4 {part}, {figure} of {LEAST_CORRELATION}, {which}"] = -min(mine) >= LEAST_CORRELATION
    return bars


def show(part: str, row: dict[str, Any]) -> None:
    """Print one row."""
    if part == "times":
        print(f"B3  {row['program']:48} estimate {row['estimate_s']:6.3f} s, reconstruct {row['reconstruct_s']:6.3f} s, together "
              f"{row['together_s']:6.3f} s (shortest {row['shortest_s']:.3f})", flush=True)  # fmt: skip
    elif part == "lines":
        seen = ", ".join(f"{nm:.0f} nm {dip:5.2f}" for nm, dip in row["dips"].items())
        print(f"B4  {row['program']:21} NRMSE {row['nrmse']:.4f}, middle {row['nrmse_middle']:.4f}, resolved {row['resolved_nm']:4.0f} nm "
              f"({seen}), lowest {row['lowest']:5.2f}  {row['settings'] or 'defaults'}", flush=True)  # fmt: skip
    else:
        words = row["settings"] or "defaults"
        print(f"B4  {row['program']:21} correlation with the vendor's {row['correlation']:.3f}  {words}", flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the layout of ../shared/data/structured")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/structured_peers.json"))
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "structured-peers")
    parser.add_argument("--napari-sim-processor", type=Path, help="Python of an environment that has it")
    parser.add_argument("--pyfairsim", type=Path, help="Python of an environment that has it")
    parser.add_argument("--accelerations", nargs="+", default=["numpy"], choices=("numpy", "pyfftw", "torch"))
    parser.add_argument("--parts", nargs="+", default=["times", "lines", "vendor"], choices=("times", "lines", "vendor"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pictures", type=Path, help="folder for the images")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    result: dict[str, Any] = {}
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        python = chosen.napari_sim_processor or environment("napari-sim-processor", chosen.environments)
        started: dict[str, Processor] = {}
        for name in dict.fromkeys((*(chosen.accelerations if "times" in chosen.parts else ()), "numpy")):
            (folder / name).mkdir()
            started[name] = ending.enter_context(processor(python, folder / name, name, chosen.threads))
        if "times" in chosen.parts:
            lens = Microscope(numerical_aperture=1.3, emission_nm=525, pixel_nm=65)
            plan = StructuredSimulatePlan(shape_yx_px=(SIDE, SIDE), seed=1, device="cpu")
            simulated = finish(simulate_structured(lens.instrument(), plan))
            raw = Raw(np.asarray(simulated.stack.counts_tyx[0], np.float32).reshape(3, 3, SIDE, SIDE), lens)
            runs: dict[str, Callable[[], Answer]] = {"ours": lambda: ours(raw)}
            for name in chosen.accelerations:
                for words, phases in (("its widget's defaults", True), ("phases not measured", False)):
                    runs[f"napari-sim-processor, {name}, {words}"] = lambda n=name, p=phases: started[n](raw, usePhases=p)  # type: ignore[misc]
            result["times"] = times(runs, chosen.repeats)
            for row in result["times"]:
                show("times", row)
        if {"lines", "vendor"} & set(chosen.parts):
            fairsim = FairSim(chosen.pyfairsim or environment("pyfairsim", chosen.environments), folder)
            programs: dict[str, Program] = {"ours": ours, "napari-sim-processor": started["numpy"], "pyfairsim": fairsim}
            for part, measure in (("lines", lines), ("vendor", vendor)):
                if part in chosen.parts:
                    result[part] = measure(chosen.data, programs, chosen.pictures)
    result["bars"] = verdict(result)
    for bar, met in result["bars"].items():
        print(f"{bar}: {'met' if met else 'MISSED'}")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if all(result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
