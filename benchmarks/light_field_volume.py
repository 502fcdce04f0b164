"""Volumes from light-field views against wide-field truth: python benchmarks/light_field_volume.py [--model MODEL] [--data DIR].

Phantoms that the network never saw (other seeds; crossing filaments and two mixtures that no training draws) in fields of 256 x 256 pixels
of the shipped `light_field_3`. Views are drawn from points between voxels, with wider windows than in the training (the tests hold that
drawing against the molecules' simulator, point by point), and exposed by the instrument's camera. The truth is what the same objective
would show without the array, its focal plane moved from plane to plane. Beside the network: 50 iterations of
Richardson-Lucy, blurred by the same wide-field PSF. Both are told the constant background, and both are fitted to the truth by one factor
and one offset; a rim of 8 pixels is left out.

Then the stages by themselves, on frames of single molecules: the network's volume, Gaussians fitted to its peaks, and the joint fit of all
views begun with the peaks.

Bars: PSNR and Pearson correlation of the network higher on every phantom, and at least 25 times faster in the same run.

--data DIR holds frames of another source, one field: instrument.json, frames*.tif (raw, or one file a view in their order) and truth.tif
(z, y, x) on the pixels of the first view, its planes from the lowest to the highest depth of the instrument.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.plans import ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.domain.volume_plans import ViewsPlan, VolumePlan
from napari_volumetric_smlm.engine.deconvolve.richardson_lucy import Deconvolution, as_wide_field
from napari_volumetric_smlm.engine.networks.vnet import CompactVNet
from napari_volumetric_smlm.engine.simulate.camera import expose
from napari_volumetric_smlm.engine.simulate.phantoms import MICROTUBULE_NM, Phantom, crossing_filaments, hollow_tube, phantom
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid, view_kernels, wide_field_kernels
from napari_volumetric_smlm.engine.simulate.structures import Box
from napari_volumetric_smlm.engine.simulate.volumes import WIDE_FIELD_REACH_NM, WIDE_FIELD_WINDOW_PX, VolumeScene
from napari_volumetric_smlm.io.examples import example_models, load_example
from napari_volumetric_smlm.io.instruments import load_instrument
from napari_volumetric_smlm.io.results import write_png
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.deconvolve import WIDE_FIELD, as_volume
from napari_volumetric_smlm.recipes.light_field_views import SummedViews, sum_views
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import cut_instrument
from napari_volumetric_smlm.recipes.trained import load_network
from napari_volumetric_smlm.recipes.volume import volume_of_views
from napari_volumetric_smlm.recipes.volume_molecules import molecules_in

FIELD, RIM, WINDOW, ITERATIONS = 256, 8, 81, 50
FASTER = 25
BACKGROUND = 10.0
STAGE_FRAMES, STAGE_DENSITY = 6, 0.05
PHANTOMS = ("microtubules", "pits", "mitochondria", "crossing", "mitochondria+microtubules", "beads+pits+microtubules")
Volume = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Views of one field, the background in them where it is known, and the true volume."""

    name: str
    views: SummedViews
    background_v: Tensor
    truth: Volume


def structure(name: str, box: Box, seed: int) -> Phantom:
    """One of the phantoms, each point of weight one."""
    if name != "crossing":
        return phantom(name, box, seed)
    # pairs of filaments that cross at all angles, 100 to 1000 nm apart in depth
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(max(2, round(box.area_um2 / 60))):
        share = torch.rand(5, generator=generator)
        centre = box.low_nm + (0.2 + 0.6 * share[:3]) * (box.high_nm - box.low_nm)
        apart = 100 * 10 ** float(share[3])
        for path in crossing_filaments(centre, (apart, 0.0, 0.0), 6000.0, 0.1 + 3 * float(share[4])):
            parts.append(hollow_tube(path, MICROTUBULE_NM, 300, generator))
    return sum(parts[1:], parts[0])


def simulated(instrument: Instrument, name: str, brightness: list[float], seed: int) -> Iterator[Case]:
    """Draw a phantom, expose it at each brightness (photons per square micrometre) and read it."""
    edge = 10 * instrument.pixel_nm()
    far = FIELD * instrument.pixel_nm() + edge
    box = Box(torch.tensor([-1900.0, -edge, -edge]), torch.tensor([1900.0, far, far]))
    points = structure(name, box, seed)
    # crossing filaments fill less of the field
    points = points.scaled(box.area_um2 * (0.2 if name == "crossing" else 1.0))
    views, volume = VolumeScene(instrument, DepthGrid.of(instrument, 125.0), (FIELD, FIELD), WINDOW).draw(points)
    detected = instrument.cameras[0].quantum_efficiency
    truth = volume.double().numpy() * detected
    background = torch.full((len(instrument.cameras),), BACKGROUND * detected)
    for photons in brightness:
        generator = torch.Generator().manual_seed(seed)
        mean = views * photons + BACKGROUND
        counts = [expose(mean[c, None], camera, generator).numpy().astype(np.uint16) for c, camera in enumerate(instrument.cameras)]
        stack = RawStack(counts_tyx=tuple(counts), kind="frames")
        seen = finish(sum_views(stack, instrument, ViewsPlan(device="cpu")))
        yield Case(f"{name}, {photons:g}", seen, background, truth * photons)


def from_files(folder: Path) -> Case:
    """Read frames and truth of another source."""
    stack = open_stack(sorted(folder.glob("frames*.tif")), kind="frames")
    views = finish(sum_views(stack, load_instrument(folder / "instrument.json"), ViewsPlan(device="cpu")))
    return Case(folder.name, views, views.background_v, tifffile.imread(folder / "truth.tif").astype(np.float64))


def by_network(network: CompactVNet, case: Case) -> tuple[Volume, float]:
    """Volume, and the seconds that it takes once the frames are read and the optics known."""
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        volume = finish(volume_of_views(network, case.views, VolumePlan(model="", device="cpu")))
        seconds.append(time.perf_counter() - started)
    # the first run computes the optics
    return volume.double().numpy(), statistics.median(seconds[1:])


def by_deconvolution(case: Case, kernel: Tensor, wide: Tensor) -> tuple[Volume, float]:
    """The same by Richardson-Lucy."""
    started = time.perf_counter()
    with torch.inference_mode():
        state = Deconvolution(case.views.views_vyx, kernel, case.background_v)
        for _ in range(ITERATIONS):
            for _ in state.iterate():
                pass
        volume = as_wide_field(state.volume_zyx, wide)
    return volume.double().numpy(), time.perf_counter() - started


def score(found: Volume, truth: Volume) -> dict[str, float]:
    """PSNR (dB, of the truth's largest value) and Pearson correlation after the best factor and offset."""
    inner = (slice(None), slice(RIM, -RIM), slice(RIM, -RIM))
    x, y = found[inner].ravel(), truth[inner].ravel()
    pearson = float(np.corrcoef(x, y)[0, 1])
    error = float(y.var()) * (1 - pearson**2)
    return {"psnr_db": 10 * math.log10(float(y.max()) ** 2 / max(error, 1e-12)), "pearson": pearson}


def picture(volumes: list[Volume]) -> NDArray[np.uint8]:
    """Largest values along z (above) and along y (below) of volumes side by side."""
    columns = []
    for volume in volumes:
        side = np.repeat(volume.max(1), 3, axis=0)
        columns.append(np.vstack([image.clip(0) / image.max() for image in (volume.max(0), side)]))
    return (255 * np.hstack(columns) ** 0.6).astype(np.uint8)


def measure(case: Case, network: CompactVNet, output: Path) -> dict[str, Any]:
    """Both methods on one case."""
    instrument = case.views.instrument
    grid = DepthGrid.of(instrument, (instrument.depth_range_nm[1] - instrument.depth_range_nm[0]) / (network.planes - 1))
    kernel = view_kernels(instrument, grid, WINDOW)
    wide = wide_field_kernels(instrument, grid, WIDE_FIELD_WINDOW_PX, WIDE_FIELD_REACH_NM)
    ours, fast = by_network(network, case)
    theirs, slow = by_deconvolution(case, kernel, wide)
    a, b = score(ours, case.truth), score(theirs, case.truth)
    write_png(picture([case.truth, ours, theirs]), output / f"light_field_volume_{case.name.replace(', ', '_').replace('+', '_')}.png")
    passed = {"psnr": a["psnr_db"] > b["psnr_db"], "pearson": a["pearson"] > b["pearson"], "speed": slow >= FASTER * fast}
    return {"case": case.name, "network": {**a, "seconds": fast}, "richardson_lucy": {**b, "seconds": slow}, "passed": passed}


def show(row: dict[str, Any]) -> None:
    """Print one case."""
    ours, theirs = row["network"], row["richardson_lucy"]
    missed = ", ".join(name for name, ok in row["passed"].items() if not ok)
    faster = theirs["seconds"] / ours["seconds"]
    print(
        f"{row['case']:38} {ours['psnr_db']:8.2f} {theirs['psnr_db']:8.2f} {ours['pearson']:9.4f} {theirs['pearson']:8.4f} "
        f"{ours['seconds']:8.3f} {theirs['seconds']:8.2f} {faster:7.0f}  {'MISSED: ' + missed if missed else 'met'}",
        flush=True,
    )


def stages(instrument: Instrument, network: CompactVNet, model: str, seed: int) -> dict[str, float]:
    """Median seconds of each stage, and molecules a frame, on frames of single molecules."""
    plan = SimulatePlan(
        frame_count=STAGE_FRAMES, shape_yx_px=(FIELD, FIELD), density_per_um2=STAGE_DENSITY, photons=(3000, 3000), mean_on_frames=0,
        background_photons=(BACKGROUND, BACKGROUND), seed=seed, device="cpu",
    )  # fmt: skip
    simulation = finish(simulate(instrument, plan))
    low, high = instrument.depth_range_nm
    grid = DepthGrid.of(instrument, (high - low) / (network.planes - 1))
    seconds: dict[str, list[float]] = {"volume": [], "peaks": [], "joint fit": []}
    found = 0
    for t in range(STAGE_FRAMES):
        views = finish(sum_views(simulation.stack, instrument, ViewsPlan(first_frame=t, last_frame=t, device="cpu")))
        started = time.perf_counter()
        values = finish(volume_of_views(network, views, VolumePlan(model="", device="cpu")))
        made = time.perf_counter()
        molecules_in(as_volume(values, views, grid, WIDE_FIELD))
        fitted = time.perf_counter()
        wanted = ReconstructPlan(start="volume", model=model, first_frame=t, last_frame=t, device="cpu", processes=1)
        found += len(finish(reconstruct(simulation.stack, instrument, wanted)).localizations)
        # it makes the volume itself
        whole = time.perf_counter() - fitted
        for name, part in zip(seconds, (made - started, fitted - made, whole - (made - started)), strict=True):
            seconds[name].append(part)
    # the first frame computes the optics
    return {name: statistics.median(each[1:]) for name, each in seconds.items()} | {
        "molecules": len(simulation.truth) / STAGE_FRAMES, "found": found / STAGE_FRAMES,
    }  # fmt: skip


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=example_models()["light_field_3"])
    parser.add_argument("--data", type=Path, help="folder with instrument.json, frames*.tif and truth.tif")
    parser.add_argument("--phantoms", nargs="+", default=list(PHANTOMS))
    parser.add_argument("--photons", type=float, nargs="+", default=[2000, 10_000], help="per square micrometre, before the sensor")
    parser.add_argument("--seed", type=int, default=7_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/light_field_volume.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    instrument = load_instrument(args.data / "instrument.json") if args.data else cut_instrument(load_example("light_field_3"))
    network, card = load_network(str(args.model), instrument)
    if not isinstance(network, CompactVNet):
        raise SystemExit(f"{args.model} makes no volumes")
    network.eval()
    print(f"{card.frames_seen:,} frames seen; {args.threads} threads; seconds a frame of {FIELD} x {FIELD} without reading it")
    print(f"{'':38} {'PSNR, dB':>17} {'Pearson':>18} {'seconds':>17}  faster")
    print(f"{'phantom, photons per um2':38} {'network':>8} {'RL 50':>8} {'network':>9} {'RL 50':>8} {'network':>8} {'RL 50':>8}")
    rows = []
    if args.data:
        rows.append(measure(from_files(args.data), network, args.json.parent))
        show(rows[-1])
    else:
        for number, name in enumerate(args.phantoms):
            for case in simulated(instrument, name, args.photons, args.seed + number):
                rows.append(measure(case, network, args.json.parent))
                show(rows[-1])
    apart = {} if args.data else stages(instrument, network, str(args.model), args.seed)
    if apart:
        print(
            f"stages, {apart['molecules']:.0f} molecules a frame ({apart['found']:.0f} found): volume {apart['volume']:.3f} s, "
            f"Gaussians {apart['peaks']:.3f} s, joint fit {apart['joint fit']:.3f} s"
        )
    written = {"torch": torch.__version__, "threads": args.threads, "model": card.command, "cases": rows, "stages": apart}
    args.json.write_text(json.dumps(written, indent=1))
    met = all(ok for row in rows for ok in row["passed"].values())
    print("bars met" if met else "bars MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
