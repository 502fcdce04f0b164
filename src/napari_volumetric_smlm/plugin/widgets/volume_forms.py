"""Forms of the Volumes widget: what is shown, how volumes are made, and which image lies underneath."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from ...domain.volume_plans import DeconvolvePlan, InspectionPlan, ViewsPlan, VolumePlan
from ...errors import PlanError
from ..forms import PlanForm
from ..layers import FOUND, FRAMES, RESIDUAL, role_of
from ..session import Session
from ..view_layers import VIEW
from ..volume_jobs import NETWORK
from .pickers import LayerPicker

# as a network's volumes are, so that both can be compared
FIRST_DECONVOLUTION = DeconvolvePlan(wide_field=True)
ONE_METHOD = "Choose V-Net or Richardson-Lucy: one file holds the volumes of one of them"


class VolumeForms:
    """The forms; the widget puts them into its sections."""

    def __init__(self) -> None:
        self.inspection = PlanForm(InspectionPlan)
        self.views = PlanForm(ViewsPlan, ("background_photons", "tile_px"))
        self.deconvolution = PlanForm(DeconvolvePlan, ("iterations", "depth_step_nm", "window_px", "wide_field"))
        self.deconvolution.set_plan(FIRST_DECONVOLUTION)
        self.span = PlanForm(ViewsPlan, ("first_frame", "last_frame"))

    @property
    def problem(self) -> str:
        """Why a form is wrong, in words; empty when none is."""
        return next(filter(None, (form.problem for form in (self.inspection, self.views, self.deconvolution))), "")

    def plan(self, method: str, model: Any) -> ViewsPlan:
        """Return how one method makes a volume; for all frames.

        Raises
        ------
        PlanError
            If a form is wrong, or there is no model for the network.
        """
        shared = {name: getattr(self.views.plan(), name) for name in self.views.fields}
        if method != NETWORK:
            return DeconvolvePlan.model_validate({**self.deconvolution.plan().model_dump(), **shared})
        if model is None:
            raise PlanError("Choose a model that was trained to make volumes of this instrument, or the method Richardson-Lucy")
        return VolumePlan.model_validate({"model": str(model), **shared})

    def series_plan(self, model: Any) -> ViewsPlan:
        """Return the plan for the volumes of all frames.

        Raises
        ------
        PlanError
            If a form is wrong, or two methods are chosen.
        """
        methods = self.inspection.plan().methods
        if len(methods) > 1:
            raise PlanError(ONE_METHOD)
        span: ViewsPlan = self.span.plan()
        update = {"first_frame": span.first_frame, "last_frame": span.last_frame}
        return self.plan(methods[0], model).model_copy(update=update)


class UnderneathBox(QWidget):
    """A switch and a box with the image layers that may lie below the volume."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.switch = QCheckBox("Image underneath")
        self.switch.setToolTip(
            "<qt>Lay a wide-field or bright-field image of this viewer below the volume, where its scale and place put it; of a movie the "
            "current frame.</qt>"
        )
        self.picker = LayerPicker(session.viewer, _is_image, _prefers, "no other image open")
        self.picker.setAccessibleName("Image underneath")
        self.picker.setToolTip("<qt>The image layer to lay below the volume.</qt>")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.switch)
        layout.addWidget(self.picker)
        self.switch.toggled.connect(self.changed)
        self.picker.picked.connect(self.changed)

    @property
    def layer(self) -> Any:
        """The image, or None."""
        return self.picker.layer if self.switch.isChecked() else None


def _is_image(layer: Any) -> bool:
    from napari.layers import Image

    plain = isinstance(layer, Image) and not layer.rgb and not layer.multiscale and layer.ndim in (2, 3)
    return plain and role_of(layer) not in (FOUND, RESIDUAL)


def _prefers(layer: Any) -> int:
    """Not the raw frames and views, where there is another image."""
    return 0 if role_of(layer) in (FRAMES, VIEW) else 1
