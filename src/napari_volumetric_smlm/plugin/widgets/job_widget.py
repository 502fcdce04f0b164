"""What our dock widgets have in common: session, layout, where errors appear, and how they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...io.napari_version import napari_problem
from ..layers import noun_of
from ..session import CAME_ALONG, session_of, unwrapped
from ..workers import Job
from .job import JobPanel
from .log import LogPanel
from .sections import NARROWEST_PX, Section, scrolling, stacked


class JobWidget(QWidget):
    """Base of our dock widgets: leaves its jobs alone when it is taken out of its dock.

    Closing a dock by its title bar sends no close event; the widget merely loses its parent. Viewer closing ends in the same.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self.problem = napari_problem()
        self._links: list[tuple[Any, Callable[..., Any]]] = []
        if self.problem:
            label = QLabel(f"This plugin cannot work here: {self.problem}")
            label.setWordWrap(True)
            label.setMargin(12)
            QVBoxLayout(self).addWidget(label)
            return
        self.viewer = unwrapped(viewer)
        self.session = session_of(viewer)

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        return []

    def lay(self, *parts: QWidget) -> None:
        """Put parts under each other, the log below them, in a dock that scrolls."""
        self.setMinimumWidth(NARROWEST_PX)
        content = stacked(*parts, Section("Log", LogPanel(self.session)), margin=6)
        content.layout().addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scrolling(content))

    def speak_by(self, panel: JobPanel, failing: Sequence[Any], telling: Sequence[Any]) -> None:
        """Show errors and words of parts under the panel's button, which Ctrl+Return presses."""
        for source in failing:
            source.failed.connect(panel.show_error)
        for teller in telling:
            teller.told.connect(panel.say)
        shortcut = QShortcut(QKeySequence("Ctrl+Return"), self)
        shortcut.activated.connect(panel.button.click)

    def link(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect to something that outlives this widget; `leave` disconnects it."""
        signal.connect(slot)
        self._links.append((signal, slot))

    def takes_instrument(self, layers: Sequence[Any]) -> bool:
        """Whether the session now takes the instrument that came with chosen layers; all widgets are told of it, this one too."""
        instrument = noun_of(layers[0], "instrument") if layers else None
        if instrument is None or not self.session.may_take(instrument):
            return False
        self.session.choose_instrument(instrument, CAME_ALONG)
        return True

    def leave(self) -> None:
        """Stop the jobs, and listen no longer to session and viewer."""
        for job in self.jobs():
            job.close_job() if isinstance(job, JobPanel) else job.abandon()
        links, self._links = self._links, []
        for signal, slot in links:
            signal.disconnect(slot)

    def event(self, event: QEvent) -> bool:
        """Watch for the loss of the parent."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and not self.problem:
            self.leave()
        return bool(super().event(event))
