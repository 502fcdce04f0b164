"""Live preview: explain the current frame again whenever a setting or the frame changes, and never show what is out of date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from .workers import Job, Outcome, Recipe

DEBOUNCE_MS = 200


class Preview(QObject):
    """Starts the newest wish a short time after the last change; older ones are stopped, and dropped if they end too late.

    wish : returns (context, begin) for what should be shown now, or None when it cannot be. pause_ms : how long to wait for more changes.
    arrived : the context of the wish and what the recipe returned.
    """

    arrived = Signal(object, object)
    failed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(
        self, wish: Callable[[], tuple[Any, Callable[[], Recipe]] | None], parent: QObject | None = None, pause_ms: int = DEBOUNCE_MS
    ) -> None:
        super().__init__(parent)
        self.wish = wish
        self.enabled = False
        self.job = Job(self)
        # a newer change makes whatever runs stale
        self.generation = 0
        self._running: tuple[int, Any] = (0, None)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(pause_ms)
        self._timer.timeout.connect(self._begin)
        self.job.ended.connect(self._on_end)

    def enable(self, enabled: bool) -> None:
        """Turn the preview on or off."""
        self.enabled = enabled
        if enabled:
            self.ask()
        else:
            self.cancel()

    def ask(self) -> None:
        """Something changed: preview again, unless more changes follow at once."""
        self.generation += 1
        if self.enabled:
            self._timer.start()

    def cancel(self) -> None:
        """Stop, and drop what is on its way."""
        self.generation += 1
        self._timer.stop()
        self.job.stop()

    def _begin(self) -> None:
        if not self.enabled:
            return
        if self.job.busy:
            # the end of this one starts the next
            self.job.stop()
            return
        wished = self.wish()
        if wished is not None:
            self._running = (self.generation, wished[0])
            self.busy_changed.emit(True)
            self.job.start(wished[1], quiet=True)

    def _on_end(self, outcome: Outcome) -> None:
        generation, context = self._running
        self.busy_changed.emit(False)
        if generation != self.generation or outcome.kind == "stopped":
            if self.enabled and generation != self.generation:
                self._timer.start()
            return
        self._tell(outcome, context)

    def _tell(self, outcome: Outcome, context: Any) -> None:
        value: Any = outcome.value
        if outcome.kind == "failed":
            self.failed.emit(outcome.error)
        else:
            self.arrived.emit(context, value)
