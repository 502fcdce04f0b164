"""What the widgets of one viewer share: instrument, calibration, results, memory, log."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.runs import Calibration, Reconstruction
from ..io.napari_version import binding_warning
from .live import StreamedTable
from .report import Log, report
from .settings import Memory, settings_folder

CAME_ALONG = "came with the images"


class Session(QObject):
    """The state of one viewer; two viewers have two sessions that know nothing of each other.

    instrument_origin : where the instrument came from, in words. instrument_path : its file, if it has one.
    calibration : the last one made here. reconstruction, table : the last result; the table also after a cancel.
    streamed : molecules that have come so far, while a job runs.
    model : the trained model for the next reconstructions, None for none; model_asked : whether anybody has chosen yet.
    """

    instrument_changed = Signal()
    calibration_changed = Signal()
    table_changed = Signal()
    model_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self.instrument: Instrument | None = None
        self.instrument_origin = ""
        self.instrument_path: Path | None = None
        self.calibration: Calibration | None = None
        self.reconstruction: Reconstruction | None = None
        self.table: Localizations | None = None
        self.streamed: StreamedTable | None = None
        self.model: Path | None = None
        self.model_asked = False
        self.memory = Memory()
        self.log = Log(settings_folder() / "log.txt", self)
        if binding_warning():
            self.log.add(binding_warning())

    @property
    def viewer(self) -> Any:
        """The viewer, or None when it is gone."""
        return self._viewer()

    def choose_instrument(self, instrument: Instrument | None, origin: str, path: Path | None = None) -> None:
        """Take an instrument for the next jobs and tell all widgets."""
        self.instrument, self.instrument_origin, self.instrument_path = instrument, origin, path
        if instrument is not None:
            self.log.add(f"Instrument: {instrument.name} ({origin}), fingerprint {instrument.fingerprint}")
        self.instrument_changed.emit()

    def may_take(self, instrument: Instrument) -> bool:
        """Whether an instrument that came with images may be taken: never in place of one that the user chose or calibrated."""
        mine = self.instrument
        return mine is None or (self.instrument_origin == CAME_ALONG and mine.fingerprint != instrument.fingerprint)

    def keep_calibration(self, calibration: Calibration, path: Path | None = None) -> None:
        """Keep a calibration and take its instrument."""
        self.calibration = calibration
        self.choose_instrument(calibration.instrument, "calibrated just now", path)
        self.calibration_changed.emit()

    def keep_table(self, table: Localizations | None, reconstruction: Reconstruction | None = None) -> None:
        """Keep a result and tell all widgets."""
        self.table, self.reconstruction, self.streamed = table, reconstruction, None
        self.table_changed.emit()

    def choose_model(self, path: Path | None) -> None:
        """Take a trained model, or none, for the next reconstructions and tell all widgets."""
        self.model_asked = True
        if path != self.model:
            self.log.add(f"Model: {path}" if path is not None else "Model: none")
        self.model = path
        self.model_changed.emit()

    def recall_model(self, path: str | None) -> None:
        """Take the model of a remembered plan, unless somebody has chosen or its file is gone."""
        if path and not self.model_asked and Path(path).is_file():
            self.choose_model(Path(path))

    def molecules_of(self, frame: int) -> Localizations | None:
        """Return the molecules of one frame, from the running job or the last result; None without any."""
        from .live import rows_of_frames

        if self.streamed is not None:
            return self.streamed.of_frame(frame)
        if self.table is not None:
            return self.table.select(rows_of_frames(self.table, frame, frame))
        return None

    def report(self) -> str:
        """Return a text for bug reports."""
        facts = ["Instrument: " + (f"{self.instrument.name} ({self.instrument_origin})" if self.instrument else "none")]
        if self.model is not None:
            facts.append(f"Model: {self.model.name}")
        if self.table is not None:
            facts.append(f"Table: {len(self.table):,} molecules, columns {', '.join(self.table.columns)}")
        return report(self.log, facts)


_SESSIONS: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: Any) -> Session:
    """Return the session of a viewer (or of a plugin's proxy of it)."""
    viewer = unwrapped(viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Session(viewer)
    return _SESSIONS[viewer]


def unwrapped(viewer: Any) -> Any:
    """Return the viewer itself: plugins are handed a proxy, whose layers would not equal those of the layer list's events."""
    return getattr(viewer, "__wrapped__", viewer)
