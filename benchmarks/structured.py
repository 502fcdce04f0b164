"""Structured illumination, blind: python benchmarks/structured.py [--data DIR].

B1: wave vectors against reference ones, in samples of frequency (1 / field); no preset, only numerical aperture, wavelength and pixel.
B2: order of the frames, with the real stacks in every order, and simulated planes in every order with z. Unsure is allowed, wrong is not.
B3: seconds for 512 x 512 x 9 (medians), and a series against its frames one by one.
Also the correlation with the vendor's reconstruction, where there is one (affine in brightness, registered to sub-pixels).

DIR holds raw stacks and one JSON file, cases.json: {"cases": [{"name", "stack" (path in DIR), "numerical_aperture", "emission_nm",
"pixel_nm", "geometry", optional "offset_counts", "frames" (only so many), "interpolated" (frames were enlarged so many times),
"otf" (path), "reference" (for each orientation, for each wave: {"k_xy_per_um": [x, y], "tolerance_px"}), "vendor" (path),
"least_correlation", "must_not_pass"}]}. Without that file the cases of structured_cases.json are looked for in DIR.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import shift
from scipy.optimize import minimize

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, StructuredEstimate
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.structured_plans import ORDERS, EstimatePlan, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.engine.structured.arrange import frame_numbers, possible_orders
from napari_volumetric_smlm.engine.structured.estimate import Optics
from napari_volumetric_smlm.engine.structured.otf import transfer_of
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination
from napari_volumetric_smlm.engine.structured.simulate import frames_of, sample_image
from napari_volumetric_smlm.io.otf_files import load_otf
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured import estimate_patterns, plain_instrument, reconstruct_structured
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

DATA = Path(__file__).resolve().parents[1] / "../shared/data/structured"
Array = NDArray[Any]
SIDE, REPEATS, SERIES = 512, 7, 100
LONGEST_ESTIMATE_S, LONGEST_RECONSTRUCT_S, LEAST_GAIN = 1.0, 0.3, 3.0
PLANES = 3
BORDER_PX = 12


def cases_of(data: Path) -> list[dict[str, Any]]:
    """The cases whose stacks are there."""
    own = data / "cases.json"
    source = own if own.is_file() else Path(__file__).with_name("structured_cases.json")
    return [case for case in json.loads(source.read_text(encoding="utf-8"))["cases"] if (data / case["stack"]).is_file()]


def load(case: dict[str, Any], data: Path) -> tuple[Array, Instrument]:
    """Frames without the camera's offset, and the lens."""
    frames = np.asarray(open_stack(data / case["stack"], kind="structured").counts_tyx[0][: case.get("frames")], np.float32)
    frames = frames - case.get("offset_counts", 0.0)
    zoom = case.get("interpolated", 1)
    if zoom > 1:
        height, width = (n // zoom for n in frames.shape[-2:])
        top, left = ((n - m) // 2 for n, m in zip(frames.shape[-2:], (height, width), strict=True))
        spectrum = np.fft.fftshift(np.fft.fft2(frames), axes=(-2, -1))[:, top : top + height, left : left + width]
        frames = (np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real / zoom**2).astype(np.float32)
    return frames, plain_instrument(case["numerical_aperture"], case["emission_nm"], case["pixel_nm"])


def find(frames: Array, lens: Instrument, case: dict[str, Any], data: Path, **plan: Any) -> StructuredEstimate:
    """Estimate as a user would."""
    otf = load_otf(data / case["otf"]) if "otf" in case else None
    chosen = EstimatePlan(geometry=case["geometry"], device="cpu", **plan)
    return finish(estimate_patterns(RawStack(counts_tyx=(frames,)), lens, chosen, otf))


def wave_vectors(cases: list[dict[str, Any]], data: Path) -> list[dict[str, Any]]:
    """B1: one row a wave."""
    rows = []
    for case in cases:
        frames, lens = load(case, data)
        found = find(frames, lens, case, data).illumination
        verdict = found.verdict
        for a, orientation in enumerate(found.orientations):
            for w, wave in enumerate(orientation.waves):
                seen = wave.evidence
                step = 1 / (min(frames.shape[-2:]) * case["pixel_nm"] * 1e-3)
                row: dict[str, Any] = {
                    "case": case["name"], "orientation": a, "wave": wave.step, "verdict": verdict.colour,
                    "k_xy_per_um": wave.frequency_yx_per_um[::-1], "period_nm": wave.period_nm, "modulation": wave.modulation,
                    "z_score": seen.z_score, "sigma_px": seen.sigma_frequency_per_um / step,
                }  # fmt: skip
                reference = case.get("reference", [])
                if a < len(reference) and w < len(reference[a]):
                    x, y = reference[a][w]["k_xy_per_um"]
                    ky, kx = wave.frequency_yx_per_um
                    row["error_px"] = min(math.hypot(kx - s * x, ky - s * y) for s in (1, -1)) / step
                    row["tolerance_px"] = reference[a][w]["tolerance_px"]
                    row["passed"] = row["error_px"] <= row["tolerance_px"] and verdict.passed[a]
                elif case.get("must_not_pass"):
                    row["passed"] = not all(verdict.passed)
                rows.append(row)
    return rows


def orders(cases: list[dict[str, Any]], data: Path) -> list[dict[str, Any]]:
    """B2: one row a stack and order."""
    rows = []
    for case in cases:
        if case.get("must_not_pass"):
            continue
        frames, lens = load(case, data)
        geometry = GEOMETRIES[case["geometry"]]
        for true in possible_orders(geometry, 1):
            numbers = frame_numbers(len(frames), geometry, 1, true)
            file = np.empty_like(frames)
            file[numbers.flatten()] = frames
            rows.append(judged_order(case["name"], true, find(file, lens, case, data)))
    lens = plain_instrument(1.3, 525, 65)
    for name in ("2d-3x3", "2d-3x5"):
        for photons in (30.0, 300.0):
            planes = simulated_planes(name, photons, lens)
            for order in ORDERS:
                numbers = frame_numbers(planes.size // planes[0, 0, 0].size, GEOMETRIES[name], PLANES, order)[0]
                file = np.empty((numbers.size, *planes.shape[-2:]), planes.dtype)
                file[numbers.flatten()] = planes.reshape(-1, *planes.shape[-2:])
                found = find(file, lens, {"geometry": name}, data, planes=PLANES)
                rows.append(judged_order(f"simulated {name}, {PLANES} planes, {photons:g} photons", order, found))
    return rows


def simulated_planes(geometry: str, photons: float, lens: Instrument) -> Array:
    """Frames (a, p, z, y, x) of planes under one pattern, each with the haze of its neighbours, with noise."""
    known, pixel_um = GEOMETRIES[geometry], lens.pixel_nm() * 1e-3
    optics = Optics(transfer_of(lens), pixel_um)
    generator = torch.Generator().manual_seed(1)
    pattern = nominal_illumination(known, 0.85 * optics.transfer.cutoff_per_um, 0.3, 0.6)
    clean = [frames_of(sample_image(400.0, "filaments", ((160, 160), pixel_um), generator), pattern, optics) for _ in range(PLANES + 2)]
    haze = [frames.mean((0, 1)) for frames in clean]
    planes = torch.stack([clean[z] + 0.7 * (haze[z - 1] + haze[z + 1]) for z in range(1, PLANES + 1)], 2)
    return torch.poisson(photons * planes + 5, generator=generator).numpy()


def judged_order(name: str, true: str, found: StructuredEstimate) -> dict[str, Any]:
    """One row of the table of orders."""
    outcome = "unsure" if not found.order_is_sure else "right" if found.order == true else "WRONG"
    ranked = sorted(found.order_scores.values(), reverse=True)
    return {"case": name, "true": true, "found": found.order, "outcome": outcome, "best": ranked[0], "second": ranked[1]}


def timings(seed: int) -> dict[str, float]:
    """B3: medians in seconds."""
    lens = plain_instrument(1.3, 525, 65)
    simulated = finish(simulate_structured(lens, StructuredSimulatePlan(shape_yx_px=(SIDE, SIDE), seed=seed, device="cpu")))
    stack = simulated.stack
    estimates, reconstructions = [], []
    for _ in range(REPEATS + 1):
        found = finish(estimate_patterns(stack, lens, EstimatePlan(order="apz", device="cpu")))
        estimates.append(found.seconds)
        plan = StructuredPlan(order="apz", device="cpu")
        reconstructions.append(finish(reconstruct_structured(stack, lens, plan, found.illumination)).seconds)
    series = RawStack(counts_tyx=(np.tile(np.asarray(stack.counts_tyx[0])[:, :256, :256], (SERIES, 1, 1)),))
    started = time.perf_counter()
    finish(reconstruct_structured(series, lens, StructuredPlan(order="apz", device="cpu")))
    together = (time.perf_counter() - started) / SERIES
    started = time.perf_counter()
    finish(reconstruct_structured(series, lens, StructuredPlan(order="apz", device="cpu", reuse=False, last_time=SERIES // 5 - 1)))
    apart = (time.perf_counter() - started) / (SERIES // 5)
    # the first run makes the plans of the transforms
    return {
        "estimate_s": statistics.median(estimates[1:]), "reconstruct_s": statistics.median(reconstructions[1:]),
        "series_s_a_frame": together, "each_s_a_frame": apart, "gain": apart / together,
    }  # fmt: skip


def against_vendor(cases: list[dict[str, Any]], data: Path) -> list[dict[str, Any]]:
    """Correlation with the vendor's reconstruction, one row a case."""
    rows = []
    for case in cases:
        if "vendor" not in case:
            continue
        frames, lens = load(case, data)
        reference = np.asarray(open_stack(data / case["vendor"]).counts_tyx[0][0], float)
        plan = StructuredPlan(geometry=case["geometry"], device="cpu")
        result = finish(reconstruct_structured(RawStack(counts_tyx=(frames,)), lens, plan))
        row = {"case": case["name"], "least": case.get("least_correlation")}
        for name, image in (("reconstruction", result.images_tyx[0]), ("wide_field", result.wide_field_tyx[0])):
            row[name] = registered_correlation(image.astype(float), reference)
        rows.append(row)
    return rows


def registered_correlation(image: Array, reference: Array) -> float:
    """Largest Pearson correlation over shifts, without the border."""
    inside = (slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))

    def loss(move: Array) -> float:
        moved = shift(image, move, order=3, mode="nearest")[inside]
        return -float(np.corrcoef(moved.ravel(), reference[inside].ravel())[0, 1])

    starts = [np.array([y, x]) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)]
    best = min(starts, key=loss)
    simplex = best + np.array([[0, 0], [0.4, 0], [0, 0.4]])
    return -float(minimize(loss, best, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 1e-4, "initial_simplex": simplex}).fun)


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print("B1  case, orientation, wave: period nm, modulation, z-score, standard error px, error px (tolerance)")
    for row in result["wave_vectors"]:
        error = f"{row['error_px']:6.3f} ({row['tolerance_px']})" if "error_px" in row else "   no reference"
        mark = {True: "met", False: "MISSED", None: ""}[row.get("passed")]
        print(f"{row['case']:42} {row['orientation']} {row['wave']} {row['period_nm']:7.1f} {row['modulation']:5.2f} {row['z_score']:6.1f} "
              f"{row['sigma_px']:6.3f} {error:16} {row['verdict']:5} {mark}")  # fmt: skip
    print("B2  case: true order, found, evidence of the best and the second")
    for row in result["orders"]:
        print(f"{row['case']:46} {row['true']} {row['found']} {row['outcome']:6} {row['best']:8.1f} {row['second']:8.1f}")
    t = result["timings"]
    print(f"B3  {SIDE} x {SIDE} x 9: estimate {t['estimate_s']:.2f} s, reconstruct {t['reconstruct_s']:.2f} s")
    print(f"    a series of {SERIES} at 256 x 256: {t['series_s_a_frame'] * 1000:.0f} ms a frame, "
          f"one by one {t['each_s_a_frame'] * 1000:.0f} ms, {t['gain']:.1f} times")  # fmt: skip
    print("Correlation with the vendor's reconstruction")
    for row in result["vendor"]:
        bar = f", bar {row['least']}" if row["least"] else ""
        print(f"{row['case']:30} {row['reconstruction']:.3f}, wide field {row['wide_field']:.3f}{bar}")


def verdict(result: dict[str, Any]) -> dict[str, bool]:
    """Which bars are met."""
    t = result["timings"]
    return {
        "B1 wave vectors": all(row.get("passed", True) for row in result["wave_vectors"]),
        "B2 orders": all(row["outcome"] != "WRONG" for row in result["orders"]),
        "B3 estimate": t["estimate_s"] < LONGEST_ESTIMATE_S,
        "B3 reconstruct": t["reconstruct_s"] < LONGEST_RECONSTRUCT_S,
        "B3 series": t["gain"] >= LEAST_GAIN,
        "vendor": all(row["reconstruction"] >= (row["least"] or 0) for row in result["vendor"]),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with raw stacks and, for your own, cases.json")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/structured.json"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cases = cases_of(chosen.data)
    if not cases:
        print(f"no stacks in {chosen.data}")
        return 2
    result: dict[str, Any] = {
        "wave_vectors": wave_vectors(cases, chosen.data), "orders": orders(cases, chosen.data), "timings": timings(chosen.seed),
        "vendor": against_vendor(cases, chosen.data),
    }  # fmt: skip
    result["bars"] = verdict(result)
    show(result)
    print("bars: " + ", ".join(f"{bar} {'met' if met else 'MISSED'}" for bar, met in result["bars"].items()))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if all(result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
