"""Between plans and forms, the only place: labels with units, tooltips from the field's description, exact numbers.

Numbers are edited as text, not in spin boxes: those round 0.0003 to 0.00 and know no "empty = automatic".
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

import pydantic
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QLineEdit, QWidget

from ..domain.fields import UNITS, FieldKind, field_kind
from ..domain.noun import Noun
from ..errors import PlanError

# "minimum photons" is not a minimum in photons
UNITS_THAT_ARE_NOUNS = frozenset({"photons", "frames"})
WRONG_STYLE = "border: 1px solid #d55e00"


def label_of(name: str) -> str:
    """Return a field's label, with the unit that stands in its name: `z_step_nm` becomes `Z step (nm)`."""
    if name == "gain_e_per_count":
        return "Gain (electrons per count)"
    words = name.split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 and words[-1] not in UNITS_THAT_ARE_NOUNS else None
    words = words[:-1] if unit else words
    if unit and words[-1] == "per":
        words, unit = words[:-1], "per " + unit.removeprefix("per ")
    # the axes of a pair or a box are told in the tooltip
    words = [word for word in words if word not in ("yx", "zyx")] or words
    text = " ".join(words)
    if text.startswith("em "):
        text = "EM" + text[2:]
    return text[:1].upper() + text[1:] + (f" ({unit})" if unit else "")


def tooltip_of(noun: type[Noun], name: str) -> str:
    """Return a field's description as a tooltip that wraps."""
    return f"<qt>{html.escape(noun.model_fields[name].description or label_of(name))}</qt>"


class NumberEdit(QLineEdit):
    """A line of text that steps with the arrow keys: whole numbers by one, others by a tenth of their leading digit."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Step up or down."""
        sign = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(event.key())
        if sign is None or not self._step(sign):
            super().keyPressEvent(event)

    def _step(self, sign: int) -> bool:
        try:
            value = float(self.text())
        except ValueError:
            return False
        if "." not in self.text() and "e" not in self.text().lower():
            self.setText(str(int(value) + sign))
        else:
            step = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.1
            self.setText(f"{value + sign * step:.12g}")
        return True


class PlanForm(QWidget):
    """A form for a noun, most often a plan; empty lines mean "automatic" (None), or "missing" where a value is required.

    Parameters
    ----------
    noun
        The class.
    fields
        Fields to show, in this order; the others keep the values of the last `set_plan`, else their defaults.
    """

    changed = Signal()

    def __init__(self, noun: type[Noun], fields: Sequence[str] | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.noun = noun
        self.fields = tuple(fields if fields is not None else noun.model_fields)
        self.kinds = {name: field_kind(noun, name) for name in self.fields}
        self.editors: dict[str, QWidget] = {}
        self._kept: dict[str, Any] = {
            name: field.get_default(call_default_factory=True) for name, field in noun.model_fields.items() if not field.is_required()
        }
        # contradictions between fields belong to none of them
        self.words = QLabel()
        self.words.setWordWrap(True)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in self.fields:
            editor = self._make_editor(name)
            editor.setObjectName(name)
            editor.setToolTip(tooltip_of(noun, name))
            editor.setAccessibleName(label_of(name))
            editor.setAccessibleDescription(noun.model_fields[name].description or "")
            self.editors[name] = editor
            if isinstance(editor, QCheckBox):
                editor.setText(label_of(name))
                layout.addRow(editor)
            else:
                label = QLabel(label_of(name))
                label.setBuddy(editor)
                label.setToolTip(editor.toolTip())
                layout.addRow(label, editor)
            if name in self._kept:
                self._show(name, self._kept[name])
        layout.addRow(self.words)
        self._check()

    def set_plan(self, plan: Noun) -> None:
        """Show a plan."""
        for name in self.noun.model_fields:
            self.set_value(name, getattr(plan, name))

    def set_value(self, name: str, value: Any) -> None:
        """Show one value, or keep it where the field is not shown."""
        self._kept[name] = value
        if name in self.editors:
            self._show(name, value)

    def plan(self) -> Any:
        """Return the noun that the form describes.

        Raises
        ------
        PlanError
            If a value is missing or wrong; all are named.
        """
        noun, wrong = self._read()
        if noun is None:
            raise PlanError("; ".join(f"{label_of(name)}: {words}" if name else words for name, words in wrong.items()))
        return noun

    @property
    def problem(self) -> str:
        """Why there is no plan, in words; empty when there is one."""
        try:
            self.plan()
        except PlanError as error:
            return str(error)
        return ""

    def _make_editor(self, name: str) -> QWidget:
        kind = self.kinds[name]
        if kind.plain is bool:
            check = QCheckBox()
            check.toggled.connect(self._on_change)
            return check
        if kind.choices:
            combo = QComboBox()
            combo.addItems([*(["automatic"] if kind.optional else []), *kind.choices])
            combo.currentIndexChanged.connect(self._on_change)
            return combo
        line = NumberEdit()
        if name not in self._kept:
            line.setPlaceholderText("required")
        elif kind.optional:
            line.setPlaceholderText("automatic")
        line.textChanged.connect(self._on_change)
        return line

    def _show(self, name: str, value: Any) -> None:
        editor = self.editors[name]
        if isinstance(editor, QCheckBox):
            editor.setChecked(bool(value))
        elif isinstance(editor, QComboBox):
            editor.setCurrentIndex(0 if value is None else editor.findText(str(value)))
        elif isinstance(editor, QLineEdit):
            shape = getattr(value, "shape", None)
            # a camera's map has one value a pixel: shown, kept, not edited here
            editor.setReadOnly(shape is not None)
            editor.setText(write_value(value) if shape is None else f"map of {' x '.join(map(str, shape))}")
            editor.setCursorPosition(0)

    def values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the values as far as they can be read, and what is wrong with the others, by field."""
        values = dict(self._kept)
        wrong: dict[str, str] = {}
        for name, editor in self.editors.items():
            if isinstance(editor, QCheckBox):
                values[name] = editor.isChecked()
            elif isinstance(editor, QComboBox):
                # by place: a widget may give the first one a better word
                automatic = self.kinds[name].optional and editor.currentIndex() == 0
                values[name] = None if automatic else editor.currentText()
            elif isinstance(editor, QLineEdit) and not editor.isReadOnly():
                kind = self.kinds[name]
                text = editor.text().strip()
                if text:
                    try:
                        values[name] = read_value(text, kind)
                    except ValueError as problem:
                        wrong[name] = str(problem)
                elif kind.optional:
                    values[name] = None
                elif name in self._kept and kind.plain is not str:
                    wrong[name] = "is empty; a value is needed"
                elif kind.plain is str:
                    values[name] = ""
                else:
                    values.pop(name, None)
                    wrong[name] = "is required; " + (self.noun.model_fields[name].description or "fill it in")
        return values, wrong

    def _read(self) -> tuple[Noun | None, dict[str, str]]:
        """Return the noun, or None and what is wrong, by field; what lies between fields has no name."""
        values, wrong = self.values()
        if wrong:
            return None, wrong
        try:
            return self.noun.model_validate(values), {}
        except pydantic.ValidationError as problem:
            for item in problem.errors(include_url=False):
                name = str(item["loc"][0]) if item["loc"] else ""
                words = str(item["ctx"]["error"]) if item["type"] == "value_error" else f"{values.get(name)!r}: {item['msg']}"
                wrong.setdefault(name, words)
            return None, wrong

    def _on_change(self) -> None:
        self._check()
        self.changed.emit()

    def _check(self) -> None:
        wrong = self._read()[1]
        for name, editor in self.editors.items():
            # an empty required field is not wrong yet; the button says what is missing
            bad = name in wrong and not (isinstance(editor, QLineEdit) and not editor.text().strip())
            editor.setStyleSheet(WRONG_STYLE if bad else "")
            tip = tooltip_of(self.noun, name)
            editor.setToolTip(tip.replace("</qt>", f"<br><b>{html.escape(wrong[name])}</b></qt>") if bad else tip)
        between = "; ".join(words for name, words in wrong.items() if not name)
        self.words.setText(f"⚠ {between}" if between else "")
        self.words.setVisible(bool(between))


def write_value(value: Any) -> str:
    """Write a value so that `read_value` gives back exactly the same."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return json.dumps(value)
        return ", ".join(write_value(part) for part in value)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def read_value(text: str, kind: FieldKind) -> Any:
    """Read what was typed.

    Raises
    ------
    ValueError
        With words, if it cannot be read.
    """
    if kind.length is not None and text.startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as problem:
            raise ValueError(f"{text!r} is not a list like [[10, 20], [30, 40]]") from problem
    if kind.length is not None:
        return tuple(_read_one(part.strip(), kind.plain) for part in text.split(",") if part.strip())
    return _read_one(text, kind.plain)


def _read_one(text: str, plain: type) -> Any:
    if plain is str:
        return text
    try:
        return plain(text)
    except ValueError:
        pass
    if "," in text and text.replace(",", ".").replace(".", "", 1).lstrip("-").isdigit():
        raise ValueError(f"{text!r}: write the decimal mark as a point: {text.replace(',', '.')}")
    raise ValueError(f"{text!r} is not a {'whole number' if plain is int else 'number'}")
