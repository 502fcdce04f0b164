"""The camera of an instrument: numbers, typical values, what the file's metadata say, and what looks wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from ...domain.images import RawStack
from ...domain.instrument import Camera
from ...errors import SmlmError
from ..forms import PlanForm
from .sections import Words, beside, stacked

FIELDS = tuple(name for name in Camera.model_fields if name != "name")
# typical of their kind; the certificate that came with a camera knows better
PRESETS: dict[str, Camera] = {
    "sCMOS, 6.5 µm pixels": Camera(
        name="sCMOS", pixel_um=6.5, quantum_efficiency=0.8, gain_e_per_count=0.46, offset_counts=100.0, read_noise_e=1.6
    ),
    "Back-illuminated sCMOS, 6.5 µm pixels": Camera(
        name="sCMOS, back-illuminated", pixel_um=6.5, quantum_efficiency=0.95, gain_e_per_count=0.25, offset_counts=100.0, read_noise_e=1.0
    ),
    "Back-illuminated sCMOS, 11 µm pixels": Camera(
        name="sCMOS, 11 um", pixel_um=11.0, quantum_efficiency=0.95, gain_e_per_count=0.8, offset_counts=100.0, read_noise_e=1.6
    ),
    "EMCCD, 16 µm pixels, EM gain 200": Camera(
        name="EMCCD", pixel_um=16.0, quantum_efficiency=0.9, gain_e_per_count=12.0, offset_counts=200.0, read_noise_e=60.0, em_gain=200.0
    ),
    "Counts are photons": Camera(name="photon counts", pixel_um=11.0),
}
METADATA_FIELDS = ("offset_counts", "gain_e_per_count", "read_noise_e", "em_gain", "saturation_counts")


class CameraPanel(QWidget):
    """A form for one camera. changed : the form describes another camera now."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.presets = QComboBox()
        self.presets.addItem("Typical cameras ...")
        self.presets.addItems(PRESETS)
        self.presets.setToolTip("<qt>Typical numbers of a kind of camera. Your camera's certificate knows better.</qt>")
        self.presets.setAccessibleName("Typical cameras")
        self.metadata_button = QPushButton("From metadata")
        self.form = PlanForm(Camera, FIELDS)
        self.words = Words()
        self._stack: RawStack | None = None
        top = beside(self.presets, self.metadata_button, widest=self.presets)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(stacked(top, self.form, self.words))
        self.presets.activated.connect(self._take_preset)
        self.metadata_button.clicked.connect(self.take_metadata)
        self.form.changed.connect(self._on_change)
        self.show_stack(None)

    def show_camera(self, camera: Camera) -> None:
        """Show a camera."""
        self.form.set_plan(camera)

    def camera(self) -> Camera:
        """Return the camera; raises PlanError where a number is missing or wrong."""
        camera: Camera = self.form.plan()
        return camera

    def show_stack(self, stack: RawStack | None) -> None:
        """Know the stack that the camera took: its metadata can be taken, its counts are compared."""
        self._stack = stack
        known = self._metadata()
        self.metadata_button.setEnabled(bool(known))
        tip = "Take over: " + ", ".join(f"{name} = {value:g}" for name, value in known.items())
        self.metadata_button.setToolTip(f"<qt>{tip if known else 'The file says nothing about its camera.'}</qt>")
        self._judge()

    def take_metadata(self) -> None:
        """Take what the file says."""
        for name, value in self._metadata().items():
            self.form.set_value(name, value)

    def _metadata(self) -> dict[str, float]:
        found = (self._stack.metadata.get("camera") or {}) if self._stack is not None else {}
        return {name: float(found[name]) for name in METADATA_FIELDS if isinstance(found.get(name), (int, float))}

    def _take_preset(self, index: int) -> None:
        preset = PRESETS.get(self.presets.itemText(index))
        if preset is not None:
            self.form.set_plan(preset)
        self.presets.setCurrentIndex(0)

    def _on_change(self) -> None:
        self._judge()
        self.changed.emit()

    def _judge(self) -> None:
        words: list[str] = []
        if self._stack is not None:
            try:
                words = judge_camera(self.camera(), self._stack)
            except SmlmError as error:
                words = [str(error)]
        self.words.say("\n".join(f"⚠ {line}" for line in words))


def judge_camera(camera: Camera, stack: RawStack, which: int = 0) -> list[str]:
    """Say what contradicts a frame of the stack: an offset above the darkest counts, or far below; metadata that differ."""
    counts: Any = stack.counts_tyx[min(which, len(stack.counts_tyx) - 1)]
    frame = np.asarray(counts[counts.shape[0] // 2], float)
    frame = frame[np.isfinite(frame)]
    if not frame.size:
        return ["the frames hold no numbers"]
    low, middle = np.percentile(frame, (1, 50))
    offset = float(np.median(np.asarray(camera.offset_counts)))
    words = []
    if offset > middle:
        words.append(
            f"the offset ({offset:g} counts) is above the median of the frames ({middle:g}): most pixels would have negative light"
        )
    elif low - offset > 50 and offset < 0.5 * low:
        words.append(
            f"the darkest pixels have {low:g} counts, the offset is {offset:g}: if that is the camera's baseline, enter it as offset"
        )
    found = stack.metadata.get("camera") or {}
    for name in METADATA_FIELDS:
        value, mine = found.get(name), getattr(camera, name)
        if isinstance(value, (int, float)) and isinstance(mine, (int, float)) and abs(value - mine) > 0.05 * max(abs(value), abs(mine)):
            words.append(f"{name} is {mine:g} here and {value:g} in the file's metadata")
    return words
