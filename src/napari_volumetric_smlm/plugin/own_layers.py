"""Our layers in one viewer: found by their role, added and removed without getting in the user's way."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from .layers import role_of
from .session import Session


class OwnLayers(QObject):
    """Layers that lie over some frames. frames : layers of the raw images, one a camera."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.frames: list[Any] = []

    def layers(self, role: str) -> list[Any]:
        """Return our layers of one role that are in the viewer now."""
        viewer = self.session.viewer
        return [] if viewer is None else [layer for layer in viewer.layers if role_of(layer) == role]

    def current_frame(self) -> int:
        """Return the frame that the slider stands on."""
        if not self.frames or self.session.viewer is None:
            return 0
        layer = self.frames[0]
        if layer.ndim < 3:
            return 0
        point = np.asarray(self.session.viewer.dims.point)
        place = layer.world_to_data(point[-layer.ndim :] if len(point) >= layer.ndim else np.zeros(layer.ndim))
        return int(np.clip(round(float(place[-3])), 0, layer.data.shape[0] - 1))

    def step_to(self, frame: int) -> None:
        """Move the slider to a frame."""
        viewer = self.session.viewer
        if viewer is not None and self.frames and self.frames[0].ndim >= 3:
            layer = self.frames[0]
            start = np.zeros(layer.ndim)
            start[-3] = frame
            viewer.dims.set_point(viewer.dims.ndim - 3, float(np.asarray(layer.data_to_world(start))[-3]))

    def remove(self, layer: Any) -> None:
        """Remove a layer of ours, if the user has not done so."""
        if self.session.viewer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)

    def _add(self, data: Any) -> Any:
        from napari.layers import Layer

        viewer = self.session.viewer
        active = viewer.layers.selection.active
        added = viewer.layers.append(Layer.create(*data)) or viewer.layers[-1]
        # a new layer must not take the selection away from what the user works on
        if active is not None and active in viewer.layers:
            viewer.layers.selection.active = active
        return added
