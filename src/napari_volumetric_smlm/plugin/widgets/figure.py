"""The report of a calibration as pictures, in a window of its own."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QDialog, QDialogButtonBox, QFileDialog, QLabel, QVBoxLayout, QWidget

from ...domain.runs import Calibration


class ReportWindow(QDialog):
    """A matplotlib figure with a button to save it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Calibration report")
        self.resize(1000, 760)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.canvas: Any = None
        self.box = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Close)
        self.box.accepted.connect(self._ask)
        self.box.rejected.connect(self.reject)
        self._layout = QVBoxLayout(self)
        self._layout.addWidget(self.words)
        self._layout.addWidget(self.box)

    def show_calibration(self, calibration: Calibration) -> None:
        """Draw the report of a calibration."""
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        from ...recipes.report import calibration_figure

        if self.canvas is not None:
            self._layout.removeWidget(self.canvas)
            self.canvas.deleteLater()
        self.words.setText(calibration.verdict)
        self.canvas = FigureCanvasQTAgg(calibration_figure(calibration))
        self.canvas.setAccessibleName("Calibration report")
        self._layout.insertWidget(1, self.canvas, 1)

    def _ask(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save report", "calibration.png", "Pictures (*.png *.pdf *.svg)")
        if path and self.canvas is not None:
            self.canvas.figure.savefig(path)
