"""The Train widget: a calibrated instrument in, a network for it out. Layout and wiring only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QLineEdit, QPushButton

from ...domain.instrument import Instrument
from ...domain.plans import TrainPlan
from ...errors import PlanError, SmlmError
from ...io.finished_models import finished_model
from ...io.models import forget_checkpoint
from ...io.napari_version import binding_warning
from ..actions import open_widget
from ..forms import PlanForm
from ..jobs import on_device
from ..samples import example_instruments
from ..settings import preferences
from ..training import SUFFIX, Trained, kept_training, models_folder, place_of, suggested_name, train_job
from ..workers import Job, Outcome, Tick
from .calls_bar import CallsBar
from .curve import LossCurve
from .estimate import Estimate
from .job import JobPanel
from .job_widget import JobWidget
from .models import FILTER, tested_words
from .pickers import InstrumentPicker
from .presets import PresetBar
from .sections import Section, Words, beside, stacked
from .steps import StepsBar

FIRST_FIELDS = ("preset", "density_per_um2", "photons", "background_photons")
OTHER_FIELDS = tuple(name for name in TrainPlan.model_fields if name not in FIRST_FIELDS)
# a step takes seconds on a slow computer, and the checkpoint must be whole before Train can go on from it
PATIENCE_MS = 120_000


class TrainWidget(JobWidget):
    """An instrument and what its frames will look like in, a network out."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(viewer)
        if self.problem:
            return
        self.steps = StepsBar(self.session, "Train")
        self.instrument = InstrumentPicker(self.session, example_instruments())
        self.warning = Words()
        self.name = QLineEdit()
        self.name.setToolTip("<qt>The model will be a file of this name.</qt>")
        self.name.setAccessibleName("Name of the model")
        self.choose_button = QPushButton("Choose...")
        self.choose_button.setToolTip("<qt>Save the model in another folder.</qt>")
        self.name_words = Words()
        self.anew_button = QPushButton("Begin anew")
        self.anew_button.setToolTip("<qt>Delete what the stopped training of this name has learned.</qt>")
        self.replace_box = QCheckBox("Replace it")
        self.replace_box.setToolTip("<qt>The model of this name stays until the new one is complete, and is then replaced.</qt>")
        self.first = PlanForm(TrainPlan, FIRST_FIELDS)
        self.others = PlanForm(TrainPlan, OTHER_FIELDS)
        self.others.editors["start_model"].setPlaceholderText("none")
        self.start_button = QPushButton("Choose start model...")
        self.start_button.setToolTip("<qt>Begin with a trained model instead of random weights; it must be the same network.</qt>")
        self.presets = PresetBar(self.session, self.others, TrainPlan())
        self.estimate = Estimate(self._call)
        self.panel = JobPanel("Train", self.session.log, "Stop and keep what has been learned; Train goes on from there")
        self.panel.job.patience_ms = PATIENCE_MS
        self.curve = LossCurve()
        self.verdict = QLabel()
        self.verdict.setAccessibleName("The trained model")
        self.next_button = QPushButton("Next: try it in Reconstruct")
        self.next_button.setToolTip("<qt>Open Reconstruct with this model; its live preview shows what the model finds in a frame.</qt>")
        self.calls = CallsBar(self.session, "train", "model.safetensors")
        self._asked: Any = None
        self._place: Path | None = None
        self._shown_for = ""
        self._lay_out()
        self._connect()
        self._on_instrument()

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        return [self.panel, self.estimate.job]

    def _lay_out(self) -> None:
        self.verdict.setWordWrap(True)
        introduction = QLabel("What your frames look like; what the model never saw it will not find.")
        introduction.setWordWrap(True)
        self.lay(
            self.steps,
            QLabel("Instrument"),
            self.instrument,
            self.warning,
            introduction,
            self.first,
            self.estimate,
            QLabel("Name of the model"),
            beside(self.name, self.choose_button, widest=self.name),
            self.name_words,
            self.anew_button,
            self.replace_box,
            self.panel,
            self.curve,
            self.verdict,
            self.next_button,
            Section("Settings", stacked(self.others, self.start_button, self.presets)),
            Section("Share", self.calls),
        )
        for part in (self.anew_button, self.replace_box, self.verdict, self.next_button):
            part.hide()

    def _connect(self) -> None:
        self.speak_by(self.panel, (self.instrument, self.presets, self.calls, self.estimate), (self.calls,))
        self.link(self.session.instrument_changed, self._on_instrument)
        self.first.changed.connect(self._on_form)
        self.others.changed.connect(self._on_form)
        self.presets.loaded.connect(self.first.set_plan)
        self.name.textChanged.connect(self._on_name)
        self.replace_box.toggled.connect(self._on_form)
        self.choose_button.clicked.connect(self._ask_place)
        self.start_button.clicked.connect(self._ask_start)
        self.anew_button.clicked.connect(self.begin_anew)
        self.panel.clicked.connect(self.run)
        self.panel.ticked.connect(self._on_tick)
        self.panel.ended.connect(self._on_end)
        self.panel.job.state_changed.connect(lambda _: self.estimate.setDisabled(self.panel.job.busy))
        self.next_button.clicked.connect(lambda: open_widget(self.viewer))

    def place(self) -> Path:
        """Return where the model will be.

        Raises
        ------
        PlanError
            If the name is none.
        """
        return place_of(self.name.text(), models_folder(preferences()))

    def run(self) -> None:
        """Start, or go on, with what the forms say."""
        try:
            _, instrument, plan, path = self._call()
            place = self.place()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        chosen = preferences()
        self._asked = (None, instrument, on_device(plan, chosen), path)
        memory = self.session.memory
        memory.store_plan(plan, instrument.fingerprint)
        memory.store(self.name.text(), "model_names", instrument.fingerprint)
        self.estimate.job.stop()
        self._place, kept = place, kept_training(place)
        self.curve.begin(kept.curve if kept is not None else None)
        for part in (self.verdict, self.next_button, self.anew_button, self.replace_box):
            part.hide()
        self.panel.run(lambda: train_job(instrument, plan, place, chosen, path))

    def begin_anew(self) -> None:
        """Forget the stopped training of this name."""
        try:
            forget_checkpoint(self.place())
            self.curve.begin()
        except SmlmError as error:
            self.panel.show_error(error)
        self._on_form()

    def _call(self) -> tuple[None, Any, TrainPlan, Path | None]:
        if self.session.instrument is None:
            raise PlanError("Choose an instrument, or calibrate one first")
        if self.first.problem:
            raise PlanError(self.first.problem)
        return None, self.session.instrument, self.others.plan(), self.session.instrument_path

    def _ask_place(self) -> None:
        folder = Path(self.session.memory.folder("model") or models_folder(preferences()))
        path, _ = QFileDialog.getSaveFileName(self, "Name of the model", str(folder / f"{self.name.text() or 'model'}{SUFFIX}"), FILTER)
        if path:
            self.session.memory.store_folder("model", path)
            self.name.setText(path)
            # the dialog has asked
            self.replace_box.setChecked(True)

    def _ask_start(self) -> None:
        folder = self.session.memory.folder("model") or str(models_folder(preferences()))
        path, _ = QFileDialog.getOpenFileName(self, "Choose a start model", folder, FILTER)
        if path:
            self.others.set_value("start_model", path)

    def _on_instrument(self) -> None:
        instrument = self.session.instrument
        if instrument is not None and instrument.fingerprint != self._shown_for and not self.panel.job.busy:
            self._shown_for = instrument.fingerprint
            memory = self.session.memory
            known = memory.recall_plan(TrainPlan, instrument.fingerprint)
            if known is not None:
                for form in (self.first, self.others):
                    form.set_plan(known)
            self.name.setText(self._unfinished(instrument) or suggested_name(instrument, models_folder(preferences())))
        words = [*filter(None, [binding_warning()])]
        if instrument is not None and instrument.calibration is None:
            words.append(
                "this instrument was not calibrated with beads: the network learns the images that it should make, not those it makes"
            )
        self.warning.warn(words)
        self._on_form()

    def _unfinished(self, instrument: Instrument) -> str:
        """Return the name of a stopped training for this instrument, which is taken up again; empty without one."""
        name = self.session.memory.recall("model_names", instrument.fingerprint)
        try:
            place = place_of(str(name or ""), models_folder(preferences()))
        except PlanError:
            return ""
        return str(name) if kept_training(place) is not None else ""

    def _on_name(self) -> None:
        self.replace_box.setChecked(False)
        self._on_form()

    def _on_form(self) -> None:
        # the other half holds the whole plan, so that what concerns both halves is checked
        values, _ = self.first.values()
        for name in FIRST_FIELDS:
            self.others.set_value(name, values.get(name))
        self.estimate.check()
        reason = "" if self.session.instrument is not None else "Choose an instrument, or calibrate one first"
        reason = reason or self.first.problem or self.others.problem or self._look_at_name()
        self.panel.set_reason(reason)
        self.calls.set_call(None if reason else self._call)

    def _look_at_name(self) -> str:
        """Say what a name leads to; returns why it is none."""
        words, kept = "", None
        try:
            place = self.place()
        except PlanError as error:
            for part in (self.name_words, self.anew_button, self.replace_box):
                part.hide()
            return str(error)
        kept = kept_training(place)
        if kept is not None:
            words = f"A stopped training of this name is kept (step {kept.steps:,}): Train goes on from there, with the same settings."
        instrument = self.session.instrument
        there = None if instrument is None else finished_model(place, instrument, on_device(self.others.plan(), preferences()))
        words = there.words if there is not None else words
        self.name.setToolTip(f"<qt>The model will be {place}, its card beside it.</qt>")
        if not self.panel.job.busy:
            self.name_words.say(words)
            self.anew_button.setVisible(kept is not None)
            self.replace_box.setVisible(there is not None)
        return "" if there is None or self.replace_box.isChecked() else "Tick 'Replace it', or give the model another name"

    def _on_tick(self, tick: Tick) -> None:
        if tick.progress.stage == "train":
            self.curve.add(tick.progress.done, tick.progress.numbers)

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "done":
            self.replace_box.setChecked(False)
        # another instrument may have been chosen in the meantime
        self._on_instrument()
        if outcome.kind == "stopped":
            kept = kept_training(self._place) if self._place is not None else None
            after = self.panel.message.text()
            self.panel.say(f"{after} · step {kept.steps:,} is kept, Train goes on from it" if kept else f"{after} · nothing was kept yet")
        elif outcome.kind == "done" and isinstance(outcome.value, Trained):
            self._take(outcome.value)

    def _take(self, trained: Trained) -> None:
        self.session.choose_model(trained.place)
        self.session.log.add(f"Saved as {trained.place}")
        asked = self._asked
        self.calls.set_call(lambda: asked)
        self.verdict.setText(f"✓ {trained.place.stem}: {trained.card.frames_seen:,} frames seen{tested_words(trained.card)}")
        for part in (self.verdict, self.next_button):
            part.show()
