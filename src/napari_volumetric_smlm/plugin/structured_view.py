"""What our layers show over raw frames with stripe patterns, and which image the slider stands on."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal

from .layers import FRAMES, LayerData
from .own_layers import OwnLayers
from .session import Session
from .structured_jobs import Answer, Question
from .structured_layers import (
    CONFOCAL,
    EVIDENCE,
    NAMES,
    RETOUCHED,
    SECTION,
    SHARP,
    WIDE_FIELD,
    contrast,
    image_of_frame,
    lay_evidence,
    lay_partly,
    lay_retouched,
    lay_structured,
)


class StructuredView(OwnLayers):
    """Keeps one layer for each kind of image; a layer that the user renames is left alone.

    moved : the slider stands on another raw frame. laid : all images of an answer are there.
    """

    moved = Signal(int)
    laid = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.frame = 0
        self._waiting: deque[LayerData] = deque()
        self._listening = True
        session.viewer.dims.events.current_step.connect(self._on_step)

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        if self._listening and self.session.viewer is not None:
            self.session.viewer.dims.events.current_step.disconnect(self._on_step)
        self._listening = False
        self._waiting.clear()

    @property
    def busy(self) -> bool:
        """Whether images wait for their layers."""
        return bool(self._waiting)

    def follow(self, frames: list[Any]) -> None:
        """Lie over these frames from now on."""
        self.frames = frames
        self._on_step()

    def show_answer(self, answer: Answer) -> None:
        """Show all images of an answer in place of older ones, one after the other; `laid` tells when."""
        self.forget_retouched()
        shown = lay_structured(answer.images, answer.question, self._layer())
        there = {data[1]["name"] for data in shown}
        for role in (SHARP, WIDE_FIELD, SECTION, CONFOCAL):
            for layer in self.layers(role):
                if layer.name in NAMES.values() and layer.name not in there:
                    self.remove(layer)
        self._waiting = deque(shown)
        self._put_next()

    def show_partly(self, images_yx: list[NDArray[Any]], question: Question) -> None:
        """Show what a series had when it was stopped; its images are as wide as the frames."""
        pixel_nm = question.instrument.pixel_nm() * question.stack.counts_tyx[0].shape[-1] / images_yx[0].shape[-1]
        self._put(lay_partly(images_yx, pixel_nm, question, self._layer()))

    def show_retouched(self, image: NDArray[Any], answer: Answer) -> None:
        """Show one image or volume with other settings on top of the reconstruction."""
        there = self.layers(RETOUCHED)
        if there and there[-1].data.shape == image.shape:
            there[-1].data = image
            there[-1].contrast_limits = contrast(image if image.ndim > 2 else image[None])
            there[-1].visible = True
            return
        self.forget_retouched()
        self._put(lay_retouched(image, answer.images, answer.question, self._layer()))

    def image_number(self, answer: Answer) -> int:
        """Return which image of an answer is looked at: by the raw frame, of volumes by the time of theirs."""
        images = answer.images
        if images.plane_nm is None:
            return image_of_frame(self.frame, answer.question.plan, len(images.images_tyx))
        times = len(images.images_tyx) // images.planes
        layers = [layer for layer in self.layers(SHARP) if layer.ndim == 4]
        if times == 1 or not layers or self.session.viewer is None:
            return 0
        place = layers[-1].world_to_data(self.session.viewer.dims.point)
        return images.planes * min(max(round(float(place[0])), 0), times - 1)

    def forget_retouched(self) -> None:
        """Show no preview."""
        for layer in self.layers(RETOUCHED):
            self.remove(layer)

    def show_evidence(self, picture_yxc: NDArray[np.uint8]) -> None:
        """Show the evidence beside the frames."""
        self._put(lay_evidence(picture_yxc, self._layer()))

    def show_only(self, role: str) -> None:
        """Show one kind of image, or the raw frames; layers of others stay as they are."""
        for each in (SHARP, WIDE_FIELD, SECTION, CONFOCAL, RETOUCHED):
            for layer in self.layers(each):
                layer.visible = each == role or (each == RETOUCHED and role == SHARP)
        for layer in self.frames:
            # the images cover the frames; only who asks for the frames gets them shown
            layer.visible = layer.visible or role == FRAMES

    def roles(self) -> set[str]:
        """Return which kinds of images are there."""
        return {role for role in (SHARP, WIDE_FIELD, SECTION, CONFOCAL, EVIDENCE) if self.layers(role)}

    def _layer(self) -> Any:
        viewer = self.session.viewer
        return next((layer for layer in self.frames if viewer is not None and layer in viewer.layers), None)

    def _put_next(self) -> None:
        # making a layer takes napari a tenth of a second: between them the window stays alive
        if self._waiting:
            known = bool(self._volumes())
            self._put(self._waiting.popleft())
            if not known and self._volumes():
                self._to_middle()
            QTimer.singleShot(0, self._put_next if self._waiting else self.laid.emit)

    def _put(self, data: LayerData) -> None:
        if self.session.viewer is None:
            return
        values, options, _ = data
        (kept,) = options["metadata"].values()
        old = [layer for layer in self.layers(kept["role"]) if layer.name == options["name"]]
        same = [layer for layer in old if layer.data.shape == values.shape]
        if not same:
            for layer in old:
                self.remove(layer)
            self._add(data)
            return
        layer = same[-1]
        layer.data = values
        for name in ("scale", "translate", "affine", "contrast_limits"):
            if name in options:
                setattr(layer, name, options[name])

    def _volumes(self) -> list[Any]:
        return [layer for layer in self.layers(SHARP) if "z" in layer.axis_labels]

    def _to_middle(self) -> None:
        """Stand on the middle plane of a volume: the first one shows hardly anything."""
        layer, viewer = self._volumes()[-1], self.session.viewer
        start = [n // 2 if label == "z" else 0 for n, label in zip(layer.data.shape, layer.axis_labels, strict=True)]
        viewer.dims.set_point(viewer.dims.ndim - 3, float(layer.data_to_world(start)[-3]))

    def _on_step(self, event: Any = None) -> None:
        frame = self.current_frame()
        if frame != self.frame:
            self.frame = frame
            self.moved.emit(frame)
