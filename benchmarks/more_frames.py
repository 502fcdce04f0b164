"""Draw more frames of the kind that `deepstorm3d.py` scores: python benchmarks/more_frames.py SETTING N [--frames 60] [--seed 0].

SETTING is high_snr or storm, N the mean number of molecules of a frame of 121 x 121 pixels, all in its central 81 x 81. The optics are
the written ones (score with --written-model); photons, background, blur and noise are those that the README of the peer's data states.
frames.tif, truth.csv and the phase mask go into --output, in the layout that `deepstorm3d.py --data` reads.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch

from deepstorm3d import PEERS
from instruments_of_peers import PIXEL_NM, SETTINGS
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.simulate import simulate

SIDE_PX, BORDER_PX = 121, 20
LIGHT = {
    "high_snr": {"photons": (10_000, 60_000), "background_photons": (25, 125), "background_structure": "gaussian"},
    "storm": {"photons": (6_000, 12_000), "photon_distribution": "gamma", "background_photons": (0, 0), "background_structure": "flat"},
}
NARROWEST_BLUR_PX, WIDEST_BLUR_PX = 0.75, 1.25  # of high_snr, per molecule


def main() -> int:
    """Draw one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=list(LIGHT))
    parser.add_argument("molecules", type=int, help="mean number of molecules of a frame")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=PEERS, help="folder with the phase masks")
    parser.add_argument("--output", type=Path, default=Path("benchmark-output/more_frames"))
    chosen = parser.parse_args()
    setting = SETTINGS[chosen.setting]
    instrument = setting.instrument(chosen.data)
    blur = (0.0, 0.0)
    if chosen.setting == "high_snr":
        narrow = NARROWEST_BLUR_PX * PIXEL_NM
        instrument = instrument.model_copy(update={"views": (instrument.views[0].model_copy(update={"blur_nm": narrow}),)})
        blur = (0.0, float(np.sqrt((WIDEST_BLUR_PX * PIXEL_NM) ** 2 - narrow**2)))
    area_um2 = ((SIDE_PX - 2 * BORDER_PX) * PIXEL_NM * 1e-3) ** 2
    plan = SimulatePlan.model_validate({
        **LIGHT[chosen.setting], "frame_count": chosen.frames, "shape_yx_px": (SIDE_PX, SIDE_PX), "border_px": BORDER_PX,
        "density_per_um2": chosen.molecules / area_um2, "mean_on_frames": 0.0, "blur_nm": blur, "seed": chosen.seed,
    })  # fmt: skip
    made = finish(simulate(instrument, plan))
    folder = chosen.output / f"{chosen.setting}_{chosen.molecules:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.asarray(made.stack.counts_tyx[0][:], dtype=np.float64)
    if chosen.setting == "storm":  # one baseline for each frame, as the peer's
        baseline = torch.rand(chosen.frames, generator=torch.Generator().manual_seed(chosen.seed)).numpy()
        counts += (20 * baseline - 10)[:, None, None]
    tifffile.imwrite(folder / "frames.tif", counts.round().clip(0, 65535).astype(np.uint16))
    write_table(made.truth, folder / "truth.csv")
    shutil.copy(chosen.data / setting.mask_file, chosen.output)
    print(f"{folder}: {chosen.frames} frames, {len(made.truth) / chosen.frames:.1f} molecules each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
