"""More and fewer views than lenses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.engine.retrieve.lens_count import check_lens_count
from napari_volumetric_smlm.errors import CalibrationError

PITCH_PX, SIDE = 90.0, 330
LENSES = {
    "triangle": MicrolensArray(
        pitch_mm=PITCH_PX * 6.5e-3, focal_length_mm=40, fourier_lens_mm=80, native_magnification=100, frame_yx_px=(SIDE, SIDE)
    )
}
LENSES["hexagon"] = LENSES["triangle"].model_copy(update={"layout": "hexagon"})


def frame(array, centres, seed=1):
    """Return spots that every view shows, spread by their depth along the line to the middle, on noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = random.normal(20, 1.0, (SIDE, SIDE))
    for spot, depth in zip(random.uniform(-35, 35, (60, 2)), random.uniform(-6, 6, 60), strict=True):
        for centre in centres:
            away = centre - centres.mean(0)
            place = centre + spot + depth * away / max(np.hypot(*away), 1e-9) * (np.hypot(*away) > 1)
            image += 6 * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 5)
    return torch.from_numpy(image)


def places(layout):
    return LENSES[layout].centres_on_sensor(6.5)


@pytest.mark.parametrize("layout", LENSES)
@pytest.mark.parametrize("seed", range(4))
def test_as_many_views_as_lenses_pass(layout, seed):
    check_lens_count(frame(LENSES[layout], places(layout), seed), places(layout), LENSES[layout], 6.5)


@pytest.mark.parametrize("seed", range(4))
def test_three_of_seven_lenses_are_not_all(seed):
    seven = places("hexagon")
    with pytest.raises(
        CalibrationError, match=r"more views than the 3 lenses of the layout 'triangle': the same is also seen around row \d+"
    ):
        check_lens_count(frame(LENSES["hexagon"], seven, seed), seven[:3], LENSES["triangle"], 6.5)


@pytest.mark.parametrize("seed", range(4))
def test_lenses_of_which_nothing_is_seen_are_told(seed):
    seven = places("hexagon")
    with pytest.raises(
        CalibrationError, match=r"fewer views than the 7 lenses of the layout 'hexagon': around row \d+, column \d+ nothing is seen"
    ):
        check_lens_count(frame(LENSES["hexagon"], seven[:3], seed), seven, LENSES["hexagon"], 6.5)
