"""Structured illumination in three dimensions, blind: python benchmarks/structured_volume.py [--data DIR] [--pictures DIR].

Simulated stacks of 3 orientations x 5 phases x 15 planes (NA 1.3 in oil, 525 nm, pixels of 65 nm, steps of 125 nm), with noise:
beads: both orders found (wave vectors, modulation), widths of the beads along z and x against theory and against wide field.
haze: filaments and shells with as much sample above and below the planes again; correlation of volume and wide field with the true
sample (blurred to 100 nm laterally and 400 nm in depth), and light where no sample is, over the light where it is.
order: all six orders of the frames are told apart. time: seconds a stack, and a volume of a series.

DIR holds stacks of the same layout and cases.json: {"cases": [{"name", "stack" (path in DIR), "numerical_aperture", "emission_nm",
"pixel_nm", "z_step_nm", optional "immersion_index", "excitation_nm", "offset_counts", "planes", "order", "otf" (path)}]}; each is
estimated and reconstructed, with a section in --pictures, and must be found in all orientations.
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
from scipy.interpolate import CubicSpline

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Illumination, StructuredImages
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.structured_plans import ORDERS, EstimatePlan, Microscope, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.engine.structured.arrange import frame_numbers
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination, standing_waves, with_phases
from napari_volumetric_smlm.engine.structured.simulate import FINE, MARGIN_PX
from napari_volumetric_smlm.engine.structured.volume_otf import focus_series
from napari_volumetric_smlm.engine.structured.volume_simulate import volume_frames
from napari_volumetric_smlm.io.otf_files import load_otf
from napari_volumetric_smlm.io.results import write_png
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured import estimate_patterns, plain_instrument, reconstruct_structured
from napari_volumetric_smlm.recipes.structured_lens import Lens
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

Array = NDArray[Any]
NA, EMISSION_NM, PIXEL_NM, STEP_NM, PLANES = 1.3, 525.0, 65.0, 125.0, 15
INSTRUMENT = plain_instrument(NA, EMISSION_NM, PIXEL_NM)
KIND = {"geometry": "3d-3x5", "otf_damping": 1.0, "device": "cpu"}
SIDE, BEADS, REACH = 128, 80, (5, 10, 10)
FREQUENCY, MODULATION = 0.9, 0.6
LARGEST_ERROR_PX, LARGEST_MODULATION_ERROR, WIDEST, LEAST_CLEARING, LEAST_CORRELATION_GAIN = 0.25, 0.1, 1.15, 3.0, 0.1
TIMES, ENLARGED = 5, 3


def bead_stack(seed: int) -> tuple[RawStack, Illumination, list[list[int]]]:
    """Beads on pixels and planes, and where they are."""
    dice = torch.Generator().manual_seed(seed)
    lens = Lens.of(INSTRUMENT, 1.0, None, torch.device("cpu"))
    flat = nominal_illumination(GEOMETRIES["3d-3x5"], FREQUENCY * lens.optics.transfer.cutoff_per_um, 0.2, MODULATION)
    phases = (2 * math.pi * torch.rand(3, generator=dice)).tolist()
    pattern = standing_waves(with_phases(flat, phases, [[0.0] * 5] * 3), lens.excitation_per_um(None))
    ranges = ((REACH[0], PLANES - REACH[0]), *((REACH[1] + 2, SIDE - REACH[1] - 2),) * 2)
    places = torch.stack([torch.randint(*r, (BEADS,), generator=dice) for r in ranges], 1)
    sample = torch.zeros(PLANES, *(FINE * (SIDE + 2 * MARGIN_PX),) * 2)
    for z, y, x in places.tolist():
        sample[z, FINE * (MARGIN_PX + y) + FINE // 2, FINE * (MARGIN_PX + x) + FINE // 2] = 1.0
    series = focus_series(INSTRUMENT, lens.optics.transfer, STEP_NM * 1e-3, 2 * PLANES)
    frames = torch.poisson(1000 * volume_frames(sample, pattern, lens.optics, series, PLANES) + 5, generator=dice)
    numbers = frame_numbers(15 * PLANES, GEOMETRIES["3d-3x5"], PLANES, "apz")[0]
    counts = np.empty((15 * PLANES, SIDE, SIDE), np.uint16)
    counts[numbers.flatten()] = frames.flatten(0, 2).numpy().astype(np.uint16)
    # what the camera adds on average without light from the sample
    return RawStack(counts_tyx=(counts,), z_step_nm=STEP_NM), pattern, places.tolist()


def beads(seed: int) -> dict[str, Any]:
    """Both orders, and widths."""
    stack, truth, places = bead_stack(seed)
    result = finish(reconstruct_structured(stack, INSTRUMENT, StructuredPlan(order="apz", **KIND)))
    waves = []
    for true, got in zip(truth.orientations, result.illumination.orientations, strict=True):
        for wave, other in zip(true.waves, got.waves, strict=True):
            (y, x), (v, u) = wave.frequency_yx_per_um, other.frequency_yx_per_um
            waves.append({
                "order": wave.step, "error_px": min(math.hypot(v - s * y, u - s * x) for s in (1, -1)) * SIDE * PIXEL_NM * 1e-3,
                "modulation": other.modulation, "axial_per_um": other.axial_per_um, "true_axial_per_um": wave.axial_per_um,
            })  # fmt: skip
    lens = Lens.of(INSTRUMENT, 1.0, None, torch.device("cpu"))
    reach = lens.optics.transfer.cutoff_per_um * (1 + FREQUENCY)
    deep = lens.through_focus(STEP_NM, PLANES).axial_cutoff_per_um + max(w["true_axial_per_um"] for w in waves)
    exponent = StructuredPlan().apodization
    theory = [1000 * sphere_width(r, exponent) for r in (deep, reach, reach)]
    widths = {name: bead_widths(values, places) for name, values in (("volume", result.images_tyx), ("wide_field", result.wide_field_tyx))}
    verdict = result.illumination.verdict
    return {"waves": waves, "passed": verdict is not None and all(verdict.passed), "theory_zyx_nm": theory, **widths}


def sphere_width(reach: float, exponent: float) -> float:
    """Full width at half maximum of a point whose transfer function falls as an ideal lens's^exponent towards a sphere of a radius."""
    q, r = np.linspace(0, 1, 2001), np.linspace(0, 2, 4001)
    taper = ((2 / np.pi) * (np.arccos(q) - q * np.sqrt(1 - q * q))) ** exponent
    profile = (taper * q * q * np.sinc(2 * q * r[:, None])).sum(1)
    return 2 * float(r[np.argmax(profile < 0.5 * profile[0])]) / reach


def bead_widths(values_zyx: Array, places: list[list[int]]) -> list[float]:
    """Full widths of the median bead along z, y, x in nm."""
    cut = [tuple(slice(c * m - r, c * m + r + 1) for c, m, r in zip(at, (1, 2, 2), REACH, strict=True)) for at in places]
    mean = np.median([values_zyx[part] for part in cut], 0)
    mean = mean - np.quantile(mean, 0.2)
    profiles = (mean[:, REACH[1], REACH[2]], mean[REACH[0], :, REACH[2]], mean[REACH[0], REACH[1], :])
    return [full_width(profile, step) for profile, step in zip(profiles, (STEP_NM, PIXEL_NM / 2, PIXEL_NM / 2), strict=True)]


def full_width(profile: Array, step: float) -> float:
    """Full width at half maximum; where it does not fall so far, twice the distance to the end."""
    middle = len(profile) // 2
    curve, r = CubicSpline((np.arange(len(profile)) - middle) * step, profile), np.linspace(0, middle * step, 4000)
    below = [curve(sign * r) < 0.5 * curve(0) for sign in (1, -1)]
    return sum(float(r[np.argmax(b)]) if b.any() else float(r[-1]) for b in below)


def haze(structure: str, seed: int, pictures: Path | None) -> dict[str, Any]:
    """How well volume and wide field agree with the sample, and how much light lies where none is."""
    plan = StructuredSimulatePlan(
        geometry="3d-3x5",
        shape_yx_px=(SIDE, SIDE),
        planes=PLANES,
        structure=structure,
        photons=500,
        beyond_nm=1000,
        seed=seed,
        device="cpu",
    )
    made = finish(simulate_structured(INSTRUMENT, plan))
    result = finish(reconstruct_structured(made.stack, INSTRUMENT, StructuredPlan(order="apz", **KIND)))
    # samples of the volume at the camera's pixels, three samples of the truth for each
    truth = np.asarray(made.sample_zyx).reshape(PLANES, SIDE, 3, SIDE, 3).sum((2, 4))
    blurred = blur(truth, (400.0, 100.0, 100.0))
    dark, bright = blurred < 0.002 * blurred.max(), blurred > 0.2 * blurred.max()
    row: dict[str, Any] = {"structure": structure, "colour": result.illumination.verdict.colour if result.illumination.verdict else ""}
    for name, values in (("volume", result.images_tyx), ("wide_field", result.wide_field_tyx)):
        at = values[:, ::2, ::2]
        at = at - (5.0 if name == "wide_field" else 5.0 / PLANES)
        row[name] = {
            "correlation": float(np.corrcoef(at.ravel(), blurred.ravel())[0, 1]),
            "leak": float(np.abs(at[dark]).mean() / at[bright].mean()),
        }
    if pictures is not None:
        section(result, pictures / f"structured_volume_{structure}.png", (made.sample_zyx, int(blurred.sum((0, 2)).argmax())))
    return row


def blur(values: Array, width_zyx_nm: tuple[float, float, float]) -> Array:
    """Gaussian of a full width at half maximum; edges wrap around."""
    steps = (STEP_NM, PIXEL_NM, PIXEL_NM)
    parts = [
        np.exp(-0.5 * (2 * np.pi * np.fft.fftfreq(n, step) * width / 2.3548) ** 2)
        for n, step, width in zip(values.shape, steps, width_zyx_nm, strict=True)
    ]
    kernel = parts[0][:, None, None] * parts[1][:, None] * parts[2]
    return np.fft.ifftn(np.fft.fftn(values) * kernel).real


def section(result: StructuredImages, path: Path, truth: tuple[Array | None, int]) -> None:
    """Wide field above volume (above truth) in x and z, planes drawn as thick as they are apart."""
    sample, row = truth
    thick = round((result.plane_nm or STEP_NM) / result.pixel_nm)
    panels = [np.asarray(values)[: result.planes, 2 * row] for values in (result.wide_field_tyx, result.images_tyx)]
    if sample is not None:
        lines = np.asarray(sample)[:, 3 * row - 3 : 3 * row + 6].sum(1)
        panels.append(np.repeat(lines, 2, 1)[:, ::3])
    drawn = []
    for panel in panels:
        high = np.percentile(panel, 99.8)
        grey = (255 * np.clip(panel / max(float(high), 1e-9), 0, 1)).astype(np.uint8)
        drawn += [np.repeat(grey, thick, 0), np.full((6, grey.shape[1]), 128, np.uint8)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(np.kron(np.concatenate(drawn[:-1]), np.ones((ENLARGED, ENLARGED), np.uint8)), path)


def orders(seed: int) -> list[dict[str, Any]]:
    """One row an order."""
    rows = []
    for order in ORDERS:
        plan = StructuredSimulatePlan(
            geometry="3d-3x5", shape_yx_px=(96, 96), planes=PLANES, structure="shells", order=order, seed=seed, device="cpu"
        )
        found = finish(estimate_patterns(finish(simulate_structured(INSTRUMENT, plan)).stack, INSTRUMENT, EstimatePlan(**KIND)))
        ranked = sorted(found.order_scores.values(), reverse=True)
        outcome = "unsure" if not found.order_is_sure else "right" if found.order == order else "WRONG"
        rows.append({"true": order, "found": found.order, "outcome": outcome, "best": ranked[0], "second": ranked[1]})
    return rows


def timings(side: int, seed: int) -> dict[str, float]:
    """Medians in seconds, order stated."""
    plan = StructuredSimulatePlan(geometry="3d-3x5", shape_yx_px=(side, side), planes=PLANES, structure="shells", seed=seed, device="cpu")
    stack = finish(simulate_structured(INSTRUMENT, plan)).stack
    estimates, reconstructions, busy = [], [], []
    for _ in range(4):
        started = time.process_time()
        found = finish(estimate_patterns(stack, INSTRUMENT, EstimatePlan(order="apz", **KIND)))
        estimates.append(found.seconds)
        middle = time.process_time()
        chosen = StructuredPlan(order="apz", **KIND)
        reconstructions.append(finish(reconstruct_structured(stack, INSTRUMENT, chosen, found.illumination)).seconds)
        busy.append((middle - started, time.process_time() - middle))
    series = RawStack(counts_tyx=(np.tile(np.asarray(stack.counts_tyx[0]), (TIMES, 1, 1)),), z_step_nm=STEP_NM)
    started = time.perf_counter()
    finish(reconstruct_structured(series, INSTRUMENT, StructuredPlan(order="apz", planes=PLANES, averaged_times=1, **KIND)))
    together = (time.perf_counter() - started) / TIMES
    started = time.perf_counter()
    finish(reconstruct_structured(series, INSTRUMENT, StructuredPlan(order="apz", planes=PLANES, reuse=False, last_time=1, **KIND)))
    # the first run makes the plans of the transforms
    return {
        "side": side, "estimate_s": statistics.median(estimates[1:]), "reconstruct_s": statistics.median(reconstructions[1:]),
        "estimate_processor_s": statistics.median(e for e, _ in busy[1:]),
        "reconstruct_processor_s": statistics.median(r for _, r in busy[1:]),
        "series_s_a_volume": together, "each_s_a_volume": (time.perf_counter() - started) / 2,
    }  # fmt: skip


def own_cases(data: Path, pictures: Path | None) -> list[dict[str, Any]]:
    """Stacks of the user's own, one row each."""
    rows = []
    for case in json.loads((data / "cases.json").read_text(encoding="utf-8"))["cases"]:
        stack = open_stack(data / case["stack"], kind="structured")
        numbers = {
            name: case[name]
            for name in ("numerical_aperture", "emission_nm", "pixel_nm", "immersion_index", "offset_counts")
            if name in case
        }
        chosen = {name: case[name] for name in ("z_step_nm", "excitation_nm", "planes", "order") if name in case}
        otf = load_otf(data / case["otf"]) if "otf" in case else None
        plan = StructuredPlan(geometry="3d-3x5", device="cpu", **chosen)
        result = finish(reconstruct_structured(stack, Microscope(**numbers).instrument(stack), plan, None, otf))
        verdict = result.illumination.verdict
        rows.append({
            "name": case["name"], "passed": verdict is not None and all(verdict.passed), "seconds": result.seconds, "notes": result.notes,
            "waves": [(w.step, w.period_nm, w.modulation) for o in result.illumination.orientations for w in o.waves],
        })  # fmt: skip
        if pictures is not None:
            section(result, pictures / f"{Path(case['stack']).stem}_section.png", (None, result.images_tyx.shape[1] // 4))
    return rows


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    b = result["beads"]
    print("beads: order, error of the wave vector px, modulation (true 0.6), 1/um along z (true)")
    for wave in b["waves"]:
        print(
            f"  {wave['order']} {wave['error_px']:6.3f} {wave['modulation']:5.2f} "
            f"{wave['axial_per_um']:5.2f} ({wave['true_axial_per_um']:.2f})"
        )
    print("widths nm along z, y, x: theory, volume, wide field")
    for axis, theory, volume, wide in zip("zyx", b["theory_zyx_nm"], b["volume"], b["wide_field"], strict=True):
        print(f"  {axis} {theory:6.1f} {volume:6.1f} ({volume / theory:.2f}) {wide:6.1f}")
    print("haze: structure, correlation with the sample and light where there is none: volume, wide field")
    for row in result["haze"]:
        v, w = row["volume"], row["wide_field"]
        print(f"  {row['structure']:9} {v['correlation']:.3f} {v['leak']:.4f}   {w['correlation']:.3f} {w['leak']:.4f}  {row['colour']}")
    print("orders: true, found, evidence of the best and the second")
    for row in result["orders"]:
        print(f"  {row['true']} {row['found']} {row['outcome']:6} {row['best']:8.1f} {row['second']:8.1f}")
    for t in result["timings"]:
        print(f"time at {t['side']} x {t['side']} x {15 * PLANES}: estimate {t['estimate_s']:.2f} s, "
              f"reconstruct {t['reconstruct_s']:.2f} s (processor {t['estimate_processor_s']:.2f}, {t['reconstruct_processor_s']:.2f} s); "
              f"in a series {t['series_s_a_volume']:.2f} s a volume, one by one {t['each_s_a_volume']:.2f} s")  # fmt: skip
    for row in result["own"]:
        print(f"{row['name']}: {'found' if row['passed'] else 'NOT FOUND'}, {row['seconds']:.1f} s, waves {row['waves']}, {row['notes']}")


def verdict(result: dict[str, Any]) -> dict[str, bool]:
    """Which bars are met."""
    b = result["beads"]
    near = all(w["error_px"] < LARGEST_ERROR_PX and abs(w["modulation"] - MODULATION) < LARGEST_MODULATION_ERROR for w in b["waves"])
    return {
        "both orders found": b["passed"] and near,
        "bead widths": all(w < WIDEST * t for w, t in zip(b["volume"], b["theory_zyx_nm"], strict=True)),
        "out-of-focus light removed": all(
            row["wide_field"]["leak"] > LEAST_CLEARING * row["volume"]["leak"]
            and row["volume"]["correlation"] > row["wide_field"]["correlation"] + LEAST_CORRELATION_GAIN
            for row in result["haze"]
        ),
        "orders of frames": all(row["outcome"] != "WRONG" for row in result["orders"]),
        "own stacks": all(row["passed"] for row in result["own"]),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with stacks of your own and cases.json")
    parser.add_argument("--pictures", type=Path, default=Path("benchmark-output"), help="folder for sections (.png)")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/structured_volume.json"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sides", type=int, nargs="*", default=[128, 256], help="sides of the frames that are timed")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    result: dict[str, Any] = {
        "beads": beads(chosen.seed), "haze": [haze(name, chosen.seed, chosen.pictures) for name in ("filaments", "shells")],
        "orders": orders(chosen.seed), "timings": [timings(side, chosen.seed) for side in chosen.sides],
        "own": own_cases(chosen.data, chosen.pictures) if chosen.data is not None else [],
    }  # fmt: skip
    result["bars"] = verdict(result)
    show(result)
    print("bars: " + ", ".join(f"{bar} {'met' if met else 'MISSED'}" for bar, met in result["bars"].items()))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if all(result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
