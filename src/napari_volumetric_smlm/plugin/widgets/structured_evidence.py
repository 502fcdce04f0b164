"""The verdict on the patterns: words, a table with a row a wave, and the power spectra with the waves that were found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QPushButton, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from ...domain.illumination import Illumination
from ..structured_jobs import Patterns, patterns_in_words
from .sections import NARROWEST_PX

MARKS = {"green": "✓", "amber": "⚠", "red": "✗"}
COLUMNS = {
    "Orientation": "Orientation, counted from 0; ✓ = can be used, ✗ = gives its wide-field light only",
    "Period": "Distance of two stripes in nm",
    "Angle": "Direction of the wave vector in degrees, from +x towards +y of the image",
    "Mod.": "Modulation depth: 1 = the pattern goes down to black",
    "z-score": "Correlation of the bands over what chance gives; trust nothing below 4 on its own",
    "Mod./noise": "Strength of the pattern in a raw frame over the noise of the frame",
}


class EvidenceBox(QWidget):
    """Hidden until there is something to show. asked_for_layer : show the picture as a layer."""

    asked_for_layer = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.patterns: Patterns | None = None
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Verdict on the patterns")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        for column, tip in enumerate(COLUMNS.values()):
            item = self.table.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(f"<qt>{tip}</qt>")
        self.table.setAccessibleName("Patterns that were found")
        self.table.setToolTip("<qt>A row for each wave of each orientation; hold the mouse over a heading to read what it means.</qt>")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.picture = QLabel()
        self.picture.setAccessibleName("Evidence of the patterns")
        self.picture.setToolTip(
            "<qt>Above: power spectrum of each orientation's frames, zero frequency in the middle. Below: how well the bands overlap at "
            "each trial wave vector. Circles: the waves that were found; a fine one is seen below only.</qt>"
        )
        self.layer_button = QPushButton("Show as layer")
        self.layer_button.setToolTip("<qt>Add this picture to the viewer, beside the frames, to look at it closely.</qt>")
        self.layer_button.clicked.connect(self.asked_for_layer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.words, self.table, self.picture, self.layer_button):
            layout.addWidget(part)
        self.hide()

    def forget(self) -> None:
        """Show nothing."""
        self.patterns = None
        self.hide()

    def show_patterns(self, patterns: Patterns) -> None:
        """Show what was found."""
        self.patterns = patterns
        verdict = patterns.used.verdict
        self.words.setText(f"{MARKS[verdict.colour] if verdict is not None else '·'} {patterns_in_words(patterns)}")
        rows = table_rows(patterns.used)
        self.table.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        height = self.table.horizontalHeader().sizeHint().height() + 22 * min(len(rows), 10) + 20
        self.table.setFixedHeight(height)
        self.picture.setPixmap(_pixmap(patterns.evidence_yxc, NARROWEST_PX - 40))
        self.show()


def table_rows(illumination: Illumination) -> list[tuple[str, ...]]:
    """Return the texts of the table, a row a wave."""
    verdict = illumination.verdict
    rows: list[tuple[str, ...]] = []
    for number, orientation in enumerate(illumination.orientations):
        mark = "" if verdict is None else " ✓" if verdict.passed[number] else " ✗"
        for wave in orientation.waves:
            seen = wave.evidence
            order = f" · order {wave.step}" if len(orientation.waves) > 1 else ""
            proof = (f"{seen.z_score:.1f}", f"{seen.modulation_to_noise:.2f}") if seen is not None else ("given", "given")
            angle = f"{math.degrees(wave.angle_rad):.1f}"
            rows.append((f"{number}{order}{mark}", f"{wave.period_nm:.1f}", angle, f"{wave.modulation:.2f}", *proof))
    return rows


def _pixmap(picture_yxc: Any, width_px: int) -> QPixmap:
    rgb = np.ascontiguousarray(picture_yxc)
    image = QImage(rgb.data, rgb.shape[1], rgb.shape[0], 3 * rgb.shape[1], QImage.Format.Format_RGB888)
    # a copy: the image only borrows the array's memory
    return QPixmap.fromImage(image.copy()).scaledToWidth(width_px, Qt.TransformationMode.SmoothTransformation)
