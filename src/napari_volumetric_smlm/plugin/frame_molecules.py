"""Molecules of a span of frames: those of the result, else those that were found in the frames looked at so far."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal

from ..domain.molecules import Localizations
from .live import rows_of_frames
from .overlay import Overlay
from .session import Session


class FrameMolecules(QObject):
    """Listens to what an overlay shows. changed : there are others than before."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._glimpses: dict[int, Localizations] = {}
        self._overlay: Overlay | None = None

    def follow(self, overlay: Overlay) -> None:
        """Learn from an overlay what was found in the frames that it shows."""
        if overlay is not self._overlay:
            self._overlay = overlay
            overlay.molecules_shown.connect(self._on_shown)

    def forget(self) -> None:
        """Other frames or another instrument: what was found before says nothing."""
        self._glimpses = {}

    def of(self, first: int, last: int) -> Localizations:
        """Return the molecules of frames first to last, as far as they are known."""
        session = self.session
        if session.streamed is None and session.table is not None:
            return session.table.select(rows_of_frames(session.table, first, last))
        if session.streamed is not None:
            table = session.streamed.of_frame(first) if first == last else session.streamed.joined()
            return table.select(rows_of_frames(table, first, last))
        found = [table for frame, table in sorted(self._glimpses.items()) if first <= frame <= last]
        return Localizations.joined(found) if found else Localizations.empty()

    def _on_shown(self, shown: Any) -> None:
        overlay = self._overlay
        if overlay is not None and len(shown):
            self._glimpses[overlay.frame] = shown
        self.changed.emit()
