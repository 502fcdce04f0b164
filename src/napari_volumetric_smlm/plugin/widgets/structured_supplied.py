"""What is known of pattern and lens beforehand: files in place of what would be found or computed."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QLabel, QLineEdit, QPushButton, QWidget

from ...domain.illumination import Illumination, RadialOTF
from ...errors import PlanError, SmlmError
from ...io.otf_files import load_illumination, load_otf, save_illumination
from ..session import Session
from .sections import beside


class SuppliedBox(QWidget):
    """Patterns and OTF from files; without them, patterns are found and the lens is an ideal one with losses.

    changed : another file, or none. failed : an error to show. told : a sentence.
    """

    changed = Signal()
    failed = Signal(object)
    told = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.illumination: Illumination | None = None
        self.otf: RadialOTF | None = None
        # patterns of the last run, to save
        self.found: Illumination | None = None
        self.patterns_name, self.otf_name = QLabel("found in the stack"), QLabel("computed")
        self.step = QLineEdit()
        self.step.setPlaceholderText("as the file says")
        self.step.setAccessibleName("OTF step (cycles per µm)")
        self.step.setToolTip("<qt>Distance of the values in the OTF file in cycles per µm; needed where the file does not say it.</qt>")
        self.load_button = _button("Load...", "Take known patterns from a file that Save wrote, of a brighter stack for example.")
        self.save_button = _button("Save...", "Save the patterns that were found as a JSON file.")
        self.otf_button = _button("Load...", "Take a measured radial OTF (.mrc, .otf, .tif).")
        self.clear_button = _button("Forget both", "Find the patterns in the stack again, and compute the OTF.")
        self.save_button.setEnabled(False)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        layout.addRow("Patterns:", self.patterns_name)
        layout.addRow(beside(self.load_button, self.save_button))
        layout.addRow("OTF:", self.otf_name)
        layout.addRow("OTF step (1/µm):", self.step)
        layout.addRow(beside(self.otf_button, self.clear_button))
        self.load_button.clicked.connect(self._ask_patterns)
        self.save_button.clicked.connect(self._ask_save)
        self.otf_button.clicked.connect(self._ask_otf)
        self.clear_button.clicked.connect(self.clear)

    def keep(self, found: Illumination) -> None:
        """Keep patterns that were found, so that they can be saved."""
        self.found = found
        self.save_button.setEnabled(True)

    def load_patterns(self, path: str | Path) -> None:
        """Take patterns from a file; an error is told by `failed` and changes nothing."""
        try:
            self.illumination = load_illumination(path)
        except SmlmError as error:
            self.failed.emit(error)
            return
        self.patterns_name.setText(Path(path).name)
        self.changed.emit()

    def load_transfer(self, path: str | Path) -> None:
        """Take an OTF from a file; an error is told by `failed` and changes nothing."""
        try:
            self.otf = load_otf(path, self._step())
        except SmlmError as error:
            self.failed.emit(error)
            return
        self.otf_name.setText(Path(path).name)
        self.changed.emit()

    def save_patterns(self, path: str | Path) -> None:
        """Write the patterns of the last run."""
        if self.found is None:
            return
        try:
            self.told.emit(f"Patterns saved as {save_illumination(self.found, Path(path).with_suffix('.json')).name}")
        except SmlmError as error:
            self.failed.emit(error)

    def clear(self) -> None:
        """Go back to what is found and computed."""
        self.illumination = self.otf = None
        self.patterns_name.setText("found in the stack")
        self.otf_name.setText("computed")
        self.changed.emit()

    def _step(self) -> float | None:
        text = self.step.text().strip()
        try:
            step = float(text) if text else None
        except ValueError:
            step = 0.0
        if step is not None and not step > 0:
            raise PlanError(f"OTF step {text!r} is not a positive number: write the distance of the values in cycles per µm, as in 0.05")
        return step

    def _ask_patterns(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load patterns", self.session.memory.folder("patterns"), "Patterns (*.json)")
        if path:
            self.session.memory.store_folder("patterns", path)
            self.load_patterns(path)

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save patterns", self.session.memory.folder("patterns"), "Patterns (*.json)")
        if path:
            self.session.memory.store_folder("patterns", path)
            self.save_patterns(path)

    def _ask_otf(self) -> None:
        kinds = "OTF (*.mrc *.otf *.tif *.tiff);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Load an OTF", self.session.memory.folder("otf"), kinds)
        if path:
            self.session.memory.store_folder("otf", path)
            self.load_transfer(path)


def _button(title: str, tip: str) -> QPushButton:
    button = QPushButton(title)
    button.setToolTip(f"<qt>{tip}</qt>")
    button.setAccessibleName(tip)
    return button
