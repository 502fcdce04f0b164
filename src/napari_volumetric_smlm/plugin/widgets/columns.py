"""Which column is what, for a table of a kind that nobody has described yet."""

from __future__ import annotations

import html
from typing import get_args

import pydantic
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ...domain.fields import FieldKind
from ...domain.molecules import COLUMNS
from ...io.tables.mapping import ColumnMapping, LengthUnit, MappedColumn, suggest_mapping
from ..forms import label_of, read_value
from ..settings import Memory

OFFERED = (
    "frame", "z_nm", "y_nm", "x_nm", "photons", "background_photons",
    "sigma_z_nm", "sigma_y_nm", "sigma_x_nm", "psf_width_nm", "probability",
)  # fmt: skip


class ColumnDialog(QDialog):
    """One row for each of our columns: theirs, and the unit of a length. What was answered is kept for the next table of these columns."""

    def __init__(self, name: str, columns: dict[str, list[str]], memory: Memory, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which column is what?")
        self.columns, self.memory = columns, memory
        layout = QVBoxLayout(self)
        intro = QLabel(f"<b>{html.escape(name)}</b> is a table of a kind that this program does not know. Say what its columns hold.")
        intro.setWordWrap(True)
        layout.addWidget(intro)
        form = QFormLayout()
        self.theirs: dict[str, QComboBox] = {}
        self.units: dict[str, QComboBox] = {}
        for ours in OFFERED:
            theirs, units = QComboBox(), QComboBox()
            theirs.addItem("(none)", None)
            for label, cells in columns.items():
                theirs.addItem(f"{label}    {', '.join(cells[:3])}", label)
            theirs.setToolTip(f"<qt>{html.escape(COLUMNS[ours][1])}</qt>")
            theirs.setAccessibleName(label_of(ours))
            row = QHBoxLayout()
            row.addWidget(theirs, 1)
            if ours.endswith("_nm"):
                units.addItems(get_args(LengthUnit))
                units.setToolTip("Unit of this column in the file")
                units.setAccessibleName(f"Unit of {label_of(ours)}")
                row.addWidget(units)
                self.units[ours] = units
            self.theirs[ours] = theirs
            form.addRow(label_of(ours).removesuffix(" (nm)"), row)
        self.pixel, self.first_frame, self.origin = QLineEdit(), QLineEdit("0"), QLineEdit("0")
        for edit, title, tip in (
            (self.pixel, "Pixel (nm)", "Size of a camera pixel in the sample in nm; needed for positions in pixels"),
            (self.first_frame, "First frame", "Number of the first frame in the file: 0 or 1"),
            (self.origin, "Origin (px)", "Where the file puts the centre of the first pixel: 0, or 0.5 when it counts from the corner"),
        ):
            edit.setToolTip(f"<qt>{tip}</qt>")
            edit.setAccessibleName(title)
            form.addRow(title, edit)
        inside = QWidget()
        inside.setLayout(form)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(inside)
        layout.addWidget(area, 1)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        layout.addWidget(self.problem)
        self.box = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self.box.accepted.connect(self.accept)
        self.box.rejected.connect(self.reject)
        layout.addWidget(self.box)
        self.resize(460, 560)
        kept = self._kept()
        suggestion = kept or suggest_mapping(columns)
        if suggestion is not None:
            self.show_mapping(suggestion)
        for combo in (*self.theirs.values(), *self.units.values()):
            combo.currentIndexChanged.connect(self._check)
        for edit in (self.pixel, self.first_frame, self.origin):
            edit.textChanged.connect(self._check)
        self._check()

    def show_mapping(self, mapping: ColumnMapping) -> None:
        """Show a mapping."""
        for ours, column in mapping.columns.items():
            if ours in self.theirs:
                self.theirs[ours].setCurrentIndex(max(0, self.theirs[ours].findData(column.column)))
            if ours in self.units:
                self.units[ours].setCurrentText(column.unit)
        self.pixel.setText("" if mapping.pixel_nm is None else f"{mapping.pixel_nm:g}")
        self.first_frame.setText(str(mapping.first_frame))
        self.origin.setText(f"{mapping.origin_px:g}")

    def mapping(self) -> ColumnMapping:
        """Return the mapping that the dialog describes.

        Raises
        ------
        ValueError
            If something is missing or wrong.
        """
        chosen = {}
        for ours, combo in self.theirs.items():
            if combo.currentData() is not None:
                unit = self.units[ours].currentText() if ours in self.units else "nm"
                chosen[ours] = MappedColumn(column=combo.currentData(), unit=unit)  # type: ignore[arg-type]
        return ColumnMapping(
            columns=chosen,
            first_frame=read_value(self.first_frame.text().strip() or "0", FieldKind(int)),
            origin_px=read_value(self.origin.text().strip() or "0", FieldKind(float)),
            pixel_nm=read_value(self.pixel.text().strip(), FieldKind(float)) if self.pixel.text().strip() else None,
        )

    def accept(self) -> None:
        """Keep the answer for the next table with these columns."""
        self.memory.store(self.mapping().model_dump(mode="json"), "mappings", self._key())
        super().accept()

    def _kept(self) -> ColumnMapping | None:
        try:
            kept = self.memory.recall("mappings", self._key())
            return None if kept is None else ColumnMapping.model_validate(kept)
        except pydantic.ValidationError:
            return None

    def _key(self) -> str:
        return "|".join(self.columns)

    def _check(self) -> None:
        words = ""
        try:
            self.mapping()
        except pydantic.ValidationError as problem:
            words = "; ".join(str(item["ctx"]["error"] if item["type"] == "value_error" else item["msg"]) for item in problem.errors())
        except ValueError as problem:
            words = str(problem)
        self.problem.setText(words)
        ok = self.box.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(not words)
        ok.setToolTip(words)
