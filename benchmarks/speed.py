"""Time a frame beside DeepSTORM3D's network: python benchmarks/speed.py [--data DIR] [--models DIR] [--json FILE].

DIR of --data has the layout of `../shared/data/peers/deepstorm3d`; rows are `storm_10`, `storm_35`, `high_snr_10` and `high_snr_35`
(setting and molecules a frame). Three paths, one after the other on the same frames and threads, again for every repeat:

* ours: `reconstruct` with the setting's model (made by `train_models.py`), refinement included, in as many processes as there are
  threads. Time is taken from the end of the first batches to that of the last; reading the model, computing the PSF and starting the
  processes come before and are told apart ("start"). Beside it, without a bar, the same in one process.
* published: DeepSTORM3D's network with random weights (time does not depend on them), then its published post-processing with the
  maximum over 9 x 9 x 9 voxels at once. As what random weights say is no frame's answer, the post-processing reads a made volume with a
  blob for every true molecule of the frame.
* by axis: the same with the maximum taken along one axis after the other.

Beside them, without a bar, AutoDS3D's network at factor 1 (81 planes, random weights), its maximum over 5 x 5 x 5 voxels axis by axis.

GFLOP a frame are counted by torch.utils.flop_counter: convolutions and matrix products, and Fourier transforms of n numbers as
5 n log2 n (half of it where they are real). Work element by element is not counted: neither the larger part of our fit nor the
post-processing; the seconds of CPU time beside them hold everything.

Exit status 1 when a bar is missed, 2 when data or models are not there.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deepstorm3d import PEERS
from instruments_of_peers import PIXEL_NM, SETTINGS, PeerSetting
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.engine.networks.published import AutoDs3d, DeepStorm3d, VoxelNetwork
from napari_volumetric_smlm.engine.networks.voxels import VoxelGrid, VoxelRules, decode_voxels
from napari_volumetric_smlm.engine.training.voxel_losses import blob_voxels
from napari_volumetric_smlm.errors import SmlmError
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.recipes.reconstruct import reconstruct

ROWS = ("storm_10", "storm_35", "high_snr_10", "high_snr_35")
DEPTH_PLANES = {"storm": 121, "high_snr": 81}
THRESHOLD = {"storm": 40.0, "high_snr": 80.0}
ALONE_FRAMES = 8  # of our path in one process
LEAST_GAIN = {"published": 50.0, "by axis": 20.0}


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock and of all threads together."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class OurTime:
    """What one run of `reconstruct` took.

    frame : one frame after the first batches. frames : how many those were. start_s : all before that.
    molecules : found in a frame.
    """

    frame: Spent
    frames: int
    start_s: float
    molecules: float


def clocked(work: Callable[[], Any]) -> tuple[Any, Spent]:
    """Return what some work gives, and its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Spent(time.perf_counter() - wall, time.process_time() - cpu)


class Ours:
    """Our path on one row."""

    def __init__(self, folder: Path, setting: PeerSetting, model: Path) -> None:
        self.instrument = setting.instrument(folder.parent, as_drawn=True)
        self.stack: RawStack = open_stack(folder / "frames.tif").model_copy(update={"kind": "frames"})
        self.plan = setting.plan.model_copy(update={"model": str(model)})

    def run(self, first: int, count: int, processes: int = 1, counter: FlopCounterMode | None = None) -> OurTime:
        """Reconstruct frames; a counter counts what lies between the end of the first batch and that of the last."""
        plan = self.plan.model_copy(update={"first_frame": first, "last_frame": first + count - 1, "processes": processes})
        started = time.perf_counter()
        batches = (p for p in reconstruct(self.stack, self.instrument, plan) if p.preview is not None)
        # the first one comes before the processes start; when each has sent two more, all are busy
        warm = [next(batches) for _ in range(1 if processes == 1 else 1 + 2 * processes)]
        done, start_s = warm[-1].done, time.perf_counter() - started
        if done == count:
            raise SystemExit(f"{count} frames are too few to time: ask for more (--frames)")
        with counter or nullcontext():
            tables, spent = clocked(lambda: [p.preview for p in batches])
        molecules, rest = sum(len(table) for table in tables), count - done
        return OurTime(Spent(spent.wall / rest, spent.cpu / rest), rest, start_s, molecules / rest)


class Published:
    """The published path on one row: the network on its frames, the post-processing on made volumes."""

    def __init__(self, folder: Path, setting: PeerSetting, network: VoxelNetwork, reach_voxels: int = 4) -> None:
        self.network, self.setting, self.reach_voxels = network, setting, reach_voxels
        self.counts = open_stack(folder / "frames.tif").counts_tyx[0]
        self.truth: Localizations = read_table(folder / "truth.csv")
        self.grid = VoxelGrid(*setting.depth_range_nm, network.depth_planes, PIXEL_NM, network.upsampling)

    def frame(self, t: int) -> Tensor:
        """One frame as the network was trained to see it (1, 1, y, x)."""
        counts = torch.from_numpy(np.asarray(self.counts[t], dtype=np.float32))[None, None]
        return counts / 250 if self.setting.name == "storm" else (counts - counts.min()) / (counts.max() - counts.min())

    @torch.inference_mode()
    def predict(self, t: int) -> Tensor:
        """Voxels of a frame."""
        return self.network(self.frame(t))

    def volume(self, t: int) -> Tensor:
        """Make a volume (1, z, y, x) with a blob for every true molecule of a frame, as high as a fifth to all of the limit."""
        truth = self.truth.select(self.truth["frame"] == t)
        index = self.grid.index(torch.from_numpy(truth.position_zyx_nm).float())
        height, width = (side * self.network.upsampling for side in self.counts[t].shape)
        brightness = 0.2 + 0.8 * torch.rand(len(index), generator=torch.Generator().manual_seed(t))
        return blob_voxels(torch.zeros(len(index), dtype=torch.long), index, brightness, (1, self.network.depth_planes, height, width))

    @torch.inference_mode()
    def molecules(self, volume: Tensor, axis_by_axis: bool) -> int:
        """Post-process a volume: number of molecules."""
        rules = VoxelRules(threshold=THRESHOLD[self.setting.name], reach_voxels=self.reach_voxels, axis_by_axis=axis_by_axis)
        return len(decode_voxels(volume, self.grid, rules).frame_n)


def flop_counter() -> FlopCounterMode:
    """Count convolutions, matrix products and Fourier transforms."""

    def transform(over: list[int], shape: tuple[int, ...], real: bool) -> int:
        numbers, length = math.prod(shape), math.prod(shape[d] for d in over)
        return round((2.5 if real else 5.0) * numbers * math.log2(max(length, 2)))

    aten: Any = torch.ops.aten
    ways = {
        aten._fft_c2c: lambda shape, dim, *_, out_shape, **__: transform(dim, shape, False),
        aten._fft_r2c: lambda shape, dim, *_, out_shape, **__: transform(dim, shape, True),
        aten._fft_c2r: lambda shape, dim, *_, out_shape, **__: transform(dim, out_shape, True),
    }
    return FlopCounterMode(display=False, custom_mapping=ways)


def giga_flop(ours: Ours, published: Published, count: int) -> dict[str, float]:
    """GFLOP a frame: our whole path, its network alone, and the published network."""
    mine, theirs = flop_counter(), flop_counter()
    frames = ours.run(0, count, counter=mine).frames
    # nothing is computed on the meta device, only counted
    with theirs, torch.no_grad():
        DeepStorm3d(published.network.depth_planes).to("meta")(torch.empty((1, 1, *published.counts[0].shape), device="meta"))
    network = sum(mine.get_flop_counts().get("LocalizerNetwork", {}).values())
    return {
        "ours": mine.get_total_flops() / frames / 1e9,
        "our_network": network / frames / 1e9,
        "published_network": theirs.get_total_flops() / 1e9,
    }


def once(ours: Ours, others: tuple[Published, Published], first: int, sizes: tuple[int, int], dense: Spent | None) -> dict[str, Any]:
    """Time all paths of one row once, one after the other: ours on some frames, the published ones on the first of them.

    sizes : frames and processes of ours. dense : time of the dense maximum where it is known; it takes longer than all else together.
    """
    published, coarse = others
    frames, processes = sizes
    mine, alone = ours.run(first, frames, processes), ours.run(first, min(frames, ALONE_FRAMES))
    predict = clocked(lambda: published.predict(first))[1]
    volume = published.volume(first)
    parted, by_axis = clocked(lambda: published.molecules(volume, axis_by_axis=True))
    if dense is None:
        whole, dense = clocked(lambda: published.molecules(volume, axis_by_axis=False))
        if whole != parted:
            raise SystemExit(f"{whole} molecules with the maximum over the whole neighbourhood, {parted} axis by axis: expected the same")
    coarse_volume = coarse.volume(first)
    auto = clocked(lambda: coarse.predict(first))[1] + clocked(lambda: coarse.molecules(coarse_volume, axis_by_axis=True))[1]
    spent = {"ours": mine.frame, "ours_alone": alone.frame, "autods3d": auto, "network": predict, "post": dense, "post_by_axis": by_axis,
             "published": predict + dense, "by axis": predict + by_axis}  # fmt: skip
    return {"seconds": spent, "start_s": mine.start_s, "molecules": mine.molecules, "blobs": parted}


def summary(taken: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats, and every single figure."""
    names = list(taken[0]["seconds"])
    wall = {name: float(np.median([one["seconds"][name].wall for one in taken])) for name in names}
    return {
        "seconds_a_frame": wall,
        # the clock does not see those of our other processes: ours_alone has them
        "cpu_seconds_a_frame": {name: float(np.median([one["seconds"][name].cpu for one in taken])) for name in names if name != "ours"},
        "times_faster_than": {name: wall[name] / wall["ours"] for name in LEAST_GAIN},
        "start_s": float(np.median([one["start_s"] for one in taken])),
        "molecules_a_frame": float(np.mean([one["molecules"] for one in taken])),
        "single_seconds": {name: [one["seconds"][name].wall for one in taken] for name in names},
    }


def lines(name: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    s, c, f, gain = row["seconds_a_frame"], row["cpu_seconds_a_frame"], row["gflop_a_frame"], row["times_faster_than"]
    cells = f"{s['ours']:17.3f} " + " ".join(f"{s[who]:8.3f} ({c[who]:6.2f})" for who in ("ours_alone", "network", "post", "post_by_axis"))
    gains = f"{gain['published']:9.1f} {gain['by axis']:7.1f}"
    giga = f"{f['ours']:6.2f} {f['our_network']:7.2f} {f['published_network']:9.1f}"
    return f"{name:12} {cells} {gains}  {giga} {row['molecules_a_frame']:6.1f}"


def main() -> int:
    """Run the benchmark; the exit status says whether the bars hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PEERS, help="folder with rows and phase masks")
    parser.add_argument("--models", type=Path, default=Path(__file__).resolve().parent / "models", help="folder of SETTING.safetensors")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=36, help="frames of our path in each repeat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/speed.json"))
    chosen = parser.parse_args()
    settings = {name: SETTINGS[name.rpartition("_")[0]] for name in chosen.rows}
    needed = [chosen.data / name / file for name in chosen.rows for file in ("frames.tif", "truth.csv")]
    needed += [chosen.models / f"{name}.safetensors" for name in sorted({setting.name for setting in settings.values()})]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        print(f"not there: {', '.join(missing)}; models are made by benchmarks/train_models.py", file=sys.stderr)
        return 2
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    networks = {name: DeepStorm3d(planes).eval() for name, planes in DEPTH_PLANES.items()}
    rows: dict[str, tuple[Ours, tuple[Published, Published]]] = {}
    auto = AutoDs3d().eval()
    flop: dict[str, dict[str, float]] = {}
    for name, setting in settings.items():
        ours = Ours(chosen.data / name, setting, chosen.models / f"{setting.name}.safetensors")
        published = Published(chosen.data / name, setting, networks[setting.name])
        rows[name] = ours, (published, Published(chosen.data / name, setting, auto, reach_voxels=2))
        # counting also warms our path up; the published network gets a frame without a clock as well
        try:
            flop[name] = giga_flop(ours, published, ALONE_FRAMES)
        except SmlmError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for other in rows[name][1]:
            other.predict(0)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for k in range(chosen.repeats):
        for name, (ours, others) in rows.items():
            first = k * chosen.frames % max(1, len(others[0].counts) - chosen.frames + 1)
            dense = taken[name][0]["seconds"]["post"] if taken[name] else None
            taken[name].append(once(ours, others, first, (chosen.frames, chosen.threads), dense))
            print(f"{name}, repeat {k + 1} of {chosen.repeats}", file=sys.stderr)
    about = {"threads": chosen.threads, "torch": torch.__version__, "machine": platform.processor() or platform.machine(),
             "repeats": chosen.repeats, "frames": chosen.frames}  # fmt: skip
    print(f"{chosen.threads} threads, torch {torch.__version__}, medians of {chosen.repeats}; seconds a frame (CPU seconds)")
    times = " ".join(f"{who:>17}" for who in ("ours", "in one process", "network", "post", "post by axis"))
    print(f"{'':12} {'':89} {'times faster':>17}  {'GFLOP a frame':>24}")
    print(f"{'row':12} {times} {'published':>9} by axis    ours network published  found")
    results = {name: summary(taken[name]) | {"gflop_a_frame": flop[name]} for name in rows}
    bars = []
    for name, row in results.items():
        print(lines(name, row))
        for who, least in LEAST_GAIN.items():
            gain = row["times_faster_than"][who]
            bars.append((f"{name}: {gain:.1f} times faster than the published network ({who}), at least {least:g}", gain >= least))
    autods3d = ", ".join(f"{name} {row['seconds_a_frame']['autods3d']:.3f}" for name, row in results.items())
    starts = ", ".join(f"{name} {row['start_s']:.1f}" for name, row in results.items())
    print(f"\nseconds until our processes are all busy: {starts}")
    print(f"AutoDS3D, factor 1, untrained, seconds a frame: {autods3d}\n")
    for words, met in bars:
        print(f"{'met   ' if met else 'MISSED'} {words}")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"about": about | {"bars": bars}, "rows": results}, indent=1))
    return 0 if all(met for _, met in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
