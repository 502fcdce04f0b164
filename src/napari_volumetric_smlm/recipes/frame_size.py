"""How large simulated frames are where nobody says it."""

from __future__ import annotations

from typing import TypeVar

from ..domain.instrument import Instrument
from ..domain.noun import Noun

P = TypeVar("P", bound=Noun)


def with_frame_size(plan: P, instrument: Instrument) -> P:
    """Return the plan with the size of the instrument's own frames, if it was given none and a microlens array tells it."""
    array = instrument.microlenses
    if array is None or "shape_yx_px" in plan.model_fields_set:
        return plan
    raw = any(view.region_yx_px is not None for view in instrument.views)
    size = array.frame_yx_px if raw else array.field_yx_px
    return plan if size is None else plan.model_copy(update={"shape_yx_px": size})
