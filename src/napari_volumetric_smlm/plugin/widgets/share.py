"""Save results and share how they came about: export in any format, the call as Python or command line."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QGridLayout, QPushButton, QWidget

from ...domain.runs import Progress
from ...io.tables import FORMATS, columns_left_out, write_table
from ..session import Session
from ..workers import Job, Outcome, Recipe
from .calls_bar import CallsBar


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
        self.format = QComboBox()
        for name, entry in FORMATS.items():
            if entry.writable:
                self.format.addItem(f"{entry.display_name} (*{entry.suffix})", name)
        self.format.setToolTip("<qt>Format of the table; CSV and Parquet of this program keep every column.</qt>")
        self.format.setAccessibleName("Format of the table")
        self.save_button = QPushButton("Save table...")
        self.calls = CallsBar(session, "reconstruct", "molecules.csv")
        self.calls.told.connect(self.told)
        self.calls.failed.connect(self.failed)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.format, 0, 0, 1, 2)
        grid.addWidget(self.save_button, 1, 0, 1, 2)
        grid.addWidget(self.calls, 2, 0, 1, 2)
        self.save_button.clicked.connect(self.ask)
        self.refresh()

    def refresh(self) -> None:
        """Enable what can be done now."""
        table = self.session.table
        self.save_button.setEnabled(table is not None)
        self.save_button.setToolTip(
            "Find molecules or import a table first" if table is None else f"Save all {len(table):,} molecules, not only those shown"
        )

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

    def ask(self) -> None:
        """Ask for a name and write the table."""
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
