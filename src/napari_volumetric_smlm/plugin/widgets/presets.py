"""Named sets of settings as JSON files, to keep and to share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from ...domain.noun import Noun
from ...errors import SmlmError
from ...io.json_files import read_noun, write_noun
from ..session import Session


class Settings(Protocol):
    """A form, or several that make one plan together."""

    noun: type[Noun]

    def set_plan(self, plan: Noun) -> None:
        """Show a plan."""

    def plan(self) -> Any:
        """Return what is shown."""


class PresetBar(QWidget):
    """Load, save and reset the settings of a form.

    defaults : what Reset goes back to; None clears nothing that is required.
    loaded : the plan that the form was set to, for what of it stands elsewhere.
    """

    failed = Signal(object)
    loaded = Signal(object)

    def __init__(self, session: Session, form: Settings, defaults: Noun | None) -> None:
        super().__init__()
        self.session, self.form, self.defaults = session, form, defaults
        self.load_button = QPushButton("Load...")
        self.load_button.setToolTip("<qt>Load settings from a JSON file, for example one that stands beside a result.</qt>")
        self.save_button = QPushButton("Save...")
        self.save_button.setToolTip("<qt>Save these settings as a JSON file, to use again or to share.</qt>")
        self.reset_button = QPushButton("Defaults")
        self.reset_button.setToolTip("<qt>Set everything back to the defaults.</qt>")
        self.reset_button.setEnabled(defaults is not None)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.load_button, self.save_button, self.reset_button):
            row.addWidget(button)
        self.load_button.clicked.connect(self._ask_load)
        self.save_button.clicked.connect(self._ask_save)
        self.reset_button.clicked.connect(self.reset)

    def load(self, path: str | Path) -> None:
        """Load settings; an error is told by `failed` and changes nothing."""
        try:
            self._take(read_noun(path, self.form.noun))
        except SmlmError as error:
            self.failed.emit(error)

    def save(self, path: str | Path) -> None:
        """Save the settings; an error is told by `failed`."""
        try:
            write_noun(self.form.plan(), Path(path).with_suffix(".json"))
        except SmlmError as error:
            self.failed.emit(error)

    def reset(self) -> None:
        """Go back to the defaults."""
        if self.defaults is not None:
            self._take(self.defaults)

    def _take(self, plan: Noun) -> None:
        self.form.set_plan(plan)
        self.loaded.emit(plan)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load settings", self.session.memory.folder("presets"), "Settings (*.json)")
        if path:
            self.session.memory.store_folder("presets", path)
            self.load(path)

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save settings", self.session.memory.folder("presets"), "Settings (*.json)")
        if path:
            self.session.memory.store_folder("presets", path)
            self.save(path)
