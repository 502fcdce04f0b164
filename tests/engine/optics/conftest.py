"""Microscopes that differ from the toy in one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_volumetric_smlm.domain.instrument import Instrument


@pytest.fixture(scope="session")
def microscope(toy_instrument: Instrument) -> Callable[..., Instrument]:
    """Return a maker of instruments: the toy with other values, validated."""

    def make(**changes: Any) -> Instrument:
        objective = {key: changes.pop(key) for key in list(changes) if key in type(toy_instrument.objective).model_fields}
        kept = toy_instrument.model_dump()
        kept["objective"] |= objective
        if changes.get("sample_index", kept["sample_index"]) == kept["objective"]["immersion_index"]:
            changes.setdefault("focal_plane_nm", 0.0)
        return Instrument.model_validate(kept | changes)

    return make
