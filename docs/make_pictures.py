"""Make docs/pictures/main_job.png: napari with the main job on real frames.

    xvfb-run -a -s "-screen 0 1920x1200x24" python docs/make_pictures.py [--frames N] [--data DIR]

DIR holds the Tetrapod STORM frames and their phase mask (../shared/data/engineered_psf/tetrapod_storm, MIT). The frames are
reconstructed as `vsmlm reconstruct` would, the result is opened in napari, and a screenshot is taken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from napari_volumetric_smlm.domain.images import StackNote  # noqa: E402
from napari_volumetric_smlm.domain.plans import ReconstructPlan  # noqa: E402
from napari_volumetric_smlm.io.instruments import save_instrument  # noqa: E402
from napari_volumetric_smlm.io.stacks import open_stack, write_note  # noqa: E402
from napari_volumetric_smlm.io.tables import write_table  # noqa: E402
from napari_volumetric_smlm.plugin.demo import show_result, wait_until  # noqa: E402
from napari_volumetric_smlm.plugin.layers import FRAMES, PICTURE  # noqa: E402
from napari_volumetric_smlm.recipes import finish  # noqa: E402
from napari_volumetric_smlm.recipes.reconstruct import reconstruct  # noqa: E402
from real_tetrapod import tetrapod_instrument  # noqa: E402


def main() -> int:
    """Reconstruct, open napari, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "engineered_psf" / "tetrapod_storm")
    parser.add_argument("--frames", type=int, default=10, help="frames to reconstruct, from the first")
    options = parser.parse_args()
    picture = ROOT / "docs" / "pictures" / "main_job.png"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = folder / "frames.tif"
        shutil.copy(options.data / "frames.tif", frames)
        write_note(frames, StackNote(kind="frames", pixel_nm=110.0))
        instrument = tetrapod_instrument(options.data)
        save_instrument(instrument, folder / "calibrated.json")
        plan = ReconstructPlan(last_frame=options.frames - 1)
        result = finish(reconstruct(open_stack(frames, kind="frames"), instrument, plan))
        write_table(result.localizations, folder / "molecules.csv")
        photograph(folder, picture)
    return 0


def photograph(folder: Path, picture: Path) -> None:
    """Open the result in napari; the first frame with its molecules, and the super-resolved picture, side by side."""
    import napari
    import numpy as np
    from matplotlib.image import imread, imsave

    from napari_volumetric_smlm.plugin.actions import open_widget

    viewer = napari.Viewer(title="Volumetric SMLM")
    viewer.window.resize(1300, 800)
    viewer.open(str(folder / "frames.tif"), plugin="napari-volumetric-smlm")
    widget = open_widget(viewer)
    show_result(widget, folder)
    wait_until(lambda: not widget.finisher.busy)
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.dims.set_current_step(0, 0)
    shots = []
    for role in (FRAMES, PICTURE):
        widget.views.choose(role)
        viewer.reset_view()
        viewer.scene.camera.zoom *= 1.6 if role == FRAMES else 2.2
        end = time.monotonic() + 2
        wait_until(lambda end=end: time.monotonic() > end)
        shot = folder / f"{role}.png"
        viewer.screenshot(str(shot), canvas_only=role == PICTURE, flash=False)
        shots.append(imread(shot))
    viewer.close()
    height = min(len(shot) for shot in shots)
    imsave(picture, np.concatenate([shot[:height, :, :3] for shot in shots], axis=1))


if __name__ == "__main__":
    sys.exit(main())
