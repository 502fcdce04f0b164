"""Where the light of a molecule falls in each view."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.engine.optics.parallax import image_shifts
from napari_volumetric_smlm.engine.optics.views import light_field_numbers
from napari_volumetric_smlm.io.examples import load_example

DEPTHS = np.linspace(-1500, 1500, 7)


def test_each_view_moves_with_depth_as_its_rays_say():
    instrument = load_example("light_field_3")
    shifts = image_shifts(instrument, DEPTHS)
    expected = np.array(light_field_numbers(instrument).slope_yx_v)[:, None, :] * DEPTHS[:, None]
    # a hard-edged pupil sends light beyond the window; 6 per cent of 940 nm
    assert np.abs(shifts - expected).max() < 60
    assert np.abs(shifts).max() > 800


def test_a_symmetric_image_stays_where_the_molecule_is(toy_instrument):
    assert np.abs(image_shifts(toy_instrument, np.array([0.0, 400.0, 900.0]))).max() < 2


def test_a_mean_over_the_views_stays_on_the_axis():
    assert image_shifts(load_example("light_field_3"), DEPTHS).mean(0) == pytest.approx(np.zeros((7, 2)), abs=3)
