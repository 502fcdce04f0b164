"""Dense light-field frames: python benchmarks/light_field.py [--data DIR] [--densities 0.01 0.03 0.1 0.3].

DIR holds instrument.json (with a microlens array), frames.tif (raw frames) and truth.csv, of whatever simulator. Without it frames are
drawn here: an array as in the shipped `light_field_3` whose views just hold the field, 3000 detected photons of all views together,
5 of background per pixel, molecules over +-2 um and 30 um of field, each on for one whole frame, read noise 1.6 electrons.

Found by the direct path (`reconstruct` of the raw frames, all views fitted together) and by way of a volume of each frame (a short
deconvolution, or a V-Net with `--model`): its peaks as they are, fitted by Gaussians, and as the beginning of the same joint fit. With
`--peer` PySMLFM stands beside them (see `light_field_peer`). Molecules are paired within 250 nm lateral and 500 nm axial.
A rim of the field is left out: molecules there, true or found, do not count. Bars for the simulated frames: Jaccard above 0.97, 0.95,
0.88 and 0.70 at 0.01, 0.03, 0.1 and 0.3 molecules per um2 for the better of direct path and fitted volume. Ends with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from light_field_peer import Peer
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.engine.assemble.score import constant_offset, match
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.evaluate import evaluate
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate

JACCARD = {0.01: 0.97, 0.03: 0.95, 0.1: 0.88, 0.3: 0.70}
PHOTONS, BACKGROUND, FIELD_UM, RIM_UM = 3000.0, 5.0, 30.0, 1.0
GATES = EvaluatePlan(gate="cylinder", gate_lateral_nm=250.0, gate_axial_nm=500.0)
# density and frames of bright molecules from which the peer's scale of depth is taken
SCAN, SCAN_PHOTONS = (0.005, 12), 50_000.0
# light of molecules at the edge of the field falls this far beyond it
MARGIN_PX = 14


def field_instrument() -> Instrument:
    """The shipped light field with smaller lenses behind the same pupil: the views just hold the field, and frames are small."""
    shipped = load_example("light_field_3")
    field_px = round(FIELD_UM * 1000 / shipped.pixel_nm()) + 2 * MARGIN_PX
    array = shipped.microlenses.model_dump()
    # rows of a triangle of lenses are 0.866 of the pitch apart
    pitch_px = field_px / 0.86
    smaller = pitch_px * shipped.cameras[0].pixel_um / 1000 / array["pitch_mm"]
    lengths = {name: array[name] * smaller for name in ("pitch_mm", "focal_length_mm", "fourier_lens_mm")}
    frame = {"frame_yx_px": (int(2.2 * pitch_px), int(2.2 * pitch_px)), "field_yx_px": (field_px, field_px)}
    camera = shipped.cameras[0].model_copy(update={"quantum_efficiency": 1.0, "gain_e_per_count": 1.0})
    microscope = shipped.model_copy(update={"cameras": (camera,)})
    return light_field_instrument(MicrolensArray.model_validate(array | lengths | frame), microscope)


def draw(instrument: Instrument, density: float, frames: int, seed: int, photons: float = PHOTONS) -> tuple[RawStack, Localizations]:
    """Raw frames and their molecules."""
    plan = SimulatePlan(
        frame_count=frames, shape_yx_px=instrument.microlenses.frame_yx_px, density_per_um2=density, border_px=MARGIN_PX,
        photons=(photons, photons), mean_on_frames=0, background_photons=(BACKGROUND, BACKGROUND), seed=seed, device="cpu",
    )  # fmt: skip
    simulation = finish(simulate(instrument, plan))
    return simulation.stack, simulation.truth


def without_rim(table: Localizations, low_yx_nm: np.ndarray, high_yx_nm: np.ndarray) -> Localizations:
    """Molecules that lie farther from the field's edge than the rim."""
    yx = table.position_zyx_nm[:, 1:]
    return table.select(((yx > low_yx_nm + RIM_UM * 1000) & (yx < high_yx_nm - RIM_UM * 1000)).all(1))


def reconstructed(stack: RawStack, instrument: Instrument, plan: ReconstructPlan) -> tuple[Localizations, float]:
    """Our molecules, and the seconds of processor time that they took."""
    started = time.process_time()
    found = finish(reconstruct(stack, instrument, plan)).localizations
    return found, time.process_time() - started


def ways(model: str | None) -> dict[str, dict[str, Any]]:
    """What of the plan makes each of our ways."""
    found: dict[str, dict[str, Any]] = {"direct": {}}
    for name, change in {"deconvolution": {}, "V-Net": {"model": model}}.items():
        if name == "deconvolution" or model is not None:
            found[f"{name}, then fitted"] = {"start": "volume", **change}
            found[f"{name} alone"] = {"start": "volume", "refine": False, **change}
    return found


def measure(found: Localizations, truth: Localizations, seconds: float, gates: EvaluatePlan = GATES) -> dict[str, Any]:
    """Score one way."""
    yx = truth.position_zyx_nm[:, 1:]
    low, high = yx.min(0), yx.max(0)
    frames = truth.frame_count or int(truth["frame"].max()) + 1
    inner_truth, inner = without_rim(truth, low, high), without_rim(found, low, high)
    # a pair across the rim's edge is no error: partners are looked for among all
    whole = evaluate(inner_truth, found, gates), evaluate(truth, inner, gates)
    missed, false = whole[0].false_negatives, whole[1].false_positives
    hits = whole[0].true_positives
    left, right = match(inner_truth, inner, gates)
    error = inner.position_zyx_nm[right] - inner_truth.position_zyx_nm[left]
    return {
        "frames": frames, "density_per_um2": len(truth) / frames / float(np.prod(high - low)) * 1e6,
        "molecules": len(inner_truth), "found": len(inner), "jaccard": hits / max(1, hits + missed + false),
        "recall": hits / max(1, len(inner_truth)), "precision": 1 - false / max(1, len(inner)),
        "rmse_zyx_nm": np.sqrt((error**2).mean(0)).tolist(), "bias_zyx_nm": error.mean(0).tolist(),
        "seconds": seconds, "molecules_a_second": len(found) / seconds, "seconds_a_frame": seconds / frames,
    }  # fmt: skip


def beside(peer: Peer, stack: RawStack, truth: Localizations, seed: int) -> list[dict[str, Any]]:
    """PySMLFM on the same molecules, a constant shift taken out."""
    bright, alone = draw(peer.instrument, *SCAN, seed + 1, SCAN_PHOTONS)
    factors = peer.z_factor(peer.perfect(alone, SCAN_PHOTONS, BACKGROUND, seed), alone), peer.z_factor(peer.fitted(bright), alone)
    perfect = peer.perfect(truth, PHOTONS, BACKGROUND, seed)
    started = time.process_time()
    fitted = peer.fitted(stack)
    ours = time.process_time() - started
    rows = []
    cases = (("perfect spots", perfect, 0.0, factors[0]), ("fitted spots", fitted, ours, factors[1]))
    for name, spots, before, factor in cases:
        raw, seconds = peer.localize(spots)
        for words, scale in (("", 1.0), (", z scaled", factor)):
            z = raw.columns | {"z_nm": raw["z_nm"] * scale}
            found = raw.model_copy(update={"columns": z})
            found = found.moved(-constant_offset(truth, found, GATES))
            rows.append(
                {"way": f"PySMLFM, {name}{words}", "z_factor": scale, "its_seconds": seconds, **measure(found, truth, before + seconds)}
            )
    return rows


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    bar = f"> {row['bar']:.2f} {'met' if row['passed'] else 'MISSED'}" if "bar" in row else ""
    rmse = " ".join(f"{n:6.1f}" for n in row["rmse_zyx_nm"])
    print(
        f"{row['density_per_um2']:7.3f} {row['way']:32} {row['frames']:6d} {row['molecules']:9d} {row['jaccard']:8.3f} "
        f"{row['recall']:7.3f} {row['precision']:9.3f} {rmse} {row['molecules_a_second']:11.1f} {row['seconds_a_frame']:8.2f} {bar}",
        flush=True,
    )


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with instrument.json, frames.tif and truth.csv")
    parser.add_argument("--densities", type=float, nargs="+", default=list(JACCARD), help="molecules per um2 of the simulated frames")
    parser.add_argument("--frames", type=int, default=100, help="simulated frames a density")
    parser.add_argument("--least-jaccard", type=float, help="bar for the frames of --data")
    parser.add_argument("--threshold", type=float, help="detection threshold; left out = that of the plan")
    parser.add_argument("--model", help="V-Net of this instrument, for two more rows")
    parser.add_argument("--peer", type=Path, help="smlfm-cli of PySMLFM, in an environment of its own (benchmarks/peers/pysmlfm.txt)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/light_field.json"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        "density way                              frames molecules  Jaccard  recall precision   RMSE z, y, x nm molecules/s  s/frame  bar"
    )
    rows = []
    if args.data is not None:
        instrument = load_instrument(args.data / "instrument.json")
        stack, truth = open_stack([args.data / "frames.tif"], kind="frames"), read_table(args.data / "truth.csv")
        cases = [(stack, instrument, truth, args.least_jaccard)]
    else:
        instrument = field_instrument()
        cases = [(*draw(instrument, d, args.frames, args.seed), JACCARD.get(d)) for d in args.densities]
        cases = [(stack, instrument, truth, bar) for stack, truth, bar in cases]
    plan = ReconstructPlan(device="cpu", processes=1)
    if args.threshold is not None:
        plan = plan.model_copy(update={"detection_threshold": args.threshold})
    for stack, optics, truth, bar in cases:
        here = []
        for way, changes in ways(args.model).items():
            found, seconds = reconstructed(stack, optics, plan.model_copy(update=changes))
            here.append({"way": way, **measure(found, truth, seconds)})
        if bar is not None:
            best = max(here, key=lambda row: row["jaccard"])
            best |= {"bar": bar, "passed": best["jaccard"] > bar}
        if args.peer is not None:
            here += beside(Peer(args.peer.absolute(), optics), stack, truth, args.seed)
        for row in here:
            show(row)
        rows += here
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"torch": torch.__version__, "seed": args.seed, "rows": rows}, indent=1))
    return 0 if all(row.get("passed", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
