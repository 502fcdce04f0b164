"""Copy the call that a button makes, as Python or as a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget

from ...errors import SmlmError
from ..calls import (
    calibrate_in_python,
    instrument_file,
    on_command_line,
    reconstruct_in_python,
    source_paths,
    structured_in_python,
    train_in_python,
    volumes_in_python,
)
from ..session import Session
from ..settings import preferences

WRITERS: dict[str, Callable[..., str]] = {
    "reconstruct": reconstruct_in_python,
    "calibrate": calibrate_in_python,
    "train": train_in_python,
    "structured reconstruct": structured_in_python,
    "reconstruct --volume --each-frame": volumes_in_python,
    "deconvolve --each-frame": volumes_in_python,
}


class CallsBar(QWidget):
    """Two buttons.

    told : a sentence about what was done. failed : an error to show.
    """

    told = Signal(str)
    failed = Signal(object)

    def __init__(self, session: Session, verb: str, output: str) -> None:
        super().__init__()
        self.session, self.verb, self.output = session, verb, output
        self._call: Callable[[], tuple[Any, Any, Any, Any]] | None = None
        self.python_button = QPushButton("Copy as Python")
        self.python_button.setToolTip("<qt>Copy a script that does exactly what the button does.</qt>")
        self.command_button = QPushButton("Copy as command line")
        self.command_button.setToolTip("<qt>Copy a vsmlm command that does exactly what the button does.</qt>")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.python_button)
        row.addWidget(self.command_button)
        self.python_button.clicked.connect(lambda: self.copy(python=True))
        self.command_button.clicked.connect(lambda: self.copy(python=False))
        self.set_call(None)

    def set_call(self, call: Callable[[], tuple[Any, Any, Any, Any]] | None) -> None:
        """Know what the button does: returns (stack or None, instrument, plan, the file of the instrument or None)."""
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
            raise SmlmError("Choose images and an instrument first")
        stack, instrument, plan, path = self._call()
        paths = source_paths(stack) if stack is not None else []
        place = instrument_file(instrument, path, preferences().work_folder)
        if not python:
            return on_command_line(self.verb, paths, place, plan, self.output)
        return WRITERS[self.verb](paths, place, plan, self.output)

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
