"""The settings of structured illumination: one plan in several forms, each in a section of its own."""

from __future__ import annotations

import pydantic
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox

from ...domain.noun import Noun
from ...domain.structured_plans import StructuredPlan
from ...errors import PlanError
from ..forms import PlanForm

FRAMES_FIELDS = (
    "geometry", "order", "orientations", "phases", "planes", "z_step_nm", "deskew_rad", "deskew_axis", "montage", "flip_y", "first_time",
    "last_time",
)  # fmt: skip
FILTER_FIELDS = (
    "wiener", "attenuation", "attenuation_per_um", "apodization", "edge_px", "least_modulation", "equalize", "compare",
)  # fmt: skip
SEARCH_FIELDS = (
    "averaged_times", "lowest_frequency", "highest_frequency", "otf_damping", "measure_steps", "excitation_nm", "reuse", "device",
)  # fmt: skip
# what a plain click makes: comparisons cost little beside the rest
FIRST_PLAN = StructuredPlan(compare=True)


class StructuredForms(QObject):
    """Forms for the frames, the search and the filter, together a `StructuredPlan`.

    changed : some setting. retouched : a setting of the filter alone, which leaves the patterns as they are.
    """

    changed = Signal()
    retouched = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.noun: type[Noun] = StructuredPlan
        self.frames = PlanForm(StructuredPlan, FRAMES_FIELDS)
        self.filter = PlanForm(StructuredPlan, FILTER_FIELDS)
        self.search = PlanForm(StructuredPlan, SEARCH_FIELDS)
        order = self.frames.editors["order"]
        if isinstance(order, QComboBox):
            order.setItemText(0, "detect")
        self.set_plan(FIRST_PLAN)
        for form in (self.frames, self.search):
            form.changed.connect(self.changed)
        self.filter.changed.connect(self.retouched)

    def set_plan(self, plan: Noun) -> None:
        """Show a plan."""
        for form in (self.frames, self.filter, self.search):
            form.set_plan(plan)

    def plan(self) -> StructuredPlan:
        """Return the plan that the forms describe together.

        Raises
        ------
        PlanError
            If a value is missing or wrong, or two contradict each other.
        """
        values = {name: getattr(form.plan(), name) for form in (self.frames, self.filter, self.search) for name in form.fields}
        plan = StructuredPlan.model_validate(values)
        try:
            # orientations and phases of one's own may not fit the waves
            _ = plan.chosen_geometry
        except pydantic.ValidationError as problem:
            raise PlanError(str(problem.errors(include_url=False)[0]["ctx"]["error"])) from problem
        return plan

    @property
    def problem(self) -> str:
        """Why there is no plan, in words; empty when there is one."""
        try:
            self.plan()
        except PlanError as error:
            return str(error)
        return ""
