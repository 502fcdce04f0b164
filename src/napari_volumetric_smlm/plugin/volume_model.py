"""Which model makes the volumes of one widget; by itself the first that fits the instrument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from .session import Session


class VolumeModel(QObject):
    """model : the chosen one, or None.

    Parameters
    ----------
    suiting
        Returns the models that fit an instrument, the best first.
    """

    model_changed = Signal()

    def __init__(self, session: Session, suiting: Callable[[Any], Any]) -> None:
        super().__init__()
        self.session, self.suiting = session, suiting
        self.model: Path | None = None
        self._by_hand = False
        self.adapt()

    def choose_model(self, path: Path | None) -> None:
        """Take a model, or none; by the user's hand."""
        self._by_hand = True
        self._take(path)

    def adapt(self) -> None:
        """Another instrument: take the first model that fits it, unless the user chose; whether that one fits the picker says."""
        if self._by_hand:
            return
        suiting = list(self.suiting(self.session.instrument))
        if self.model not in suiting:
            self._take(suiting[0] if suiting else None)

    def _take(self, path: Path | None) -> None:
        if path != self.model:
            self.model = path
            self.session.log.add(f"Model for volumes: {path}" if path is not None else "Model for volumes: none")
        self.model_changed.emit()
