"""Boxes to choose a layer or an instrument with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ...errors import SmlmError
from ...io.instruments import load_instrument
from ..session import Session
from .sections import depth_words


class LayerPicker(QComboBox):
    """A box with the layers of a viewer that pass `accepts`; follows insertions, removals and new names, by identity.

    Parameters
    ----------
    prefers
        How well a layer fits; among layers that appear, the best is chosen by itself, unless the user chose before.
    """

    picked = Signal()

    def __init__(self, viewer: Any, accepts: Callable[[Any], bool], prefers: Callable[[Any], int], none_text: str) -> None:
        super().__init__()
        self.viewer, self.accepts, self.prefers, self.none_text = viewer, accepts, prefers, none_text
        self._layers: list[Any] = []
        self._by_hand = False
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._refill)
        self.activated.connect(self._on_activated)
        self._refill()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))
            self.picked.emit()

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer."""
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = []
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._refill)

    def _on_activated(self) -> None:
        self._by_hand = True
        self.picked.emit()

    def _refill(self, event: Any = None) -> None:
        before = self.layer
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        self._layers = [layer for layer in self.viewer.layers if self.accepts(layer)]
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers] or [self.none_text])
        self.setEnabled(bool(self._layers))
        if self._by_hand and before in self._layers:
            chosen = before
        else:
            self._by_hand = False
            # the newest of the best
            chosen = max(reversed(self._layers), key=self.prefers, default=None)
        if chosen is not None:
            self.setCurrentIndex(self._layers.index(chosen))
        self.blockSignals(False)
        if self.layer is not before:
            self.picked.emit()

    def _rename(self, event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)


class InstrumentPicker(QWidget):
    """A box with the instrument in use, the examples that travel with the package, and a button for a file."""

    failed = Signal(object)

    def __init__(self, session: Session, examples: dict[str, Path]) -> None:
        super().__init__()
        self.session, self.examples = session, examples
        self.box = QComboBox()
        self.box.setAccessibleName("Instrument")
        self.box.setToolTip("<qt>The microscope: a calibration made here, a file, or an example that comes with this plugin.</qt>")
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(12)
        self.open_button = QPushButton("Open...")
        self.open_button.setToolTip("<qt>Load an instrument or calibration from its JSON file.</qt>")
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.box, 1)
        row.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.facts)
        self.box.activated.connect(self._on_activated)
        self.open_button.clicked.connect(self.ask)
        session.instrument_changed.connect(self._show)
        self._show()

    def load(self, path: str | Path, origin: str = "") -> bool:
        """Load a file and take it for the session; an error is told by `failed`."""
        try:
            instrument = load_instrument(path)
        except SmlmError as error:
            self.failed.emit(error)
            return False
        self.session.choose_instrument(instrument, origin or Path(path).name, Path(path))
        return True

    def ask(self) -> None:
        """Let the user choose a file."""
        folder = self.session.memory.folder("instrument")
        path, _ = QFileDialog.getOpenFileName(self, "Open an instrument or calibration", folder, "Instruments (*.json)")
        if path and self.load(path):
            self.session.memory.store_folder("instrument", path)

    def _on_activated(self, index: int) -> None:
        name = self.box.itemData(index)
        if name in self.examples:
            self.load(self.examples[name], f"example {name}")
        self._show()

    def _show(self) -> None:
        instrument = self.session.instrument
        self.box.clear()
        if instrument is None:
            self.box.addItem("Choose ...")
        else:
            self.box.addItem(f"{instrument.name} ({self.session.instrument_origin})")
        for name in self.examples:
            self.box.addItem(f"Example: {name}", name)
        self.facts.setVisible(instrument is not None)
        if instrument is not None:
            low, high = instrument.depth_range_nm
            views = "1 view" if len(instrument.views) == 1 else f"{len(instrument.views)} views"
            record = instrument.calibration
            checked = f"calibrated, correlation {record.correlation_held_out:.3f}" if record else "not calibrated"
            self.facts.setText(
                f"NA {instrument.objective.numerical_aperture:g} · {instrument.emission_nm:g} nm · pixel {instrument.pixel_nm():.4g} nm · "
                f"{views} · {depth_words(low, high)} from the {instrument.z_reference} · {checked}"
            )
