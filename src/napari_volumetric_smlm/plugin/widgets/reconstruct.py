"""The Reconstruct widget: frames and an instrument in, molecules out, one button. Layout and wiring only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QLabel, QPushButton

from ...domain.plans import ReconstructPlan, RenderPlan
from ...errors import SmlmError
from ...io.napari_version import binding_warning
from ...recipes.record import Collector
from ..forms import PlanForm
from ..jobs import RESTART, Result, finish_job, reconstruct_job
from ..layers import PICTURE
from ..overlay import Overlay
from ..projection import Projection
from ..samples import example_instruments
from ..settings import preferences
from ..space import show_in_space
from ..streaming import Stream
from ..workers import Job, Outcome, Tick
from ..world import region_of
from .frames import StackBox
from .importing import Importer
from .job import JobPanel
from .job_widget import JobWidget
from .lenses import LensBox
from .models import ModelPicker
from .molecules import MoleculeTable
from .pickers import InstrumentPicker
from .presets import PresetBar
from .preview_box import PreviewBox
from .sections import Section, Words, stacked
from .share import SharePanel
from .steps import StepsBar
from .views import ViewBar

# single molecules must be seen when the whole field of view is on the screen
DRAWING = RenderPlan(color_by_depth=True, smallest_sigma_nm=20.0)
FORM_FIELDS = tuple(name for name in ReconstructPlan.model_fields if name != "model")


class ReconstructWidget(JobWidget):
    """Frames and an instrument in, molecules out."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(viewer)
        if self.problem:
            return
        self.overlay = Overlay(self.session)
        self.projection = Projection(self.overlay)
        self.stream = Stream(self.overlay)
        self._asked: tuple[Any, ...] | None = None
        self.collector: Collector | None = None
        self.importer = Importer(self.session, self)
        self.steps = StepsBar(self.session, "Reconstruct")
        self.frames = StackBox(self.session, "frames", self.importer.ask)
        self.instrument = InstrumentPicker(self.session, example_instruments())
        self.lenses = LensBox(self.session, self.frames)
        self.model = ModelPicker(self.session)
        self.panel = JobPanel("Reconstruct", self.session.log)
        self.warning = Words()
        self.views = ViewBar()
        self.form = PlanForm(ReconstructPlan, FORM_FIELDS)
        self.region_button = QPushButton("Region from rectangle")
        self.region_button.setToolTip("<qt>Use only the part of the frame under the rectangle last drawn in a Shapes layer.</qt>")
        self.presets = PresetBar(self.session, self.form, ReconstructPlan())
        self.drawing = PlanForm(RenderPlan, ("pixel_nm", "method", "color_by_depth", "smallest_sigma_nm", "depth_step_nm"))
        self.drawing.set_plan(DRAWING)
        self.draw_button = QPushButton("Draw")
        self.draw_button.setToolTip("<qt>Draw the picture again with these settings.</qt>")
        self.space_button = QPushButton("Show in 3D")
        self.space_button.setToolTip("<qt>Open a second window with the molecules as a volume and as points, coloured by depth.</qt>")
        self.molecules = MoleculeTable()
        self.share = SharePanel(self.session, self)
        self.preview = PreviewBox(self.overlay, self.views, self._call, lambda: self.panel.job.busy)
        self.finisher = Job(self)
        self._lay_out()
        self._connect()
        self._on_source()

    def jobs(self) -> list[JobPanel | Job]:
        """Return everything that may run."""
        quiet = [self.preview.preview.job, self.finisher, self.importer.job, self.share.job, self.projection.job, self.lenses.job]
        return [self.panel, *quiet]

    def leave(self) -> None:
        """Stop the jobs, and listen no longer to session and viewer."""
        super().leave()
        self.frames.disconnect_viewer()
        self.overlay.disconnect_viewer()

    def _lay_out(self) -> None:
        self.lay(
            self.steps,
            QLabel("Frames"),
            self.frames,
            QLabel("Instrument"),
            self.instrument,
            self.lenses,
            QLabel("Model"),
            self.model,
            self.warning,
            self.panel,
            self.views,
            self.preview,
            Section("Settings", stacked(self.form, self.region_button, self.presets)),
            Section("Molecules", self.molecules, opened=True),
            Section("Picture", stacked(self.drawing, self.draw_button, self.space_button)),
            Section("Save and share", self.share),
        )

    def _connect(self) -> None:
        self.speak_by(self.panel, (self.instrument, self.lenses, self.model, self.importer, self.presets, self.share), (self.share,))
        self.frames.picked.connect(self._on_source)
        self.link(self.session.instrument_changed, self._on_source)
        self.link(self.session.table_changed, self._on_table)
        self.link(self.session.model_changed, self._on_form)
        self.presets.loaded.connect(lambda plan: self.session.choose_model(Path(plan.model) if plan.model else None))
        self.form.changed.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.ticked.connect(self._collect)
        self.panel.ticked.connect(lambda tick: self.stream.take(tick, self.panel.job.seconds, self.views.role == PICTURE))
        self.stream.counted.connect(lambda count: self.molecules.count.setText(f"{count:,} molecules so far"))
        self.panel.ended.connect(self._on_end)
        self.finisher.ended.connect(self._on_finished)
        self.region_button.clicked.connect(self.take_region)
        self.draw_button.clicked.connect(self.draw)
        self.space_button.clicked.connect(self.show_space)
        self.views.chosen.connect(self.overlay.show_only)
        self.views.chosen.connect(self.projection.show_only)
        self.overlay.molecules_shown.connect(self._on_molecules)
        self.molecules.jumped.connect(self.overlay.jump)
        self.molecules.scope_changed.connect(self._show_rows)
        self.overlay.points_selected.connect(self._on_points)

    def run(self) -> None:
        """Start with what the form says."""
        try:
            stack, instrument, plan = self._call()
            drawing: RenderPlan = self.drawing.plan()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        if instrument is None:
            return
        chosen = preferences()
        self._asked = (stack, instrument, plan)
        self.session.memory.store_plan(plan, instrument.fingerprint)
        self.preview.preview.cancel()
        self.overlay.prepare()
        self.stream.begin(stack)
        self.collector = Collector(self._asked)
        self.panel.run(lambda: reconstruct_job(stack, instrument, plan, drawing, chosen))

    def take_region(self) -> None:
        """Take the region from the rectangle last drawn."""
        from napari.layers import Shapes

        shapes = [layer for layer in self.viewer.layers if isinstance(layer, Shapes)]
        frames = self.frames.layers
        try:
            if not shapes or not frames:
                raise SmlmError("Add a Shapes layer and draw a rectangle over the frames first" if frames else "Open frames first")
            self.form.set_value("region_yx_px", region_of(shapes[-1], frames[0]))
        except SmlmError as error:
            self.panel.show_error(error)

    def draw(self) -> None:
        """Draw the last table again."""
        table = self.session.table
        try:
            drawing = self.drawing.plan()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        if table is not None and not self.panel.job.busy:
            chosen = preferences()
            self.finisher.start(lambda: finish_job(table, drawing, chosen), quiet=True)

    def _collect(self, tick: Tick) -> None:
        if tick.progress.stage == RESTART and self._asked is not None:
            self.collector = Collector(self._asked)
        for batch in tick.previews:
            if self.collector is not None:
                self.collector.add(batch, tick.progress.done)

    def _on_end(self, outcome: Outcome) -> None:
        streamed = self.stream.end()
        reason = "stopped by the user" if outcome.error is None else f"failed: {outcome.error}"
        kept = self.collector.partial(reason) if self.collector is not None and streamed else None
        self.collector = None
        if outcome.kind == "done" and isinstance(outcome.value, Result):
            self._take(outcome.value)
        elif kept is not None:
            # stopped or failed: what was found so far is kept, saved and drawn, and says that it is not all
            table = kept.localizations
            self.session.keep_table(table, kept)
            self.panel.say(f"{self.panel.message.text()} · {len(table):,} molecules kept")
            drawing, chosen = self.drawing.plan(), preferences()
            self.finisher.start(lambda: finish_job(table, drawing, chosen, kept.plan), quiet=True)
        else:
            self.overlay.refresh()

    def _on_finished(self, outcome: Outcome) -> None:
        if outcome.kind == "failed" and outcome.error is not None:
            self.panel.show_error(outcome.error)
        elif isinstance(outcome.value, Result):
            self._show_picture(outcome.value)

    def _take(self, result: Result) -> None:
        self.session.keep_table(result.table, result.reconstruction)
        frames = result.reconstruction.frames_done if result.reconstruction else 0
        self.panel.say(f"{len(result.table):,} molecules in {frames:,} frames · {self.panel.message.text()}")
        self._show_picture(result)

    def _show_picture(self, result: Result) -> None:
        if result.saved is not None:
            self.session.log.add(f"Saved as {result.saved}")
            self.panel.say(f"{self.panel.message.text()} · saved as {result.saved.name}")
        if result.trouble:
            self.panel.say(f"{self.panel.message.text()} · ⚠ {result.trouble}")
            self.session.log.add(result.trouble)
        if result.picture is not None:
            self.overlay.show_picture(result.picture, result.table)
            self.views.choose(PICTURE)

    def _on_source(self) -> None:
        self.frames.fit_to(self.session.instrument)
        layers = self.frames.layers
        if self.takes_instrument(layers):
            return
        instrument = self.session.instrument
        if instrument is not None:
            self.overlay.follow(layers, instrument.pixel_nm(), instrument.depth_range_nm)
            self.projection.follow(instrument, layers)
            known = self.session.memory.recall_plan(ReconstructPlan, instrument.fingerprint)
            if known is not None and self._asked is None:
                self.session.recall_model(known.model)
                self.form.set_plan(known.model_copy(update={"first_frame": 0, "last_frame": None, "region_yx_px": None}))
        self.warning.warn([*filter(None, [binding_warning()]), *self.frames.warnings()])
        self._on_form()

    def _on_form(self) -> None:
        self.form.set_value("model", None if self.session.model is None else str(self.session.model))
        no_instrument = "" if self.session.instrument is not None else "Choose an instrument, or calibrate one first"
        reason = self.frames.problem() or no_instrument or self.form.problem or self.drawing.problem or self.model.problem
        self.panel.set_reason(reason)
        self.share.calls.set_call(None if reason else lambda: (*self._call(), self.session.instrument_path))
        self.preview.allow(not reason)
        self.lenses.refresh()

    def _call(self) -> tuple[Any, Any, ReconstructPlan]:
        return self.frames.stack(), self.session.instrument, self.form.plan()

    def _on_table(self) -> None:
        if self.session.table is not None and self.overlay.frames:
            self.overlay.prepare()
        self.overlay.refresh()
        self._show_rows()
        self.share.refresh()

    def _on_molecules(self, shown: Any) -> None:
        if not self.molecules.all_frames.isChecked():
            self.molecules.show_table(shown)

    def _show_rows(self) -> None:
        table = self.session.table
        self.molecules.show_table(table if self.molecules.all_frames.isChecked() and table is not None else self.overlay.shown)

    def _on_points(self, rows: set[int]) -> None:
        if not self.molecules.all_frames.isChecked():
            self.molecules.mark_rows(rows)

    def show_space(self) -> None:
        """Show the last table in three dimensions, in a window of its own."""
        if self.session.table is not None:
            show_in_space(self.session.table, self.drawing.plan(), self.share.job, self.panel.show_error)
