"""Blind estimation of patterns on frames whose patterns are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES
from napari_volumetric_smlm.engine.structured.bands import nominal_steps
from napari_volumetric_smlm.engine.structured.choose import Ring, choose
from napari_volumetric_smlm.engine.structured.estimate import Search, estimate
from napari_volumetric_smlm.engine.structured.steps import measured_steps


def errors(raw, found):
    """Distance of wave vectors in frequency samples, ratio of modulations and difference of phases, wave by wave."""
    for true, got in zip(raw.illumination.orientations, found.orientations, strict=True):
        for wave, other in zip(true.waves, got.waves, strict=True):
            aligned = sum(a * b for a, b in zip(wave.frequency_yx_per_um, other.frequency_yx_per_um, strict=True))
            sign = 1 if aligned > 0 else -1
            distance = math.hypot(*(a - sign * b for a, b in zip(wave.frequency_yx_per_um, other.frequency_yx_per_um, strict=True)))
            phase = math.remainder(wave.phase_rad - sign * other.phase_rad, 2 * math.pi)
            yield distance / raw.step_per_um, other.modulation / wave.modulation, phase, other.evidence


@pytest.mark.parametrize("geometry", ["2d-3x3", "2d-3x5", "2d-5x5", "hexagonal-1x7", "lattice-1x3", "lattice-1x5"])
def test_patterns_of_every_geometry_are_found_blind(record, geometry):
    raw = record(geometry, modulation=0.4)
    found = estimate(raw.frames, raw.optics, Search(GEOMETRIES[geometry]))
    assert found.verdict.colour == "green"
    for distance, ratio, phase, _ in errors(raw, found):
        assert distance < 0.1
        assert ratio == pytest.approx(1, abs=0.1)
        assert abs(phase) < 0.2


@pytest.mark.parametrize("change", [{"frequency": 1.12, "modulation": 0.9}, {"modulation": 0.15}, {"photons": 20.0}])
def test_fine_weak_and_dim_patterns_are_found_within_their_own_error_bars(record, change):
    raw = record(**change)
    found = estimate(raw.frames, raw.optics, Search(GEOMETRIES["2d-3x3"]))
    assert found.verdict.passed == (True, True, True)
    for distance, ratio, phase, evidence in errors(raw, found):
        assert distance < 4 * evidence.sigma_frequency_per_um / raw.step_per_um
        assert abs(phase) < 4 * evidence.sigma_phase_rad
        assert abs(ratio - 1) < 4 * evidence.sigma_phase_rad


def test_modulation_is_not_lowered_by_noise(record):
    # bands of a fine pattern overlap only where noise prevails: without taking it off, m would be several times too small
    raw = record(frequency=1.05, modulation=0.8, photons=30.0, shape=(256, 256))
    found = estimate(raw.frames, raw.optics, Search(GEOMETRIES["2d-3x3"]))
    assert np.mean([ratio for _, ratio, _, _ in errors(raw, found)]) == pytest.approx(1, abs=0.15)


def test_a_frame_that_is_neither_square_nor_even(record):
    raw = record(shape=(125, 167))
    found = estimate(raw.frames, raw.optics, Search(GEOMETRIES["2d-3x3"]))
    for true, got in zip(raw.illumination.orientations, found.orientations, strict=True):
        away = [a - b for a, b in zip(true.waves[0].frequency_yx_per_um, got.waves[0].frequency_yx_per_um, strict=True)]
        assert math.hypot(*away) < 0.15 * raw.step_per_um


def test_a_wide_field_stack_is_refused_with_words(record):
    raw = record(photons=100.0)
    mean = raw.frames.mean((0, 1)).clamp(min=0)
    frames = torch.poisson(mean.expand(3, 3, *mean.shape).contiguous(), generator=torch.Generator().manual_seed(5))
    verdict = estimate(frames, raw.optics, Search(GEOMETRIES["2d-3x3"])).verdict
    assert verdict.colour == "red"
    assert "No pattern was found" in verdict.words


def test_wide_field_stacks_of_blobs_hardly_ever_pass(optics):
    generator, search = torch.Generator().manual_seed(0), Search(GEOMETRIES["2d-3x3"])
    colours = []
    for _ in range(20):
        blobs = torch.rand((1, 1, 88, 88), generator=generator) ** 8
        smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.avg_pool2d(blobs, 5, 1), 5, 1)[0, 0]
        mean = 300 * smooth / smooth.max()
        frames = torch.poisson(mean.expand(3, 3, -1, -1).contiguous(), generator=generator)
        colours.append(estimate(frames, optics, search).verdict.colour)
    assert colours.count("red") >= 19


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_frames_without_any_light_are_refused_and_nothing_breaks(optics, level):
    verdict = estimate(torch.full((3, 3, 64, 64), level), optics, Search(GEOMETRIES["2d-3x3"])).verdict
    assert verdict.colour == "red"


def test_a_dead_orientation_is_named(record):
    raw = record()
    frames = raw.frames.clone()
    frames[1] = torch.poisson(frames[1].mean(0).clamp(min=0).expand(3, -1, -1).contiguous(), generator=torch.Generator().manual_seed(5))
    verdict = estimate(frames, raw.optics, Search(GEOMETRIES["2d-3x3"])).verdict
    assert verdict.passed == (True, False, True)
    assert "not orientation 1" in verdict.words


def test_bleaching_does_not_move_the_patterns(record):
    raw = record()
    bleached = raw.frames * torch.linspace(1, 0.6, 9).reshape(3, 3, 1, 1)
    found, before = (estimate(frames, raw.optics, Search(GEOMETRIES["2d-3x3"])) for frames in (bleached, raw.frames))
    for a, b in zip(found.orientations, before.orientations, strict=True):
        away = [p - q for p, q in zip(a.waves[0].frequency_yx_per_um, b.waves[0].frequency_yx_per_um, strict=True)]
        assert math.hypot(*away) < 0.1 * raw.step_per_um


def test_unequal_steps_are_measured_when_the_frames_prove_them(record):
    raw = record("2d-3x5", step_error=0.2, shape=(256, 256))
    found = estimate(raw.frames, raw.optics, Search(GEOMETRIES["2d-3x5"]))
    left, before = [], []
    for true, got in zip(raw.illumination.orientations, found.orientations, strict=True):
        nominal = nominal_steps(5, torch.zeros(1)).tolist()
        left += [math.remainder(a - b, 2 * math.pi) for a, b in zip(true.steps_rad, got.steps_rad, strict=True)]
        before += [math.remainder(a - b, 2 * math.pi) for a, b in zip(true.steps_rad, nominal, strict=True)]
    assert np.std(left) < 0.6 * np.std(before)


def test_steps_follow_from_correlations_without_noise():
    steps = np.array([0.0, 1.9, 4.4])
    a = np.array([0.001, 1.0, 0.001j])
    frames = np.exp(1j * np.outer(steps, [0, 1, -1])) @ a
    assert np.allclose(measured_steps(frames[None], (1,), [1e5]), steps, atol=0.01)


def test_equal_steps_stay_when_noise_explains_the_difference():
    nominal = 2 * np.pi * np.arange(3) / 3
    frames = np.exp(1j * np.outer(nominal + np.array([0.0, 0.05, -0.05]), [0, 1, -1])) @ np.array([0.0, 1.0, 0.0])
    assert np.array_equal(measured_steps(frames[None], (1,), [50.0]), nominal)


def ring_of(radius: int) -> Ring:
    y, x = torch.meshgrid(torch.arange(-radius, radius + 1.0), torch.arange(-radius, radius + 1.0), indexing="ij")
    inside = ((y**2 + x**2) > (radius / 2) ** 2) & ((y**2 + x**2) < radius**2)
    return Ring(y[inside], x[inside], y[inside], x[inside])


def at(ring: Ring, length: float, degrees: float) -> int:
    angle = math.radians(degrees)
    return int(torch.hypot(ring.ky_n - length * math.sin(angle), ring.kx_n - length * math.cos(angle)).argmin())


def three_maxima(ring: Ring) -> torch.Tensor:
    """Scores of three lines, each with a maximum of 40; they are turned by 60 degrees against each other."""
    scores = torch.rand((3, len(ring.ky_n)), generator=torch.Generator().manual_seed(0))
    for line, degrees in enumerate((10, 70, 130)):
        scores[line, at(ring, 45, degrees)] = 40.0
    return scores


def test_a_weak_maximum_where_the_others_expect_it_wins_over_a_slightly_stronger_one_elsewhere():
    ring = ring_of(60)
    scores = three_maxima(ring)
    scores[1, at(ring, 45, 70)] = 11.0
    scores[1, at(ring, 38, 25)] = 12.0
    choice = choose(scores, ring)
    assert choice.index_l == tuple(at(ring, 45, degrees) for degrees in (10, 70, 130))
    assert choice.rival_l[1] == 12.0


def test_a_strong_maximum_wins_wherever_it_is():
    ring = ring_of(60)
    scores = three_maxima(ring)
    scores[1, at(ring, 38, 25)] = 90.0
    assert choose(scores, ring).index_l[1] == at(ring, 38, 25)
