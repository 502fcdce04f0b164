"""Structured illumination in three dimensions from a raw stack to a volume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.structured_plans import EstimatePlan, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination
from napari_volumetric_smlm.engine.structured.simulate import frames_of, sample_image
from napari_volumetric_smlm.errors import PlanError, StackError
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured import estimate_patterns, plain_instrument, reconstruct_structured
from napari_volumetric_smlm.recipes.structured_lens import Lens
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

LENS = plain_instrument(1.3, 525, 65)
PLANES, TIMES = 9, 2
IDEAL = {"geometry": "3d-3x5", "otf_damping": 1.0, "device": "cpu"}


@pytest.fixture(scope="module")
def simulated():
    plan = StructuredSimulatePlan(
        geometry="3d-3x5", shape_yx_px=(64, 72), planes=PLANES, structure="shells", time_count=TIMES, order="azp", photons=300, device="cpu"
    )
    return finish(simulate_structured(LENS, plan))


def test_a_stack_tells_its_order_its_patterns_and_its_step(simulated):
    assert simulated.stack.counts_tyx[0].shape == (15 * PLANES * TIMES, 64, 72)
    assert simulated.sample_zyx.shape == (PLANES, 192, 216)
    found = finish(estimate_patterns(simulated.stack, LENS, EstimatePlan(planes=PLANES, **IDEAL)))
    assert found.order == "azp"
    assert found.order_is_sure
    assert found.illumination.verdict.passed == (True, True, True)
    for true, got in zip(simulated.illumination.orientations, found.illumination.orientations, strict=True):
        assert [wave.axial_per_um for wave in got.waves] == pytest.approx([wave.axial_per_um for wave in true.waves], rel=0.03)
        assert [wave.modulation for wave in got.waves] == pytest.approx([wave.modulation for wave in true.waves], rel=0.2)


def test_a_series_of_volumes_uses_its_patterns_and_filter_again(simulated):
    seen = []
    result = finish(reconstruct_structured(simulated.stack, LENS, StructuredPlan(planes=PLANES, compare=True, **IDEAL)), seen.append)
    assert result.images_tyx.shape == result.section_tyx.shape == (TIMES * PLANES, 128, 144)
    assert (result.planes, result.plane_nm, result.pixel_nm) == (PLANES, 125.0, 32.5)
    assert len(result.notes) == 1
    assert [step.preview.shape for step in seen if step.preview is not None] == [(128, 144)] * TIMES
    # the sample is seen where it is, and sharper than without the patterns
    truth = simulated.sample_zyx.reshape(PLANES, 64, 3, 72, 3).sum((2, 4))
    blur = np.exp(-0.5 * (np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 0.065) for n in (64, 72)), indexing="ij")) / 4.0) ** 2)
    truth = np.fft.ifft2(np.fft.fft2(truth) * blur).real.ravel()
    sharp, wide = (np.corrcoef(truth, images[:PLANES, ::2, ::2].ravel())[0, 1] for images in (result.images_tyx, result.wide_field_tyx))
    assert sharp > 0.75
    assert sharp > wide + 0.2


def test_planes_and_order_need_not_be_told_for_a_single_time(simulated):
    once = RawStack(counts_tyx=(np.asarray(simulated.stack.counts_tyx[0])[: 15 * PLANES],), z_step_nm=-125.0)
    result = finish(reconstruct_structured(once, LENS, StructuredPlan(**IDEAL)))
    assert (result.planes, result.plane_nm) == (PLANES, 125.0)
    known = finish(reconstruct_structured(once, LENS, StructuredPlan(order="azp", **IDEAL), simulated.illumination))
    assert known.notes == ("The patterns were given.",)
    assert np.corrcoef(known.images_tyx.ravel(), result.images_tyx.ravel())[0, 1] > 0.98


def test_without_a_pattern_the_result_is_the_wide_field_and_says_so(simulated):
    mean = np.asarray(simulated.stack.counts_tyx[0][: 15 * PLANES], float).reshape(3, PLANES, 5, 64, 72).mean((0, 2))
    frames = np.random.default_rng(0).poisson(np.broadcast_to(mean[None, :, None], (3, PLANES, 5, 64, 72)))
    stack = RawStack(counts_tyx=(frames.reshape(-1, 64, 72).astype(np.uint16),), z_step_nm=125.0)
    result = finish(reconstruct_structured(stack, LENS, StructuredPlan(order="azp", **IDEAL)))
    assert np.array_equal(result.images_tyx, result.wide_field_tyx)
    assert "No pattern was found" in result.notes[0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"z_step_nm": 600.0}, PlanError, "600 nm apart; this lens needs steps of 10 to 358 nm"),
        ({"z_step_nm": 0.125}, PlanError, "0.125 nm apart"),
        ({"planes": 3}, StackError, "a volume of 3 planes; at least 5"),
        ({"planes": 4, "geometry": "3d-3x5"}, StackError, "a volume of 4 planes"),
        ({"planes": 7}, StackError, "270 frames are not a multiple of 105"),
    ],
)
def test_stacks_that_make_no_volume_are_refused_with_what_to_do(simulated, change, error, words):
    with pytest.raises(error, match=words):
        finish(estimate_patterns(simulated.stack, LENS, EstimatePlan(**{**IDEAL, **change})))


def test_a_step_that_nobody_told_is_asked_for(simulated):
    silent = RawStack(counts_tyx=simulated.stack.counts_tyx)
    with pytest.raises(PlanError, match="state z_step_nm"):
        finish(estimate_patterns(silent, LENS, EstimatePlan(planes=PLANES, **IDEAL)))


def test_planes_too_far_apart_for_what_the_pattern_brings_are_told(simulated):
    plan = StructuredPlan(planes=PLANES, z_step_nm=250.0, order="azp", last_time=0, **IDEAL)
    result = finish(reconstruct_structured(simulated.stack, LENS, plan, simulated.illumination))
    assert any("The planes are 250 nm apart; the pattern brings details along z that need 21" in words for words in result.notes)


def test_a_laser_that_cannot_make_the_pattern_is_refused():
    with pytest.raises(PlanError, match="three beams of 1000 nm light cannot make a pattern"):
        finish(simulate_structured(LENS, StructuredSimulatePlan(geometry="3d-3x5", excitation_nm=1000, frequency=1.4, device="cpu")))


STAGE_NM, TILT_RAD = 260.0, math.pi / 3  # two pixels of 65 nm from plane to plane


@pytest.fixture(scope="module")
def tilted():
    """Five planes of a 1 x 3 lattice pattern; the sample moves by two pixels along x from each to the next, against the planes."""
    lens = Lens.of(LENS, 1.0, None, torch.device("cpu"))
    sample = sample_image(400.0, "filaments", ((96, 112), 0.065), torch.Generator().manual_seed(3))
    pattern = nominal_illumination(GEOMETRIES["lattice-1x3"], 0.8 * lens.optics.transfer.cutoff_per_um, math.pi / 2, 0.7)
    frames = [frames_of(sample.roll(-6 * n, -1), pattern, lens.optics)[0] for n in range(5)]
    counts = torch.poisson(500 * torch.stack(frames) + 5, generator=torch.Generator().manual_seed(4)).flatten(0, 1)
    return RawStack(counts_tyx=(counts.numpy().astype(np.uint16),), z_step_nm=STAGE_NM)


TILTED = {"geometry": "lattice-1x3", "planes": 5, "order": "azp", "otf_damping": 1.0, "device": "cpu"}


@pytest.mark.parametrize("axis", ["x", "y"])
def test_planes_of_a_tilted_stage_are_laid_over_each_other(tilted, axis):
    stack = tilted if axis == "x" else tilted.model_copy(update={"counts_tyx": (np.swapaxes(tilted.counts_tyx[0], 1, 2).copy(),)})
    result = finish(reconstruct_structured(stack, LENS, StructuredPlan(deskew_rad=TILT_RAD, deskew_axis=axis, **TILTED)))
    assert result.illumination.verdict.colour == "green"
    assert result.plane_nm == pytest.approx(STAGE_NM * math.sin(TILT_RAD))
    images = result.images_tyx if axis == "x" else np.swapaxes(result.images_tyx, 1, 2)
    # two pixels are four samples
    assert images.shape == (5, 192, 224 + 4 * 4)
    inside = (slice(24, -24), slice(48, -48))
    assert np.corrcoef(images[0][inside].ravel(), images[4][inside].ravel())[0, 1] > 0.9
    other = finish(reconstruct_structured(stack, LENS, StructuredPlan(deskew_rad=-TILT_RAD, deskew_axis=axis, **TILTED)))
    images = other.images_tyx if axis == "x" else np.swapaxes(other.images_tyx, 1, 2)
    assert np.corrcoef(images[0][inside].ravel(), images[4][inside].ravel())[0, 1] < 0.5
    # the first plane stays where the frames have it
    assert other.origin_yx_nm == ((0.0, -16 * 32.5) if axis == "x" else (-16 * 32.5, 0.0))


@pytest.mark.parametrize("change", [{"planes": 1, "order": "apz"}, {"flip_y": True}])
def test_a_shear_of_what_cannot_be_sheared_is_refused(tilted, change):
    with pytest.raises(PlanError, match="deskew_rad is for several planes of a flat geometry"):
        finish(reconstruct_structured(tilted, LENS, StructuredPlan(deskew_rad=0.5, **{**TILTED, **change})))
