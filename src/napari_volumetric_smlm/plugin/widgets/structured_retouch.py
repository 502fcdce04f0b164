"""Live preview of structured illumination: the current time point again whenever a setting of the reconstruction changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from ...domain.structured_plans import StructuredPlan
from ...errors import SmlmError
from ..preview import Preview
from ..settings import preferences
from ..structured_jobs import Answer, Question, retouch_job
from ..structured_layers import RETOUCHED
from ..structured_view import StructuredView
from .sections import Words
from .structured_forms import FILTER_FIELDS

# a preview takes a tenth of a second: waiting longer would only be felt
PAUSE_MS = 100
# settings that leave the patterns as they are
RETOUCHING = {*FILTER_FIELDS, "device"}


class RetouchBox(QWidget):
    """Previews over the last answer, from the patterns found for it.

    ask : returns what the button would ask for; may raise SmlmError while something is missing. busy : whether the button's job runs.
    shown : a preview is there.
    """

    shown = Signal()

    def __init__(self, view: StructuredView, ask: Callable[[], Question], busy: Callable[[], bool]) -> None:
        super().__init__()
        self.view, self.ask, self.busy = view, ask, busy
        self.answer: Answer | None = None
        self._image = 0
        self.switch = QCheckBox("Live preview of this time point")
        self.switch.setToolTip(
            "<qt>Reconstruct the current time point again whenever a setting of the reconstruction changes, with the patterns "
            "that were found. The preview lies over the result; the button makes the settings those of the result.</qt>"
        )
        self.words = Words()
        self.preview = Preview(self._wish, self, PAUSE_MS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.switch)
        layout.addWidget(self.words)
        self.switch.toggled.connect(self._on_switch)
        self.preview.arrived.connect(self._on_arrived)
        self.preview.failed.connect(lambda error: self.words.say(f"⚠ {error}"))
        view.moved.connect(self._on_moved)
        self.switch.setChecked(True)

    def take(self, answer: Answer) -> None:
        """Preview over this answer from now on."""
        self.answer = answer
        self.preview.ask()

    def rest(self) -> None:
        """Show no preview: the button's job begins."""
        self.preview.cancel()
        self.forget()

    def forget(self, words: str = "") -> None:
        """Show the answer as it is."""
        self.words.say(words)
        self.view.forget_retouched()

    def _wish(self) -> Any:
        answer = self.answer
        if answer is None or self.busy():
            return None
        try:
            question = self.ask()
        except SmlmError:
            return None
        asked = answer.question
        if not _same_patterns(question, asked):
            self.forget("No preview: frames, microscope or search have changed. The button finds the patterns again.")
            return None
        if question.plan.model_copy(update={"compare": asked.plan.compare}) == asked.plan:
            self.forget()
            return None
        image = self.view.image_number(answer)
        chosen = preferences()
        return (answer, image), lambda: retouch_job(answer, question.plan, image, chosen)

    def _on_arrived(self, context: tuple[Answer, int], values: Any) -> None:
        answer, self._image = context
        self.view.show_retouched(np.asarray(values), answer)
        self.shown.emit()
        one = "image" if answer.images.plane_nm is None else "volume"
        number = self._image if answer.images.plane_nm is None else self._image // answer.images.planes
        which = f" of {one} {number}" if len(answer.images.images_tyx) > (1 if one == "image" else answer.images.planes) else ""
        self.words.say(f"Preview{which} with these settings; the button makes them those of the result.")

    def _on_moved(self, frame: int) -> None:
        if not self.view.layers(RETOUCHED) or self.answer is None or len(self.answer.images.images_tyx) == 1:
            return
        # another plane of the same volume is there already
        if self.answer.images.plane_nm is None or self.view.image_number(self.answer) != self._image:
            self.preview.ask()

    def _on_switch(self, switched_on: bool) -> None:
        self.preview.enable(switched_on)
        if not switched_on:
            self.forget()


def _same_patterns(one: Question, other: Question) -> bool:
    supplied = one.illumination is other.illumination and one.otf is other.otf
    return supplied and _kept(one.plan) == _kept(other.plan) and one.instrument == other.instrument and one.stack == other.stack


def _kept(plan: StructuredPlan) -> dict[str, Any]:
    return plan.model_dump(exclude=RETOUCHING)
