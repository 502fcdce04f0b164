"""Between recipes and threads, the only place: guard, progress, cancel, drop.

napari's workers have traps, each of which cost somebody an afternoon:
a RuntimeError (every shape error of torch) vanishes without a signal; an errored worker raises a second error in napari's own
status slot; after quit() the generator's `finally` waits for the garbage collector while the window keeps the worker; a short job
may end before quit() is seen. So the guard below turns errors and cancels into returned values, and closes the recipe itself.
And moving a bar of the activity dock lets Qt deliver the next signal inside the slot of the last one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from ..domain.runs import Progress

# signals to the GUI at most four times a second: more is only work for both threads
TICK_SECONDS = 0.25
# a recipe should answer a cancel at its next step; after this we stop waiting for it
DROP_AFTER_MS = 800
LOADING = Progress(stage="Loading engine", message="Loading engine ... (once per session, a few seconds)")

Recipe = Generator[Progress, None, Any]
# signals hold the object of a slot only weakly; one that is gone while a signal is on its way ends the process
_ALIVE: set[_Run] = set()


class State(StrEnum):
    """What a job is doing."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Tick:
    """What the GUI hears about a running job: the latest progress and the previews since the last tick."""

    progress: Progress
    previews: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `value` is what the recipe returned, `error` what it raised."""

    kind: Literal["done", "stopped", "failed"]
    value: Any = None
    error: Exception | None = None


def guarded(begin: Callable[[], Recipe], stop: threading.Event) -> Generator[Tick, None, Outcome]:
    """Run a recipe in a worker thread: throttled ticks, errors and cancels as a returned value, the recipe always closed.

    Parameters
    ----------
    begin
        Imports and starts the recipe. It is called in the worker's thread, because the first import of torch takes seconds.
    stop
        Set by the GUI to cancel; looked at after every step of the recipe.
    """
    steps: Recipe | None = None
    latest = Progress(stage="Starting")
    waiting: list[Any] = []
    told = 0.0
    try:
        if "torch" not in sys.modules:
            yield Tick(LOADING)
        steps = begin()
        while not stop.is_set():
            try:
                progress = next(steps)
            except StopIteration as end:
                if waiting:
                    yield Tick(latest, tuple(waiting))
                return Outcome("done", end.value)
            latest = progress.model_copy(update={"preview": None})
            if progress.preview is not None:
                waiting.append(progress.preview)
            now = time.monotonic()
            if now - told >= TICK_SECONDS:
                told = now
                previews, waiting = tuple(waiting), []
                yield Tick(latest, previews)
        if waiting:
            yield Tick(latest, tuple(waiting))
        return Outcome("stopped")
    except Exception as error:
        if waiting:
            yield Tick(latest, tuple(waiting))
        return Outcome("failed", error=error)
    finally:
        if steps is not None:
            steps.close()


class Job(QObject):
    """One job at a time for one widget; the widget hears `ticked`, then `ended` exactly once.

    State : idle -> running -> (stopping ->) done or failed. `seconds` since the start.
    patience_ms : how long a stop waits for the job's step to end before the GUI goes on without it.
    """

    ticked = Signal(object)
    ended = Signal(object)
    state_changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = State.IDLE
        self.started_at = 0.0
        self.patience_ms = DROP_AFTER_MS
        self._run: _Run | None = None

    @property
    def busy(self) -> bool:
        """Whether a job runs or is being stopped."""
        return self.state in (State.RUNNING, State.STOPPING)

    @property
    def seconds(self) -> float:
        """Time since the job began."""
        return time.monotonic() - self.started_at

    def start(self, begin: Callable[[], Recipe], quiet: bool = False) -> None:
        """Start a recipe in a thread of its own; does nothing while another one runs.

        Parameters
        ----------
        begin
            Imports the recipe and returns its generator; called in the other thread.
        quiet
            For previews: the window neither lists the job nor asks about it when it is closed.
        """
        if self.busy:
            return
        self.started_at = time.monotonic()
        self._run = _Run(self, begin, quiet)
        self._change(State.RUNNING)
        self._run.worker.start()

    def stop(self) -> None:
        """Ask the job to end at its next step; when it does not in time, the GUI goes on without it."""
        run = self._run
        if run is None or self.state is not State.RUNNING:
            return
        self._change(State.STOPPING)
        run.stop.set()
        QTimer.singleShot(self.patience_ms, run.drop)

    def abandon(self) -> None:
        """Stop without a word: the widget or the viewer goes away."""
        run, self._run = self._run, None
        if run is not None:
            run.stop.set()
            run.owner = None
            run.worker.quit()
        if self.busy:
            self._change(State.DONE)

    def _finish(self, outcome: Outcome) -> None:
        self._run = None
        self._change(State.FAILED if outcome.kind == "failed" else State.DONE)
        self.ended.emit(outcome)

    def _change(self, state: State) -> None:
        self.state = state
        self.state_changed.emit(state)


class _Run:
    """One worker and what it has told; knows its owner only while the owner wants to hear from it."""

    def __init__(self, owner: Job, begin: Callable[[], Recipe], quiet: bool) -> None:
        self.owner: Job | None = owner
        self.stop = threading.Event()
        self.outcome: Outcome | None = None
        self._inbox: deque[Tick | Outcome] = deque()
        self._telling = False
        self.steps: Generator[Tick, None, Outcome] | None = guarded(begin, self.stop)
        self.worker = _create_worker(quiet, self.steps)
        self.worker.yielded.connect(self._on_tick)
        self.worker.returned.connect(self._on_outcome)
        self.worker.finished.connect(self._on_finished)
        _ALIVE.add(self)

    def _on_tick(self, tick: Tick) -> None:
        self._inbox.append(tick)
        self._tell()

    def _on_outcome(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def _on_finished(self) -> None:
        # after quit() (the window closes) the steps still hang at their last yield; the window may keep the worker for ever,
        # so nothing large may hang on it
        steps, self.steps = self.steps, None
        if steps is not None:
            steps.close()
        outcome, self.outcome = self.outcome, None
        self._inbox.append(outcome or Outcome("stopped"))
        self._tell()
        # not inside its own slot
        QTimer.singleShot(0, lambda: _ALIVE.discard(self))

    def _tell(self) -> None:
        # napari's progress bars let Qt work while they are moved: the next tick, even the end, then arrives inside the slot of
        # the one before; telling one after the other keeps their order
        if self.owner is not None and not isalive(self.owner):
            # the window was destroyed as a whole
            self.owner = None
            self.stop.set()
        if self._telling:
            return
        self._telling = True
        try:
            while self._inbox and self.owner is not None:
                news = self._inbox.popleft()
                if isinstance(news, Tick):
                    self.owner.ticked.emit(news)
                else:
                    owner, self.owner = self.owner, None
                    owner._finish(news)
        finally:
            self._telling = False

    def drop(self) -> None:
        """Go on without a worker that does not answer; it closes its recipe by itself at its next step."""
        owner, self.owner = self.owner, None
        if owner is not None:
            owner._finish(Outcome("stopped"))


def _relay(steps: Generator[Tick, None, Outcome]) -> Generator[Tick, None, Outcome]:
    # workers want a generator function; the generator itself stays in our hands, so that we can close it
    return (yield from steps)


def _create_worker(quiet: bool, steps: Generator[Tick, None, Outcome]) -> Any:
    if quiet:
        from superqt.utils import create_worker
    else:
        from napari.qt.threading import create_worker
    return create_worker(_relay, steps, _start_thread=False, _ignore_errors=True)
