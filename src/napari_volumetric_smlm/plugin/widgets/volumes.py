"""The Volumes widget: step through light-field frames and see the volume of each, with its molecules. Layout and wiring only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QFileDialog, QLabel, QMainWindow, QPushButton

from ...domain.molecules import Localizations
from ...domain.volume_plans import InspectionPlan
from ...errors import PlanError, SmlmError
from ...io.stacks import compare_with_instrument
from ..actions import RECONSTRUCT, VOLUMES, open_widget
from ..frame_molecules import FrameMolecules
from ..live_volumes import LiveVolumes
from ..samples import example_instruments
from ..settings import preferences
from ..volume_jobs import DECONVOLUTION, NETWORK, VolumeQuestion, all_volumes_job
from ..volume_model import VolumeModel
from ..workers import Job, Outcome
from .calls_bar import CallsBar
from .depth_legend import DepthLegend
from .find_box import FindBox
from .frames import StackBox
from .importing import Importer
from .job import JobPanel
from .job_widget import JobWidget
from .lenses import LensBox
from .models import VOLUMES as FOR_VOLUMES
from .models import ModelPicker, models_that_suit
from .pickers import InstrumentPicker
from .sections import Section, Words, stacked
from .volume_forms import ONE_METHOD, UnderneathBox, VolumeForms

VERBS = {True: "reconstruct --volume --each-frame", False: "deconvolve --each-frame"}
SHOW_TIP = "Show the volume of the frame that the slider stands at, in a window of its own, and follow the slider."


class VolumesWidget(JobWidget):
    """Light-field frames, an instrument and a method in; the volume of every frame that one stands at out."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(viewer)
        if self.problem:
            return
        self.importer = Importer(self.session, self)
        self.frames = StackBox(self.session, "frames", self.importer.ask)
        self.instrument = InstrumentPicker(self.session, example_instruments())
        self.lenses = LensBox(self.session, self.frames)
        self.choice = VolumeModel(self.session, lambda instrument: models_that_suit(instrument, FOR_VOLUMES))
        self.model = ModelPicker(self.session, FOR_VOLUMES, self.choice)
        self.forms = VolumeForms()
        self.legend = DepthLegend()
        self.show_button = QPushButton("Show volumes")
        self.show_button.setCheckable(True)
        self.show_button.setMinimumHeight(38)
        self.show_button.setAccessibleName("Show volumes")
        self.words = Words("State of the volume")
        self.under = UnderneathBox(self.session)
        self.panel = JobPanel("Volumes of all frames…", self.session.log, "Stop and keep the volumes that are done")
        self.calls = CallsBar(self.session, VERBS[True], "volumes.tif")
        self.find = FindBox(self.session)
        self.found = FrameMolecules(self.session)
        self.live = LiveVolumes(self.session, self)
        self._finder: Any = None
        self._lay_out()
        self._connect()
        self._on_source()

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        return [self.panel, self.find.panel, self.live.preview.job, self.importer.job, self.lenses.job]

    def leave(self) -> None:
        """Stop the jobs, close the window of the volume, and listen no longer to session and viewer."""
        super().leave()
        self.live.disconnect_viewer()
        self.frames.disconnect_viewer()
        self.under.picker.disconnect_viewer()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Leave with the main window: it takes no parent away when it closes, and the window of the volume would stay open alone."""
        super().hideEvent(event)
        # a tab that is covered and a window that is minimised are still in a visible window
        if not self.problem and isinstance(self.window(), QMainWindow) and not self.window().isVisible():
            self.leave()

    def _lay_out(self) -> None:
        self.lay(
            QLabel("Light-field frames"),
            self.frames,
            QLabel("Instrument"),
            self.instrument,
            self.lenses,
            QLabel("Model for volumes"),
            self.model,
            self.forms.inspection,
            self.legend,
            self.show_button,
            self.words,
            self.under,
            Section("Settings of the volumes", stacked(self.forms.views, QLabel("Richardson-Lucy"), self.forms.deconvolution)),
            Section("All frames", stacked(self.forms.span, self.panel, self.calls)),
            Section("Molecules or blobs of a file", self.find),
        )

    def _connect(self) -> None:
        self.speak_by(self.panel, (self.instrument, self.lenses, self.model, self.importer, self.calls), (self.calls,))
        self.frames.picked.connect(self._on_source)
        self.link(self.session.instrument_changed, self._on_source)
        self.link(self.session.table_changed, self.live.show_around)
        self.choice.model_changed.connect(self._on_form)
        for form in (self.forms.inspection, self.forms.views, self.forms.deconvolution, self.forms.span):
            form.changed.connect(self._on_form)
        self.under.changed.connect(self.live.show_around)
        self.found.changed.connect(self.live.show_around)
        self.show_button.toggled.connect(self._on_switch)
        self.live.said.connect(self.words.say)
        self.live.closed.connect(lambda: self.show_button.setChecked(False))
        self.panel.clicked.connect(self.ask_file)
        self.panel.ended.connect(self._on_end)

    def inspection(self) -> InspectionPlan:
        """Return what is shown.

        Raises
        ------
        SmlmError
            If the form is wrong.
        """
        plan: InspectionPlan = self.forms.inspection.plan()
        return plan

    def questions(self, frames: tuple[int, ...]) -> list[VolumeQuestion]:
        """Return a question for every method and frame; the quicker method first.

        Raises
        ------
        SmlmError
            If frames, instrument or model are missing, or a form is wrong.
        """
        stack, instrument = self.frames.stack(), self.session.instrument
        if instrument is None or len(instrument.views) < 2:
            raise PlanError(self._no_instrument())
        plans = [self.forms.plan(method, self.choice.model) for method in self.inspection().methods]
        at = [plan.model_copy(update={"first_frame": t, "last_frame": t}) for plan in plans for t in frames]
        return [VolumeQuestion(stack, instrument, plan) for plan in at]

    def molecules(self, first: int, last: int) -> Localizations:
        """Return the molecules of frames as far as they are known."""
        return self.found.of(first, last)

    def underneath(self) -> Any:
        """Return the image layer to show below, or None."""
        return self.under.layer

    def write_all(self, path: str | Path) -> None:
        """Write the volumes of all frames."""
        try:
            stack, instrument, plan, _ = self._call()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        chosen, place = preferences(), Path(path).with_suffix(".tif")
        self.panel.run(lambda: all_volumes_job(VolumeQuestion(stack, instrument, plan), place, chosen))

    def ask_file(self) -> None:
        """Ask where the volumes of all frames shall go, and write them."""
        folder = Path(self.session.memory.folder("volumes") or ".") / "volumes.tif"
        path, _ = QFileDialog.getSaveFileName(self, "Write the volumes of all frames", str(folder), "OME-TIFF (*.tif)")
        if path:
            self.session.memory.store_folder("volumes", path)
            self.write_all(path)

    def _on_switch(self, on: bool) -> None:
        self.live.switch(on)
        self.show_button.setText("Stop following" if on else "Show volumes")
        if on:
            self._find_molecules()

    def _find_molecules(self) -> None:
        """Let the widget Reconstruct find the molecules of the frame, where there is no result to take them from."""
        if not self.live.on or not self.inspection().molecules:
            return
        finder = self._finder
        if finder is None or not isalive(finder) or finder.parent() is None:
            finder = self._finder = open_widget(self.viewer, RECONSTRUCT)
            open_widget(self.viewer, VOLUMES)
        for picker, layer in zip(finder.frames.pickers, self.frames.layers, strict=False):
            if picker.layer is not layer:
                picker.choose(layer)
        self.found.follow(finder.overlay)
        if self.session.table is None and not finder.panel.job.busy and finder.preview.switch.isEnabled():
            finder.preview.switch.setChecked(True)

    def _on_source(self) -> None:
        self.frames.fit_to(self.session.instrument)
        layers = self.frames.layers
        if self.takes_instrument(layers):
            return
        instrument = self.session.instrument
        if instrument is not None:
            self.legend.show_depths(instrument.depth_range_nm, instrument.z_reference)
        self.found.forget()
        self.choice.adapt()
        if self.choice.model is None and not self._no_instrument() and self.forms.inspection.editors["method"].currentText() == NETWORK:
            # one click is to be left: deconvolution needs no model
            self.forms.inspection.set_value("method", DECONVOLUTION)
        self.live.follow(layers)
        self._on_form()

    def _on_form(self) -> None:
        wrong = self.frames.problem() or self._no_instrument() or self.forms.problem
        plan = None if self.forms.inspection.problem else self.inspection()
        needs_model = plan is not None and NETWORK in plan.methods
        missing = "Choose a model for volumes, or the method Richardson-Lucy" if needs_model and self.choice.model is None else ""
        reason = wrong or missing or (self.model.problem if needs_model else "")
        self.show_button.setEnabled(not reason or self.show_button.isChecked())
        self.show_button.setToolTip(reason or f"<qt>{SHOW_TIP}</qt>")
        if not self.live.on:
            self.words.say(reason or self._warning())
        both = ONE_METHOD if plan is not None and len(plan.methods) > 1 else ""
        self.panel.set_reason(reason or both or self.forms.span.problem)
        self.calls.verb = VERBS[needs_model]
        self.calls.set_call(None if reason or both or self.forms.span.problem else self._call)
        self.lenses.refresh()
        self.legend.setVisible(plan is not None and plan.molecules and not plan.two_colors)
        self.live.refresh()
        if plan is not None:
            self._find_molecules()

    def _warning(self) -> str:
        instrument = self.session.instrument
        if instrument is None or self.frames.problem():
            return ""
        try:
            words = compare_with_instrument(self.frames.stack(), instrument)
        except (SmlmError, ValueError) as error:
            words = (str(error),)
        return "\n".join(f"⚠ {word}" for word in tuple(words)[:2])

    def _no_instrument(self) -> str:
        instrument = self.session.instrument
        if instrument is None:
            return "Choose a light-field instrument, or calibrate one first"
        if len(instrument.views) < 2:
            return f"{instrument.name} has one view: volumes need the parallax between several; choose a light-field instrument"
        return ""

    def _call(self) -> tuple[Any, ...]:
        return self.frames.stack(), self.session.instrument, self.forms.series_plan(self.choice.model), self.session.instrument_path

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "done":
            self.panel.say(f"{outcome.value.count} volumes: {outcome.value.place.name} · {self.panel.message.text()}")
            self.session.log.add(f"Volumes written as {outcome.value.place}")
        elif outcome.kind == "stopped":
            self.panel.say(f"{self.panel.message.text()} · volumes that were done are in a file ending in .incomplete.tif")
