"""Example instruments by name."""

from __future__ import annotations

import pytest

from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.examples import example_instruments, load_example


def test_every_example_instrument_is_read_by_its_name():
    assert {"astigmatic", "biplane", "double_helix", "tetrapod", "two_camera"} <= set(example_instruments())
    assert {load_example(name).name for name in example_instruments()} == {
        load_example(name).name for name in sorted(example_instruments())
    }
    assert len(load_example("two_camera").cameras) == 2


def test_an_unknown_example_names_the_others():
    with pytest.raises(InstrumentError, match="there are astigmatic"):
        load_example("nothing")
