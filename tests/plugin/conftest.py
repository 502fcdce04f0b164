"""A viewer, one toy movie on disk and recipes that take milliseconds in place of the real ones."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import StackNote
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.runs import FrameExplanation, Progress, Reconstruction
from napari_volumetric_smlm.io.instruments import save_instrument
from napari_volumetric_smlm.io.results import write_image
from napari_volumetric_smlm.io.stacks import write_note

PIXEL_NM = 110.0
FRAMES, ROWS, COLUMNS = 6, 40, 50


def molecules(frames: range, each: int = 2) -> Localizations:
    """Return molecules on the centres of pixels: in frame t at row 10 + t and column 20 (and 30)."""
    frame = np.repeat(np.array(frames), each)
    return Localizations(
        columns={
            "frame": frame,
            "z_nm": np.linspace(0, 900, len(frame)),
            "y_nm": (10.0 + frame) * PIXEL_NM,
            "x_nm": np.tile(20.0 + 10.0 * np.arange(each), len(frames)) * PIXEL_NM,
            "photons": np.linspace(1000, 5000, len(frame)),
        },
        z_reference="coverslip",
        pixel_nm=PIXEL_NM,
        frame_count=FRAMES,
        shape_yx_px=(ROWS, COLUMNS),
    )


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory, toy_instrument: Any) -> Path:
    """Return a TIFF file of six frames with a note that says what it is and which instrument took it."""
    folder = tmp_path_factory.mktemp("movie")
    counts = np.full((FRAMES, ROWS, COLUMNS), 100, np.uint16)
    for t in range(FRAMES):
        counts[t, 10 + t, [20, 30]] = 2000
    path = write_image(counts, folder / "frames.tif", (1.0, PIXEL_NM, PIXEL_NM), axes="TYX")
    save_instrument(toy_instrument, folder / "toy.json")
    write_note(path, StackNote(kind="frames", instrument="toy.json"))
    return path


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep what the plugin remembers and saves in the test's own folder."""
    from napari_volumetric_smlm.plugin import settings

    monkeypatch.setattr(settings, "settings_folder", lambda: tmp_path / "settings")
    from napari_volumetric_smlm.plugin import session

    monkeypatch.setattr(session, "settings_folder", lambda: tmp_path / "settings")
    return tmp_path / "settings"


@pytest.fixture(scope="module")
def window(qapp: Any) -> Generator[Any, None, None]:
    """Return one viewer for all tests of a module, not shown: making one takes seconds."""
    import napari

    viewer = napari.Viewer(show=False, show_welcome_screen=False)
    yield viewer
    viewer.close()


@pytest.fixture
def make_viewer(qapp: Any) -> Generator[Callable[[], Any], None, None]:
    """Return a maker of viewers that are closed at the end; napari's own fixture would register other plugins' commands twice."""
    import napari

    made: list[Any] = []

    def make() -> Any:
        made.append(napari.Viewer(show=False, show_welcome_screen=False))
        return made[-1]

    yield make
    for viewer in made:
        with contextlib.suppress(RuntimeError):  # the test may have closed it
            viewer.close()


@pytest.fixture
def viewer(window: Any) -> Generator[Any, None, None]:
    """Return the module's viewer without layers, docks and session of the tests before."""
    from napari_volumetric_smlm.plugin import session

    session._SESSIONS.pop(window, None)
    yield window
    for widget in list(window.window.dock_widgets.values()):
        if hasattr(widget, "leave"):
            widget.leave()
            window.window.remove_dock_widget(widget)
            widget.deleteLater()
    window.layers.clear()
    window.dims.reset()


class FakeRecipes:
    """Stands for recipes.reconstruct; tests set what it does.

    steps : called for each frame, in the worker's thread. closed : how often the recipe's own clean-up ran.
    """

    def __init__(self) -> None:
        self.steps: Callable[[int], None] = lambda frame: None
        self.permits = threading.Semaphore(1_000_000)
        self.closed = 0
        self.calls: list[tuple[Any, ...]] = []
        self.explained: list[int] = []

    def hold(self) -> None:
        """Let the recipe wait before each frame for `allow`."""
        self.permits = threading.Semaphore(0)

    def allow(self, frames: int) -> None:
        """Let some more frames pass."""
        for _ in range(frames):
            self.permits.release()

    def reconstruct(self, stack: Any, instrument: Any, plan: Any) -> Generator[Progress, None, Reconstruction]:
        """Two molecules a frame."""
        self.calls.append((stack, instrument, plan))
        try:
            yield Progress(stage="prepare", message="Computing the point-spread function")
            last = stack.frame_count - 1 if plan.last_frame is None else plan.last_frame
            frames = range(plan.first_frame, last + 1)
            for done, frame in enumerate(frames, 1):
                while not self.permits.acquire(timeout=0.05):
                    yield Progress(stage="localize", done=done - 1, total=len(frames))
                self.steps(frame)
                yield Progress(stage="localize", done=done, total=len(frames), preview=molecules(range(frame, frame + 1)))
            return Reconstruction(
                localizations=molecules(frames),
                plan=plan,
                instrument_fingerprint=instrument.fingerprint,
                frames_done=len(frames),
                complete=True,
                seconds=0.1,
            )
        finally:
            self.closed += 1

    def explain_frame(self, stack: Any, instrument: Any, plan: Any, frame: int) -> Generator[Progress, None, FrameExplanation]:
        """What stands in the frame, exactly."""
        yield Progress(stage="prepare")
        self.steps(frame)
        self.explained.append(frame)
        top, left, bottom, right = plan.region_yx_px or (0, 0, *stack.counts_tyx[0].shape[1:])
        photons = np.asarray(stack.counts_tyx[0][frame], np.float32)[None, top:bottom, left:right]
        return FrameExplanation(
            frame=frame,
            localizations=molecules(range(frame, frame + 1)),
            photons_vyx=photons,
            model_vyx=photons * 0.5,
            residual_vyx=photons * 0,
            camera_v=(0,),
            corner_vyx_px=((top, left),),
        )


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> FakeRecipes:
    """Put recipes in place that need no torch and take no time."""
    from napari_volumetric_smlm.plugin import jobs, streaming, workers

    fake = FakeRecipes()
    module: Any = types.ModuleType("napari_volumetric_smlm.recipes.reconstruct")
    module.reconstruct, module.explain_frame = fake.reconstruct, fake.explain_frame
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # every step is told at once: tests must not wait for the clock
    monkeypatch.setattr(workers, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(streaming, "PICTURE_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "prepare_engine", lambda chosen: None)
    monkeypatch.setattr(jobs, "draw", lambda table, plan: quick_volume(table))
    return fake


def quick_volume(table: Localizations) -> Any:
    """Return a picture without torch."""
    from napari_volumetric_smlm.plugin.live import quick_picture

    return quick_picture(table)


@pytest.fixture
def widget(viewer: Any, movie: Path, recipes: FakeRecipes, qtbot: Any) -> Any:
    """Return the Reconstruct widget over the toy movie, in the viewer's dock."""
    from napari_volumetric_smlm.plugin.actions import open_widget

    viewer.open(str(movie), plugin="napari-volumetric-smlm")
    opened = open_widget(viewer)
    yield opened
    recipes.allow(1000)
    opened.leave()
    qtbot.wait_until(lambda: not workers_running(), timeout=5000)


def workers_running() -> bool:
    """Whether a worker of any job still runs."""
    from superqt.utils._qthreading import WorkerBase

    return bool(WorkerBase._worker_set)
