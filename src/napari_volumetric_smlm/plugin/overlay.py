"""What our layers show over the frames of one viewer: molecules of the current frame, picture, what was found, residual."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Signal

from ..domain.images import DepthPicture, Volume
from ..domain.molecules import Localizations
from ..domain.runs import FrameExplanation
from .layers import (
    FOUND,
    FRAMES,
    MOLECULES,
    PICTURE,
    RESIDUAL,
    fill_molecules,
    lay_explanation,
    lay_molecules,
    lay_picture,
)
from .own_layers import OwnLayers
from .session import Session
from .world import picture_contrast


class Overlay(OwnLayers):
    """Keeps our layers in step with the frame slider. A layer that the user deletes is made anew only by the next result.

    pixel_nm : camera pixel of the instrument in use; the table's nanometres are laid over the frames with it.
    frame : frame that the slider stands on.
    """

    frame_changed = Signal(int)
    molecules_shown = Signal(object)
    points_selected = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.pixel_nm = 100.0
        self.depth_range_nm = (0.0, 1000.0)
        self.frame = 0
        self.shown = Localizations.empty()
        self._preview: tuple[int, Localizations] | None = None
        self._listening = True
        session.viewer.dims.events.current_step.connect(self._on_step)
        session.table_changed.connect(self.refresh)

    def disconnect_viewer(self) -> None:
        """Stop listening to session and viewer."""
        if self._listening:
            self._listening = False
            self.session.table_changed.disconnect(self.refresh)
        else:
            return
        if self.session.viewer is not None:
            self.session.viewer.dims.events.current_step.disconnect(self._on_step)

    def follow(self, frames: list[Any], pixel_nm: float, depth_range_nm: tuple[float, float]) -> None:
        """Lie over these frames from now on, one layer a camera."""
        moved = frames[:1] != self.frames[:1] or pixel_nm != self.pixel_nm
        self.frames, self.pixel_nm, self.depth_range_nm = frames, pixel_nm, depth_range_nm
        if moved:
            self._preview = None
            for role in (MOLECULES, FOUND, RESIDUAL):
                for layer in self.layers(role):
                    self.session.viewer.layers.remove(layer)
        self._on_step()

    def prepare(self) -> None:
        """Make the layer of circles, so that streaming results need not wait for it."""
        if not self.layers(MOLECULES):
            layer = self._add(lay_molecules(self.frames[0] if self.frames else None, self.pixel_nm))
            layer.selected_data.events.items_changed.connect(lambda *_: self.points_selected.emit(set(layer.selected_data)))

    def refresh(self) -> None:
        """Show the molecules of the current frame: of the preview where there is one, else of the job or the last result."""
        layers = self.layers(MOLECULES)
        if not layers or self.session.viewer is None:
            return
        shown = None
        if self._preview is not None and self._preview[0] == self.frame:
            shown = self._preview[1]
        if shown is None:
            shown = self.session.molecules_of(self.frame)
        self.shown = shown if shown is not None else Localizations.empty()
        fill_molecules(layers[-1], self.shown, self.session.table, self.depth_range_nm)
        self.molecules_shown.emit(self.shown)

    def show_picture(self, volume: Volume | DepthPicture, table: Localizations | None = None, name: str = "Super-resolved picture") -> Any:
        """Show a rendered picture in place of the last one."""
        for layer in self.layers(PICTURE):
            if layer.name.startswith(name):
                self.session.viewer.layers.remove(layer)
        added = self._add(lay_picture(volume, name, self.frames[0] if self.frames else None, self.pixel_nm, table))
        # below the circles
        circles = self.layers(MOLECULES)
        if circles:
            layers = self.session.viewer.layers
            layers.move(layers.index(circles[-1]), len(layers))
        return added

    def grow_picture(self, layer: Any, values: Any) -> None:
        """Redraw a picture whose values have grown in place; nothing happens when the user has deleted it."""
        if self.session.viewer is not None and layer in self.session.viewer.layers:
            layer.contrast_limits = picture_contrast(values)
            layer.refresh()

    def show_preview(self, explanation: FrameExplanation) -> None:
        """Show what one frame explains: molecules, model and residual; visibility stays as the user set it."""
        self._preview = (explanation.frame, explanation.localizations)
        self.prepare()
        for data, options, kind in lay_explanation(explanation, self.frames, self.pixel_nm):
            there = [layer for layer in self.layers(options["metadata"]["napari-volumetric-smlm"]["role"]) if layer.name == options["name"]]
            placed = {name: options[name] for name in ("scale", "translate", "affine") if name in options}
            if there and there[-1].data.shape == data.shape:
                there[-1].data = data
                for name, value in placed.items():
                    setattr(there[-1], name, value)
                continue
            for layer in there:
                self.remove(layer)
            self._under_circles(self._add((data, options, kind)))
        self.refresh()

    def forget_preview(self) -> None:
        """Show the results again."""
        self._preview = None
        self.refresh()

    def show_only(self, role: str) -> None:
        """Show the picture alone, or the frames, what was found or the residual with circles; layers of others stay as they are."""
        for each in (PICTURE, FOUND, RESIDUAL):
            for layer in self.layers(each):
                layer.visible = each == role
        for layer in self.layers(MOLECULES):
            layer.visible = role != PICTURE
        for layer in self.frames:
            # pictures cover the frames; only who asks for the frames gets them shown
            layer.visible = layer.visible or role == FRAMES

    def jump(self, molecule: dict[str, float]) -> None:
        """Move slider and camera to a molecule."""
        viewer = self.session.viewer
        self.step_to(int(molecule["frame"]))
        circles = self.layers(MOLECULES)
        if circles:
            place = np.asarray(circles[-1].data_to_world((molecule["y_nm"], molecule["x_nm"])))
            viewer.scene.camera.center = (0.0, float(place[-2]), float(place[-1]))
            rows = np.flatnonzero(
                (self.shown["frame"] == molecule["frame"])
                & (self.shown["x_nm"] == molecule["x_nm"])
                & (self.shown["y_nm"] == molecule["y_nm"])
            )
            circles[-1].selected_data = {int(row) for row in rows}

    def _under_circles(self, layer: Any) -> None:
        layers = self.session.viewer.layers
        circles = self.layers(MOLECULES)
        if circles:
            layers.move(layers.index(layer), layers.index(circles[-1]))

    def _on_step(self, event: Any = None) -> None:
        frame = self.current_frame()
        changed = frame != self.frame
        self.frame = frame
        if changed or event is None:
            self.refresh()
        if changed:
            self.frame_changed.emit(frame)
