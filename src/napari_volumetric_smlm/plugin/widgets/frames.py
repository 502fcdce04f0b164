"""Which layers hold the raw images: one box for each camera of the instrument."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ...domain.images import RawStack, StackKind
from ...domain.instrument import Instrument
from ...errors import StackError
from ...io.stacks import compare_with_instrument
from ..layers import FRAMES, noun_of, role_of, stack_of
from ..session import Session
from .pickers import LayerPicker

WORDS: dict[str, str] = {"frames": "frames", "beads": "bead stack", "structured": "raw stack"}


class StackBox(QWidget):
    """Boxes for the layers of a raw stack, as many as the instrument has cameras, and a button to import a file.

    Layers that are known to be something else are not offered; choosing one that nobody has described says what it is.
    """

    picked = Signal()

    def __init__(self, session: Session, kind: StackKind, on_import: Callable[[], None]) -> None:
        super().__init__()
        self.session, self.kind = session, kind
        self.pickers: list[LayerPicker] = []
        self._rows = QVBoxLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.import_button = QPushButton("Import...")
        self.import_button.setToolTip("<qt>Open frames, beads or a table of molecules; asks what the file is when nothing says so.</qt>")
        self.import_button.clicked.connect(on_import)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._rows, 1)
        layout.addWidget(self.import_button)
        self.fit_to(None)

    def fit_to(self, instrument: Instrument | None) -> None:
        """Offer one box for each camera that the instrument's views use."""
        wanted = 1 if instrument is None else len({view.camera for view in instrument.views})
        while len(self.pickers) < wanted:
            number = len(self.pickers)
            picker = LayerPicker(self.session.viewer, self._accepts, partial(self._prefers, number), f"no {WORDS[self.kind]} open")
            picker.setAccessibleName(f"{WORDS[self.kind]}, camera {number + 1}")
            picker.setToolTip(f"<qt>Image layer with the {WORDS[self.kind]} of camera {number + 1}.</qt>")
            picker.picked.connect(self.picked)
            self.pickers.append(picker)
            self._rows.addWidget(picker)
            self._spread(number)
        while len(self.pickers) > wanted:
            picker = self.pickers.pop()
            picker.disconnect_viewer()
            self._rows.removeWidget(picker)
            picker.deleteLater()

    @property
    def layers(self) -> list[Any]:
        """The chosen layers, one a camera; empty when one is missing."""
        layers = [picker.layer for picker in self.pickers]
        return [] if any(layer is None for layer in layers) else layers

    def problem(self) -> str:
        """Why there is no stack, in words; empty when there is one."""
        layers = self.layers
        if not layers:
            more = f" for each of the {len(self.pickers)} cameras" if len(self.pickers) > 1 else ""
            return f"Open or import {'' if self.kind == 'frames' else 'a '}{WORDS[self.kind]}{more} first"
        if len({id(layer) for layer in layers}) < len(layers):
            return "The same layer is chosen for two cameras"
        return ""

    def stack(self) -> RawStack:
        """Return the stack that the chosen layers hold.

        Raises
        ------
        StackError
            If there is none.
        """
        if self.problem():
            raise StackError(self.problem())
        return stack_of(self.layers, self.kind)

    def warnings(self) -> list[str]:
        """Return what the file's reader and the comparison with the instrument found suspicious."""
        if self.problem():
            return []
        try:
            stack = self.stack()
        except (StackError, ValueError):
            return []
        instrument = self.session.instrument
        return [*stack.warnings, *(compare_with_instrument(stack, instrument) if instrument is not None else ())]

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        for picker in self.pickers:
            picker.disconnect_viewer()

    def _accepts(self, layer: Any) -> bool:
        from napari.layers import Image

        if not isinstance(layer, Image) or layer.rgb or layer.multiscale or layer.ndim not in (2, 3):
            return False
        role = role_of(layer)
        if role is None:
            return True
        stack = noun_of(layer, "stack")
        return role == FRAMES and (stack is None or stack.kind in (self.kind, None) or (self.kind, stack.kind) == ("frames", "light_field"))

    def _prefers(self, number: int, layer: Any) -> int:
        """How well a layer fits a camera: of the wanted kind, and the camera of that number in its file."""
        stack = noun_of(layer, "stack")
        if stack is None:
            return 0
        return (4 if stack.kind == self.kind else 2) + (noun_of(layer, "camera") == number)

    def _spread(self, number: int) -> None:
        # the second camera's box begins with the second layer
        taken = [picker.layer for picker in self.pickers[:number]]
        picker = self.pickers[number]
        free = [layer for layer in self.session.viewer.layers if self._accepts(layer) and layer not in taken]
        if number and picker.layer in taken and free:
            picker.choose(free[0])
