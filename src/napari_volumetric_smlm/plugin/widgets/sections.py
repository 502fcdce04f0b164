"""Pieces of layout that our widgets share: folding sections, lines of words, and a scroll area that works in a narrow dock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QToolButton, QVBoxLayout, QWidget

NARROWEST_PX = 320
MOST_WARNINGS = 3


def depth_words(low_nm: float, high_nm: float) -> str:
    """Say a range of depths; a line breaks before or after it, never inside."""
    return f"z {low_nm:g} to {high_nm:g} nm".replace(" ", "\u00a0")


class Section(QWidget):
    """A heading that folds its content away."""

    def __init__(self, title: str, content: QWidget, opened: bool = False) -> None:
        super().__init__()
        self.content = content
        self.heading = QToolButton()
        self.heading.setText(title)
        self.heading.setCheckable(True)
        self.heading.setChecked(opened)
        self.heading.setAccessibleName(title)
        self.heading.setToolTip(f"Show or hide: {title}")
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setStyleSheet("QToolButton { border: none; font-weight: bold; text-align: left; background: transparent; }")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.heading)
        layout.addWidget(content)
        self.heading.toggled.connect(self.open)
        self.open(opened)

    def open(self, opened: bool) -> None:
        """Show or hide the content."""
        if self.heading.isChecked() != opened:
            self.heading.setChecked(opened)
        self.heading.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.content.setVisible(opened)


class Words(QLabel):
    """A line for sentences that is hidden while it is empty."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setAccessibleName(name)
        self.hide()

    def say(self, text: str) -> None:
        """Show sentences, or nothing."""
        self.setText(text)
        self.setVisible(bool(text))

    def warn(self, warnings: Sequence[str]) -> None:
        """Show the first warnings, all of them in the tooltip; or nothing."""
        self.say("\n".join(f"⚠ {words}" for words in warnings[:MOST_WARNINGS]))
        self.setToolTip("\n".join(warnings))


def scrolling(content: QWidget) -> QScrollArea:
    """Return a scroll area that never scrolls sideways."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    return area


def stacked(*parts: QWidget, margin: int = 0) -> QWidget:
    """Return a widget with others under each other."""
    widget = QWidget()
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(margin, margin, margin, margin)
    for part in parts:
        layout.addWidget(part)
    return widget


def beside(*parts: QWidget, widest: QWidget | None = None) -> QWidget:
    """Return a widget with others beside each other; `widest` takes the room that is left."""
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part, 1 if part is widest else 0)
    return widget


def grey_pixmap(values_yx: NDArray[np.floating], width_px: int) -> QPixmap:
    """Return an array as a grey picture of a given width."""
    low, high = np.percentile(values_yx, (1, 99.8))
    grey = np.ascontiguousarray(np.clip((values_yx - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8))
    image = QImage(grey.data, grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format.Format_Grayscale8)
    # a copy: the image only borrows the array's memory
    return QPixmap.fromImage(image.copy()).scaledToWidth(width_px)
