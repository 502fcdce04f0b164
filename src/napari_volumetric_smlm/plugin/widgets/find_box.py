"""Molecules or blobs of a file of volumes: the twin of `vsmlm find`."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ...domain.molecules import Localizations
from ...domain.runs import Progress
from ...domain.volume_plans import FindPlan
from ...errors import SmlmError
from ..calls import changed_fields, spell_option
from ..forms import PlanForm
from ..jobs import on_device, prepare_engine
from ..readers import show_table
from ..session import Session
from ..settings import Preferences, preferences
from ..workers import Outcome, Tick
from .job import JobPanel

TIP = (
    "Choose a file with a volume or a series of them, such as the one that Volumes of all frames writes. The table is written beside it "
    "and shown as points; link them from frame to frame with a tracking plugin."
)


class FindBox(QWidget):
    """Asks for a file of volumes, writes the table of what is in it, and shows it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.form = PlanForm(FindPlan, ("what", "diameter_nm", "voxel_zyx_nm"))
        self.form.set_value("what", "blobs")
        self.panel = JobPanel("Find in volumes…", session.log)
        self.panel.button.setToolTip(f"<qt>{TIP}</qt>")
        self._place, self._parts = Path(), list[Localizations]()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        layout.addWidget(self.panel)
        self.form.changed.connect(self._on_form)
        self.panel.clicked.connect(self.ask_file)
        self.panel.ticked.connect(self._on_tick)
        self.panel.ended.connect(self._on_end)

    def ask_file(self) -> None:
        """Ask for the file, and look for what is in it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Volumes", self.session.memory.folder("volumes"), "Volumes (*.tif *.tiff);;All files (*)"
        )
        if path:
            self.session.memory.store_folder("volumes", path)
            self.find(path)

    def find(self, path: str | Path) -> None:
        """Look for what is in a file; the table is written beside it."""
        try:
            plan: FindPlan = self.form.plan()
        except SmlmError as error:
            self.panel.show_error(error)
            return
        source, chosen = Path(path), preferences()
        self._place, self._parts = source.with_name(f"{source.stem}.{plan.what}.csv"), []
        words = ["vsmlm", "find", str(source), *(word for field in changed_fields(plan).items() for word in spell_option(*field))]
        self.session.log.add(shlex.join([*words, "--output", str(self._place)]))
        self.panel.run(lambda: find_job(source, plan, self._place, chosen))

    def _on_form(self) -> None:
        self.panel.set_reason(self.form.problem)

    def _on_tick(self, tick: Tick) -> None:
        self._parts += [part for part in tick.previews if isinstance(part, Localizations)]

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "done":
            self._show(outcome.value)
            self.panel.say(f"{len(outcome.value):,} found: {self._place.name}")
        elif outcome.kind == "stopped" and self._parts:
            self._show(Localizations.joined(self._parts))
            self.panel.say("Stopped: what was found until then is shown, and not written")

    def _show(self, table: Localizations) -> None:
        from napari.layers import Layer

        if self.session.viewer is not None:
            for values, options, kind in show_table(table, self._place.name):
                if kind != "points":
                    continue  # a picture of few objects is dark
                if "diameter_nm" in table and len(table):
                    options["size"] = float(np.median(table["diameter_nm"]))
                self.session.viewer.layers.append(Layer.create(values, options, kind))


def find_job(source: Path, plan: FindPlan, place: Path, chosen: Preferences) -> Generator[Progress, None, Any]:
    """Find and write. Runs in the worker's thread."""
    from ...io.tables import write_table
    from ...io.volume_files import open_volumes
    from ...recipes.volume_molecules import find_in_volumes

    prepare_engine(chosen)
    table = yield from find_in_volumes(open_volumes(source, plan.voxel_zyx_nm), on_device(plan, chosen))
    write_table(table, place)
    return table
