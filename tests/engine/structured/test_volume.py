"""Volumes from stacks under three-beam patterns: found blind, as sharp as theory allows, free of light from out of focus."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Illumination, Verdict
from napari_volumetric_smlm.domain.structured_plans import StructuredPlan
from napari_volumetric_smlm.engine.structured.compare import wide_field
from napari_volumetric_smlm.engine.structured.estimate import Search, estimate
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination, standing_waves, with_phases
from napari_volumetric_smlm.engine.structured.simulate import FINE, MARGIN_PX
from napari_volumetric_smlm.engine.structured.volume_measure import measure_volume
from napari_volumetric_smlm.engine.structured.volume_otf import focus_series
from napari_volumetric_smlm.engine.structured.volume_reconstruct import period_of, volume_reconstructor, volume_wiener_parameter
from napari_volumetric_smlm.engine.structured.volume_simulate import sample_volume, volume_frames

SIDE, PLANES, BEYOND, STEP_UM, PIXEL_UM = 64, 15, 4, 0.125, 0.065
LAYERS = PLANES + 2 * BEYOND
EXCITATION_PER_UM, FOCUS_UM, MODULATION, FREQUENCY = 1.518 / 0.488, 0.06, 0.6, 0.9
SHARP = StructuredPlan(wiener=0.01, attenuation=0.0)


@dataclasses.dataclass
class Stack:
    """Frames (a, p, z, y, x) without offset, what is truly in them, and the lens through focus over a period."""

    frames: torch.Tensor
    truth: Illumination
    series: object

    @property
    def by_plane(self):
        return self.frames.movedim(2, 0)


@pytest.fixture(scope="module")
def pattern(optics):
    flat = nominal_illumination(GEOMETRIES["3d-3x5"], FREQUENCY * optics.transfer.cutoff_per_um, 0.3, MODULATION)
    return standing_waves(with_phases(flat, [0.5, -1.0, 2.0], [[0.0] * 5] * 3), EXCITATION_PER_UM, FOCUS_UM)


@pytest.fixture(scope="module")
def through(lens, optics):
    return focus_series(lens, optics.transfer, STEP_UM, period_of(PLANES))


@pytest.fixture(scope="module")
def record(lens, optics, pattern, through):
    """Return a maker of stacks with noise from layers on the fine grid with margin; without photons there is no noise."""

    def make(layers, photons=1000.0):
        generator = torch.Generator().manual_seed(1)
        mean = volume_frames(layers, pattern, optics, focus_series(lens, optics.transfer, STEP_UM, 2 * len(layers)), PLANES)
        frames = torch.poisson(photons * mean + 5, generator=generator) - 5 if photons else mean
        return Stack(frames, pattern, through)

    return make


@pytest.fixture(scope="module")
def shells(record):
    field = ((LAYERS, SIDE, SIDE), STEP_UM, PIXEL_UM)
    return record(sample_volume(400.0, "shells", field, torch.Generator().manual_seed(0)), photons=300.0)


def empty():
    return torch.zeros(LAYERS, FINE * (SIDE + 2 * MARGIN_PX), FINE * (SIDE + 2 * MARGIN_PX))


def place(layers, z, y, x):
    layers[BEYOND + z, FINE * (MARGIN_PX + y) + FINE // 2, FINE * (MARGIN_PX + x) + FINE // 2] += 1.0


def found_blind(stack, optics):
    flat = estimate(stack.by_plane, optics, Search(GEOMETRIES["3d-3x5"]))
    return measure_volume(stack.frames, flat, optics, stack.series, EXCITATION_PER_UM)


def rebuilt(stack, illumination, optics, plan=SHARP):
    return volume_reconstructor(illumination, optics, tuple(stack.frames.shape[2:]), plan, stack.series)


def test_both_orders_are_found_blind_with_their_strength_and_their_place_along_z(shells, optics):
    found = found_blind(shells, optics)
    assert found.verdict.colour == "green"
    for true, got in zip(shells.truth.orientations, found.orientations, strict=True):
        for wave, other in zip(true.waves, got.waves, strict=True):
            aligned = sum(a * b for a, b in zip(wave.frequency_yx_per_um, other.frequency_yx_per_um, strict=True))
            sign = 1 if aligned > 0 else -1
            away = math.hypot(*(a - sign * b for a, b in zip(wave.frequency_yx_per_um, other.frequency_yx_per_um, strict=True)))
            assert away * SIDE * PIXEL_UM < 0.15
            assert other.modulation == pytest.approx(MODULATION, rel=0.15)
            assert math.remainder(wave.phase_rad - sign * other.phase_rad, 2 * math.pi) == pytest.approx(0, abs=0.15)
            assert other.axial_per_um == pytest.approx(wave.axial_per_um, rel=0.02)
            # the same wave seen from its other side stands along z as before
            assert other.axial_phase_rad == pytest.approx(wave.axial_phase_rad, abs=0.2)


def test_a_stack_without_pattern_is_refused(shells, optics):
    mean = shells.frames.mean((0, 1)).clamp(min=0)
    frames = torch.poisson(mean.expand(3, 5, -1, -1, -1).contiguous(), generator=torch.Generator().manual_seed(2))
    assert estimate(frames.movedim(2, 0), optics, Search(GEOMETRIES["3d-3x5"])).verdict.colour == "red"


def theoretical_width(reach, exponent):
    """Full width at half maximum of a point whose transfer function falls as that of a lens towards a sphere (axes scaled)."""
    q = np.linspace(0, 1, 1001)
    taper = ((2 / np.pi) * (np.arccos(q) - q * np.sqrt(1 - q * q))) ** exponent
    r = np.linspace(0, 2, 2001)
    profile = (taper * q * q * np.sinc(2 * q * r[:, None])).sum(1)
    return 2 * float(r[np.argmax(profile < 0.5 * profile[0])]) / reach


def width(profile, step):
    middle = len(profile) // 2
    curve, r = CubicSpline((np.arange(len(profile)) - middle) * step, profile), np.linspace(0, middle * step, 2000)
    return sum(float(r[np.argmax(curve(sign * r) < 0.5 * curve(0))]) for sign in (1, -1))


def test_beads_are_as_wide_as_theory_allows_in_all_directions(record, optics):
    layers, dice = empty(), torch.Generator().manual_seed(4)
    places = torch.stack([torch.randint(low, high, (40,), generator=dice) for low, high in ((5, 10), (10, 54), (10, 54))], 1).tolist()
    for z, y, x in places:
        place(layers, z, y, x)
    stack = record(layers, photons=2000.0)
    found = found_blind(stack, optics)
    assert all(found.verdict.passed)
    volume = rebuilt(stack, found, optics)(stack.frames).numpy()
    parts = [volume[z - 5 : z + 6, 2 * y - 10 : 2 * y + 11, 2 * x - 10 : 2 * x + 11] for z, y, x in places]
    mean = np.median(parts, 0)
    mean = mean - np.quantile(mean, 0.2)
    cutoff = optics.transfer.cutoff_per_um
    axial = stack.series.axial_cutoff_per_um + max(wave.axial_per_um for wave in found.orientations[0].waves)
    assert width(mean[:, 10, 10], STEP_UM) < 1.15 * theoretical_width(axial, SHARP.apodization)
    for profile in (mean[5, 10, :], mean[5, :, 10]):
        assert width(profile, PIXEL_UM / 2) < 1.15 * theoretical_width(cutoff * (1 + FREQUENCY), SHARP.apodization)


def test_a_sheet_that_a_wide_field_sees_in_all_planes_lies_in_its_own(record, optics):
    layers = empty()
    layers[BEYOND + 6] = 1.0
    stack = record(layers, photons=0.0)
    made = rebuilt(stack, stack.truth, optics)
    inside = (slice(None), slice(24, -24), slice(24, -24))
    sheet = made(stack.frames)[inside].mean((1, 2))
    wide = wide_field(stack.by_plane, made.flat)[inside].mean((1, 2))
    assert float(wide.min() / wide.max()) > 0.95
    assert int(sheet.argmax()) == 6
    assert float(sheet[[0, 1, 2, 10, 11, 12, 13, 14]].abs().max()) < 0.15 * float(sheet.max())


def test_light_beyond_the_last_plane_does_not_come_in_through_the_first(record, optics):
    layers = empty()
    for x in range(12, 54, 7):
        place(layers, PLANES - 1, 30, x)
    stack = record(layers, photons=0.0)
    volume = rebuilt(stack, stack.truth, optics)(stack.frames)
    assert float(volume[0].abs().max()) < 0.1 * float(volume[-1].max())


def test_all_planes_together_have_the_light_of_one_raw_image(record, optics):
    layers = empty()
    place(layers, 7, 30, 33)
    place(layers, 6, 41, 20)
    stack = record(layers, photons=0.0)
    volume = rebuilt(stack, stack.truth, optics)(stack.frames)
    # a little of it lies in the margin that joins the last plane with the first
    assert float(volume.sum(0).mean()) == pytest.approx(float(stack.frames.mean()), rel=0.08)


def test_an_orientation_that_did_not_pass_adds_nothing_but_its_wide_field(shells, optics):
    verdict = Verdict(colour="red", words="none", passed=(False, False, False))
    made = rebuilt(shells, shells.truth.model_copy(update={"verdict": verdict}), optics)
    assert made.side_filters == ()
    # frames whose mean over the phases is the same are the same to it
    mixed = shells.frames.mean(1, keepdim=True).expand_as(shells.frames).contiguous()
    assert torch.allclose(made(mixed), made(shells.frames), atol=1e-2 * float(made(mixed).max()))


def test_the_volume_is_linear_in_the_frames(shells, optics):
    made = rebuilt(shells, shells.truth, optics)
    other = shells.frames.flip(-1)
    both = made(2 * shells.frames - 3 * other)
    assert torch.allclose(both, 2 * made(shells.frames) - 3 * made(other), atol=1e-3 * float(both.abs().max()))


def test_the_wiener_parameter_grows_as_light_fades(record, optics, shells):
    bright = volume_wiener_parameter(shells.frames, optics, shells.series)
    dim = torch.poisson(shells.frames.clamp(min=0) / 20 + 1, generator=torch.Generator().manual_seed(3)) - 1
    assert volume_wiener_parameter(dim, optics, shells.series) > 1.5 * bright


def test_the_volume_can_be_trained_through(shells, optics):
    made = rebuilt(shells, shells.truth, optics)
    frames = shells.frames.clone().requires_grad_()
    direction = torch.randn(frames.shape, generator=torch.Generator().manual_seed(6))
    target = torch.randn((PLANES, 2 * SIDE, 2 * SIDE), generator=torch.Generator().manual_seed(7))
    (gradient,) = torch.autograd.grad((made(frames) * target).sum(), frames)
    assert float((gradient * direction).sum()) == pytest.approx(float((made(direction) * target).sum()), rel=1e-2)
