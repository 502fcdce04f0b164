"""Real Tetrapod STORM frames: every frame reconstructed, and the description of each compared with the peer's by BIC.

    python benchmarks/real_tetrapod.py [--data DIR] [--peer CSV] [--model MODEL] [--frames N] [--output DIR] [--json FILE]

DIR holds `frames.tif` and `phase_mask.mat` (../shared/data/engineered_psf/tetrapod_storm), CSV the molecules of DeepSTORM3D's
published network on some of the frames. The table (molecules.csv), the super-resolved picture and, for each judged frame, camera,
model and residual side by side (-5 to 5 standard deviations) go into the folder of --output.

On the frames that the CSV knows both lists are judged by one rule: the same pixels (union of the footprints of both lists), the same
variance of each pixel (smoothed frame + read noise), photons of every molecule and one smooth background fitted by weighted least
squares for each list; BIC = chi-square + 5 ln(pixels) per molecule. In the peer's favour, its list is first moved as a whole to where
it fits best, and drawn with our PSF and with its own simulator's (see `instruments_of_peers`), whichever is better.

With --model (`models/storm.safetensors` was trained for this mask) all frames are reconstructed with the network, the judged ones by the
search as well, and all three lists are judged on the pixels of all three. Exit status 1 when the peer's BIC is lower on any frame, or
the search's is lower than the network's on all of them together.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, View
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import ReconstructPlan, RenderPlan
from napari_volumetric_smlm.domain.runs import FrameExplanation
from napari_volumetric_smlm.engine.localize.background import CosineBackground
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.io.instruments import load_phase_mask
from napari_volumetric_smlm.io.results import write_png
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.photons import noise_floors
from napari_volumetric_smlm.recipes.reconstruct import explain_frame
from napari_volumetric_smlm.recipes.render import render_by_depth

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WINDOW_PX = 81
FOOTPRINT = 0.05  # a pixel belongs to a molecule's footprint where its image exceeds this share of its peak
BACKGROUND_PX = 30.0
BEYOND_PX = 10  # a molecule may lie a little outside the frame


def tetrapod_instrument(folder: Path, angle_scale: float = 1.0) -> Instrument:
    """The microscope of the frames; angle_scale stretches the pupil's angles as the peer's simulator does."""
    mask = load_phase_mask(folder / "phase_mask.mat", 30.0, 100.0 / angle_scale)
    return Instrument(
        name="Tetrapod STORM",
        objective=Objective(numerical_aperture=1.45, magnification=100, immersion_index=1.518),
        cameras=(Camera(pixel_um=11.0),),
        views=(View(mask=mask, blur_nm=110.0),),
        emission_nm=670,
        sample_index=1.33,
        focal_plane_nm=1500,
        depth_range_nm=(0, 4000),
        apodization="none",
        pixel_model="point",
    )


class FrameJudge:
    """Scores lists of molecules on one frame by one rule."""

    def __init__(self, photons_yx: NDArray[np.float32], read_variance: float) -> None:
        self.photons = photons_yx.astype(np.float64)
        self.variance = np.maximum(gaussian_filter(self.photons, 2.0), 0) + max(read_variance, 1.0)
        height, width = photons_yx.shape
        basis = CosineBackground((height, width), 0, BACKGROUND_PX, torch.device("cpu"))
        self.background = basis.image(torch.eye(basis.count)).double().numpy()

    def images(self, table: PsfTable, position_zyx_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images of molecules on the whole frame, one photon each."""
        height, width = self.photons.shape
        pixel, half = table.pixel_v[0], table.window_px // 2
        nearest = np.round(position_zyx_nm[:, 1:] / pixel).astype(int)
        local = position_zyx_nm.copy()
        local[:, 1:] -= nearest * pixel
        windows = table.images(torch.tensor(local, dtype=torch.float32)[:, None], derivatives=False).value[:, 0].double().numpy()
        pad = half + BEYOND_PX
        canvas = np.zeros((len(local), height + 2 * pad, width + 2 * pad))
        for k, (y, x) in enumerate(nearest + BEYOND_PX):
            canvas[k, y : y + table.window_px, x : x + table.window_px] = windows[k]
        return canvas[:, pad : pad + height, pad : pad + width]

    @staticmethod
    def footprint(images: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Pixels that any of the molecules lights."""
        return (images > FOOTPRINT * images.max((1, 2), keepdims=True)).any(0)

    def choose_pixels(self, pixels: NDArray[np.bool_]) -> None:
        """Judge on these pixels from now on: the background's part of the fit is prepared once."""
        self.pixels = pixels
        self.weight = 1 / np.sqrt(self.variance[pixels])
        self.ground, _ = np.linalg.qr((self.background[:, pixels] * self.weight).T)
        data = self.photons[pixels] * self.weight
        self.data = data - self.ground @ (self.ground.T @ data)

    def chi_square(self, images: NDArray[np.float64]) -> float:
        """Chi-square on the chosen pixels with the best photons and background."""
        design = (images[:, self.pixels] * self.weight).T
        design -= self.ground @ (self.ground.T @ design)
        photons, *_ = np.linalg.lstsq(design.T @ design, design.T @ self.data, rcond=1e-10)
        return float(((self.data - design @ photons) ** 2).sum())


def best_peer(judge: FrameJudge, tables: list[PsfTable], places: NDArray[np.float64]) -> float:
    """Lowest chi-square of the peer's list over the PSFs and over shifts of the whole list (coordinate search, 60 to 15 nm)."""
    results = []
    for table in tables:
        shift, step = np.zeros(3), 60.0
        best = judge.chi_square(judge.images(table, places))
        while step > 14:
            moved = False
            for axis in range(3):
                for sign in (-1, 1):
                    trial = shift.copy()
                    trial[axis] += sign * step
                    value = judge.chi_square(judge.images(table, places + trial))
                    if value < best:
                        best, shift, moved = value, trial, True
            step = step if moved else step / 2
        results.append(best)
    return min(results)


def side_by_side(explained: FrameExplanation) -> NDArray[np.uint8]:
    """Camera, model and residual of a frame as grey values."""
    photons, model, residual = (a[0].astype(np.float64) for a in (explained.photons_vyx, explained.model_vyx, explained.residual_vyx))
    low, high = np.quantile(photons, [0.01, 0.999])
    shown = [(a - low) / (high - low) for a in (photons, model)] + [(residual + 5) / 10]
    return np.hstack([(255 * a.clip(0, 1)).astype(np.uint8) for a in shown])


def main() -> int:
    """Run the comparison; the exit status says whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "engineered_psf" / "tetrapod_storm")
    parser.add_argument("--peer", type=Path, default=SHARED / "peers" / "deepstorm3d" / "real_tetrapod_peer.csv")
    parser.add_argument("--model", type=Path, help="network whose finds are compared with the search's")
    parser.add_argument("--frames", type=int, help="reconstruct only the peer's frames and the first N others")
    parser.add_argument("--output", type=Path, default=Path("benchmark-output/real_tetrapod"), help="folder for table and pictures")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/real_tetrapod.json"))
    options = parser.parse_args()
    if not (options.data / "frames.tif").exists() or not options.peer.exists():
        print(f"the data are not here: {options.data} and {options.peer}")
        return 2
    stack = open_stack(options.data / "frames.tif", kind="frames")
    instrument = tetrapod_instrument(options.data)
    floor = noise_floors(stack, instrument, range(stack.frame_count))[0]
    with options.peer.open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    judged = sorted({int(row["frame"]) for row in rows})
    wanted = range(stack.frame_count) if options.frames is None else sorted({*judged, *range(options.frames)})
    size = load_phase_mask(options.data / "phase_mask.mat", 30.0, 100.0).phase_rad_yx.shape[0]
    tables = [PsfTable(i, WINDOW_PX) for i in (instrument, tetrapod_instrument(options.data, size / (size - 1)))]

    ways = {"search": ReconstructPlan()}
    if options.model is not None:
        ways["network"] = ReconstructPlan(model=str(options.model))
    print("frame  who      seconds  molecules  pixels  chi-square      BIC")
    record: list[dict[str, Any]] = []
    tables_found: dict[str, list[Localizations]] = {who: [] for who in ways}
    options.output.mkdir(parents=True, exist_ok=True)
    for frame in wanted:
        entry: dict[str, Any] = {"frame": frame}
        for who, plan in ways.items() if frame in judged or options.model is None else [("network", ways["network"])]:
            started = time.perf_counter()
            explained = finish(explain_frame(stack, instrument, plan, frame))
            tables_found[who].append(explained.localizations)
            entry[who] = {"seconds": time.perf_counter() - started, "molecules": len(explained.localizations)}
            write_png(side_by_side(explained), options.output / f"{who}_frame_{frame:03d}.png")
        if frame in judged:
            judge = FrameJudge(np.asarray(stack.counts_tyx[0][frame], dtype=np.float32), floor)
            peer = np.array([[r["z_nm"], r["y_nm"], r["x_nm"]] for r in rows if int(r["frame"]) == frame])
            images = {who: judge.images(tables[0], tables_found[who][-1].position_zyx_nm) for who in ways}
            pixels = judge.footprint(judge.images(tables[0], peer))
            for drawn in images.values():
                pixels |= judge.footprint(drawn)
            judge.choose_pixels(pixels)
            entry["pixels"], entry["peer"] = int(pixels.sum()), {"molecules": len(peer), "chi_square": best_peer(judge, tables, peer)}
            for who in ways:
                entry[who]["chi_square"] = judge.chi_square(images[who])
            for who in (*ways, "peer"):
                entry[who]["bic"] = entry[who]["chi_square"] + 5 * math.log(entry["pixels"]) * entry[who]["molecules"]
        record.append(entry)
        show(entry)
    seconds = {who: float(np.median([entry[who]["seconds"] for entry in record if who in entry])) for who in ways}
    told = ", ".join(f"{who} {value:.1f}" for who, value in seconds.items())
    print(f"median seconds a frame: {told} ({torch.get_num_threads()} threads); read noise {math.sqrt(floor):.1f} photons from the frames")
    for who in ways:
        table = Localizations.joined(tables_found[who])
        write_table(table, options.output / f"{who}_molecules.csv")
        drawing = RenderPlan(pixel_nm=40.0, smallest_sigma_nm=30.0, color_by_depth=True)
        write_png(render_by_depth(table, drawing).rgb_yxc, options.output / f"{who}_picture.png")
        print(f"{who}: {len(table):,} molecules in {len(tables_found[who])} frames; table and pictures in {options.output}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"frames": record, "median_seconds": seconds, "threads": torch.get_num_threads()}, indent=1))
    bic = {who: [entry[who]["bic"] for entry in record if "peer" in entry] for who in (*ways, "peer")}
    missed = [who for who in ways if any(ours >= peer for ours, peer in zip(bic[who], bic["peer"], strict=True))]
    print(f"BIC below the peer's on every frame: {'met' if not missed else 'MISSED by ' + ', '.join(missed)}")
    behind = "network" in ways and sum(bic["network"]) > sum(bic["search"])
    if "network" in ways:
        print(f"BIC of the network {sum(bic['network']):,.0f}, of the search {sum(bic['search']):,.0f}: {'MISSED' if behind else 'met'}")
    return 1 if missed or behind else 0


def show(entry: dict[str, Any]) -> None:
    """Print a frame's rows."""
    for who in ("search", "network", "peer"):
        if who in entry:
            one = entry[who]
            line = f"{entry['frame']:5d}  {who:8}{one.get('seconds', math.nan):8.1f} {one['molecules']:10d}"
            print(line + (f" {entry['pixels']:7d} {one['chi_square']:11.0f} {one['bic']:8.0f}" if "bic" in one else ""), flush=True)


if __name__ == "__main__":
    sys.exit(main())
