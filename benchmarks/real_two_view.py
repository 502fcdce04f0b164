"""A live cell seen by two cameras through two masks: registered by its own molecules, both views fitted jointly, a film to look at.

    python benchmarks/real_two_view.py [--data DIR] [--frames N] [--every K] [--registration FILE] [--output DIR] [--json FILE]

DIR holds live_view1.tif, live_view2.tif and live_masks/masks_learned_tracking_vipr.mat (../shared/data/engineered_psf/
telomeres_psf_pairs). Which mask belongs to which camera is not known, so the first frame of each camera is fitted with both, and the
pairing with the smaller residuals is taken. Molecules found in both cameras then give the affine between them and the share of the
light (registration.json, which --registration reads again), and --frames frames (every K-th) are fitted in both views jointly.
Everything is written after every frame, so a run may be stopped. film.gif shows both cameras with what was found as circles
coloured by depth, side by side with the model. There is no truth: told are the molecules of each frame, how many are found again within
400 nm in the next one, how far they moved, and the residual variance (1 = nothing but noise) of each view.
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
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, PhaseMask, View
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.domain.runs import FrameExplanation
from napari_volumetric_smlm.io.instruments import load_phase_mask
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import explain_frame
from real_tetrapod import SHARED

PAIRS = SHARED / "engineered_psf" / "telomeres_psf_pairs"
# telomeres are bright and not quite points
PLAN = ReconstructPlan(fit_blur=True, min_photons=1000, detection_threshold=300)
CAMERA = Camera(pixel_um=11.0, offset_counts=100.0, read_noise_e=3.0)
DEPTHS_NM = (300.0, 4600.0)
REACHES_NM = (900.0, 600.0, 400.0, 300.0, 200.0)  # of the pairs, as the affine gets better
AGAIN_NM = 400.0


def one_view(mask: PhaseMask) -> Instrument:
    """The microscope with one camera."""
    return Instrument(
        name="live telomeres",
        objective=Objective(numerical_aperture=1.49, magnification=100, immersion_index=1.518),
        cameras=(CAMERA,),
        views=(View(mask=mask, blur_nm=110.0),),
        emission_nm=605,
        sample_index=1.33,
        focal_plane_nm=2700,
        depth_range_nm=DEPTHS_NM,
    )


def register(first: Localizations, second: Localizations) -> tuple[NDArray[np.float64], float, int]:
    """Affine (2, 3) in nm from the first to the second camera, the second's light over the first's, and the number of pairs."""
    a, b = (table.position_zyx_nm for table in (first, second))
    affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # the cameras may be shifted by some pixels: the shift that brings most together begins
    shifts = 110.0 * np.stack(np.meshgrid(np.arange(-6, 7), np.arange(-6, 7), indexing="ij"), -1).reshape(-1, 2)
    scaled = np.array([0.5, 1.0, 1.0])
    counts = [(cKDTree(b * scaled).query((a + np.r_[0.0, shift]) * scaled)[0] < 300).sum() for shift in shifts]
    affine[:, 2] = shifts[int(np.argmax(counts))]
    rows: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
    for reach in REACHES_NM:
        moved = np.c_[a[:, 0], a[:, 1:] @ affine[:, :2].T + affine[:, 2]]
        distance = np.linalg.norm((moved[:, None] - b[None]) * scaled, axis=-1)
        i, j = linear_sum_assignment(np.minimum(distance, 2 * reach))
        near = distance[i, j] < reach
        rows = np.c_[i[near], j[near]]
        if len(rows) < 6:
            raise SystemExit(f"only {len(rows)} molecules are seen by both cameras: at least 6 are needed to register them")
        design = np.c_[a[rows[:, 0], 1:], np.ones(len(rows))]
        affine = np.linalg.lstsq(design, b[rows[:, 1], 1:], rcond=None)[0].T
    share = float(np.median(second["photons"][rows[:, 1]] / first["photons"][rows[:, 0]]))
    return affine, share, len(rows)


def residual_variance(explained: FrameExplanation) -> list[float]:
    """Mean squared residual of each view."""
    return [float(np.mean(np.square(view))) for view in explained.residual_vyx]


def again(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[int, float]:
    """How many molecules of a frame the next one has too, and their median distance in nm."""
    distance = np.linalg.norm(one[:, None] - other[None], axis=-1)
    i, j = linear_sum_assignment(np.minimum(distance, 2 * AGAIN_NM))
    near = distance[i, j][distance[i, j] < AGAIN_NM]
    return len(near), float(np.median(near)) if len(near) else float("nan")


def picture(explained: FrameExplanation, instrument: Instrument, top: float) -> Image.Image:
    """Both cameras above their models, with what was found as circles coloured by depth."""
    pixel = instrument.pixel_nm()
    found = explained.localizations
    rows = []
    for source, marked in ((explained.photons_vyx, True), (explained.model_vyx, False)):
        tiles = []
        for v, view in enumerate(instrument.views):
            grey = (255 * (source[v] / top).clip(0, 1) ** 0.6).astype(np.uint8)
            tile = Image.fromarray(grey).convert("RGB").resize((2 * grey.shape[1], 2 * grey.shape[0]))
            drawing, affine = ImageDraw.Draw(tile), np.array(view.affine_yx)
            for z, y, x in found.position_zyx_nm if marked else ():
                row, column = (affine[:, :2] @ (y, x) + affine[:, 2]) / pixel * 2 + 1
                color = tuple(int(255 * c) for c in colormaps["turbo"]((z - DEPTHS_NM[0]) / (DEPTHS_NM[1] - DEPTHS_NM[0]))[:3])
                drawing.ellipse((column - 6, row - 6, column + 6, row + 6), outline=color)
            tiles.append(np.asarray(tile))
        rows.append(np.hstack(tiles))
    return Image.fromarray(np.vstack(rows))


def main() -> int:
    """Register, reconstruct, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PAIRS)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--registration", type=Path, help="registration.json of an earlier run")
    parser.add_argument("--output", type=Path, default=Path("benchmark-output/real_two_view"))
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/real_two_view.json"))
    chosen = parser.parse_args()
    masks_file = chosen.data / "live_masks" / "masks_learned_tracking_vipr.mat"
    files = [chosen.data / f"live_view{v}.tif" for v in (1, 2)]
    missing = [str(path) for path in (*files, masks_file) if not path.is_file()]
    if missing:
        print(f"not there: {', '.join(missing)}", file=sys.stderr)
        return 2
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    masks = [load_phase_mask(masks_file, 24.0, 150.0, f"mask{k}") for k in (1, 2)]
    stacks = [open_stack(path, kind="frames") for path in files]
    about = json.loads(chosen.registration.read_text()) if chosen.registration else register_cameras(stacks, masks)
    (chosen.output / "registration.json").write_text(json.dumps(about, indent=1))
    order, affine, share = about["order"], np.array(about["affine_nm"]), about["share"]
    print(f"camera 1 has mask {order[0] + 1}; {about['pairs']} molecules in both cameras; light of camera 2 over camera 1: {share:.2f}")
    print(f"affine (nm) {np.round(affine, 4).tolist()}, residual variances by pairing: {about['misfit']}", flush=True)
    first = one_view(masks[order[0]])
    rows = tuple(tuple(float(c) for c in row) for row in affine)
    second = View(name="camera 2", camera=1, mask=masks[order[1]], blur_nm=110.0, affine_yx=rows, photon_fraction=share)
    both = Instrument.model_validate({**dict(first), "cameras": (CAMERA, CAMERA), "views": (first.views[0], second)})
    movie = RawStack(**{**dict(stacks[0]), "counts_tyx": tuple(stack.counts_tyx[0] for stack in stacks)})
    frames, record, tables = list(range(0, movie.frame_count, chosen.every))[: chosen.frames], [], []
    pictures: list[Image.Image] = []
    print("frame molecules  again  moved nm  residual variance  seconds")
    for t in frames:
        started = time.perf_counter()
        explained = finish(explain_frame(movie, both, PLAN, t))
        table = explained.localizations
        top = record[0]["top"] if record else float(np.quantile(explained.photons_vyx, 0.9995))
        kept = again(tables[-1].position_zyx_nm, table.position_zyx_nm) if tables else (0, float("nan"))
        tables.append(table)
        pictures.append(picture(explained, both, top))
        record.append({"frame": t, "molecules": len(table), "again": kept[0], "moved_nm": kept[1], "top": top,
                       "residual_variance": residual_variance(explained), "seconds": time.perf_counter() - started})  # fmt: skip
        variances = " ".join(f"{value:8.2f}" for value in record[-1]["residual_variance"])
        print(f"{t:5d} {len(table):9d} {kept[0]:6d} {kept[1]:9.0f} {variances} {record[-1]['seconds']:8.1f}", flush=True)
        write_table(Localizations.joined(tables), chosen.output / "molecules.csv")
        pictures[0].save(chosen.output / "film.gif", save_all=True, append_images=pictures[1:], duration=200, loop=0)
        pictures[-1].save(chosen.output / f"frame_{t:03d}.png")
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps({"registration": about, "frames": record, "threads": chosen.threads}, indent=1))
    return 0


def register_cameras(stacks: list[RawStack], masks: list[PhaseMask]) -> dict[str, Any]:
    """Which mask belongs to which camera, and how the cameras see each other, from their first frames."""
    alone = {(v, k): finish(explain_frame(stacks[v], one_view(masks[k]), PLAN, 0)) for v in (0, 1) for k in (0, 1)}
    misfit = {order: sum(residual_variance(alone[v, k])[0] for v, k in enumerate(order)) for order in ((0, 1), (1, 0))}
    order = min(misfit, key=misfit.__getitem__)
    affine, share, pairs = register(*(alone[v, k].localizations for v, k in enumerate(order)))
    sums = {f"masks {a + 1}, {b + 1}": value for (a, b), value in misfit.items()}
    return {"order": order, "affine_nm": affine.tolist(), "share": share, "pairs": pairs, "misfit": sums}


if __name__ == "__main__":
    sys.exit(main())
