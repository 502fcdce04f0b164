"""The window in which the volume of the current frame is shown: its axes are (z, y, x) in nm, and time is a slider of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from ..domain.images import Volume
from ..engine.assemble.colors import depth_color
from .drawn_canvas import keep_canvas
from .layers import fill_points, noun_of, role_of
from .volume_layers import (
    FRAME_MOLECULES,
    FRAME_VOLUME,
    INTERLEAVED_COLORS,
    SPOT_PX,
    UNDERNEATH,
    Slot,
    lay_frame_molecules,
    lay_frame_volume,
    panel_step_nm,
    volume_grid,
)

TITLE = "Volumes"
LINKED = ("contrast_limits", "gamma", "rendering")
ANGLES = (0, 35, 60)


def new_viewer() -> Any:
    """Open an empty viewer in three dimensions."""
    import napari

    return napari.Viewer(title=TITLE, ndisplay=3, show_welcome_screen=False)


class FrameBar(QWidget):
    """A slider for the frame."""

    moved = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Frame")
        self.slider.setToolTip("<qt>The frame of the other window whose volume is shown; both sliders move together.</qt>")
        self.label = QLabel()
        row = QHBoxLayout(self)
        row.addWidget(QLabel("Frame"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self.slider.valueChanged.connect(self._on_value)

    def show_frame(self, frame: int, count: int) -> None:
        """Stand at a frame without telling anybody."""
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, count - 1))
        self.slider.setValue(frame)
        self.slider.blockSignals(False)
        self.label.setText(str(frame))

    def _on_value(self, frame: int) -> None:
        self.label.setText(str(frame))
        self.moved.emit(frame)


class VolumeWindow(QObject):
    """Keeps its layers in step; a layer that the user deletes is made anew by the next volume, foreign layers stay as they are.

    closed : the user closed the window. frame_asked : its slider was moved.
    """

    closed = Signal()
    frame_asked = Signal(int)

    def __init__(self, make: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.make = make
        self.bar: FrameBar | None = None
        self._viewer: Any = None
        self._widest = -1

    @property
    def viewer(self) -> Any:
        """The viewer, or None while none is open."""
        return self._viewer if self.bar is not None and isalive(self.bar) else None

    def open(self, frame: int, count: int) -> None:
        """Open the window, or bring its slider to a frame."""
        if self.viewer is None:
            self._viewer = (self.make or new_viewer)()
            keep_canvas(self._viewer)
            # light that adds up shows on black alone, whatever the theme is
            self._viewer.canvas.background_color_override = "black"
            self._widest = -1
            bar = FrameBar()
            self._viewer.window.add_dock_widget(bar, area="bottom", name="Frame")
            bar.moved.connect(self.frame_asked)
            bar.destroyed.connect(self._on_destroyed)
            self.bar = bar
        if self.bar is not None:
            self.bar.show_frame(frame, count)

    def close(self) -> None:
        """Close the window without a word."""
        viewer, bar, self._viewer, self.bar = self.viewer, self.bar, None, None
        if viewer is not None and bar is not None:
            bar.destroyed.disconnect(self._on_destroyed)
            viewer.close()

    def put(self, volume: Volume, slot: Slot, panel: int) -> None:
        """Show a volume in place of the last one of its slot."""
        if self.viewer is None:
            return
        there = self.layer(slot)
        if there is not None and there.data.shape == volume.values_zyx.shape:
            there.data = volume.values_zyx
            grid = volume_grid(volume, panel)
            there.scale, there.translate = grid["scale"], grid["translate"]
        else:
            self._add_volume(volume, slot, panel, there)
        if panel > self._widest:
            # the camera stays where the user puts it, until there is something beside what it sees
            self._widest = panel
            self._look_from_the_side()

    def keep_only(self, slots: list[Slot]) -> None:
        """Remove volumes that nobody asks for any more."""
        for layer in self.layers(FRAME_VOLUME):
            if noun_of(layer, "slot") not in slots:
                self._remove(layer)

    def darken(self, slot: Slot) -> None:
        """Show nothing in a slot whose volume belongs to another frame than the others."""
        layer = self.layer(slot)
        if layer is not None and np.any(layer.data):
            layer.data = np.zeros_like(layer.data)

    def put_molecules(
        self, places_zyx_nm: NDArray[np.float64], parity: int | None, volumes: list[Volume], depth_range_nm: tuple[float, float]
    ) -> None:
        """Show molecules in every panel, coloured by depth or by the parity of their frame."""
        if self.viewer is None or not volumes:
            return
        layer = next((part for part in self.layers(FRAME_MOLECULES) if noun_of(part, "parity") == parity), None)
        if layer is None:
            if not len(places_zyx_nm):
                return
            layer = self._add(lay_frame_molecules(parity, SPOT_PX * volumes[0].voxel_zyx_nm[2]))
        colors = depth_color(places_zyx_nm[:, 0], depth_range_nm)
        shifts = [np.array([0.0, 0.0, panel * panel_step_nm(volume)]) for panel, volume in enumerate(volumes)]
        places = np.concatenate([places_zyx_nm + shift for shift in shifts])
        fill_points(layer, places, np.tile(colors, (len(shifts), 1)) if parity is None else INTERLEAVED_COLORS[parity], "face_color")

    def keep_molecules(self, parities: list[int | None]) -> None:
        """Remove molecules in colours that are not asked for any more."""
        for layer in self.layers(FRAME_MOLECULES):
            if noun_of(layer, "parity") not in parities:
                self._remove(layer)

    def put_underneath(self, data: Any) -> None:
        """Show an image below everything, or none."""
        if self.viewer is None:
            return
        there = self.layers(UNDERNEATH)
        if data is not None and there and there[0].name == data[1]["name"] and there[0].data.shape == data[0].shape:
            there[0].data, there[0].affine = data[0], data[1]["affine"]
            return
        for layer in there:
            self._remove(layer)
        if data is not None:
            layers, layer = self.viewer.layers, self._add(data)
            layers.move(layers.index(layer), 0)

    def say(self, text: str) -> None:
        """Write into the picture."""
        if self.viewer is not None:
            overlay = self.viewer.canvas.overlays.text
            overlay.text, overlay.visible = text, bool(text)

    def layers(self, role: str) -> list[Any]:
        """Our layers of one role."""
        return [] if self.viewer is None else [layer for layer in self.viewer.layers if role_of(layer) == role]

    def layer(self, slot: Slot) -> Any:
        """The layer of a slot, or None."""
        return next((layer for layer in self.layers(FRAME_VOLUME) if noun_of(layer, "slot") == slot), None)

    def _add_volume(self, volume: Volume, slot: Slot, panel: int, old: Any) -> None:
        others = [layer for layer in self.layers(FRAME_VOLUME) if layer is not old and noun_of(layer, "slot").parity == slot.parity]
        data = lay_frame_volume(volume, slot, panel)
        if others or old is not None:
            # what the user chose for one of them counts for all
            data[1]["contrast_limits"] = (others or [old])[0].contrast_limits
        if old is not None:
            self._remove(old)
        layer = self._add(data)
        layers = self.viewer.layers
        layers.move(layers.index(layer), min([layers.index(part) for part in self.layers(FRAME_MOLECULES)], default=len(layers)))
        if others:
            layers.link_layers([*others, layer], LINKED)

    def _look_from_the_side(self) -> None:
        viewer = self.viewer
        viewer.reset_view()
        # reset_view turns the camera back
        viewer.scene.camera.angles = ANGLES
        viewer.canvas.overlays.scale_bar.visible = True
        viewer.scene.overlays.axes.visible = True

    def _add(self, data: Any) -> Any:
        from napari.layers import Layer

        layer = Layer.create(*data)
        self.viewer.layers.append(layer)
        return layer

    def _remove(self, layer: Any) -> None:
        self.viewer.layers.remove(layer)

    def _on_destroyed(self) -> None:
        self._viewer, self.bar = None, None
        self.closed.emit()
