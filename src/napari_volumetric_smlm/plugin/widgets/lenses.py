"""The views of a microlens array: found in the raw frames, corrected by dragging points, laid over each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPushButton

from ...domain.images import RawStack
from ...domain.instrument import Instrument
from ...errors import SmlmError
from ..lens_marks import LensMarks
from ..session import Session
from ..settings import preferences
from ..view_jobs import cut_views_job, find_lenses_job, put_lenses_job
from ..view_layers import lay_views
from ..workers import Job, Outcome
from .frames import StackBox
from .sections import Section, beside, stacked


class LensBox(Section):
    """A section that shows only while the session's instrument has a microlens array whose views share a raw frame.

    frames : where the raw frames are chosen. failed : an error to show.
    """

    failed = Signal(object)

    def __init__(self, session: Session, frames: StackBox) -> None:
        self.find_button = _button("Find lens centres", "Look for the views in these frames and mark the centre of each lens as a point.")
        self.apply_button = _button("Apply", "Put the instrument's views around the marked centres; drag a point first where it is wrong.")
        self.show_button = _button("Show views", "Cut the views out and lay them over each other in colours that add up to white.")
        self.words = QLabel()
        self.words.setWordWrap(True)
        super().__init__("Light-field views", stacked(beside(self.find_button, self.apply_button, self.show_button), self.words))
        self.session, self.frames = session, frames
        self.marks = LensMarks(session)
        self.job = Job(self)
        self._after: Callable[[Any], None] = lambda value: None
        self.find_button.clicked.connect(self.find)
        self.apply_button.clicked.connect(self.apply)
        self.show_button.clicked.connect(self.show_views)
        self.job.ended.connect(self._on_end)
        self.job.state_changed.connect(lambda state: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        """Offer what can be done with the session's instrument and the chosen frames."""
        instrument = self.session.instrument
        raw = instrument is not None and instrument.microlenses is not None and instrument.views[0].region_yx_px is not None
        self.setVisible(raw)
        ready = raw and not self.frames.problem() and not self.job.busy
        for button in (self.find_button, self.apply_button, self.show_button):
            button.setEnabled(ready)

    def find(self) -> None:
        """Look for the lens centres."""
        self._begin("Looking for the views ...", find_lenses_job, self._mark)

    def apply(self) -> None:
        """Take the marked centres."""
        centres = self.marks.centres_yx_px()
        if not centres:
            self.words.setText("Find the lens centres first; there is no point to apply")
            return
        self._begin("Placing the views ...", lambda stack, instrument, chosen: put_lenses_job(instrument, centres, chosen), self._take)

    def show_views(self) -> None:
        """Cut the views and show them."""
        self._begin("Cutting the views ...", cut_views_job, self._lay)

    def _begin(self, words: str, job: Callable[..., Any], after: Callable[[Any], None]) -> None:
        try:
            stack, instrument = self.frames.stack(), self.session.instrument
        except SmlmError as error:
            self.failed.emit(error)
            return
        chosen = preferences()
        self.words.setText(words)
        self._after = after
        self.job.start(lambda: job(stack, instrument, chosen), quiet=True)

    def _on_end(self, outcome: Outcome) -> None:
        self.words.setText("")
        if outcome.kind == "done":
            self._after(outcome.value)
        elif outcome.error is not None:
            self.words.setText(f"⚠ {outcome.error}")
            self.failed.emit(outcome.error)
            if not self.marks.centres_yx_px() and self.session.instrument is not None:
                # to be dragged where they belong
                self._mark_at(self.session.instrument)

    def _mark(self, placed: Instrument) -> None:
        self._mark_at(placed)
        self.words.setText(f"{len(placed.views)} lens centres found. Drag a point where it is wrong, then Apply.")

    def _mark_at(self, instrument: Instrument) -> None:
        array, layers = instrument.microlenses, self.frames.layers
        if array is not None and layers:
            self.marks.show(np.asarray(array.centres_on_sensor(instrument.cameras[0].pixel_um)), layers[0])

    def _take(self, placed: Instrument) -> None:
        origin = self.session.instrument_origin.removesuffix(", views placed") + ", views placed"
        self.session.choose_instrument(placed, origin)
        self.words.setText("The instrument has its views there now. Save it under Instrument and calibration.")

    def _lay(self, cut: tuple[RawStack, Instrument]) -> None:
        stack, instrument = cut
        raw, layers = self.session.instrument, self.frames.layers
        if raw is None or not layers:
            return
        self.marks.show_views(lay_views(stack, instrument, raw, layers[0]))
        self.words.setText("\n".join(stack.warnings) or "Red, green and blue agree (white) for molecules in focus; depth moves them apart.")


def _button(title: str, tip: str) -> QPushButton:
    button = QPushButton(title)
    button.setToolTip(f"<qt>{tip}</qt>")
    button.setAccessibleName(title)
    return button
