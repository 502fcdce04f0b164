"""Lens centres as points over raw light-field frames: found automatically, corrected by dragging."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.microlenses import Point
from .layers import role_of
from .session import Session
from .view_layers import LENSES, VIEW, lay_lens_centres


class LensMarks:
    """The points layer with the lens centres of one viewer, and the layers of the cut views."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def layer(self) -> Any:
        """The points, or None."""
        marks = self._layers(LENSES)
        return marks[-1] if marks else None

    def show(self, centres_yx_px: NDArray[np.float64], frames: Any) -> None:
        """Mark lens centres at pixels (row, column) of the frames, ready to be dragged."""
        from napari.layers import Layer

        self._remove(LENSES)
        layer = Layer.create(*lay_lens_centres(centres_yx_px, frames))
        self.session.viewer.layers.append(layer)
        layer.mode = "select"

    def centres_yx_px(self) -> tuple[Point, ...]:
        """Return the marked centres; empty without marks."""
        layer = self.layer
        if layer is None:
            return ()
        return tuple((round(float(y), 3), round(float(x), 3)) for y, x in np.asarray(layer.data)[:, -2:])

    def show_views(self, views: list[Any]) -> None:
        """Show cut views in place of those before, below points and pictures that lie over the frames."""
        from napari.layers import Layer

        self._remove(VIEW)
        layers = self.session.viewer.layers
        active = layers.selection.active
        above = next((k for k, layer in enumerate(layers) if layer.ndim < 3), len(layers))
        for k, data in enumerate(views):
            layers.insert(above + k, Layer.create(*data))
        if active is not None and active in layers:
            layers.selection.active = active

    def _layers(self, role: str) -> list[Any]:
        viewer = self.session.viewer
        return [] if viewer is None else [layer for layer in viewer.layers if role_of(layer) == role]

    def _remove(self, role: str) -> None:
        for layer in self._layers(role):
            self.session.viewer.layers.remove(layer)
