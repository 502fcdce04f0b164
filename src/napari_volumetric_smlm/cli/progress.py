"""Progress of a recipe on stderr, and Ctrl-C that keeps what is done."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TextIO, TypeVar

from ..domain.runs import Progress
from ..recipes import finish

Result = TypeVar("Result")
SCREEN_SECONDS = 0.2
LOG_SECONDS = 10.0
# before this no rate is worth telling
SHORTEST_STAGE_SECONDS = 0.5


class Stopped(Exception):  # noqa: N818  (a wish of the user, no error)
    """The user pressed Ctrl-C; `previews` are the partial results until then."""

    def __init__(self, previews: list[Any], done: int) -> None:
        super().__init__("stopped")
        self.previews = previews
        self.done = done


class Reporter:
    """Writes one line that changes on a terminal, a line every few seconds into a file, nothing when quiet."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet, self.clock = quiet, clock
        self.on_screen = self.stream.isatty()
        self._stage, self._started, self._first_done = "", clock(), 0
        self._written, self._width = float("-inf"), 0

    def __call__(self, progress: Progress) -> None:
        """Tell about one step, unless the last line is too young."""
        now = self.clock()
        new_stage = progress.stage != self._stage
        if new_stage:
            self._stage, self._started, self._first_done = progress.stage, now, progress.done
        pause = SCREEN_SECONDS if self.on_screen else LOG_SECONDS
        if self.quiet or not (new_stage or now - self._written >= pause):
            return
        self._written = now
        self._write(self._line(progress, now - self._started))

    def close(self) -> None:
        """Leave the line, so that what follows starts on its own."""
        if self._width and self.on_screen:
            self.stream.write("\n")
            self._width = 0

    def _line(self, progress: Progress, seconds: float) -> str:
        parts = [progress.stage]
        done = progress.done - self._first_done
        rate = done / seconds if done > 0 and seconds >= SHORTEST_STAGE_SECONDS else 0.0
        if progress.total:
            parts.append(f"{progress.done} of {progress.total} ({100 * progress.done // progress.total} %)")
        elif progress.done:
            parts.append(str(progress.done))
        if rate:
            parts.append(f"{rate:.3g} per second")
            if progress.total > progress.done:
                parts.append(f"{duration((progress.total - progress.done) / rate)} left")
        if progress.message:
            parts.append(progress.message)
        return ", ".join(parts)

    def _write(self, line: str) -> None:
        if self.on_screen:
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """Return a time in words: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def carry_out(steps: Generator[Progress, None, Result], quiet: bool, watch: Callable[[Progress], object] | None = None) -> Result:
    """Run a recipe to its end with progress on stderr; `watch` sees every step.

    Raises
    ------
    Stopped
        After Ctrl-C, at the recipe's next step; a second Ctrl-C ends at once.
    """
    reporter = Reporter(quiet)
    previews: list[Any] = []
    asked: list[bool] = []

    def report(progress: Progress) -> None:
        if progress.preview is not None:
            previews.append(progress.preview)
        reporter(progress)
        if watch is not None:
            watch(progress)
        if asked:
            raise Stopped(previews, progress.done)

    try:
        with _first_interrupt(asked):
            return finish(steps, report)
    finally:
        reporter.close()


@contextlib.contextmanager
def _first_interrupt(asked: list[bool]) -> Iterator[None]:
    """Let the first Ctrl-C only ask; the second one raises KeyboardInterrupt as usual."""
    usual = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.append(True)
        signal.signal(signal.SIGINT, usual)
        sys.stderr.write("\nStopping after this step; press Ctrl-C again to stop at once.\n")

    try:
        signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: nobody can press keys there
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
