"""Beads as points over a stack: found automatically, corrected by clicks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from .layers import BEADS, lay_beads, role_of
from .session import Session


class BeadMarks(QObject):
    """The points layer with the beads to use; without one, beads are found automatically."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.stack_layer: Any = None
        session.viewer.layers.events.removed.connect(self._on_removed)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        if self.session.viewer is not None:
            self.session.viewer.layers.events.removed.disconnect(self._on_removed)

    @property
    def layer(self) -> Any:
        """The points, or None."""
        viewer = self.session.viewer
        marks = [] if viewer is None else [layer for layer in viewer.layers if role_of(layer) == BEADS]
        return marks[-1] if marks else None

    @property
    def count(self) -> int | None:
        """Number of marked beads, None when nothing is marked."""
        layer = self.layer
        return None if layer is None else len(layer.data)

    def follow(self, stack_layer: Any) -> None:
        """Belong to another stack; marks of the last one are removed."""
        if stack_layer is not self.stack_layer:
            self.stack_layer = stack_layer
            if self.layer is not None:
                self.session.viewer.layers.remove(self.layer)

    def show(self, positions_yx_px: NDArray[np.float64]) -> None:
        """Mark beads at pixels (row, column) of the stack."""
        layer = self.layer
        if layer is None:
            layer = self.add_layer(lay_beads(positions_yx_px, self.stack_layer))
            layer.events.data.connect(lambda event=None: self.changed.emit())
        else:
            layer.data = positions_yx_px
        self.changed.emit()

    def positions_yx_px(self) -> tuple[tuple[float, float], ...] | None:
        """Return the marked beads, None when they shall be found automatically."""
        layer = self.layer
        if layer is None or not len(layer.data):
            return None
        return tuple((float(y), float(x)) for y, x in np.asarray(layer.data)[:, -2:])

    def add_layer(self, data: Any) -> Any:
        """Add a layer of ours in place of the last one of its name."""
        from napari.layers import Layer

        layers = self.session.viewer.layers
        new = Layer.create(*data)
        for old in [layer for layer in layers if layer.name == new.name and role_of(layer) == role_of(new)]:
            layers.remove(old)
        layers.append(new)
        return new

    def _on_removed(self, event: Any) -> None:
        if role_of(event.value) == BEADS:
            self.changed.emit()
