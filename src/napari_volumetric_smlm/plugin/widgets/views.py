"""Which of our pictures lies over the frames."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from ..layers import FOUND, FRAMES, PICTURE, RESIDUAL

VIEWS = {
    PICTURE: ("Picture", "The super-resolved picture of all molecules"),
    FRAMES: ("Frame", "The raw frame with the molecules found in it"),
    FOUND: ("Found", "The frame as the molecules and the background explain it (needs the live preview)"),
    RESIDUAL: (
        "Residual",
        "Frame minus explanation, in standard deviations of the noise; structure here was missed (needs the live preview)",
    ),
}


class ViewBar(QWidget):
    """Buttons, one pressed. views : title and tooltip by role; the raw frames are among them."""

    chosen = Signal(str)

    def __init__(self, views: dict[str, tuple[str, str]] = VIEWS) -> None:
        super().__init__()
        self.group = QButtonGroup(self)
        self.buttons: dict[str, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for role, (title, tip) in views.items():
            button = QPushButton(title)
            button.setCheckable(True)
            button.setToolTip(f"<qt>{tip}</qt>")
            button.setAccessibleName(f"Show: {title}")
            self.group.addButton(button)
            self.buttons[role] = button
            row.addWidget(button)
        self.buttons[FRAMES].setChecked(True)
        self.group.buttonClicked.connect(lambda: self.chosen.emit(self.role))

    @property
    def role(self) -> str:
        """What is chosen."""
        return next(role for role, button in self.buttons.items() if button.isChecked())

    def choose(self, role: str) -> None:
        """Press a button."""
        self.buttons[role].setChecked(True)
        self.chosen.emit(role)
