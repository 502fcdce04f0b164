"""Our molecules beside a trained network's, on the network's own frames: python benchmarks/deepstorm3d.py --data DIR.

DIR has the layout of `../shared/data/peers/deepstorm3d` (see its README): folders high_snr_N and storm_N with frames.tif, truth.csv and
peer.csv, and the two phase masks; `more_frames.py` draws more of them (without peer.csv, which may be missing). All tables meet the same
scorer: pairs within 150 nm in 3D, as many as possible and then the shortest (Hungarian), true molecules too dim for the setting neutral.
The intervals of the Jaccard index and of RMSE over the peer's are bootstraps over frames (95 %), the same frames drawn for both. Rows run
one after the other; seconds a frame is the median over batches.

"search" is localization without training, "network" the same fit begun with what our network of the setting finds (`--models`, where
it is there; made by `train_models.py`) and a short search, "thorough" the same with the whole search, "pursuit" DeepSTORM3D's comparator:
molecules fitted and subtracted one by one. No bar is on it.

The frames were drawn on a pupil grid that is not quite the written one; `instruments_of_peers` says how it is represented.
`--written-model` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instruments_of_peers import SETTINGS, PeerSetting
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan
from napari_volumetric_smlm.domain.runs import Evaluation, Progress
from napari_volumetric_smlm.engine.assemble.score import score
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.evaluate import evaluate
from napari_volumetric_smlm.recipes.reconstruct import reconstruct

PEERS = Path(__file__).resolve().parents[1] / "../shared/data/peers/deepstorm3d"
GATE_NM = 150.0
LEAST_JACCARD = {("high_snr", 1): 0.97, ("high_snr", 10): 0.95, ("high_snr", 20): 0.92}
MOST_SECONDS = 3.0
PATHS = ("search", "network", "thorough", "pursuit")
BOOTSTRAPS = 4000


def rows_of(data: Path, chosen: list[str] | None, only: list[str]) -> list[tuple[str, PeerSetting, int]]:
    """Folders that can be scored: name, setting and molecules a frame, sorted."""
    rows = []
    for folder in sorted(path for path in data.iterdir() if (path / "frames.tif").is_file()):
        setting, _, number = folder.name.rpartition("_")
        if setting in SETTINGS and number.isdigit() and setting in only and (chosen is None or folder.name in chosen):
            rows.append((folder.name, SETTINGS[setting], int(number)))
    return rows


def frame_sums(truth: Localizations, found: Localizations, plan: EvaluatePlan, frames: int) -> NDArray[np.float64]:
    """Of every frame: pairs, molecules in either table, squared lateral and squared axial errors; (frames, 4)."""
    sums = np.zeros((frames, 4))
    for t in range(frames):
        one = score(truth.select(truth["frame"] == t), found.select(found["frame"] == t), plan)
        n = one.true_positives
        squares = [n * (value or 0.0) ** 2 for value in (one.rmse_lateral_nm, one.rmse_axial_nm)]
        sums[t] = n, n + one.false_positives + one.false_negatives, *squares
    return sums


def drawn_anew(frames: int) -> NDArray[np.int64]:
    """Frames of every bootstrap draw; the same for all tables of a row, so that they are compared frame by frame."""
    return np.random.default_rng(0).integers(0, frames, (BOOTSTRAPS, frames))


def jaccard_interval(sums: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the Jaccard index when frames are drawn anew."""
    drawn = sums[drawn_anew(len(sums))].sum(1)
    low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [0.025, 0.975])
    return float(low), float(high)


def share_intervals(mine: NDArray[np.float64], peer: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    """95 % intervals of our lateral and axial RMSE over the peer's, the same frames drawn for both."""
    draws = drawn_anew(len(mine))
    ours, theirs = (part[draws].sum(1) for part in (mine, peer))
    found = {}
    for side, column in (("lateral", 2), ("axial", 3)):
        mean = [drawn[:, column] / np.maximum(drawn[:, 0], 1) for drawn in (ours, theirs)]
        share = np.sqrt(mean[0] / np.maximum(mean[1], 1e-9))
        low, high = np.quantile(share, [0.025, 0.975])
        found[side] = float(low), float(high)
    return found


def find(folder: Path, setting: PeerSetting, as_drawn: bool, frames: int, way: dict[str, Any]) -> tuple[Localizations, float]:
    """Reconstruct one row with the setting's plan changed in some `way`: its molecules, and seconds a frame."""
    instrument = setting.instrument(folder.parent, as_drawn)
    stack = open_stack(folder / "frames.tif").model_copy(update={"kind": "frames"})
    plan = setting.plan.model_copy(update={"last_frame": frames - 1, **way})
    marks: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        if progress.preview is not None or not marks:
            marks.append((time.perf_counter(), progress.done))

    found = finish(reconstruct(stack, instrument, plan), note).localizations
    # the first mark is the start of the preparation, so the first batch carries it
    seconds = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(marks)]
    return setting.to_truth_nm(found, instrument) if as_drawn else found, float(np.median(seconds))


def measure(folder: Path, setting: PeerSetting, as_drawn: bool, most_frames: int | None, ways: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Reconstruct one row along every path and score all tables."""
    frames = open_stack(folder / "frames.tif").frame_count
    frames = min(frames, most_frames or frames)
    tables, seconds = {}, {}
    for name, way in ways.items():
        tables[name], seconds[name] = find(folder, setting, as_drawn, frames, way)
    if (folder / "peer.csv").is_file():
        tables["peer"] = read_table(folder / "peer.csv")
    truth = read_table(folder / "truth.csv")
    truth = truth.select(truth["frame"] < frames)
    plan = EvaluatePlan(gate_nm=GATE_NM, dim_below_photons=setting.dim_below_photons)
    scores: dict[str, Any] = {}
    tables = {name: table.select(table["frame"] < frames) for name, table in tables.items()}
    sums = {name: frame_sums(truth, table, plan, frames) for name, table in tables.items()}
    for name, table in tables.items():
        scores[name] = evaluate(truth, table, plan).model_dump() | {"jaccard_interval": jaccard_interval(sums[name])}
        scores[name]["seconds_a_frame"] = seconds.get(name)
        if name != "peer" and "peer" in sums:
            scores[name]["rmse_share_intervals"] = share_intervals(sums[name], sums["peer"])
    return {"frames": frames, **scores}


def bars(results: dict[str, dict[str, Any]]) -> list[tuple[str, bool]]:
    """Every bar that the rows can be held to, in words, and whether it is met."""
    found = []
    for row_name, row in results.items():
        setting, _, number = row_name.rpartition("_")
        n, peer = int(number), row.get("peer")
        for who in (who for who in PATHS if who in row and peer is not None):
            mine, name = row[who], f"{row_name}, {who}"
            least = least_jaccard(setting, n, who, peer["jaccard"])
            if least is not None:
                found.append((f"{name}: Jaccard {mine['jaccard']:.3f}, at least {least:.3f}", mine["jaccard"] >= least))
            largest = largest_share(setting, n, who)
            for side in ("lateral", "axial") if largest is not None else ():
                share = mine[f"rmse_{side}_nm"] / peer[f"rmse_{side}_nm"]
                words = f"{name}: RMSE {side} {mine[f'rmse_{side}_nm']:.1f} nm, {share:.2f} of the peer's, at most {largest}"
                found.append((words, share <= largest))
                low, high = mine["rmse_share_intervals"][side]
                if who in ("network", "thorough"):
                    words = f"{name}: RMSE {side} over the peer's within {low:.2f} to {high:.2f} (paired bootstrap, 95 %), below 1"
                    found.append((words, high < 1))
            if n == 20 and who == "search":
                words = f"{name}: {mine['seconds_a_frame']:.2f} s a frame, under {MOST_SECONDS:g}"
                found.append((words, mine["seconds_a_frame"] < MOST_SECONDS))
        for who in ("network", "thorough"):
            if who in row and "search" in row and n >= 10:
                ours, other = row[who]["jaccard"], row["search"]["jaccard"]
                found.append((f"{row_name}, {who}: Jaccard {ours:.3f}, above that of the search {other:.3f}", ours > other))
    return found


def least_jaccard(setting: str, n: int, who: str, peer: float) -> float | None:
    """Bar on the Jaccard index of a row, or None."""
    if who == "pursuit":
        return None
    if who == "search":
        return LEAST_JACCARD.get((setting, n)) or (peer if setting == "storm" and n in (10, 20) else None)
    if n >= 10:
        return min(peer + 0.02, 0.98)
    return 0.97 if setting == "high_snr" else None


def largest_share(setting: str, n: int, who: str) -> float | None:
    """Largest share of the peer's RMSE, or None."""
    if who == "pursuit":
        return None
    few = setting == "high_snr" and n in (10, 20)
    if who == "search":
        return 0.9 if few else None
    return (0.75 if few else 1.0) if n >= 10 else None


def line(name: str, who: str, row: dict[str, Any]) -> str:
    """One line of the table."""
    s = Evaluation(**{k: v for k, v in row[who].items() if k in Evaluation.model_fields})
    low, high = row[who]["jaccard_interval"]
    z, y, x = s.bias_zyx_nm or (np.nan,) * 3
    first = f"{name:12} {row['frames']:6}" if who == "search" else " " * 19
    counts = f"{s.true_positives:5d} {s.false_negatives:6d} {s.false_positives:5d}"
    errors = f"{s.rmse_lateral_nm or np.nan:8.1f} {s.rmse_axial_nm or np.nan:6.1f} {z:7.1f} {y:5.1f} {x:5.1f}"
    seconds = f"{row[who]['seconds_a_frame']:8.2f}" if row[who]["seconds_a_frame"] is not None else ""
    return f"{first} {who:8} {counts}  {s.jaccard:.3f} ({low:.2f}-{high:.2f}) {errors} {seconds}"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=PEERS, help="folder with rows and phase masks")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rows", nargs="+", help="names of the folders to score; default all")
    parser.add_argument("--frames", type=int, help="only the first frames of each row")
    parser.add_argument(
        "--models", type=Path, default=Path(__file__).resolve().parent / "models", help="folder with the settings' networks"
    )
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=PATHS)
    parser.add_argument("--written-model", action="store_true", help="fit with the written model instead of the drawn one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/deepstorm3d.json"))
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        print(f"{chosen.data}: there is no such folder", file=sys.stderr)
        return 2
    rows = rows_of(chosen.data, chosen.rows, chosen.settings)
    if not rows:
        print(f"{chosen.data}: no folder such as high_snr_10 or storm_10 with frames.tif was found", file=sys.stderr)
        return 2
    torch.set_num_threads(chosen.threads)
    print(f"{chosen.threads} threads, torch {torch.__version__}, {'written model' if chosen.written_model else 'model as drawn'}")
    print("row          frames who      pairs missed false  Jaccard (95 %)  RMSE: lateral axial  bias z     y     x  s/frame")
    results: dict[str, dict[str, Any]] = {}
    for name, setting, _ in rows:
        model = chosen.models / f"{setting.name}.safetensors"
        paths: dict[str, dict[str, Any]] = {
            "search": {},
            "network": {"model": str(model)},
            "thorough": {"model": str(model), "thorough": True},
            "pursuit": {"method": "pursuit"},
        }
        taken = {who: paths[who] for who in chosen.paths if "model" not in paths[who] or model.is_file()}
        results[name] = measure(chosen.data / name, setting, not chosen.written_model, chosen.frames, taken)
        for who in (w for w in (*taken, "peer") if w in results[name]):
            print(line(name, who, results[name]), flush=True)
    checked = bars(results)
    print()
    for words, met in checked:
        print(f"{'met   ' if met else 'MISSED'} {words}")
    about = {"threads": chosen.threads, "torch": torch.__version__, "machine": platform.processor() or platform.machine(),
             "written_model": chosen.written_model, "frames": chosen.frames, "bars": [list(c) for c in checked]}  # fmt: skip
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"about": about, "rows": results}, indent=1, default=_plain))
    return 0 if all(met for _, met in checked) else 1


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    array: NDArray[Any] = np.asarray(value)
    return array.tolist()


if __name__ == "__main__":
    sys.exit(main())
