"""The big button of a widget with its progress, states and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPlainTextEdit, QProgressBar, QPushButton, QToolButton, QVBoxLayout, QWidget

from ...domain.runs import Progress
from ...errors import SmlmError
from ..report import Log
from ..workers import Job, Outcome, Recipe, State, Tick


class JobPanel(QWidget):
    """Run turns to Stop; phase, count, rate and time left; the same bar in napari's activity dock; errors in words with Details.

    Parameters
    ----------
    title
        What the button says ("Reconstruct"), also the name in the activity dock.
    stop_tip
        What the button does while the job runs.
    """

    clicked = Signal()
    ticked = Signal(object)
    ended = Signal(object)

    def __init__(self, title: str, log: Log, stop_tip: str = "Stop and keep what has been found so far") -> None:
        super().__init__()
        self.title, self.log, self.stop_tip = title, log, stop_tip
        self.job = Job(self)
        self._reason = ""
        # name of the stage, when it began, and how much was done then: a training goes on in the middle
        self._stage: tuple[str, float, int] = ("", 0.0, 0)
        self._dock_bar: Any = None
        self.button = QPushButton(title)
        self.button.setObjectName("run")
        self.button.setAccessibleName(title)
        self.button.setMinimumHeight(38)
        font = self.button.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.2)
        self.button.setFont(font)
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAccessibleName("State")
        self.details_button = QToolButton()
        self.details_button.setText("Details")
        self.details_button.setCheckable(True)
        self.details_button.setToolTip("Show what exactly went wrong, for a bug report")
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setMaximumHeight(160)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.button, self.bar, self.message, self.details_button, self.details):
            layout.addWidget(part)
        for part in (self.bar, self.details_button, self.details):
            part.hide()
        self.button.clicked.connect(self._on_click)
        self.details_button.toggled.connect(self.details.setVisible)
        self.job.ticked.connect(self._on_tick)
        self.job.ended.connect(self._on_end)
        self.job.state_changed.connect(self._show_state)

    def set_reason(self, reason: str) -> None:
        """Disable the button with a reason in its tooltip and under it; an empty reason enables it."""
        self._reason = reason
        self._show_state(self.job.state)
        if not self.job.busy and self.job.state is State.IDLE:
            self.message.setText(reason)

    def run(self, begin: Callable[[], Recipe]) -> None:
        """Start a recipe; `begin` imports and calls it in the worker's thread."""
        self._stage = ("", 0.0, 0)
        self._hide_error()
        self.bar.setRange(0, 0)
        self.bar.show()
        self.message.setText("Starting ...")
        self._dock_bar = _dock_progress(self.title)
        self.log.add(f"{self.title}: started")
        self.job.start(begin)

    def say(self, text: str) -> None:
        """Show a sentence under the button."""
        self.message.setText(text)

    def show_error(self, error: BaseException) -> None:
        """Show an error in words, keep its traceback under Details and in the log."""
        known = isinstance(error, SmlmError)
        words = str(error) if known else f"Something went wrong inside the program: {type(error).__name__}: {error}"
        self.message.setText(f"⚠ {words}")
        self.details.setPlainText(self.log.add_error(error))
        self.details_button.setChecked(False)
        self.details_button.show()

    def _hide_error(self) -> None:
        self.details_button.setChecked(False)
        self.details_button.hide()

    def _on_click(self) -> None:
        if self.job.busy:
            self.job.stop()
        else:
            self.clicked.emit()

    def _on_tick(self, tick: Tick) -> None:
        self._show_progress(tick.progress)
        self.ticked.emit(tick)
        if self._dock_bar is not None:
            # last: this lets Qt work
            _move_dock(self._dock_bar, f"{self.title}: {tick.progress.stage}", tick.progress.done, tick.progress.total)

    def _show_progress(self, progress: Progress) -> None:
        if progress.stage != self._stage[0]:
            self._stage = (progress.stage, self.job.seconds, max(0, progress.done - 1))
            self.log.add(f"{self.title}: {progress.message or progress.stage}")
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        text = progress.message or progress.stage
        if progress.total:
            text += f" · {progress.done:,} of {progress.total:,}" + self._rate(progress)
        found = progress.numbers.get("molecules")
        if found is not None:
            text += f" · {found:,.0f} molecules"
        self.message.setText(text)

    def _rate(self, progress: Progress) -> str:
        seconds = self.job.seconds - self._stage[1]
        done = progress.done - self._stage[2]
        if done < 1 or seconds < 0.5:
            return ""
        rate = done / seconds
        left = (progress.total - progress.done) / rate
        speed = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"
        return f" · {speed} · {spell_seconds(left)} left"

    def _on_end(self, outcome: Outcome) -> None:
        if self._dock_bar is not None:
            self._dock_bar.close()
            self._dock_bar = None
        self.bar.hide()
        took = spell_seconds(self.job.seconds)
        if outcome.kind == "failed" and outcome.error is not None:
            self.show_error(outcome.error)
        else:
            self.message.setText(f"{'Done' if outcome.kind == 'done' else 'Stopped'} after {took}")
            self.log.add(f"{self.title}: {outcome.kind} after {took}")
        self.ended.emit(outcome)

    def _show_state(self, state: State) -> None:
        self.button.setText({State.RUNNING: "Stop", State.STOPPING: "Stopping ..."}.get(state, self.title))
        enabled = state is State.RUNNING or (state is not State.STOPPING and not self._reason)
        self.button.setEnabled(enabled)
        tips = {State.RUNNING: self.stop_tip, State.STOPPING: "Waiting for the current step to end"}
        self.button.setToolTip(tips.get(state, self._reason or f"{self.title} (Ctrl+Return)"))

    def close_job(self) -> None:
        """Leave a running job alone: the widget or viewer goes away."""
        self.job.abandon()
        if self._dock_bar is not None:
            self._dock_bar.close()
            self._dock_bar = None


def spell_seconds(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _dock_progress(title: str) -> Any:
    from napari.utils import progress

    return progress(total=0, desc=title)


def _move_dock(bar: Any, text: str, done: int, total: int) -> None:
    if bar.desc.removesuffix(": ") != text:
        bar.set_description(text)
    if bar.total != total:
        bar.total = total
    if total and done != bar.n:
        bar.update(done - bar.n)
