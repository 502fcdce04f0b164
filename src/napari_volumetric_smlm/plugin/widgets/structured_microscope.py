"""The few numbers of a microscope that structured illumination needs, filled in from the images where they are known."""

from __future__ import annotations

from typing import Any

from ...domain.images import RawStack
from ...domain.instrument import Instrument
from ...domain.structured_plans import Microscope
from ..forms import PlanForm
from ..layers import noun_of
from ..session import Session
from ..world import pixel_of_layer

# of the stack before, or of the last run, where nothing better is known
KEPT = ("numerical_aperture", "emission_nm", "immersion_index")


class MicroscopeBox(PlanForm):
    """A form for the microscope of the chosen layer."""

    def __init__(self, session: Session) -> None:
        super().__init__(Microscope)
        self.session = session
        self._layer: Any = None

    def follow(self, layer: Any) -> None:
        """Take what a layer knows: its instrument, its file's metadata, its scale; else keep what is there."""
        if layer is self._layer:
            return
        self._layer = layer
        if layer is None:
            return
        travelling = noun_of(layer, "instrument")
        if travelling is not None:
            self.set_plan(Microscope.of(travelling))
            return
        stack = noun_of(layer, "stack")
        for name, value in {**self._last(), **(stack.metadata.get("optics", {}) if stack is not None else {})}.items():
            if name in KEPT:
                self.set_value(name, value)
        # never the pixel of another stack: binning and magnification change
        self.set_value("pixel_nm", stack.pixel_nm if stack is not None else pixel_of_layer(layer))

    def instrument(self, stack: RawStack) -> Instrument:
        """Return the instrument that came with the images while the form says the same, else that of the form.

        Raises
        ------
        PlanError
            If a number is missing or wrong.
        """
        microscope = self.plan()
        travelling = noun_of(self._layer, "instrument") if self._layer is not None else None
        if isinstance(travelling, Instrument) and microscope == Microscope.of(travelling):
            return travelling
        made: Instrument = microscope.instrument(stack)
        return made

    @property
    def fingerprint(self) -> str:
        """Of the microscope alone: what is known of the camera may differ from file to file."""
        return str(self.plan().model_copy(update={"offset_counts": None}).instrument().fingerprint)

    @property
    def problem(self) -> str:
        """Why there is no microscope, in words; empty when there is one."""
        if self._layer is not None and "pixel_nm" in self.values()[1]:
            return "Pixel (nm): the images do not say it; fill in the camera's pixel divided by the magnification"
        return super().problem

    def remember(self) -> None:
        """Keep these numbers for the next stack."""
        self.session.memory.store(self.plan().model_dump(mode="json"), "structured", "microscope")

    def _last(self) -> dict[str, Any]:
        values, wrong = self.values()
        typed = {name: values[name] for name in KEPT if name in values and name not in wrong}
        last = self.session.memory.recall("structured", "microscope")
        return typed if "numerical_aperture" in typed or not isinstance(last, dict) else last
