"""The report of a calibration as pictures, in a window of its own."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFileDialog, QLabel, QVBoxLayout, QWidget

from ...domain.runs import Calibration, Progress
from ...errors import SmlmError
from ..settings import Memory
from ..workers import Job, Outcome


class ReportWindow(QDialog):
    """A matplotlib figure for each view, computed in a thread, with a button to save the whole report.

    failed : an error to show.
    """

    failed = Signal(object)

    def __init__(self, memory: Memory, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Calibration report")
        self.resize(1220, 980)
        self.memory = memory
        self.calibration: Calibration | None = None
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.views = QComboBox()
        self.views.setToolTip("View to show")
        self.views.setAccessibleName("View")
        self.canvas: Any = None
        self.job = Job(self)
        self.box = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Close)
        self.box.button(QDialogButtonBox.StandardButton.Save).setToolTip("Save the report as one HTML file")
        self.box.button(QDialogButtonBox.StandardButton.Close).setToolTip("Close this window; Show report opens it again")
        self._layout = QVBoxLayout(self)
        for part in (self.words, self.views, self.box):
            self._layout.addWidget(part)
        self.box.accepted.connect(self._ask)
        self.box.rejected.connect(self.reject)
        self.views.activated.connect(self._draw)
        self.job.ended.connect(self._on_end)

    def show_calibration(self, calibration: Calibration) -> None:
        """Draw the report of a calibration."""
        self.calibration = calibration
        self.views.clear()
        self.views.addItems([view.name for view in calibration.instrument.views])
        self.views.setVisible(self.views.count() > 1)
        self._draw()

    def save(self, path: str | Path) -> None:
        """Save the report as one HTML file; an error is told by `failed`."""
        from ...recipes.report import write_report

        try:
            if self.calibration is not None:
                write_report(self.calibration, Path(path).with_suffix(".html"))
        except SmlmError as error:
            self.failed.emit(error)

    def _draw(self) -> None:
        calibration, view = self.calibration, max(0, self.views.currentIndex())
        if calibration is None:
            return
        self.words.setText("Drawing ...")

        def begin() -> Generator[Progress, None, Any]:
            from ...recipes.report import calibration_figure

            yield Progress(stage="Drawing the report")
            return calibration_figure(calibration, view)

        self.job.start(begin, quiet=True)

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "failed":
            self.words.setText(f"⚠ {outcome.error}")
            self.failed.emit(outcome.error)
        if outcome.kind != "done" or self.calibration is None:
            return
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        if self.canvas is not None:
            self._layout.removeWidget(self.canvas)
            self.canvas.deleteLater()
        self.words.setText(self.calibration.verdict)
        self.canvas = FigureCanvasQTAgg(outcome.value)
        self.canvas.setAccessibleName("Calibration report")
        self._layout.insertWidget(2, self.canvas, 1)

    def _ask(self) -> None:
        place = Path(self.memory.folder("report") or ".") / "calibration.html"
        path, _ = QFileDialog.getSaveFileName(self, "Save report", str(place), "Reports (*.html)")
        if path:
            self.memory.store_folder("report", path)
            self.save(path)
