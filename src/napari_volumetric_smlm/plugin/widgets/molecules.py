"""The table of molecules: of the current frame or of all frames; a row is a place in the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QCheckBox, QHBoxLayout, QHeaderView, QLabel, QTableView, QVBoxLayout, QWidget

from ...domain.molecules import COLUMNS, Localizations
from ..forms import label_of

FIRST_COLUMNS = ("frame", "z_nm", "y_nm", "x_nm", "photons", "sigma_z_nm", "sigma_y_nm", "sigma_x_nm")


class MoleculeModel(QAbstractTableModel):
    """Shows columns of numbers without copying them into cells; sorting reorders row numbers only."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Localizations.empty()
        self.names: list[str] = []
        self.rows: NDArray[np.int64] = np.zeros(0, np.int64)

    def show(self, table: Localizations) -> None:
        """Show another table."""
        self.beginResetModel()
        self.table = table
        self.names = [n for n in FIRST_COLUMNS if n in table] + [n for n in table.columns if n not in FIRST_COLUMNS]
        self.rows = np.arange(len(table))
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return the number of molecules."""
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return the number of columns."""
        return len(self.names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell as text."""
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        value = self.table[self.names[index.column()]][self.rows[index.row()]]
        if isinstance(value, np.bool_):
            return "yes" if value else "no"
        return f"{value:.1f}" if isinstance(value, np.floating) else str(value)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        """Return the heading of a column, its meaning as tooltip."""
        if orientation == Qt.Orientation.Horizontal and section < len(self.names):
            name = self.names[section]
            if role == Qt.ItemDataRole.DisplayRole:
                return label_of(name)
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"<qt>{COLUMNS[name][1] if name in COLUMNS else name}</qt>"
        if orientation == Qt.Orientation.Vertical and role == Qt.ItemDataRole.DisplayRole:
            return str(section + 1)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        if 0 <= column < len(self.names):
            self.layoutAboutToBeChanged.emit()
            rows = np.argsort(self.table[self.names[column]], kind="stable")
            self.rows = rows if order == Qt.SortOrder.AscendingOrder else rows[::-1]
            self.layoutChanged.emit()


class MoleculeTable(QWidget):
    """The rows with a switch between this frame and all frames.

    jumped : a row was clicked; carries its values by column. scope_changed : the switch was moved.
    """

    jumped = Signal(object)
    scope_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model = MoleculeModel()
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setAccessibleName("Molecules")
        self.view.setToolTip("<qt>Click a row to go to its molecule; select circles in the viewer to mark their rows.</qt>")
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setSortingEnabled(True)
        self.view.setMinimumHeight(180)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.view.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.view.horizontalHeader().setDefaultSectionSize(84)
        self.view.verticalHeader().setDefaultSectionSize(22)
        self.all_frames = QCheckBox("All frames")
        self.all_frames.setToolTip("<qt>Show the molecules of all frames instead of those of the current one.</qt>")
        self.count = QLabel()
        row = QHBoxLayout()
        row.addWidget(self.all_frames)
        # beside the box: at the right end it would lie under the scroll bar where the dock is narrow
        row.addWidget(self.count)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.view)
        self.view.clicked.connect(self._on_click)
        self.all_frames.toggled.connect(self.scope_changed)

    def show_table(self, table: Localizations) -> None:
        """Show molecules."""
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.model.show(table)
        self.count.setText(f"{len(table):,} molecule{'' if len(table) == 1 else 's'}")

    def mark_rows(self, rows: set[int]) -> None:
        """Select rows by their number in the shown table."""
        selection = self.view.selectionModel()
        selection.clearSelection()
        places = np.flatnonzero(np.isin(self.model.rows, list(rows)))
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for place in places[:1000]:
            selection.select(self.model.index(int(place), 0), flags)
        if len(places):
            self.view.scrollTo(self.model.index(int(places[0]), 0))

    def _on_click(self, index: QModelIndex) -> None:
        row = int(self.model.rows[index.row()])
        self.jumped.emit({name: self.model.table[name][row].item() for name in self.model.names})
