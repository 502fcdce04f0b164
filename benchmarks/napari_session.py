"""A session in napari, with a clock: python benchmarks/napari_session.py [--data DIR] [--json FILE].

For every movie a process of its own opens napari, opens the movie, presses Reconstruct and waits for the picture; a timer of 20 ms
meanwhile notes when it is late. Further processes press Stop, close the window and delete all layers while a job runs.

Bars: at most three clicks and 60 s to the first result (loading torch included); no gap above 200 ms between the first and the last tick
of a job, apart from loading torch, making layers and drawing the canvas, which are reported apart; Stop acts within 1 s and keeps what
was found; closing the window and deleting layers leave no error and no thread behind. Exit status 1 when one is missed.

DIR : movies with notes beside them that say "frames"; left out = the samples that come with the package.
Without a display it starts itself under xvfb-run. What a click is: one choice in a menu or one press of a button.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SAMPLES = ("astigmatic", "tetrapod", "biplane")
MOST_CLICKS, LONGEST_S, LARGEST_GAP_S, LONGEST_STOP_S = 3, 60.0, 0.2, 1.0
TIMER_MS = 20
PATIENCE_S = 300.0
ACTS = ("run", "stop", "close", "delete")
XVFB = ("xvfb-run", "-a", "-s", "-screen 0 1600x1200x24")

Span = tuple[float, float]


class Clock:
    """Ticks of a 20 ms timer in the GUI's thread, and the spans that are reported apart."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.apart: dict[str, list[Span]] = {"layers": [], "canvas": []}

    def start(self) -> None:
        """Start the timer; a QApplication must exist."""
        from qtpy.QtCore import Qt, QTimer

        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(lambda: self.ticks.append(time.perf_counter()))
        self.timer.start(TIMER_MS)

    def watch(self, owner: Any, name: str, kind: str) -> None:
        """Note when a method runs."""
        original = getattr(owner, name)
        spans = self.apart[kind]

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **options)
            finally:
                spans.append((began, time.perf_counter()))

        setattr(owner, name, timed)

    def gaps(self, first: float, last: float) -> tuple[float, float, dict[str, float]]:
        """Largest gap within a span as it is and without what is reported apart, and the longest of each of these (s)."""
        inside = [first, *(t for t in self.ticks if first < t < last), last]
        gross = net = 0.0
        for a, b in pairwise(inside):
            other = sum(covered(spans, a, b) for spans in self.apart.values())
            gross, net = max(gross, b - a), max(net, b - a - other)
        longest = {kind: max((b - a for a, b in spans if first < b and a < last), default=0.0) for kind, spans in self.apart.items()}
        return gross, net, longest


def covered(spans: list[Span], first: float, last: float) -> float:
    """Seconds of [first, last] that spans cover; they do not overlap but for nesting, where the outer one counts."""
    total, reached = 0.0, first
    for a, b in sorted(spans):
        a, b = max(a, reached), min(b, last)
        if b > a:
            total, reached = total + b - a, b
    return total


def wait(done: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Let Qt work until something is done."""
    from qtpy.QtCore import QEventLoop
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while not done() and time.perf_counter() < end:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 10)
        time.sleep(0.001)
    return done()


def open_napari() -> tuple[Any, Clock, list[str]]:
    """A window with settings of its own, a clock that watches its canvas and is not started yet, and the errors that nobody catches."""
    os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
    errors: list[str] = []

    def note(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        errors.append(f"{kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = note
    import napari
    from qtpy import API_NAME
    from vispy.app import use_app

    use_app(API_NAME.lower())  # vispy's canvas exists only after this
    from vispy.app.backends import _qt

    clock = Clock()
    clock.watch(_qt.CanvasBackendDesktop, "paintGL", "canvas")
    viewer = napari.Viewer(title="Volumetric SMLM", show_welcome_screen=False)
    viewer.window.resize(1300, 880)
    wait(lambda: False, 1.0)
    return viewer, clock, errors


def session(movie: str, act: str) -> dict[str, Any]:
    """One session; returns its figures."""
    viewer, clock, errors = open_napari()
    from napari_volumetric_smlm.plugin import overlay
    from napari_volumetric_smlm.plugin.actions import open_widget
    from napari_volumetric_smlm.plugin.layers import PICTURE
    from napari_volumetric_smlm.plugin.workers import LOADING

    clock.watch(overlay.Overlay, "_add", "layers")
    clock.watch(overlay.Overlay, "remove", "layers")
    clock.start()
    began = time.perf_counter()
    if Path(movie).exists():
        viewer.open(movie, plugin="napari-volumetric-smlm")
    else:
        viewer.open_sample("napari-volumetric-smlm", movie)
    clicks = 1
    wait(lambda: len(viewer.window.dock_widgets) > 0, 5.0)
    widget = open_widget(viewer)
    ticks: list[tuple[float, str, int]] = []
    ended: list[Any] = []
    widget.panel.ticked.connect(lambda tick: ticks.append((time.perf_counter(), tick.progress.stage, len(tick.previews))))
    widget.panel.ended.connect(ended.append)
    if not wait(widget.panel.button.isEnabled, 10.0):
        return {"errors": [f"{movie}: Reconstruct cannot be pressed: {widget.panel.message.text()}"]}
    widget.panel.button.click()
    clicks += 1
    figures: dict[str, Any] = {"clicks": clicks, "open_s": time.perf_counter() - began}
    if act == "run":
        figures["finished"] = wait(lambda: bool(ended) and not widget.finisher.busy and bool(widget.overlay.layers(PICTURE)))
        figures["result_s"] = time.perf_counter() - began
        loaded = [t for t, stage, _ in ticks if stage != LOADING.stage]
        figures["loading_s"] = loaded[0] - ticks[0][0] if ticks[0][1] == LOADING.stage else 0.0
        figures["announced"] = ticks[0][1] == LOADING.stage
        figures["gross_gap_s"], figures["gap_s"], figures["apart_s"] = clock.gaps(loaded[0], loaded[-1])
        figures["molecules"] = len(widget.session.table) if widget.session.table is not None else 0
        figures["first_molecules_s"] = next((t for t, _, previews in ticks if previews), float("nan")) - began
    else:
        wait(lambda: any(previews for *_, previews in ticks) or bool(ended))
        figures["was_running"] = widget.panel.job.busy
        figures |= ACTIONS[act](viewer, widget, ended)
    figures["threads_left"] = not wait(lambda: not workers(), 10.0)
    if act != "close":
        viewer.close()
    wait(lambda: False, 0.5)
    figures["errors"] = errors
    return figures


def stop(viewer: Any, widget: Any, ended: list[Any]) -> dict[str, Any]:
    """Press Stop."""
    began = time.perf_counter()
    widget.panel.button.click()
    wait(lambda: bool(ended))
    seconds = time.perf_counter() - began
    wait(lambda: not widget.finisher.busy)
    table = widget.session.table
    marked = table is not None and table.provenance.get("complete") is False
    return {"stop_s": seconds, "molecules": len(table) if table is not None else 0, "marked_as_partial": marked}


def close(viewer: Any, widget: Any, ended: list[Any]) -> dict[str, Any]:
    """Close the window; napari asks back when a job runs, which a script cannot answer."""
    began = time.perf_counter()
    viewer.window._qt_window.close(quit_app=False, confirm_need=False)
    return {"close_s": time.perf_counter() - began}


def delete(viewer: Any, widget: Any, ended: list[Any]) -> dict[str, Any]:
    """Delete all layers; the job goes on."""
    viewer.layers.clear()
    wait(lambda: bool(ended))
    wait(lambda: not widget.finisher.busy)
    kinds = [outcome.kind for outcome in ended]
    return {"ended": kinds, "molecules": len(widget.session.table) if widget.session.table is not None else 0}


ACTIONS = {"stop": stop, "close": close, "delete": delete}


def workers() -> bool:
    """Whether a worker still runs."""
    from superqt.utils._qthreading import WorkerBase

    return bool(WorkerBase._worker_set)


def has_display() -> bool:
    """Whether a window can be opened here."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def under_xvfb() -> int:
    """Run this very command again, with a display; returns its exit status."""
    return subprocess.run([*XVFB, sys.executable, *sys.argv], check=False).returncode


def told(checked: list[tuple[str, bool]]) -> bool:
    """Print bars; whether all are met."""
    for words, met in checked:
        print(f"{'met   ' if met else 'MISSED'} {words}", flush=True)
    return all(met for _, met in checked)


def conclude(figures: dict[str, Any], checked: list[tuple[str, bool]], place: Path, further: str = "") -> int:
    """Print the bars of one session and write them with its figures; returns the exit status."""
    met = told(checked)
    print(f"load of the computer at the start: {figures['load']:.1f}{further}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"session": figures, "bars": checked}, indent=1))
    return 0 if met else 1


def run_apart(movie: str, act: str) -> dict[str, Any]:
    """Run one session in a process of its own, under xvfb-run where there is no display."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, "--one", movie, act, str(answer)]
        environment = os.environ | {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder, "XDG_DATA_HOME": folder}
        environment.pop("QT_QPA_PLATFORM", None)
        if not has_display():
            command = [*XVFB, *command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)
        if done.returncode or not answer.is_file():
            return {"errors": [f"the process ended with {done.returncode}: {done.stderr.strip()[-800:]}"]}
        figures: dict[str, Any] = json.loads(answer.read_text())
    return figures


def bars(movie: str, act: str, f: dict[str, Any]) -> list[tuple[str, bool]]:
    """Every bar that a session is held to, in words, and whether it is met."""
    name = f"{Path(movie).stem}, {act}"
    found = [(f"{name}: errors: {f['errors'] or 'none'}", not f["errors"])]
    if "clicks" not in f:
        return found
    found.append((f"{name}: threads left behind: {'yes' if f['threads_left'] else 'none'}", not f["threads_left"]))
    if act == "run":
        words = f"{name}: {f['molecules']} molecules after {f['clicks']} clicks and {f['result_s']:.1f} s (torch {f['loading_s']:.1f} s)"
        found.append((words, f["finished"] and f["molecules"] > 0 and f["clicks"] <= MOST_CLICKS and f["result_s"] <= LONGEST_S))
        others = ", ".join(f"{kind} {1e3 * s:.0f}" for kind, s in f["apart_s"].items())
        words = f"{name}: largest gap {1e3 * f['gap_s']:.0f} ms (apart: {others} ms; all together {1e3 * f['gross_gap_s']:.0f} ms)"
        found.append((words, f["gap_s"] <= LARGEST_GAP_S))
        found.append((f"{name}: loading torch was announced", f["announced"]))
    else:
        found.append((f"{name}: the job was running", f["was_running"]))
    if act == "stop":
        words = f"{name}: ended after {f['stop_s']:.2f} s, {f['molecules']} molecules kept and marked as partial"
        found.append((words, f["stop_s"] < LONGEST_STOP_S and f["molecules"] > 0 and f["marked_as_partial"]))
    if act == "delete":
        found.append((f"{name}: the job ended {f['ended']} with {f['molecules']} molecules", f["ended"] == ["done"] and f["molecules"] > 0))
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with movies and their notes; left out = the package's samples")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/napari_session.json"))
    parser.add_argument("--one", nargs=3, metavar=("MOVIE", "ACT", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        movie, act, answer = chosen.one
        Path(answer).write_text(json.dumps(session(movie, act)))
        return 0
    movies = list(SAMPLES)
    if chosen.data is not None:
        notes = sorted(chosen.data.glob("*.vsmlm.json"))
        movies = [str(n)[: -len(".vsmlm.json")] for n in notes if json.loads(n.read_text()).get("kind") == "frames"]
        if not movies:
            print(f"{chosen.data}: no movie with a note FILE.vsmlm.json of kind frames was found", file=sys.stderr)
            return 2
    if not (has_display() or shutil.which("xvfb-run")):
        print("there is no display and no xvfb-run: install xvfb", file=sys.stderr)
        return 2
    results, checked = [], []
    for movie, act in [*((movie, "run") for movie in movies), *((movies[0], act) for act in ACTS[1:])]:
        figures = run_apart(movie, act)
        results.append({"movie": Path(movie).stem, "act": act, **figures})
        told(found := bars(movie, act, figures))
        checked += found
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"sessions": results, "bars": [list(c) for c in checked]}, indent=1))
    return 0 if all(met for _, met in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
