"""The Import button: tells stacks, tables and instruments apart by content, and asks where nothing says what a file is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, get_args

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QDialog, QDialogButtonBox, QFileDialog, QLabel, QRadioButton, QVBoxLayout, QWidget

from ...domain.images import RawStack, StackKind, StackNote
from ...domain.molecules import Localizations
from ...domain.runs import Progress
from ...errors import OutputError, SmlmError, TableError
from ...io.instruments import load_instrument
from ...io.stacks import open_stack, read_note, sniff_matlab, sniff_stack, write_note
from ...io.tables import read_columns, read_table, sniff_format, table_from_mapping
from ..readers import show_stack, show_table
from ..session import Session
from ..workers import Job, Outcome
from .columns import ColumnDialog

KINDS: dict[str, tuple[str, str]] = {
    "frames": ("SMLM frames", "blinking molecules, one image after the other"),
    "beads": ("Bead stack", "fluorescent beads, the focus moved between the images"),
    "light_field": ("Light field", "images through a microlens array"),
    "structured": ("Structured illumination", "images with stripe patterns"),
}
FILTER = (
    "Everything this plugin reads (*.tif *.tiff *.btf *.stk *.mrc *.mrcs *.dv *.r3d *.nd2 *.raw *.yaml *.yml *.csv *.txt *.tsv *.hdf5 *.h5 "
    "*.smlm *.parquet *.mat *.json);;All files (*)"
)


class KindDialog(QDialog):
    """Asks what a stack is; the answer can be kept in a small file beside the stack."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("What is this stack?")
        layout = QVBoxLayout(self)
        question = QLabel(f"Nothing says what <b>{name}</b> holds. It is:")
        question.setWordWrap(True)
        layout.addWidget(question)
        self.buttons = QButtonGroup(self)
        self.kinds: dict[str, QRadioButton] = {}
        for kind in get_args(StackKind):
            title, meaning = KINDS[kind]
            button = QRadioButton(f"{title}: {meaning}")
            button.setToolTip(f"<qt>{meaning}</qt>")
            self.buttons.addButton(button)
            self.kinds[kind] = button
            layout.addWidget(button)
        self.remember = QCheckBox("Remember in a small file beside the stack")
        self.remember.setToolTip("<qt>Writes NAME.vsmlm.json; this question is then not asked again, on any computer.</qt>")
        self.remember.setChecked(True)
        layout.addWidget(self.remember)
        self.box = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        ok = self.box.button(QDialogButtonBox.StandardButton.Ok)
        # no answer is preselected: a wrong one would go unnoticed
        ok.setEnabled(False)
        self.buttons.buttonClicked.connect(lambda: ok.setEnabled(True))
        self.box.accepted.connect(self.accept)
        self.box.rejected.connect(self.reject)
        layout.addWidget(self.box)

    @property
    def kind(self) -> StackKind | None:
        """The answer."""
        chosen: list[Any] = [kind for kind, button in self.kinds.items() if button.isChecked()]
        return chosen[0] if chosen else None


class Importer(QObject):
    """Opens files for one viewer, reading in a thread of its own.

    done : what was opened ("stack", "table", "instrument"). failed : an error to show.
    """

    done = Signal(str)
    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self.session, self.window = session, parent
        self.job = Job(self)
        self.job.ended.connect(self._on_end)
        self._path = Path()

    def ask(self) -> None:
        """Let the user choose a file."""
        path, _ = QFileDialog.getOpenFileName(self.window, "Import", self.session.memory.folder("import"), FILTER)
        if path:
            self.open(path)

    def open(self, path: str | Path) -> None:
        """Open a file or folder, whatever it holds."""
        self._path = Path(path)
        self.session.memory.store_folder("import", path)
        reading = self._reading(self._path)
        if reading is not None:
            self.job.start(lambda: reading, quiet=True)

    def _reading(self, path: Path) -> Generator[Progress, None, Any] | None:
        if sniff_stack(path) or sniff_matlab(path):
            return _step("Opening", lambda: open_stack(path))
        if sniff_format(path):
            return _step("Reading", lambda: read_table(path))
        if path.suffix.lower() == ".json":
            return _step("Reading", lambda: load_instrument(path))
        if path.suffix.lower() in (".csv", ".txt", ".tsv", ".dat"):
            return self._map_columns(path)
        # one of these says best what is wrong with the file
        table_like = path.suffix.lower() in (".hdf5", ".h5", ".smlm", ".parquet", ".mat")
        return _step("Reading", (lambda: read_table(path)) if table_like else (lambda: open_stack(path)))

    def _map_columns(self, path: Path) -> Generator[Progress, None, Any] | None:
        try:
            columns = read_columns(path)
        except TableError as error:
            self.failed.emit(error)
            return None
        dialog = ColumnDialog(path.name, columns, self.session.memory, self.window)
        if not dialog.exec():
            return None
        mapping = dialog.mapping()
        return _step("Reading", lambda: table_from_mapping(path, mapping))

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "failed" and outcome.error is not None:
            self.failed.emit(outcome.error)
        elif isinstance(outcome.value, RawStack):
            self._take_stack(outcome.value)
        elif isinstance(outcome.value, Localizations):
            self._add(show_table(outcome.value, self._path.name))
            self.session.keep_table(outcome.value)
            self.done.emit("table")
        elif outcome.value is not None:
            self.session.choose_instrument(outcome.value, self._path.name, self._path)
            self.done.emit("instrument")

    def _take_stack(self, stack: RawStack) -> None:
        if stack.kind is None:
            dialog = KindDialog(self._path.name, self.window)
            if not dialog.exec() or dialog.kind is None:
                return
            stack = stack.model_copy(update={"kind": dialog.kind})
            if dialog.remember.isChecked():
                self._remember(dialog.kind)
        self._add(show_stack(stack))
        self.done.emit("stack")

    def _remember(self, kind: StackKind) -> None:
        try:
            note = read_note(self._path) or StackNote()
            write_note(self._path, note.model_copy(update={"kind": kind}))
        except (OutputError, SmlmError) as error:
            self.session.log.add(f"The answer could not be kept beside the stack: {error}")

    def _add(self, layers: list[Any]) -> None:
        from napari.layers import Layer

        if self.session.viewer is not None:
            for data in layers:
                self.session.viewer.layers.append(Layer.create(*data))


def _step(stage: str, act: Callable[[], Any]) -> Generator[Progress, None, Any]:
    yield Progress(stage=stage)
    return act()
