"""The demo in napari's window: the result of the main job, or the main job itself on the sample data."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..io.napari_version import napari_problem

SIZE_PX = (1300, 880)
LONGEST_S = 600.0


def main(argv: list[str] | None = None) -> int:
    """Open napari with a result; 0 when it was shown or why not was said, 1 when the job failed, 2 for a folder without a result."""
    parser = argparse.ArgumentParser(prog="python -m napari_volumetric_smlm.plugin.demo", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="Folder that `vsmlm demo` filled; left out = do the main job on sample data.")
    parser.add_argument("--sample", default="astigmatic", help="Sample for the main job (default: astigmatic).")
    parser.add_argument("--screenshot", type=Path, metavar="FILE.png", help="Take a screenshot and end.")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="Like --screenshot FOLDER/screenshot.png.")
    parser.add_argument("--no-window", action="store_true", help="Only say whether the window could open.")
    args = parser.parse_args(argv)
    reason = why_not()
    if reason or args.no_window:
        say(reason or "The window could open.")
        return 0
    if args.folder is not None and not (args.folder / "frames.tif").is_file():
        say(f"{args.folder} holds no frames.tif: make the demo's results first with: vsmlm demo --output {args.folder} --no-window")
        return 2
    place = args.screenshot or (args.output / "screenshot.png" if args.output is not None else None)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
    return show(args.folder, args.sample, place)


def why_not() -> str:
    """Say why napari's window cannot open here; empty when it can."""
    problem = napari_problem()
    if problem:
        return f"The window is left out: {problem}"
    offscreen = os.environ.get("QT_QPA_PLATFORM", "") in ("offscreen", "minimal")
    linux_without = sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if offscreen or linux_without:
        return "There is no display: the window is left out. With xvfb installed: xvfb-run python -m napari_volumetric_smlm.plugin.demo"
    return ""


def show(folder: Path | None, sample: str, screenshot: Path | None) -> int:
    """Open the window; with `screenshot` take one and close."""
    import napari

    from .actions import open_widget

    viewer = napari.Viewer(title="Volumetric SMLM")
    viewer.window.resize(*SIZE_PX)
    if folder is None:
        viewer.open_sample("napari-volumetric-smlm", sample)
    else:
        viewer.open(str(folder / "frames.tif"), plugin="napari-volumetric-smlm")
    widget = open_widget(viewer)
    failed = False
    if folder is None:
        widget.panel.button.click()
        failed = not wait_until(lambda: not widget.panel.job.busy) or widget.session.table is None
    else:
        show_result(widget, folder)
    wait_until(lambda: not widget.finisher.busy)
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.reset_view()
    if screenshot is None:
        napari.run()
        return int(failed)
    # let Qt lay out and paint
    end = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > end)
    viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    viewer.close()
    say(f"Screenshot: {screenshot}")
    return int(failed)


def show_result(widget: Any, folder: Path) -> None:
    """Show table and picture of a folder that `vsmlm demo` filled."""
    from ..io.tables import read_table

    calibrated = folder / "calibrated.json"
    if calibrated.is_file():
        widget.instrument.load(calibrated)
    if (folder / "molecules.csv").is_file():
        widget.session.keep_table(read_table(folder / "molecules.csv"))
        widget.draw()


def wait_until(done: Any, seconds: float = LONGEST_S) -> bool:
    """Let Qt work until something is done; whether it was in time."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    return bool(done())


def say(text: str) -> None:
    """Tell the user something."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
