"""The log of the session, with a report to copy into a bug report."""

from __future__ import annotations

from qtpy.QtWidgets import QApplication, QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from ..session import Session


class LogPanel(QWidget):
    """What happened, line by line."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(2000)
        self.text.setMinimumHeight(120)
        self.text.setAccessibleName("Log")
        self.copy_button = QPushButton("Copy report")
        self.copy_button.setToolTip("<qt>Copy versions, devices, the state and the last lines of the log, for a bug report.</qt>")
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.copy_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row)
        self.text.setPlainText("\n".join(session.log.lines))
        session.log.added.connect(self.text.appendPlainText)
        self.copy_button.clicked.connect(self.copy)

    def copy(self) -> None:
        """Put the report on the clipboard."""
        QApplication.clipboard().setText(self.session.report())
        self.session.log.add("The report is on the clipboard")
