"""The molecules of the current frame as every view shows them: squares around their images on the raw frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..engine.assemble.colors import depth_color
from .layers import MOLECULES, PICTURE, fill_points, noun_of
from .overlay import Overlay
from .settings import preferences
from .view_jobs import shifts_job
from .view_layers import IN_VIEWS, lay_molecules_in_views, places_in_view
from .workers import Job, Outcome


class Projection(QObject):
    """Follows the molecules that an overlay shows, for instruments with more than one view.

    Circles say where a molecule is; squares say where its images are: in every view, moved by the parallax of its depth.
    """

    def __init__(self, overlay: Overlay) -> None:
        super().__init__(overlay)
        self.overlay = overlay
        self.job = Job(self)
        self._instrument: Instrument | None = None
        self._frames: list[Any] = []
        self._shift_vdyx: NDArray[np.float64] | None = None
        # cameras whose squares were shown: a layer that the user deletes is made anew only by the next result
        self._made: set[int] = set()
        overlay.session.table_changed.connect(self._made.clear)
        overlay.molecules_shown.connect(self._show)
        self.job.ended.connect(self._on_end)

    def follow(self, instrument: Instrument, frames: list[Any]) -> None:
        """Belong to an instrument and to the layers of its frames."""
        before = self._instrument
        same = before is not None and before.views == instrument.views and before.fingerprint == instrument.fingerprint
        if same and frames == self._frames:
            return
        if not same:
            self._shift_vdyx = None
            self.job.stop()
        self._instrument, self._frames = instrument, list(frames)
        self._made.clear()
        for layer in self.overlay.layers(IN_VIEWS):
            self.overlay.remove(layer)
        self._show(self.overlay.shown)

    def show_only(self, role: str) -> None:
        """Hide the squares while the picture covers the frames."""
        for layer in self.overlay.layers(IN_VIEWS):
            layer.visible = role != PICTURE

    def _show(self, shown: Localizations) -> None:
        instrument = self._instrument
        if instrument is None or len(instrument.views) < 2 or not self._frames:
            return
        layers = {noun_of(layer, "camera"): layer for layer in self.overlay.layers(IN_VIEWS)}
        if self._shift_vdyx is None:
            # the first molecules ask for the parallax; until it is there nothing is shown
            if len(shown) and not self.job.busy:
                chosen = preferences()
                self.job.start(lambda: shifts_job(instrument, chosen), quiet=True)
            return
        for camera in sorted({view.camera for view in instrument.views}):
            views = [v for v, view in enumerate(instrument.views) if view.camera == camera and self._is_apart(v)]
            if not views:
                continue
            if camera not in layers:
                if not len(shown) or camera in self._made:
                    continue
                layers[camera] = self._add(camera, instrument.pixel_nm(views[0]))
            places = np.concatenate([places_in_view(shown, instrument, v, self._shift_vdyx[v]) for v in views])
            fill_points(layers[camera], places, np.tile(depth_color(shown["z_nm"], instrument.depth_range_nm), (len(views), 1)))
            self._raise(layers[camera])

    def _is_apart(self, view: int) -> bool:
        """Whether a view shows molecules elsewhere than where the circles are: squares around circles would say nothing."""
        if view or self._shift_vdyx is None or self._instrument is None:
            return True
        return bool(np.abs(self._shift_vdyx[0]).max() > self._instrument.pixel_nm())

    def _add(self, camera: int, pixel_nm: float) -> Any:
        self._made.add(camera)
        frames = self._frames[min(camera, len(self._frames) - 1)]
        return self.overlay._add(lay_molecules_in_views(frames, pixel_nm, camera, len(self._frames) > 1))

    def _raise(self, layer: Any) -> None:
        """Put the squares right below the circles, above what was found and the residual."""
        layers, circles = self.overlay.session.viewer.layers, self.overlay.layers(MOLECULES)
        if circles and layers.index(layer) != layers.index(circles[-1]) - 1:
            layers.move(layers.index(layer), layers.index(circles[-1]))

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.kind == "done":
            self._shift_vdyx = outcome.value
            self._show(self.overlay.shown)
