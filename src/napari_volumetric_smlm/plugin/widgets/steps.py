"""The guided order: what comes first, what is done, what is missing."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from ..session import Session


class StepsBar(QWidget):
    """Calibrate -> Train -> Reconstruct, each with a mark: done, or what is missing in its tooltip."""

    def __init__(self, session: Session, here: str) -> None:
        super().__init__()
        self.session = session
        self.calibrate, self.train, self.reconstruct = QLabel(), QLabel(), QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        # labels of their own for the arrows would be too wide for a narrow dock whose scroll bar shows
        for part in (self.calibrate, self.train, self.reconstruct):
            row.addWidget(part)
        row.addStretch(1)
        self._here = here
        for signal in (session.instrument_changed, session.calibration_changed, session.table_changed, session.model_changed):
            signal.connect(self._show)
        self._show()

    def _show(self) -> None:
        instrument, table = self.session.instrument, self.session.table
        if instrument is None:
            self._write(self.calibrate, "Calibrate", "○", "Missing: choose an instrument or calibrate one")
        elif instrument.calibration is None:
            self._write(self.calibrate, "Calibrate", "◐", "An instrument is chosen; it was not calibrated with beads")
        else:
            self._write(self.calibrate, "Calibrate", "✓", "Done: the instrument is calibrated")
        if self.session.model is None:
            self._write(self.train, "Train", "○", "May be left out: a trained model finds more where images overlap")
        else:
            self._write(self.train, "Train", "✓", f"Done: the model {self.session.model.stem} is chosen")
        if table is None:
            self._write(self.reconstruct, "Reconstruct", "○", "Missing: no molecules found yet")
        else:
            self._write(self.reconstruct, "Reconstruct", "✓", f"Done: {len(table):,} molecules")

    def _write(self, label: QLabel, name: str, mark: str, words: str) -> None:
        text = f"{mark} {name}"
        arrow = "" if label is self.calibrate else "→ "
        label.setText(f"{arrow}<b>{text}</b>" if self._here in name else arrow + text)
        label.setToolTip(words)
        label.setAccessibleName(f"{name}: {words}")
