"""The optics of an instrument, editable: objective, wavelength, indices, focal plane, depth, phase mask."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from ...domain.instrument import Camera, Instrument, Objective, PhaseMask, View
from ...errors import SmlmError
from ...io.instruments import load_phase_mask, save_instrument
from ..forms import PlanForm
from ..session import Session
from ..settings import preferences
from ..view_jobs import rebuild_views_job
from ..workers import Job, Outcome
from .camera import CameraPanel
from .sections import Section, beside, stacked

OPTICS = ("emission_nm", "sample_index", "focal_plane_nm", "depth_range_nm", "wave_model", "supercritical", "name")
EDIT_MS = 400
BLANK = Instrument(
    name="my microscope",
    objective=Objective(numerical_aperture=1.4, magnification=100, immersion_index=1.518),
    cameras=(Camera(pixel_um=11.0),),
    views=(View(),),
    emission_nm=600,
    sample_index=1.33,
    depth_range_nm=(0, 1000),
)


class OpticsPanel(QWidget):
    """Forms for the session's instrument; a change makes a new instrument, half a second after the last key.

    failed : an error to show. told : a sentence.
    """

    failed = Signal(object)
    told = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.objective = PlanForm(Objective)
        self.optics = PlanForm(Instrument, OPTICS)
        self.mask = PlanForm(PhaseMask, ("mask_pixel_um", "fourier_lens_mm"))
        self.mask_button = QPushButton("Load phase mask...")
        self.mask_button.setToolTip("<qt>Phase in rad as .mat, .tif or .npy. Fill in mask pixel and Fourier lens first.</qt>")
        self.mask_facts = QLabel()
        self.mask_facts.setWordWrap(True)
        self.camera = CameraPanel()
        self.new_button = QPushButton("New")
        self.new_button.setToolTip("<qt>Start with a plain microscope and fill in your own numbers.</qt>")
        self.save_button = QPushButton("Save instrument...")
        self.save_button.setToolTip("<qt>Save instrument and calibration as one JSON file.</qt>")
        # what the microlenses show follows from objective and camera; computing it may have to load torch
        self.job = Job(self)
        self._rebuilding: Instrument | None = None
        self._shown: Instrument | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(EDIT_MS)
        buttons = beside(self.new_button, self.save_button)
        optics = stacked(self.objective, self.optics)
        mask = stacked(self.mask_facts, self.mask, self.mask_button)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(stacked(buttons, Section("Optics", optics), Section("Phase mask", mask), Section("Camera", self.camera)))
        for form in (self.objective, self.optics, self.camera):
            form.changed.connect(self._timer.start)
        self._timer.timeout.connect(self.apply)
        self.job.ended.connect(self._on_rebuilt)
        self.new_button.clicked.connect(lambda: session.choose_instrument(BLANK, "new"))
        self.save_button.clicked.connect(self._ask_save)
        self.mask_button.clicked.connect(self._ask_mask)
        session.instrument_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's instrument."""
        instrument = self.session.instrument
        self.save_button.setEnabled(instrument is not None)
        if instrument is None or instrument is self._shown:
            return
        self._shown = instrument
        self.objective.set_plan(instrument.objective)
        self.optics.set_plan(instrument)
        self.camera.show_camera(instrument.cameras[0])
        mask = instrument.views[0].mask
        if mask is not None:
            self.mask.set_plan(mask)
        self.mask_facts.setText(f"{mask.source or 'mask'}, {' x '.join(map(str, mask.phase_rad_yx.shape))} pixels" if mask else "no mask")
        # showing is no change
        self._timer.stop()

    def apply(self) -> None:
        """Take what the forms say as the session's instrument; while something is wrong nothing is taken."""
        before = self.session.instrument
        if before is None:
            return
        if self.job.busy:
            # the newest numbers count
            self.job.stop()
            self._timer.start()
            return
        try:
            cameras = (self.camera.camera(), *before.cameras[1:])
            edited = {name: getattr(self.optics.plan(), name) for name in OPTICS}
            self._take(before, {**edited, "objective": self.objective.plan(), "cameras": cameras})
        except SmlmError:
            # the fields themselves show what is wrong
            return

    def load_mask(self, path: str | Path) -> None:
        """Load a phase mask for the first view; an error is told by `failed`."""
        instrument = self.session.instrument
        try:
            values, wrong = self.mask.values()
            if instrument is None or wrong:
                raise SmlmError("Fill in mask pixel and Fourier lens first" if instrument else "Choose an instrument first")
            mask = load_phase_mask(path, values["mask_pixel_um"], values["fourier_lens_mm"])
        except SmlmError as error:
            self.failed.emit(error)
            return
        view = instrument.views[0].model_copy(update={"mask": mask})
        self._take(instrument, {"views": (view, *instrument.views[1:])})

    def save(self, path: str | Path) -> None:
        """Save the instrument; an error is told by `failed`."""
        if self.session.instrument is None:
            return
        try:
            place = save_instrument(self.session.instrument, Path(path).with_suffix(".json"))
        except SmlmError as error:
            self.failed.emit(error)
            return
        self.session.instrument_path = place
        self.told.emit(f"Saved as {place.name}")
        self.session.log.add(f"Instrument saved as {place}")

    def _take(self, before: Instrument, update: dict[str, object]) -> None:
        # a changed microscope is no longer the one that was calibrated; names and depth range do not shape images
        edited = Instrument.model_validate({**{n: getattr(before, n) for n in Instrument.model_fields}, **update})
        if edited == before:
            return
        raw = edited.microlenses is not None and edited.views[0].region_yx_px is not None
        if raw and (edited.objective, edited.cameras[0].pixel_um) != (before.objective, before.cameras[0].pixel_um):
            self._rebuilding, chosen = before, preferences()
            self.job.start(lambda: rebuild_views_job(edited, chosen), quiet=True)
            return
        self._choose(edited)

    def _on_rebuilt(self, outcome: Outcome) -> None:
        before, self._rebuilding = self._rebuilding, None
        if outcome.error is not None:
            self.failed.emit(outcome.error)
        elif outcome.kind == "done" and before is self.session.instrument:
            self._choose(outcome.value)

    def _choose(self, edited: Instrument) -> None:
        origin = self.session.instrument_origin.removesuffix(", edited") + ", edited"
        self._shown = edited
        self.session.choose_instrument(edited, origin)

    def _ask_save(self) -> None:
        folder = Path(self.session.memory.folder("instrument") or ".") / "instrument.json"
        path, _ = QFileDialog.getSaveFileName(self, "Save instrument", str(folder), "Instruments (*.json)")
        if path:
            self.session.memory.store_folder("instrument", path)
            self.save(path)

    def _ask_mask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Load phase mask", self.session.memory.folder("mask"), "Masks (*.mat *.tif *.tiff *.npy)"
        )
        if path:
            self.session.memory.store_folder("mask", path)
            self.load_mask(path)
