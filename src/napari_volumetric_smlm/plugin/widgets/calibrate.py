"""The widget "Instrument and calibration": what the microscope is, and its point-spread function from a stack of beads."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QLabel, QPushButton

from ...domain.plans import CalibrationPlan
from ...domain.runs import Calibration
from ...errors import SmlmError
from ...io.napari_version import binding_warning
from ...io.stacks import read_note
from ..actions import open_widget
from ..beads import BeadMarks
from ..forms import PlanForm
from ..jobs import calibrate_job, find_beads_job
from ..layers import lay_calibration, noun_of
from ..samples import example_instruments
from ..settings import preferences
from ..workers import Job, Outcome, Tick
from .calls_bar import CallsBar
from .figure import ReportWindow
from .frames import StackBox
from .importing import Importer
from .job import JobPanel
from .job_widget import JobWidget
from .optics import OpticsPanel
from .pickers import InstrumentPicker
from .presets import PresetBar
from .sections import NARROWEST_PX, Section, Words, beside, grey_pixmap, stacked
from .steps import StepsBar

FIRST_FIELDS = ("z_step_nm", "bead_diameter_nm")
# the positions are the points of a layer
OTHER_FIELDS = tuple(name for name in CalibrationPlan.model_fields if name not in (*FIRST_FIELDS, "bead_positions_yx_px"))


class CalibrateWidget(JobWidget):
    """Beads and a rough instrument in, a calibrated instrument out."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(viewer)
        if self.problem:
            return
        self.importer = Importer(self.session, self)
        self.steps = StepsBar(self.session, "Calibrate")
        self.beads = StackBox(self.session, "beads", self.importer.ask)
        self.instrument = InstrumentPicker(self.session, example_instruments())
        self.optics = OpticsPanel(self.session)
        self.first = PlanForm(CalibrationPlan, FIRST_FIELDS)
        self.others = PlanForm(CalibrationPlan, OTHER_FIELDS)
        # the other half of the plan checks itself with a step that nobody uses
        self.others.set_value("z_step_nm", 100.0)
        self.presets = PresetBar(self.session, self.others, CalibrationPlan(z_step_nm=100.0))
        self.marks = BeadMarks(self.session)
        self.find_button = QPushButton("Find beads")
        self.find_button.setToolTip(
            "<qt>Mark the beads that would be used. Then add, move or delete points: the calibration uses the points as they are.</qt>"
        )
        self.bead_words = QLabel()
        self.bead_words.setWordWrap(True)
        self.panel = JobPanel("Calibrate", self.session.log)
        self.warning = Words()
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setAccessibleName("Verdict")
        self.report_button = QPushButton("Show report")
        self.report_button.setToolTip(
            "<qt>Measured beside fitted, correlation per slice, aberrations, and the precision to expect over depth.</qt>"
        )
        self.next_button = QPushButton("Next: Reconstruct")
        self.next_button.setToolTip("<qt>Open the widget that finds molecules, with this calibration.</qt>")
        self.calls = CallsBar(self.session, "calibrate", "calibration.json")
        self.report = ReportWindow(self.session.memory, self)
        self.fit = QLabel()
        self.fit.setAccessibleName("Measured beside fitted, while the fit goes on")
        self.fit.setToolTip("Measured beside fitted")
        self.fit.hide()
        self.finder = Job(self)
        self._asked: Any = None
        self._lay_out()
        self._connect()
        self._on_source()
        self._show_calibration()

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        return [self.panel, self.finder, self.importer.job, self.report.job, self.optics.job]

    def leave(self) -> None:
        """Stop the jobs, and listen no longer to session and viewer."""
        super().leave()
        self.beads.disconnect_viewer()
        self.marks.disconnect_viewer()

    def _lay_out(self) -> None:
        self.lay(
            self.steps,
            QLabel("Instrument, as far as it is known"),
            self.instrument,
            self.optics,
            QLabel("Bead stack"),
            self.beads,
            self.first,
            beside(self.find_button, self.bead_words, widest=self.bead_words),
            self.warning,
            self.panel,
            self.fit,
            self.verdict,
            self.report_button,
            self.next_button,
            Section("Settings", stacked(self.others, self.presets)),
            Section("Share", self.calls),
        )

    def _connect(self) -> None:
        self.speak_by(
            self.panel, (self.instrument, self.importer, self.presets, self.optics, self.calls, self.report), (self.optics, self.calls)
        )
        self.beads.picked.connect(self._on_source)
        self.link(self.session.instrument_changed, self._on_source)
        self.link(self.session.calibration_changed, self._show_calibration)
        self.first.changed.connect(self._on_form)
        self.others.changed.connect(self._on_form)
        self.marks.changed.connect(self._on_form)
        self.find_button.clicked.connect(self.find_beads)
        self.finder.ended.connect(self._on_found)
        self.panel.clicked.connect(self.run)
        self.panel.ticked.connect(self._on_tick)
        self.panel.ended.connect(self._on_end)
        self.report_button.clicked.connect(self.show_report)
        self.next_button.clicked.connect(lambda: open_widget(self.viewer))

    def plan(self) -> CalibrationPlan:
        """Return what both forms and the marked beads say.

        Raises
        ------
        PlanError
            If something is missing or wrong; the z step has no default.
        """
        first, others = self.first.plan(), self.others.plan()
        update = {name: getattr(first, name) for name in FIRST_FIELDS} | {"bead_positions_yx_px": self.marks.positions_yx_px()}
        plan: CalibrationPlan = others.model_copy(update=update)
        return plan

    def run(self) -> None:
        """Start with what the forms say."""
        try:
            stack, instrument, plan, path = self._call()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        chosen = preferences()
        self._asked = (stack, instrument, plan, path)
        self.panel.run(lambda: calibrate_job([stack], instrument, plan, chosen))

    def find_beads(self) -> None:
        """Mark the beads that would be used."""
        try:
            stack, instrument = self.beads.stack(), self.session.instrument
            if instrument is None:
                raise SmlmError("Choose an instrument first")
        except SmlmError as error:
            self.panel.show_error(error)
            return
        self.bead_words.setText("Looking for beads ...")
        crop_px, chosen = self.others.values()[0].get("crop_px"), preferences()
        self.finder.start(lambda: find_beads_job(stack, instrument, crop_px, chosen), quiet=True)

    def show_report(self) -> None:
        """Open the report in a window of its own."""
        calibration = self.session.calibration
        if calibration is not None:
            self.report.show_calibration(calibration)
            self.report.show()
            self.report.raise_()

    def _call(self) -> tuple[Any, Any, Any, Any]:
        instrument = self.session.instrument
        if instrument is None:
            raise SmlmError("Choose an instrument first")
        return self.beads.stack(), instrument, self.plan(), self.session.instrument_path

    def _on_source(self) -> None:
        self.beads.fit_to(self.session.instrument)
        layers = self.beads.layers
        self.marks.follow(layers[0] if layers else None)
        stack = noun_of(layers[0], "stack") if layers else None
        self.optics.camera.show_stack(stack)
        if self.takes_instrument(layers):
            return
        words = [*filter(None, [binding_warning()]), *self.beads.warnings()]
        noted = self._noted_step(stack)
        if noted is not None and not self.first.editors["z_step_nm"].text():
            self.first.set_value("z_step_nm", noted)
        elif stack is not None and stack.z_step_nm and noted is None:
            words = [*words, f"the file says that its z step is {abs(stack.z_step_nm):g} nm; which sign it has, only you know"]
        self.warning.warn(words)
        self._on_form()

    def _noted_step(self, stack: Any) -> float | None:
        """Return the signed step that somebody wrote into the note beside the stack; what cameras write has no sign to be trusted."""
        try:
            note = read_note(stack.source[0]) if stack is not None and stack.source else None
        except SmlmError:
            return None
        return note.z_step_nm if note is not None else None

    def _on_form(self) -> None:
        no_instrument = "" if self.session.instrument is not None else "Choose an instrument first; an example is a start"
        reason = no_instrument or self.beads.problem()
        self.find_button.setEnabled(not reason)
        reason = reason or self.first.problem or self.others.problem
        self.panel.set_reason(reason)
        self.calls.set_call(None if reason else self._call)
        count = self.marks.count
        self.bead_words.setText("" if count is None else f"{count} bead{'' if count == 1 else 's'} marked")

    def _on_found(self, outcome: Outcome) -> None:
        self._on_form()
        if outcome.kind == "failed" and outcome.error is not None:
            self.panel.show_error(outcome.error)
        elif outcome.kind == "done":
            self.marks.show(np.asarray(outcome.value, float).reshape(-1, 2))

    def _on_tick(self, tick: Tick) -> None:
        if tick.previews and isinstance(tick.previews[-1], np.ndarray):
            self.fit.setPixmap(grey_pixmap(tick.previews[-1], NARROWEST_PX - 20))
            self.fit.show()

    def _on_end(self, outcome: Outcome) -> None:
        self.fit.hide()
        if outcome.kind != "done":
            return
        calibration, saved = outcome.value
        self.session.keep_calibration(calibration, saved)
        # the call that the button made began with the instrument before
        asked = self._asked
        self.calls.set_call(lambda: asked)
        layers = self.beads.layers
        for data in lay_calibration(calibration, layers[0] if layers else None):
            self.marks.add_layer(data)
        if saved is not None:
            self.session.log.add(f"Saved as {saved}")

    def _show_calibration(self) -> None:
        calibration: Calibration | None = self.session.calibration
        for part in (self.report_button, self.next_button, self.verdict):
            part.setVisible(calibration is not None)
        if calibration is not None:
            self.verdict.setText(f"{'✓' if calibration.passed else '⚠'} {calibration.verdict}")
