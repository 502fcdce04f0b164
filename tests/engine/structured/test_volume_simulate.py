"""Simulated stacks under three-beam patterns."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES
from napari_volumetric_smlm.engine.structured.pattern import axial_frequency, nominal_illumination, standing_waves, with_phases
from napari_volumetric_smlm.engine.structured.simulate import FINE, MARGIN_PX
from napari_volumetric_smlm.engine.structured.volume_otf import focus_series
from napari_volumetric_smlm.engine.structured.volume_simulate import volume_frames

SIDE, PLANES, LAYERS, STEP_UM, FOCUS_UM = 32, 7, 11, 0.15, 0.07
EXCITATION_PER_UM = 1.518 / 0.488


@pytest.fixture(scope="module")
def pattern(optics):
    flat = nominal_illumination(GEOMETRIES["3d-3x5"], 0.9 * optics.transfer.cutoff_per_um, 0.3, 0.6)
    return standing_waves(with_phases(flat, [0.5, -1.0, 2.0], [[0.0] * 5] * 3), EXCITATION_PER_UM, FOCUS_UM)


def test_three_beams_make_the_axial_frequency_of_their_wave_vectors(pattern, optics):
    first, second = pattern.orientations[0].waves
    angle = math.asin(first.frequency_per_um / EXCITATION_PER_UM)
    assert first.axial_per_um == pytest.approx(EXCITATION_PER_UM * (1 - math.cos(angle)))
    assert second.axial_per_um == 0
    assert axial_frequency(0.0, EXCITATION_PER_UM) == 0


def test_a_point_shines_as_brightly_as_the_pattern_is_where_it_sits(pattern, optics, lens):
    layer, row, column = 4, 13, 20
    side = FINE * (SIDE + 2 * MARGIN_PX)
    sample = torch.zeros(LAYERS, side, side)
    sample[layer, FINE * (MARGIN_PX + row) + FINE // 2, FINE * (MARGIN_PX + column) + FINE // 2] = 1.0
    series = focus_series(lens, optics.transfer, STEP_UM, 2 * LAYERS)
    frames = volume_frames(sample, pattern, optics, series, PLANES)
    light = frames.sum((-2, -1))
    y, x = (0.065 * (place - (SIDE - 1) / 2) for place in (row, column))
    # planes run through the middle of the layers; some light falls beside the field, more of it far from focus
    focus = layer - (LAYERS - PLANES) // 2
    for a, orientation in enumerate(pattern.orientations):
        for n, delta in enumerate(orientation.steps_rad):
            for plane in range(focus - 1, focus + 2):
                depth_um = (focus - plane) * STEP_UM
                expected = 1.0
                for wave in orientation.waves:
                    ky, kx = wave.frequency_yx_per_um
                    along = math.cos(2 * math.pi * (ky * y + kx * x) + wave.phase_rad + wave.step * delta)
                    # strongest at FOCUS_UM into the sample
                    expected += wave.modulation * along * math.cos(2 * math.pi * wave.axial_per_um * (depth_um - FOCUS_UM))
                assert float(light[a, n, plane] / light[a, :, plane].mean()) == pytest.approx(expected, abs=0.03)


def test_a_series_that_is_too_short_is_refused(pattern, optics, lens):
    series = focus_series(lens, optics.transfer, STEP_UM, LAYERS)
    with pytest.raises(ValueError, match="need a focus series of 21 planes"):
        volume_frames(torch.zeros(LAYERS, 192, 192), pattern, optics, series, PLANES)
