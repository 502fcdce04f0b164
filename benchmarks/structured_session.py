"""Structured illumination in napari, with a clock: python benchmarks/structured_session.py [--size PX] [--times N] [--json FILE].

Opens the sample, presses the button and waits for the reconstruction; then changes settings of the reconstruction and waits for each
preview; then runs a series of simulated frames of --size and stops a second one. The clock is that of benchmarks/napari_session.py.

Bars: at most three clicks to the first reconstruction; every preview at 256 x 256 within 0.5 s of the change (pause included); no gap
above 200 ms between the first and the last tick of a job, apart from loading torch, making layers and drawing the canvas, which are
reported apart; Stop acts within 1 s and keeps what is there. Exit status 1 when one is missed. Without a display it starts itself
under xvfb-run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from napari_session import (
    LARGEST_GAP_S,
    LONGEST_STOP_S,
    MOST_CLICKS,
    Clock,
    conclude,
    has_display,
    open_napari,
    under_xvfb,
    wait,
    workers,
)

LONGEST_PREVIEW_S = 0.5
# values of the Wiener parameter, attenuation and apodization, one after the other
CHANGES = {"wiener": (0.3, 0.05, 0.15), "attenuation": (0.5, 0.99, 0.8), "apodization": (0.3, 1.5)}


def session(size: int, times: int) -> dict[str, Any]:
    """One session; returns its figures."""
    viewer, clock, errors = open_napari()
    from napari_volumetric_smlm.plugin import structured_view
    from napari_volumetric_smlm.plugin.actions import STRUCTURED, open_widget

    for name in ("_put", "remove"):
        clock.watch(structured_view.StructuredView, name, "layers")
    clock.start()
    began = time.perf_counter()
    viewer.open_sample("napari-volumetric-smlm", "structured")
    wait(lambda: len(viewer.window.dock_widgets) > 0, 5.0)
    widget = open_widget(viewer, STRUCTURED)
    figures: dict[str, Any] = {"clicks": 2, "load": os.getloadavg()[0]}
    figures["sample"] = run(widget, clock)
    figures["result_s"] = time.perf_counter() - began
    figures["verdict"] = widget.evidence.words.text()
    figures["previews_s"] = previews(widget)
    if times:
        show_series(viewer, size, times)
        wait(lambda: False, 0.5)
        figures["series"] = run(widget, clock)
        figures["stop"] = stop(widget, clock)
    figures["threads_left"] = not wait(lambda: not workers(), 10.0)
    viewer.close()
    wait(lambda: False, 0.5)
    return figures | {"errors": errors}


def run(widget: Any, clock: Clock, until: Any = None) -> dict[str, Any]:
    """Press the button; wait for the end, or for what `until` says, and then press again."""
    from napari_volumetric_smlm.plugin.workers import LOADING

    ticks: list[tuple[float, str]] = []
    ended: list[Any] = []
    widget.panel.ticked.connect(lambda tick: ticks.append((time.perf_counter(), tick.progress.stage)))
    widget.panel.ended.connect(ended.append)
    began = time.perf_counter()
    widget.panel.button.click()
    stopped = 0.0
    if until is not None and wait(lambda: until() or bool(ended)):
        stopped = time.perf_counter()
        widget.panel.button.click()
    wait(lambda: bool(ended) and not widget.view.busy)
    last = time.perf_counter()
    loaded = [t for t, stage in ticks if stage != LOADING.stage] or [began]
    gross, net, apart = clock.gaps(loaded[0], last)
    figures = {"kind": ended[0].kind, "seconds": last - began, "gross_gap_s": gross, "gap_s": net, "apart_s": apart}
    return figures | ({"stop_s": last - stopped} if stopped else {})


def stop(widget: Any, clock: Clock) -> dict[str, Any]:
    """Run again and stop in the middle."""
    figures = run(widget, clock, lambda: len(widget._images) > 3)
    return figures | {"kept": sum("stopped after" in layer.name for layer in widget.viewer.layers), "message": widget.panel.message.text()}


def previews(widget: Any) -> list[float]:
    """Seconds from each change of a setting to its preview."""
    shown: list[float] = []
    widget.retouch.shown.connect(lambda: shown.append(time.perf_counter()))
    seconds = []
    for name, value in [(name, value) for name, values in CHANGES.items() for value in values]:
        wait(lambda: not widget.retouch.preview.job.busy, 5.0)
        wait(lambda: False, 0.4)
        shown.clear()
        began = time.perf_counter()
        widget.forms.filter.editors[name].setText(str(value))
        wait(lambda: bool(shown), 10.0)
        seconds.append(shown[0] - began if shown else float("inf"))
    return seconds


def show_series(viewer: Any, size: int, times: int) -> None:
    """Open simulated frames in memory, of the sample's microscope."""
    from napari.layers import Layer

    from napari_volumetric_smlm.domain.structured_plans import StructuredSimulatePlan
    from napari_volumetric_smlm.io.samples import sample_instrument
    from napari_volumetric_smlm.plugin.layers import lay_stack
    from napari_volumetric_smlm.recipes import finish
    from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

    microscope = sample_instrument("structured")
    plan = StructuredSimulatePlan(shape_yx_px=(size, size), time_count=times, otf_damping=0.3, device="cpu")
    viewer.layers.clear()
    viewer.layers.append(Layer.create(*lay_stack(finish(simulate_structured(microscope, plan)).stack, microscope)[0]))


def bars(f: dict[str, Any], size: int) -> list[tuple[str, bool]]:
    """Every bar that the session is held to, in words, and whether it is met."""
    opened = f"sample: {f['clicks']} clicks, {f['result_s']:.1f} s: {f['verdict']}"
    found = [
        (f"errors: {f['errors'] or 'none'}", not f["errors"]),
        (f"threads left behind: {'yes' if f['threads_left'] else 'none'}", not f["threads_left"]),
        (opened, f["clicks"] <= MOST_CLICKS and f["verdict"].startswith("✓")),
    ]
    longest, usual = max(f["previews_s"]), statistics.median(f["previews_s"])
    words = f"preview at 256 x 256: median {usual:.2f} s, longest {longest:.2f} s of {len(f['previews_s'])}"
    found.append((words, longest <= LONGEST_PREVIEW_S))
    for name in ("sample", "series"):
        if name in f:
            part = f[name]
            others = ", ".join(f"{kind} {1e3 * s:.0f}" for kind, s in part["apart_s"].items())
            words = f"{name}, {size if name == 'series' else 256} px: {part['kind']} after {part['seconds']:.1f} s, largest gap "
            words += f"{1e3 * part['gap_s']:.0f} ms (apart: {others} ms; all together {1e3 * part['gross_gap_s']:.0f} ms)"
            found.append((words, part["kind"] == "done" and part["gap_s"] <= LARGEST_GAP_S))
    if "stop" in f:
        part = f["stop"]
        words = f"stop: {part['kind']} after {part.get('stop_s', float('nan')):.2f} s: {part['message']}"
        found.append((words, part["kind"] == "stopped" and part["stop_s"] < LONGEST_STOP_S and part["kept"] == 1))
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the frames of the series")
    parser.add_argument("--times", type=int, default=20, help="time points of the series; 0 = no series")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/structured_session.json"))
    chosen = parser.parse_args()
    os.environ.pop("QT_QPA_PLATFORM", None)
    if not has_display():
        return under_xvfb()
    figures = session(chosen.size, chosen.times)
    return conclude(figures, bars(figures, chosen.size), chosen.json)


if __name__ == "__main__":
    sys.exit(main())
