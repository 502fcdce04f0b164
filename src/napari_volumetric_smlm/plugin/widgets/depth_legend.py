"""What the colours of molecules mean: a bar from the lowest to the highest depth."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from ...engine.assemble.colors import depth_color

STEPS, HEIGHT_PX = 128, 12


class DepthLegend(QWidget):
    """A bar in the colours of depth between two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.bar, self.high = QLabel(), QLabel(), QLabel()
        self.bar.setScaledContents(True)
        self.bar.setFixedHeight(HEIGHT_PX)
        self.bar.setPixmap(_bar())
        self.bar.setAccessibleName("Colours of depth")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.low)
        row.addWidget(self.bar, 1)
        row.addWidget(self.high)

    def show_depths(self, depth_range_nm: tuple[float, float], reference: str) -> None:
        """Write the ends."""
        low, high = depth_range_nm
        self.low.setText(f"{low:g}")
        self.high.setText(f"{high:g} nm")
        self.setToolTip(
            f"<qt>Molecules are coloured by their depth in nm from the {reference}; those beyond the ends take the colour of the end.</qt>"
        )


def _bar() -> QPixmap:
    colors = depth_color(np.linspace(0, 1, STEPS), (0.0, 1.0))
    pixels = np.ascontiguousarray((colors[None] * 255).astype(np.uint8))
    image = QImage(pixels.data, STEPS, 1, 3 * STEPS, QImage.Format.Format_RGB888)
    # a copy: the image only borrows the array's memory
    return QPixmap.fromImage(image.copy()).scaled(STEPS, HEIGHT_PX, Qt.AspectRatioMode.IgnoreAspectRatio)
