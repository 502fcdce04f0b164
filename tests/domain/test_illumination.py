"""Nouns of structured illumination."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Geometry, Illumination, Orientation, Wave
from napari_volumetric_smlm.domain.structured_plans import EstimatePlan

STEPS = (0.0, 2 * math.pi / 3, 4 * math.pi / 3)


def test_every_known_geometry_can_separate_its_waves():
    assert {name: geometry.frame_count for name, geometry in GEOMETRIES.items()} == {
        "2d-3x3": 9, "2d-3x5": 15, "2d-5x5": 25, "3d-3x5": 15, "hexagonal-1x7": 7, "lattice-1x3": 3, "lattice-1x5": 5,
    }  # fmt: skip


@pytest.mark.parametrize(("phases", "waves"), [(3, (1, 2)), (4, (2,)), (7, (1, 6)), (3, (3,))])
def test_too_few_phases_for_the_waves_are_refused(phases, waves):
    with pytest.raises(ValidationError, match="cannot separate waves"):
        Geometry(orientations=1, phases=phases, wave_steps=waves)


def test_period_and_angle_of_a_wave():
    wave = Wave(frequency_yx_per_um=(3.0, 4.0), modulation=0.5, phase_rad=0.0)
    assert wave.period_nm == pytest.approx(200.0)
    assert math.degrees(wave.angle_rad) == pytest.approx(36.87, abs=0.01)


def test_the_largest_deviation_of_the_steps_is_taken_around_the_circle():
    wave = Wave(frequency_yx_per_um=(0.0, 4.0), modulation=0.5, phase_rad=0.0)
    steps = (0.0, STEPS[1] + 0.1, STEPS[2] - 0.3 - 2 * math.pi)
    assert Orientation(waves=(wave,), steps_rad=steps).step_deviation_rad == pytest.approx(0.3)


def test_an_illumination_that_does_not_fit_its_geometry_is_refused():
    wave = Wave(frequency_yx_per_um=(0.0, 4.0), modulation=0.5, phase_rad=0.0)
    orientation = Orientation(waves=(wave,), steps_rad=STEPS)
    with pytest.raises(ValidationError, match="1 orientations were given, the geometry has 3"):
        Illumination(geometry=GEOMETRIES["2d-3x3"], orientations=(orientation,))
    with pytest.raises(ValidationError, match="3 phase steps, the geometry 5"):
        Illumination(geometry=GEOMETRIES["lattice-1x5"], orientations=(orientation,))


def test_an_illumination_comes_back_from_json():
    wave = Wave(frequency_yx_per_um=(1.0, 4.0), modulation=0.5, phase_rad=0.3)
    made = Illumination(geometry=GEOMETRIES["lattice-1x3"], orientations=(Orientation(waves=(wave,), steps_rad=STEPS),))
    assert Illumination.model_validate_json(made.model_dump_json()) == made


def test_counts_of_a_plan_go_before_those_of_its_geometry():
    plan = EstimatePlan(geometry="2d-3x3", orientations=4, phases=5)
    assert plan.chosen_geometry.frame_count == 20
    assert plan.chosen_geometry.wave_steps == (1,)
