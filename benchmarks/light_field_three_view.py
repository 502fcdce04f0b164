"""A three-view frame of unknown orientation: python benchmarks/light_field_three_view.py [--data FOLDER] [--json FILE].

The frame (views.tif of feilab-hust/F-VCD: 3 views of 351 x 351 pixels, already cut) comes without the order of its views. All six are
tried, and the array turned by 180 degrees, with the fewest assumptions (discs of the stated pitch, 1.4 oil, 510 nm). That one is taken
whose deconvolved volume explains the views best. Then the volume is made and a picture of it written: views above, largest values along z
and along y below, and at which depth they are.

No truth is known and the noise may have been added afterwards, so there is no bar but that a volume comes out that explains the views.
Exits 1 where it does not: mean squared residual over mean count above that of the background alone. Without the folder it says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from napari_volumetric_smlm.domain.images import RawStack, Volume
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.domain.volume_plans import DeconvolvePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.results import write_image, write_png
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.deconvolve import Reached, deconvolve
from napari_volumetric_smlm.recipes.split_views import cut_instrument

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "light_field" / "three_view_mitochondria"
SEARCH = DeconvolvePlan(iterations=6, depth_step_nm=400.0, window_px=81, device="cpu")


def three_view_instrument(side_px: int, turn_rad: float = 0.0) -> Instrument:
    """The microscope as its source states it; outline, camera noise and the medium of the sample are assumed."""
    array = MicrolensArray(
        pitch_mm=3.25,
        focal_length_mm=120,
        fourier_lens_mm=300,
        native_magnification=100,
        frame_yx_px=(1024, 1024),
        field_yx_px=(side_px, side_px),
        rotation_rad=turn_rad,
    )
    microscope = Instrument(
        name="three-view Fourier light field (F-VCD)",
        objective=Objective(numerical_aperture=1.4, magnification=100, immersion_index=1.515),
        cameras=(Camera(pixel_um=6.5),),
        emission_nm=510,
        sample_index=1.515,
        depth_range_nm=(-3400, 3400),
    )
    return cut_instrument(light_field_instrument(array, microscope))


def deconvolved(views_vyx: NDArray[Any], instrument: Instrument, plan: DeconvolvePlan) -> tuple[Volume, float]:
    """The volume, and the mean squared residual over the mean count of what it explains."""
    stack = RawStack(counts_tyx=tuple(view[None] for view in views_vyx), kind="frames")
    reached: list[Reached] = []

    def watched() -> Generator[Progress, None, Volume]:
        steps = deconvolve(stack, instrument, plan)
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(progress.preview, Reached):
                reached[:] = [progress.preview]
            yield progress

    volume = finish(watched())
    with torch.inference_mode():
        mean = reached[0].deconvolution.expected().numpy()
    inner = (slice(None), slice(8, -8), slice(8, -8))
    return volume, float(((views_vyx - mean)[inner] ** 2 / mean[inner]).mean())


def picture(views_vyx: NDArray[Any], volume: Volume) -> NDArray[np.uint8]:
    """Views in a row; below them the largest values along z, along y (planes three times as high), and at which depth they are."""

    def scaled(image: NDArray[Any]) -> NDArray[np.float64]:
        low, high = np.percentile(image, (1, 99.8))
        return ((image - low) / max(high - low, 1e-12)).clip(0, 1)

    values = volume.values_zyx
    side = np.repeat(values.max(1), 3, axis=0)
    rows = [np.hstack([scaled(view) for view in views_vyx])]
    below = np.zeros((max(values.shape[1], side.shape[0]), rows[0].shape[1]))
    below[: values.shape[1], : values.shape[2]] = scaled(values.max(0))
    below[: side.shape[0], values.shape[2] : 2 * values.shape[2]] = scaled(side)
    depth = scaled(values.argmax(0) * (values.max(0) > np.percentile(values.max(0), 80)))
    below[: values.shape[1], 2 * values.shape[2] :] = depth
    return (255 * np.vstack([*rows, below])).astype(np.uint8)


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/light_field_three_view.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    place = args.data / "views.tif"
    if not place.is_file():
        print(f"{place} is not there: nothing measured")
        return 0
    views = tifffile.imread(place).astype(np.float32)
    inner = slice((views.shape[1] - 201) // 2, (views.shape[1] + 201) // 2)
    small, misfits = views[:, inner, inner], {}
    for turned in (0, 180):
        instrument = three_view_instrument(small.shape[1], math.radians(turned))
        for order in itertools.permutations(range(3)):
            found, misfits[order, turned] = deconvolved(small[list(order)], instrument, SEARCH)
            depth = found.origin_zyx_nm[0] + found.voxel_zyx_nm[0] * int(found.values_zyx.sum((1, 2)).argmax())
            print(
                f"views {order}, array turned by {turned}: residual {misfits[order, turned]:.4f}, most light at {depth:+.0f} nm", flush=True
            )
    best, turned = min(misfits, key=lambda case: misfits[case])
    started = time.perf_counter()
    plan = DeconvolvePlan(iterations=args.iterations, depth_step_nm=200.0, device="cpu")
    volume, misfit = deconvolved(views[list(best)], three_view_instrument(views.shape[1], math.radians(turned)), plan)
    seconds = time.perf_counter() - started
    ground = np.median(views, axis=(1, 2))[:, None, None]
    flat = float(((views - ground) ** 2 / ground).mean())
    mass = volume.values_zyx.sum((1, 2))
    z = volume.origin_zyx_nm[0] + volume.voxel_zyx_nm[0] * np.arange(len(mass))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    write_image(volume.values_zyx, args.json.with_suffix(".tif"), volume.voxel_zyx_nm)
    write_png(picture(views[list(best)], volume), args.json.with_suffix(".png"))
    result = {
        "orders": {str(order): value for order, value in sorted(misfits.items(), key=lambda item: item[1])},
        "best": str((best, turned)),
        "misfit": misfit,
        "misfit_of_background": flat,
        "seconds": seconds,
        "planes_nm": z.tolist(),
        "light_per_plane": (mass / mass.sum()).tolist(),
    }
    args.json.write_text(json.dumps(result, indent=1))
    print(f"best order {best}, array turned by {turned}; {args.iterations} iterations in {seconds:.0f} s")
    print(f"residual {misfit:.3f}, of the background alone {flat:.3f}; most light at {z[int(mass.argmax())]:+.0f} nm")
    return 0 if np.isfinite(volume.values_zyx).all() and misfit < flat else 1


if __name__ == "__main__":
    sys.exit(main())
