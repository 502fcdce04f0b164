"""Isolated molecules against the Cramér-Rao bound: python benchmarks/isolated.py [--molecules 2000] [--settings high_snr storm astigmatic].

One molecule a frame, drawn by the pupil model itself in double precision (`camera_images`, not the spline table that the fit uses, so
that errors of the table count), with Poisson and read noise, rounded to whole counts and clipped at zero. Found by the whole pipeline
(`reconstruct`) with the setting's plan. Each error is divided by the bound of that molecule's own photons, background, blur and read
noise, computed here a second time: numeric derivatives of the same images over the whole frame, parameters z, y, x, photons and a flat
background.

A bias passes when it is below 3 nm or below a tenth of the bound after two of its own standard errors are taken off: with 2,000
molecules a bin's mean is known to one or two nm only, and one bin in twenty exceeds two standard errors by chance.

`high_snr` and `storm` are the written models of the DeepSTORM3D test frames (data folder: `--data`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instruments_of_peers import HIGH_SNR, STORM
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, View
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.engine.localize.bounds import isolated_bound
from napari_volumetric_smlm.engine.localize.footprint import choose_window
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import reconstruct

PEERS = Path(__file__).resolve().parents[1] / "../shared/data/peers/deepstorm3d"
Array = NDArray[np.float64]
AXES = ("z", "y", "x")
GATE_NM = 500.0
LARGEST_RATIO, LARGEST_BIAS_NM, LARGEST_BIAS_SHARE, LARGEST_COVERAGE_ERROR = 1.2, 3.0, 0.1, 0.05
DEPTH_BINS, PHASE_BINS = 8, 5


@dataclass(frozen=True)
class Setting:
    """An instrument, the plan that reads its frames and the ranges that molecules are drawn from.

    photons : lowest and highest of a uniform law; with a gamma law (shape 3, scale 3000) only the lowest counts.
    background, blur_px, baseline_counts, read_noise_e : lowest and highest, uniform, one value a frame.
    """

    instrument: Instrument
    plan: ReconstructPlan
    photons: tuple[float, float]
    gamma: bool
    background: tuple[float, float]
    blur_px: tuple[float, float]
    baseline_counts: tuple[float, float]
    read_noise_e: tuple[float, float]


@dataclass(frozen=True)
class Molecules:
    """What is true of n molecules, one a frame; positions in nm from the middle pixel of the frame."""

    position_zyx: torch.Tensor
    photons: torch.Tensor
    background: torch.Tensor
    blur_nm: torch.Tensor
    baseline: torch.Tensor
    read_noise: torch.Tensor


def astigmatic() -> Setting:
    """A cylindrical lens on an oil objective, molecules in water, sCMOS."""
    instrument = Instrument(
        name="astigmatic",
        objective=Objective(numerical_aperture=1.4, magnification=100, immersion_index=1.518),
        cameras=(Camera(pixel_um=11.0, offset_counts=100.0, read_noise_e=1.5),),
        views=(View(zernike_noll_rad={6: 1.2}),),
        emission_nm=670,
        sample_index=1.33,
        focal_plane_nm=500,
        depth_range_nm=(0, 900),
    )
    return Setting(instrument, ReconstructPlan(device="cpu"), (1000, 10000), False, (10, 10), (0, 0), (100, 100), (1.5, 1.5))


def settings(data: Path) -> dict[str, Setting]:
    """All settings whose data are there."""
    found = {"astigmatic": astigmatic()}
    if data.is_dir():
        high, storm = HIGH_SNR.instrument(data), STORM.instrument(data)
        found["high_snr"] = Setting(high, HIGH_SNR.plan, (10000, 60000), False, (20, 150), (0.75, 1.25), (0, 0), (0, 0))
        found["storm"] = Setting(storm, STORM.plan, (6000, 6000), True, (0, 0), (0.99, 1.01), (20, 40), (8, 12))
    return found


def draw(setting: Setting, count: int, seed: int) -> Molecules:
    """Molecules over the whole depth range, up to five pixels from the middle of the frame."""
    rng = np.random.default_rng(seed)
    pixel = setting.instrument.pixel_nm()
    between = lambda limits: torch.as_tensor(rng.uniform(limits[0], limits[1], count))  # noqa: E731
    yx = torch.as_tensor(rng.uniform(-5, 5, (count, 2)) * pixel)
    position = torch.cat([between(setting.instrument.depth_range_nm)[:, None], yx], 1)
    photons = between(setting.photons)
    if setting.gamma:
        many = rng.gamma(3.0, 3000.0, 20 * count + 100)
        photons = torch.as_tensor(many[many >= setting.photons[0]][:count])
    blur, read = between(setting.blur_px) * pixel, between(setting.read_noise_e)
    return Molecules(position, photons, between(setting.background), blur, between(setting.baseline_counts), read)


def expose_and_bound(setting: Setting, true: Molecules, side: int, seed: int) -> tuple[NDArray[np.uint16], Array, Array]:
    """Counts (n, side, side), and standard errors (n, 3) of z, y, x by numeric derivatives: blur known, and blur fitted too."""
    generator = torch.Generator().manual_seed(seed)
    pupil = view_pupil(setting.instrument, dtype=torch.float64)
    camera = (side, setting.instrument.pixel_nm(), setting.instrument.pixel_model == "integrated")
    counts, known, fitted = [], [], []
    for rows in torch.arange(len(true.photons)).split(16):
        place, blur = true.position_zyx[rows], true.blur_nm[rows]
        n, ground = true.photons[rows, None, None], true.background[rows, None, None]
        shape = camera_images(pupil, place, camera, blur)
        slopes = []
        for axis, step in enumerate((2.0, 1.0, 1.0)):
            move = step * torch.eye(3, dtype=torch.float64)[axis]
            rise = camera_images(pupil, place + move, camera, blur) - camera_images(pupil, place - move, camera, blur)
            slopes.append(n * rise / (2 * step))
        slopes += [shape, torch.ones_like(shape)]
        mean, variance_of_read = n * shape + ground, true.read_noise[rows, None, None] ** 2
        if float(blur.min()) > 1:
            rise = camera_images(pupil, place, camera, blur + 0.5) - camera_images(pupil, place, camera, blur - 0.5)
            slopes.append(n * rise)
        jacobian = torch.stack(slopes, 1).flatten(2)
        fisher = torch.einsum("mpk,mqk->mpq", jacobian / (mean + variance_of_read).flatten(1)[:, None], jacobian)
        known.append(torch.linalg.inv(fisher[:, :5, :5]).diagonal(dim1=1, dim2=2)[:, :3].sqrt())
        fitted.append(torch.linalg.inv(fisher).diagonal(dim1=1, dim2=2)[:, :3].sqrt())
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype) * true.read_noise[rows, None, None]
        seen = torch.poisson(mean, generator=generator) + noise + true.baseline[rows, None, None]
        counts.append(seen.round().clamp(0, 65535).numpy().astype(np.uint16))
    return np.concatenate(counts), torch.cat(known).numpy(), torch.cat(fitted).numpy()


def engine_bound(setting: Setting, true: Molecules, window: int) -> Array:
    """The same by the engine, from its spline table: standard errors (n, 3)."""
    pixel, blurred = setting.instrument.pixel_nm(), setting.blur_px[1] > 0
    ends = (0.9 * setting.blur_px[0] * pixel, 1.1 * setting.blur_px[1] * pixel) if blurred else None
    table = PsfTable(setting.instrument, window, 50.0, ends)
    # the table's window follows the molecule: only the sub-pixel part of its place matters
    place = true.position_zyx.clone()
    place[:, 1:] -= torch.round(place[:, 1:] / pixel) * pixel
    parts = []
    for rows in torch.arange(len(place)).split(32):
        blur = true.blur_nm[rows].float() if blurred else None
        for_variance = true.background[rows, None].float()
        # one read noise a call
        parts += [
            isolated_bound(
                table, place[r : r + 1].float(), true.photons[r : r + 1].float(), for_variance[k : k + 1],
                float(true.read_noise[r]) ** 2, None if blur is None else blur[k : k + 1],
            )[:, :3]
            for k, r in enumerate(rows.tolist())
        ]  # fmt: skip
    return torch.cat(parts).double().numpy()


def nearest(found: Localizations, true: Molecules, side: int, pixel_nm: float) -> tuple[NDArray[np.intp], int]:
    """Row of the nearest detection within the gate for every frame (-1 = none), and the number of other detections."""
    middle = np.array([0.0, side // 2 * pixel_nm, side // 2 * pixel_nm])
    offset = found.position_zyx_nm - (true.position_zyx.numpy() + middle)[found["frame"]]
    distance = np.sqrt((offset**2).sum(1))
    partner = np.full(len(true.photons), -1)
    for row in np.argsort(-distance):
        if distance[row] <= GATE_NM:
            partner[found["frame"][row]] = row
    return partner, len(found) - int((partner >= 0).sum())


def binned_bias(error: Array, bound: Array, label: NDArray[np.intp], bins: int) -> list[dict[str, Any]]:
    """Mean error of each bin with its standard error, and whether it passes."""
    rows = []
    for b in range(bins):
        here = label == b
        n = int(here.sum())
        bias = float(error[here].mean())
        spread = float(error[here].std(ddof=1) / np.sqrt(n))
        limit = max(LARGEST_BIAS_NM, LARGEST_BIAS_SHARE * float(np.sqrt((bound[here] ** 2).mean())))
        rows.append({"bin": b, "n": n, "bias_nm": bias, "standard_error_nm": spread, "limit_nm": limit,
                     "passed": abs(bias) - 2 * spread < limit})  # fmt: skip
    return rows


def measure(setting: Setting, count: int, seed: int) -> dict[str, Any]:
    """Simulate, fit and score one setting."""
    instrument, pixel = setting.instrument, setting.instrument.pixel_nm()
    window = setting.plan.window_px or choose_window(instrument)
    side = window + 20
    true = draw(setting, count, seed)
    counts, bound, bound_blur = expose_and_bound(setting, true, side, seed + 1)
    started = time.perf_counter()
    found = finish(reconstruct(RawStack(counts_tyx=(counts,), kind="frames"), instrument, setting.plan)).localizations
    seconds = (time.perf_counter() - started) / count
    partner, other = nearest(found, true, side, pixel)
    hit = partner >= 0
    kept = found.select(partner[hit])
    middle = np.array([0.0, side // 2 * pixel, side // 2 * pixel])
    error = kept.position_zyx_nm - true.position_zyx.numpy()[hit] - middle
    known = bound[hit]
    sigma = kept.sigma_zyx_nm
    if sigma is None:
        raise ValueError("the table has no sigmas")
    engine = engine_bound(setting, true, window)[hit]
    low, high = instrument.depth_range_nm
    depth = np.clip((true.position_zyx[hit, 0].numpy() - low) / (high - low) * DEPTH_BINS, 0, DEPTH_BINS - 1).astype(int)
    phase = np.clip(np.mod(true.position_zyx[hit, 1:].numpy() / pixel + 0.5, 1) * PHASE_BINS, 0, PHASE_BINS - 1).astype(int)
    result: dict[str, Any] = {
        "molecules": count,
        "found": int(hit.sum()),
        "missed": int((~hit).sum()),
        "other_detections": other,
        "window_px": window,
        "seconds_a_frame": seconds,
        "converged": float(kept["converged"].mean()),
        "photons_ratio": float((kept["photons"] / true.photons.numpy()[hit]).mean()),
        "axes": {},
    }
    for a, axis in enumerate(AXES):
        e, s = error[:, a], sigma[:, a]
        result["axes"][axis] = {
            "rmse_nm": float(np.sqrt((e**2).mean())),
            "bound_nm": float(np.sqrt((known[:, a] ** 2).mean())),
            "ratio": float(np.sqrt(((e / known[:, a]) ** 2).mean())),
            "ratio_blur_fitted": float(np.sqrt(((e / bound_blur[hit][:, a]) ** 2).mean())),
            "engine_bound_over_numeric": float(np.median(engine[:, a] / known[:, a])),
            "sigma_over_bound": float(np.median(s / known[:, a])),
            "beyond_five_bounds": int((np.abs(e) > 5 * known[:, a]).sum()),
            "bias_nm": float(e.mean()),
            "within_one_sigma": float((np.abs(e) <= s).mean()),
            "within_two_sigma": float((np.abs(e) <= 1.96 * s).mean()),
            "by_depth": binned_bias(e, known[:, a], depth, DEPTH_BINS),
            "by_phase_y": binned_bias(e, known[:, a], phase[:, 0], PHASE_BINS),
            "by_phase_x": binned_bias(e, known[:, a], phase[:, 1], PHASE_BINS),
        }
    result["passed"] = verdict(result)
    result["errors"] = {"error_zyx_nm": error, "bound_zyx_nm": known, "true_zyx_nm": true.position_zyx.numpy()[hit], "sigma": sigma}
    return result


def verdict(result: dict[str, Any]) -> dict[str, bool]:
    """Which bars are met."""
    axes = result["axes"].values()
    bins = [row for axis in axes for name in ("by_depth", "by_phase_y", "by_phase_x") for row in axis[name]]
    return {
        "ratio": all(axis["ratio"] <= LARGEST_RATIO for axis in axes),
        "bias": all(row["passed"] for row in bins),
        "coverage": all(abs(axis["within_one_sigma"] - 0.6827) <= LARGEST_COVERAGE_ERROR for axis in axes),
    }


def show(name: str, result: dict[str, Any]) -> None:
    """Print one setting's tables."""
    print(f"\n{name}: {result['found']} of {result['molecules']} found, {result['other_detections']} other detections, "
          f"window {result['window_px']} px, {result['seconds_a_frame']:.2f} s a frame, converged {result['converged']:.3f}, "
          f"photons found / true {result['photons_ratio']:.3f}")  # fmt: skip
    print("axis  RMSE nm  bound nm  RMSE/bound  (blur fitted)  engine/numeric  sigma/bound  >5 bounds  bias nm  in 1 sigma  in 1.96")
    for axis, r in result["axes"].items():
        print(
            f"{axis:4} {r['rmse_nm']:8.2f} {r['bound_nm']:9.2f} {r['ratio']:11.3f} {r['ratio_blur_fitted']:14.3f} "
            f"{r['engine_bound_over_numeric']:15.4f} {r['sigma_over_bound']:12.3f} {r['beyond_five_bounds']:10d} {r['bias_nm']:8.2f} "
            f"{r['within_one_sigma']:11.3f} {r['within_two_sigma']:8.3f}"
        )
    for title, key in (("depth", "by_depth"), ("sub-pixel phase y", "by_phase_y"), ("sub-pixel phase x", "by_phase_x")):
        print(f"bias in nm ± standard error by {title} (! = misses the bar)")
        for axis, r in result["axes"].items():
            cells = [f"{b['bias_nm']:6.2f}±{b['standard_error_nm']:.2f}{' ' if b['passed'] else '!'}" for b in r[key]]
            print(f"  {axis} " + " ".join(cells))
    print("bars: " + ", ".join(f"{bar} {'met' if ok else 'MISSED'}" for bar, ok in result["passed"].items()))


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--molecules", type=int, default=2000, help="molecules a setting")
    parser.add_argument("--settings", nargs="+", default=["high_snr", "storm", "astigmatic"])
    parser.add_argument("--data", type=Path, default=PEERS, help="folder with the phase masks of the peer's settings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/isolated.json"))
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    there = settings(chosen.data)
    missing = [name for name in chosen.settings if name not in there]
    if missing:
        print(f"unknown setting, or no data in {chosen.data}: {', '.join(missing)}", file=sys.stderr)
        return 2
    results = {}
    for name in chosen.settings:
        results[name] = measure(there[name], chosen.molecules, chosen.seed)
        show(name, results[name])
        arrays = results[name].pop("errors")
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        np.savez(chosen.json.with_name(f"{chosen.json.stem}_{name}.npz"), **arrays)
    about = {"molecules": chosen.molecules, "seed": chosen.seed, "threads": chosen.threads, "torch": torch.__version__}
    chosen.json.write_text(json.dumps({"about": about, "settings": results}, indent=1))
    return 0 if all(ok for r in results.values() for ok in r["passed"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
