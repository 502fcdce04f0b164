"""The Structured illumination widget: raw frames with patterns in, a sharper image out, one button. Layout and wiring only."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QLabel

from ...domain.structured_plans import StructuredPlan
from ...errors import SmlmError
from ...io.stacks import compare_with_instrument
from ..layers import FRAMES
from ..settings import preferences
from ..structured_jobs import Answer, Patterns, Question, structured_job
from ..structured_layers import CONFOCAL, SECTION, SHARP, WIDE_FIELD
from ..structured_view import StructuredView
from ..workers import Job, Outcome, Tick
from .calls_bar import CallsBar
from .frames import StackBox
from .importing import Importer
from .job import JobPanel
from .job_widget import JobWidget
from .presets import PresetBar
from .sections import Section, Words
from .structured_evidence import EvidenceBox
from .structured_forms import FIRST_PLAN, StructuredForms
from .structured_microscope import MicroscopeBox
from .structured_retouch import RetouchBox
from .structured_supplied import SuppliedBox
from .views import ViewBar

VIEWS = {
    SHARP: ("Sharp", "The reconstruction"),
    WIDE_FIELD: ("Wide field", "The mean of the same frames, as a microscope without patterns shows it"),
    SECTION: ("Section", "Optical section of the same frames without reconstruction (needs the setting Compare)"),
    CONFOCAL: ("Confocal", "Pseudo-confocal image of the same frames, brightest minus darkest (needs the setting Compare)"),
    FRAMES: ("Raw", "The raw frames"),
}
MOST_NOTES = 4


class StructuredWidget(JobWidget):
    """Raw frames and a few numbers in, a sharper image out."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(viewer)
        if self.problem:
            return
        self.view = StructuredView(self.session)
        self._asked: Question | None = None
        self._images: list[Any] = []
        self._recalled = ""
        self.importer = Importer(self.session, self)
        self.frames = StackBox(self.session, "structured", self.importer.ask)
        self.microscope = MicroscopeBox(self.session)
        self.forms = StructuredForms()
        self.supplied = SuppliedBox(self.session)
        self.warning = Words()
        self.panel = JobPanel("Estimate and reconstruct", self.session.log)
        self.notes = Words()
        self.evidence = EvidenceBox()
        self.views = ViewBar(VIEWS)
        self.retouch = RetouchBox(self.view, self.question, lambda: self.panel.job.busy)
        self.presets = PresetBar(self.session, self.forms, FIRST_PLAN)
        self.calls = CallsBar(self.session, "structured reconstruct", "sharp.tif")
        self._lay_out()
        self._connect()
        self._on_source()

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        return [self.panel, self.retouch.preview.job, self.importer.job]

    def leave(self) -> None:
        """Stop the jobs, and listen no longer to session and viewer."""
        super().leave()
        self.frames.disconnect_viewer()
        self.view.disconnect_viewer()

    def _lay_out(self) -> None:
        self.lay(
            QLabel("Raw stack"),
            self.frames,
            QLabel("Microscope"),
            self.microscope,
            self.warning,
            self.panel,
            self.notes,
            self.views,
            self.retouch,
            self.evidence,
            Section("Reconstruction", self.forms.filter, opened=True),
            Section("Frames", self.forms.frames),
            Section("Search for patterns", self.forms.search),
            Section("Known patterns and OTF", self.supplied),
            Section("Settings", self.presets),
            Section("Copy this call", self.calls),
        )

    def _connect(self) -> None:
        self.speak_by(self.panel, (self.importer, self.presets, self.supplied, self.calls), (self.supplied, self.calls))
        self.frames.picked.connect(self._on_source)
        self.microscope.changed.connect(self._on_microscope)
        for signal in (self.forms.changed, self.forms.retouched, self.supplied.changed):
            signal.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.ticked.connect(self._on_tick)
        self.panel.ended.connect(self._on_end)
        self.retouch.shown.connect(lambda: self.views.choose(SHARP))
        self.view.laid.connect(self._on_laid)
        self.views.chosen.connect(self.view.show_only)
        self.evidence.asked_for_layer.connect(self._show_evidence)

    def run(self) -> None:
        """Start with what the forms say."""
        try:
            question = self.question()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        chosen = preferences()
        self._asked, self._images = question, []
        self.microscope.remember()
        self.session.memory.store_plan(question.plan, self.microscope.fingerprint)
        self.retouch.rest()
        self.notes.say("")
        self.panel.run(lambda: structured_job(question, chosen))

    def question(self) -> Question:
        """Return what the button asks for.

        Raises
        ------
        SmlmError
            If a stack, a number or a setting is missing or wrong.
        """
        stack = self.frames.stack()
        return Question(stack, self.microscope.instrument(stack), self.forms.plan(), self.supplied.illumination, self.supplied.otf)

    def _on_source(self) -> None:
        layers = self.frames.layers
        self.view.follow(layers)
        self.microscope.follow(layers[0] if layers else None)
        self._on_microscope()

    def _on_microscope(self) -> None:
        if not self.microscope.problem and self.microscope.fingerprint != self._recalled:
            self._recalled = self.microscope.fingerprint
            known = self.session.memory.recall_plan(StructuredPlan, self._recalled)
            if known is not None:
                self.forms.set_plan(known.model_copy(update={"first_time": 0, "last_time": None}))
        self._on_form()

    def _on_form(self) -> None:
        reason = self.frames.problem() or self.microscope.problem or self.forms.problem
        self.panel.set_reason(reason)
        supplied = self.supplied.illumination is not None or self.supplied.otf is not None
        self.calls.set_call(None if reason or supplied else self._call)
        self.warning.warn([] if reason else self._warnings())
        self.retouch.preview.ask()

    def _warnings(self) -> list[str]:
        try:
            question = self.question()
        except (SmlmError, ValueError) as error:
            return [str(error)]
        return [*question.stack.warnings, *compare_with_instrument(question.stack, question.instrument)]

    def _call(self) -> tuple[Any, ...]:
        question = self.question()
        return question.stack, question.instrument, question.plan, None

    def _on_tick(self, tick: Tick) -> None:
        for part in tick.previews:
            if isinstance(part, Patterns):
                self.evidence.show_patterns(part)
            else:
                self._images.append(part)

    def _on_end(self, outcome: Outcome) -> None:
        images, self._images = self._images, []
        if outcome.kind == "done" and isinstance(outcome.value, Answer):
            self._take(outcome.value)
            return
        asked = self._asked
        whole = asked is not None and asked.plan.planes == 1 and asked.plan.montage == "none" and not asked.plan.chosen_geometry.axial
        if asked is not None and whole and len(images) > 1:
            self.view.show_partly(images, asked)
            self.panel.say(f"{self.panel.message.text()} · {len(images)} time points kept")

    def _take(self, answer: Answer) -> None:
        self.evidence.show_patterns(answer.patterns)
        self.supplied.keep(answer.images.illumination)
        self.view.show_answer(answer)
        height, width = answer.images.images_tyx.shape[-2:]
        size = f"{height} x {width} pixels of {answer.images.pixel_nm:.4g} nm"
        if answer.images.plane_nm is not None:
            size = f"{answer.images.planes} planes each {answer.images.plane_nm:.4g} nm, {size}"
        self.panel.say(f"{size} · {self.panel.message.text()}")
        notes = list(answer.notes)
        more = f"\n... and {len(notes) - MOST_NOTES} more, see the log" if len(notes) > MOST_NOTES else ""
        self.notes.say("\n".join(f"⚠ {words}" for words in notes[:MOST_NOTES]) + more)
        for words in notes:
            self.session.log.add(words)
        self.retouch.take(answer)

    def _on_laid(self) -> None:
        there = {FRAMES, *self.view.roles()}
        for role, button in self.views.buttons.items():
            button.setEnabled(role in there)
        self.views.choose(SHARP)

    def _show_evidence(self) -> None:
        if self.evidence.patterns is not None:
            self.view.show_evidence(self.evidence.patterns.evidence_yxc)
