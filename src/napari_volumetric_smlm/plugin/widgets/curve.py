"""A live curve of the loss, painted by Qt: light enough to be drawn several times a second while all processors train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

TOTAL = "loss"
MOST_POINTS = 1000
# colours that all eyes tell apart, on dark and on light ground
COLORS = ("#e69f00", "#0096d6", "#009e73", "#cc79a7", "#d55e00")
SMOOTH = 0.95


class LossCurve(QWidget):
    """Loss and its parts over the steps; hidden while there is nothing to draw."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.lines: dict[str, list[float]] = {}
        self.setFixedHeight(150)
        self.setAccessibleName("Loss while the training goes on")
        self.setToolTip("<qt>Loss (lower is better), all of it and its parts, over the steps of the training.</qt>")
        self.hide()

    def begin(self, curve: list[dict[str, float]] | None = None) -> None:
        """Begin anew, or with the curve (parts of the loss, step by step) of a training that goes on."""
        self.steps, self.lines = [], {}
        smooth: dict[str, float] = {}
        for number, losses in enumerate(curve or [], 1):
            smooth = {name: SMOOTH * smooth.get(name, value) + (1 - SMOOTH) * value for name, value in losses.items()}
            self._keep(number, {**smooth, TOTAL: sum(smooth.values())})
        self.setVisible(len(self.steps) > 1)
        self.update()

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Add the losses at a step."""
        self._keep(step, losses)
        self.setVisible(len(self.steps) > 1)
        self.update()

    def _keep(self, step: int, losses: Mapping[str, float]) -> None:
        if self.steps and (step <= self.steps[-1] or set(losses) != set(self.lines)):
            return
        self.steps.append(step)
        for name, value in losses.items():
            self.lines.setdefault(name, []).append(float(value))
        if len(self.steps) > MOST_POINTS:
            self.steps = self.steps[::2]
            self.lines = {name: values[::2] for name, values in self.lines.items()}

    def limits(self) -> tuple[float, float]:
        """Lowest and highest value to draw; the steep beginning is cut off as soon as there is more."""
        first = len(self.steps) // 20 if len(self.steps) > 20 else 0
        values = np.array(list(self.lines.values()))[:, first:]
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        spare = 0.05 * max(high - low, 1e-6)
        return 0.0 if 0 <= low < 0.2 * high else low - spare, high + spare

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw frame, lines, and their names."""
        if len(self.steps) < 2:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().windowText().color()
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.85))
        painter.setFont(font)
        line = painter.fontMetrics().height()
        low, high = self.limits()
        texts = (f"{high:.3g}", f"{low:.3g}")
        left = max(painter.fontMetrics().horizontalAdvance(text) for text in texts) + 6
        box = QRectF(left, 2 * line + 2, self.width() - left - 2, self.height() - 3 * line - 6)
        painter.setPen(ink)
        painter.drawText(QRectF(0, box.top() - line / 2, left - 4, line), Qt.AlignmentFlag.AlignRight, texts[0])
        painter.drawText(QRectF(0, box.bottom() - line + 2, left - 4, line), Qt.AlignmentFlag.AlignRight, texts[1])
        foot = QRectF(box.left(), box.bottom() + 2, box.width(), line)
        painter.drawText(foot, Qt.AlignmentFlag.AlignLeft, f"step {self.steps[0]:,}")
        painter.drawText(foot, Qt.AlignmentFlag.AlignRight, f"{self.steps[-1]:,}")
        self._draw_lines(painter, box, (low, high), ink)
        faint = QColor(ink)
        faint.setAlpha(90)
        painter.setClipping(False)
        painter.setPen(faint)
        painter.drawRect(box)
        painter.end()

    def _draw_lines(self, painter: QPainter, box: QRectF, limits: tuple[float, float], ink: QColor) -> None:
        low, high = limits
        line = painter.fontMetrics().height()
        steps = np.array(self.steps, float)
        x = box.left() + (steps - steps[0]) / max(steps[-1] - steps[0], 1) * box.width()
        names = [name for name in self.lines if name != TOTAL] + [TOTAL] * (TOTAL in self.lines)
        across = box.left()
        row = 0.0
        for number, name in enumerate(names):
            color = ink if name == TOTAL else QColor(COLORS[number % len(COLORS)])
            painter.setClipping(False)
            painter.setPen(color)
            width = painter.fontMetrics().horizontalAdvance(name)
            if across + width > box.right():
                across, row = box.left(), row + line
            painter.drawText(QRectF(across, row, width + 2, line), Qt.AlignmentFlag.AlignLeft, name)
            across += width + 12
            values = np.nan_to_num(np.array(self.lines[name]), nan=high, posinf=high, neginf=low)
            y = box.bottom() - (values - low) / (high - low) * box.height()
            painter.setClipRect(box)
            painter.setPen(QPen(color, 1.7 if name == TOTAL else 1.2))
            painter.drawPolyline(QPolygonF([QPointF(a, b) for a, b in zip(x, y, strict=True)]))
