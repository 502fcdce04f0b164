"""Structured illumination from a raw stack to an image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, RadialOTF
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.domain.structured_plans import EstimatePlan, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.engine.structured.arrange import frame_numbers
from napari_volumetric_smlm.errors import PlanError, StackError
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured import estimate_patterns, plain_instrument, reconstruct_structured
from napari_volumetric_smlm.recipes.structured_picture import MARK, evidence_picture
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

LENS = plain_instrument(1.3, 525, 65)
IDEAL = {"otf_damping": 1.0, "device": "cpu"}


@pytest.fixture(scope="module")
def simulated():
    camera = LENS.cameras[0].model_copy(update={"offset_counts": 100.0, "read_noise_e": 1.5, "gain_e_per_count": 0.5})
    lens = LENS.model_copy(update={"cameras": (camera,)})
    plan = StructuredSimulatePlan(shape_yx_px=(128, 144), time_count=3, order="paz", photons=300, bleaching=0.2, device="cpu")
    return finish(simulate_structured(lens, plan)), lens


def test_a_simulated_stack_tells_its_order_and_patterns(simulated):
    made, lens = simulated
    seen = []
    found = finish(estimate_patterns(made.stack, lens, EstimatePlan(**IDEAL)), seen.append)
    assert all(isinstance(step, Progress) for step in seen)
    assert found.order == "paz"
    assert found.order_is_sure
    assert found.illumination.verdict.passed == (True, True, True)
    for true, got in zip(made.illumination.orientations, found.illumination.orientations, strict=True):
        assert got.waves[0].period_nm == pytest.approx(true.waves[0].period_nm, rel=0.005)
        assert math.remainder(got.waves[0].angle_rad - true.waves[0].angle_rad, math.pi) == pytest.approx(0, abs=0.005)
        assert got.waves[0].modulation == pytest.approx(true.waves[0].modulation, abs=0.08)


def test_the_picture_of_the_evidence_has_its_maxima_where_the_waves_are(simulated):
    made, lens = simulated
    found = finish(estimate_patterns(made.stack, lens, EstimatePlan(order="paz", **IDEAL)))
    maps = np.asarray(found.overlap_byx)
    for orientation, score in zip(found.illumination.orientations, maps, strict=True):
        k_yx = orientation.waves[0].frequency_yx_per_um
        row, column = (round(n // 2 + k / step) for n, k, step in zip(score.shape, k_yx, found.step_yx_per_um, strict=True))
        y, x = np.indices(score.shape)
        length = np.hypot((y - score.shape[0] // 2) * found.step_yx_per_um[0], (x - score.shape[1] // 2) * found.step_yx_per_um[1])
        ring = np.where((length > 2.5) & (length < 6.6), score, 0)
        assert np.hypot(*np.subtract(np.unravel_index(ring.argmax(), ring.shape), (row, column))) <= 1.5
    picture = evidence_picture(found)
    assert picture.dtype == np.uint8
    assert (picture == MARK).all(-1).sum() > 9 * 30


def test_a_series_uses_its_patterns_again_and_keeps_its_brightness(simulated):
    made, lens = simulated
    once = finish(reconstruct_structured(made.stack, lens, StructuredPlan(**IDEAL)))
    assert once.images_tyx.shape == (3, 256, 288)
    assert once.pixel_nm == pytest.approx(32.5)
    mean = float(np.asarray(made.stack.counts_tyx[0], float).mean()) - 100
    assert float(once.images_tyx.mean()) == pytest.approx(mean, rel=0.05)
    assert len(once.notes) == 1
    each = finish(reconstruct_structured(made.stack, lens, StructuredPlan(reuse=False, order="paz", **IDEAL)))
    assert len(each.notes) == 3
    assert once.section_tyx is None
    compared = finish(reconstruct_structured(made.stack, lens, StructuredPlan(compare=True, last_time=1, **IDEAL)))
    assert compared.section_tyx.shape == compared.pseudo_confocal_tyx.shape == compared.images_tyx.shape == (2, 256, 288)
    # noise apart, both show the same
    assert np.corrcoef(once.images_tyx[2].ravel(), each.images_tyx[2].ravel())[0, 1] > 0.98


def test_given_patterns_are_used(simulated):
    made, lens = simulated
    known = finish(reconstruct_structured(made.stack, lens, StructuredPlan(order="paz", last_time=0, **IDEAL), made.illumination))
    assert known.illumination == made.illumination
    assert known.notes == ("The patterns were given.",)
    with pytest.raises(PlanError, match="3 x 3 frames, the plan says 1 x 3"):
        finish(reconstruct_structured(made.stack, lens, StructuredPlan(geometry="lattice-1x3", **IDEAL), made.illumination))


def test_a_mosaic_and_frames_upside_down_are_read_as_such(simulated):
    made, lens = simulated
    numbers = frame_numbers(27, GEOMETRIES["2d-3x3"], 1, "paz")[0, :, :, 0]
    frames = np.asarray(made.stack.counts_tyx[0])[numbers][..., ::-1, :]
    mosaic = frames.swapaxes(1, 2).reshape(3 * 128, 3 * 144)
    stack = RawStack(counts_tyx=(mosaic[None],))
    plan = EstimatePlan(montage="ap", order="apz", flip_y=True, **IDEAL)
    found = finish(estimate_patterns(stack, lens, plan))
    straight = finish(estimate_patterns(made.stack, lens, EstimatePlan(order="paz", last_time=0, **IDEAL)))
    for a, b in zip(found.illumination.orientations, straight.illumination.orientations, strict=True):
        assert a.waves[0].frequency_yx_per_um == pytest.approx(b.waves[0].frequency_yx_per_um)


def test_without_a_pattern_the_result_is_the_wide_field_image_and_says_so(simulated):
    made, lens = simulated
    mean = np.asarray(made.stack.counts_tyx[0][:9], float).mean(0)
    noise = np.random.default_rng(0)
    stack = RawStack(counts_tyx=(noise.poisson(mean, (9, *mean.shape)).astype(np.uint16),))
    result = finish(reconstruct_structured(stack, lens, StructuredPlan(**IDEAL)))
    assert np.array_equal(result.images_tyx, result.wide_field_tyx)
    assert "No pattern was found" in result.notes[0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"geometry": "2d-3x5"}, StackError, "27 frames are not a multiple of 15"),
        ({"first_time": 3}, PlanError, "the stack has times 0 to 2"),
        ({"planes": 2}, StackError, "3 phases x 2 planes"),
    ],
)
def test_frames_that_do_not_fit_are_refused_with_both_numbers(simulated, change, error, words):
    made, lens = simulated
    with pytest.raises(error, match=words):
        finish(estimate_patterns(made.stack, lens, EstimatePlan(**change, **IDEAL)))


@pytest.mark.parametrize("pixel_nm", [6.5, 650])
def test_a_pixel_size_off_by_ten_is_refused(simulated, pixel_nm):
    made, _ = simulated
    with pytest.raises(PlanError, match=r"do not fit a lens that passes 4.95 cycles per um \(pixels of about 50 to 101 nm"):
        finish(estimate_patterns(made.stack, plain_instrument(1.3, 525, pixel_nm), EstimatePlan(**IDEAL)))


def test_tiny_frames_are_refused():
    stack = RawStack(counts_tyx=(np.zeros((9, 20, 200), np.uint16),))
    with pytest.raises(StackError, match="20 x 200 pixels; at least 32"):
        finish(estimate_patterns(stack, LENS, EstimatePlan(**IDEAL)))


def test_saturated_frames_are_told(simulated):
    made, lens = simulated
    counts = np.asarray(made.stack.counts_tyx[0])
    clipped = RawStack(counts_tyx=(np.minimum(counts, np.uint16(np.quantile(counts, 0.97))),))
    camera = lens.cameras[0].model_copy(update={"saturation_counts": float(clipped.counts_tyx[0].max())})
    result = finish(reconstruct_structured(clipped, lens.model_copy(update={"cameras": (camera,)}), StructuredPlan(last_time=0, **IDEAL)))
    assert any("saturated" in words for words in result.notes)


def test_a_moving_sample_is_told(simulated):
    made, lens = simulated
    counts = np.asarray(made.stack.counts_tyx[0][:9]).copy()
    # order paz: every third frame belongs to orientation 1
    counts[1::3] = np.roll(counts[1::3], (2, 2), (-2, -1))
    for frames, told in ((counts, True), (np.asarray(made.stack.counts_tyx[0][:9]), False)):
        found = finish(estimate_patterns(RawStack(counts_tyx=(frames,)), lens, EstimatePlan(order="paz", **IDEAL)))
        assert any("2.8 pixels apart" in words for words in found.notes) == told


def test_an_otf_of_another_wavelength_is_told(simulated):
    made, lens = simulated
    for cutoff, told in ((4.95, False), (3.6, True)):
        q = np.linspace(0, 1, 100)
        values = (2 / np.pi) * (np.arccos(q) - q * np.sqrt(1 - q * q))
        otf = RadialOTF(values=values, step_per_um=cutoff / 99, source="lens.otf")
        found = finish(estimate_patterns(made.stack, lens, EstimatePlan(order="paz", last_time=0, **IDEAL), otf))
        assert any("another wavelength" in words for words in found.notes) == told


# wave vectors (x, y) in 1/um and tolerances in frequency samples: preset of the published data set, refined (docs/benchmarks.md)
REFERENCE = (((0.4891, 5.5310), 0.5), ((-4.5442, 3.1850), 0.25), ((-5.0305, -2.3433), 0.15))


def test_three_of_three_orientations_of_the_reference_stack_are_found_blind(shared_data):
    path = shared_data / "structured" / "rdl_microtubules" / "MT.mrc"
    if not path.is_file():
        pytest.skip("the reference stack is not there")
    stack = open_stack(path, kind="structured")
    lens = plain_instrument(1.3, 525, stack.pixel_nm)
    found = finish(estimate_patterns(stack, lens, EstimatePlan(device="cpu")))
    assert found.order == "apz"
    assert found.order_is_sure
    assert found.illumination.verdict.colour == "green"
    for orientation, ((kx, ky), tolerance) in zip(found.illumination.orientations, REFERENCE, strict=True):
        y, x = orientation.waves[0].frequency_yx_per_um
        away = min(math.hypot(x - sign * kx, y - sign * ky) for sign in (1, -1))
        assert away * 256 * 0.0626 < tolerance


def test_a_dead_orientation_is_told_and_the_others_still_sharpen(simulated):
    made, lens = simulated
    counts = np.asarray(made.stack.counts_tyx[0][:9]).copy()
    # order paz: every third frame belongs to orientation 1
    dead = counts[1::3].astype(float).mean(0)
    counts[1::3] = np.random.default_rng(0).poisson(dead, (3, *dead.shape))
    result = finish(reconstruct_structured(RawStack(counts_tyx=(counts,)), lens, StructuredPlan(order="paz", **IDEAL)))
    assert result.illumination.verdict.passed == (True, False, True)
    assert "2 of 3 orientations were found, not orientation 1" in result.notes[0]
    # twice the frequencies of the wide field, where only patterns can bring them
    sharp, wide = (np.abs(np.fft.rfft2(images[0])) for images in (result.images_tyx, result.wide_field_tyx))
    assert sharp[70:100, 30:60].mean() > 3 * wide[70:100, 30:60].mean()


@pytest.mark.parametrize("shape", [(97, 131), (64, 201)])
def test_odd_and_oblong_frames_are_reconstructed_in_place(shape):
    plan = StructuredSimulatePlan(shape_yx_px=shape, photons=600, device="cpu")
    made = finish(simulate_structured(LENS, plan))
    result = finish(reconstruct_structured(made.stack, LENS, StructuredPlan(**IDEAL)))
    assert result.illumination.verdict.colour == "green"
    assert result.images_tyx.shape == (1, 2 * shape[0], 2 * shape[1])
    # sample (2 i, 2 j) lies at pixel (i, j), the middle of three fine samples of the truth
    truth = made.sample_yx
    blur = np.exp(-0.5 * (np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 65 / 3) for n in truth.shape), indexing="ij")) / 0.004) ** 2)
    seen = np.fft.ifft2(np.fft.fft2(truth) * blur).real[1::3, 1::3]
    here, shifted = (np.corrcoef(seen.ravel(), np.roll(result.images_tyx[0], s, (0, 1))[::2, ::2].ravel())[0, 1] for s in (0, 1))
    assert here > 0.9
    assert here > shifted + 0.02
