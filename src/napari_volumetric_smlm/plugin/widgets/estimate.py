"""How long a training would take here, and how much memory: measured when asked, in a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ...domain.runs import TrainingCost
from ...errors import SmlmError
from ..settings import preferences
from ..training import estimate_job
from ..workers import Job, Outcome, State, Tick
from .job import spell_seconds
from .sections import Words

ASK = "How long will it take here?"


class Estimate(QWidget):
    """A button that measures some steps of each preset, and what came of it.

    call : returns the instrument second and the plan third, as they are now; it raises where they are none. failed : an error to show.
    """

    failed = Signal(object)

    def __init__(self, call: Callable[[], tuple[Any, ...]]) -> None:
        super().__init__()
        self.call = call
        self._asked: Any = None
        self.job = Job(self)
        self.button = QPushButton(ASK)
        self.button.setToolTip(
            "<qt>Measure a few steps of each preset on this device, usually in less than a minute; nothing is kept.</qt>"
        )
        self.words = Words("Time and memory of the presets")
        self.words.setToolTip("<qt>Memory: of the GPU, or without one of the whole program.</qt>")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.words)
        self.button.clicked.connect(self._on_click)
        self.job.ticked.connect(self._on_tick)
        self.job.ended.connect(self._on_end)
        self.job.state_changed.connect(self._show_state)

    def check(self) -> None:
        """Forget what was measured for other settings than those of now; every preset was measured, so that one does not count."""
        if self.words.text() and self._settings() != self._asked:
            self.job.stop()
            self.words.say("")

    def _settings(self) -> Any:
        try:
            _, instrument, plan, *_ = self.call()
        except SmlmError:
            return None
        return instrument.fingerprint, plan.model_copy(update={"preset": "quick"})

    def _on_click(self) -> None:
        if self.job.busy:
            self.job.stop()
            return
        try:
            _, instrument, plan, *_ = self.call()
        except SmlmError as error:
            self.failed.emit(error)
            return
        chosen = preferences()
        self._asked = self._settings()
        self.words.say("Starting ...")
        self.job.start(lambda: estimate_job(instrument, plan, chosen), quiet=True)

    def _on_tick(self, tick: Tick) -> None:
        if self.job.state is State.RUNNING:
            self.words.say(f"{tick.progress.message or tick.progress.stage} ...")

    def _on_end(self, outcome: Outcome) -> None:
        self.words.say(costs_in_words(outcome.value) if outcome.kind == "done" else "")
        if outcome.kind == "failed":
            self.failed.emit(outcome.error)

    def _show_state(self, state: State) -> None:
        self.button.setText({State.RUNNING: "Stop measuring", State.STOPPING: "Stopping ..."}.get(state, ASK))
        self.button.setEnabled(state is not State.STOPPING)


def costs_in_words(costs: tuple[TrainingCost, ...]) -> str:
    """Say what the presets take."""
    lines = [f"On {costs[0].device}, about"]
    for cost in costs:
        memory = "" if cost.peak_mib is None else f" · {cost.peak_mib / 1024:.1f} GiB"
        lines.append(f"{cost.preset}: {spell_seconds(cost.seconds)}{memory}")
    return "\n".join(lines)
