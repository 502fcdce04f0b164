"""Save results and share how they came about: export in any format, the call as Python or command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QGridLayout, QPushButton, QWidget

from ...domain.runs import Progress
from ...errors import SmlmError
from ...io.tables import FORMATS, columns_left_out, write_table
from ..calls import instrument_file, on_command_line, reconstruct_in_python, source_paths
from ..session import Session
from ..settings import preferences
from ..workers import Job, Outcome, Recipe


class SharePanel(QWidget):
    """Save the table; copy the call that the button makes.

    told : a sentence about what was done. failed : an error to show.
    """

    told = Signal(str)
    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.job = Job(self)
        self._call: Callable[[], tuple[Any, Any, Any]] | None = None
        self.format = QComboBox()
        for name, entry in FORMATS.items():
            if entry.writable:
                self.format.addItem(f"{entry.display_name} (*{entry.suffix})", name)
        self.format.setToolTip("<qt>Format of the table; CSV and Parquet of this program keep every column.</qt>")
        self.format.setAccessibleName("Format of the table")
        self.save_button = QPushButton("Save table...")
        self.python_button = QPushButton("Copy as Python")
        self.python_button.setToolTip("<qt>Copy a script that does exactly what the button does.</qt>")
        self.command_button = QPushButton("Copy as command line")
        self.command_button.setToolTip("<qt>Copy a vsmlm command that does exactly what the button does.</qt>")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.format, 0, 0, 1, 2)
        grid.addWidget(self.save_button, 1, 0, 1, 2)
        grid.addWidget(self.python_button, 2, 0)
        grid.addWidget(self.command_button, 2, 1)
        self.save_button.clicked.connect(self._ask)
        self.python_button.clicked.connect(lambda: self.copy(python=True))
        self.command_button.clicked.connect(lambda: self.copy(python=False))
        self.set_call(None)
        self.refresh()

    def refresh(self) -> None:
        """Enable what can be done now."""
        table = self.session.table
        self.save_button.setEnabled(table is not None)
        self.save_button.setToolTip(
            "Find molecules or import a table first" if table is None else f"Save all {len(table):,} molecules, not only those shown"
        )

    def set_call(self, call: Callable[[], tuple[Any, Any, Any]] | None) -> None:
        """Know what the button would do: returns (stack, instrument, plan)."""
        self._call = call
        for button in (self.python_button, self.command_button):
            button.setEnabled(call is not None)

    def text(self, python: bool) -> str:
        """Return the call as text.

        Raises
        ------
        SmlmError
            If the frames are in memory only, or the instrument cannot be written to a file.
        """
        if self._call is None:
            raise SmlmError("Choose frames and an instrument first")
        stack, instrument, plan = self._call()
        paths = source_paths(stack)
        place = instrument_file(instrument, self.session.instrument_path, preferences().work_folder)
        if python:
            return reconstruct_in_python(paths, place, plan)
        return on_command_line("reconstruct", paths, place, plan, "molecules.csv")

    def copy(self, python: bool) -> None:
        """Put the call on the clipboard."""
        try:
            text = self.text(python)
        except SmlmError as error:
            self.failed.emit(error)
            return
        QApplication.clipboard().setText(text)
        self.session.log.add(text)
        self.told.emit("The script is on the clipboard" if python else "The command is on the clipboard")

    def save(self, path: str | Path, format: str) -> None:
        """Write the table in a thread; large ones take seconds."""
        table = self.session.table
        if table is None or self.job.busy:
            return
        left_out = columns_left_out(table, format)

        def write() -> Recipe:
            yield Progress(stage="Saving")
            places = write_table(table, path, format)
            missing = f"; this format has no place for {', '.join(left_out)}" if left_out else ""
            return f"Saved {len(table):,} molecules as {', '.join(place.name for place in places)}{missing}"

        self.job.ended.connect(self._on_saved)
        self.job.start(write, quiet=True)

    def _ask(self) -> None:
        name = self.format.currentData()
        folder = Path(self.session.memory.folder("save") or ".") / f"molecules{FORMATS[name].suffix}"
        path, _ = QFileDialog.getSaveFileName(self, "Save table", str(folder), f"{FORMATS[name].display_name} (*{FORMATS[name].suffix})")
        if path:
            self.session.memory.store_folder("save", path)
            self.save(path if Path(path).suffix else path + FORMATS[name].suffix, name)

    def _on_saved(self, outcome: Outcome) -> None:
        self.job.ended.disconnect(self._on_saved)
        if outcome.kind == "failed":
            self.failed.emit(outcome.error)
        elif outcome.value is not None:
            self.session.log.add(outcome.value)
            self.told.emit(outcome.value)
