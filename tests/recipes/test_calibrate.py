"""Bead stacks become calibrated instruments, with honest evidence and readable refusals."""

from __future__ import annotations

import gc
import time
import weakref

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, View
from napari_volumetric_smlm.domain.plans import CalibrationPlan
from napari_volumetric_smlm.domain.runs import Calibration
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.retrieve.score import correlations
from napari_volumetric_smlm.errors import CalibrationError, OutputError, PlanError, StackError
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.calibrate import calibrate, find_beads
from napari_volumetric_smlm.recipes.report import calibration_figure, write_report, zernike_content
from napari_volumetric_smlm.recipes.verdict import Evidence, verdict_in_words

# none of them tilts or defocuses on the whole: coma would move the centre of the light, which is the origin of a calibrated view
ABERRATIONS = {5: -0.3, 6: 1.0, 9: 0.4, 10: -0.3}
FOCUS = tuple(np.arange(-1000.0, 1001, 100))
PLAN = CalibrationPlan(z_step_nm=100)
BRIEF = CalibrationPlan(z_step_nm=100, try_both_signs=False, pixel_wise=False)


@pytest.fixture(scope="module")
def true_instrument(toy_instrument) -> Instrument:
    return toy_instrument.model_copy(update={"views": (View(zernike_noll_rad=ABERRATIONS, blur_nm=80.0),)})


@pytest.fixture(scope="module")
def plain_instrument(toy_instrument) -> Instrument:
    """Return the microscope as its owner knows it: without aberrations."""
    return toy_instrument.model_copy(update={"views": (View(),)})


@pytest.fixture(scope="module")
def stack(true_instrument, bead_scan) -> RawStack:
    return bead_scan(true_instrument, [(2230.0, 2150.0)], (41, 41), FOCUS, drift_nm=(60.0, -40.0))


@pytest.fixture(scope="module")
def calibration(stack, plain_instrument) -> Calibration:
    return finish(calibrate([stack], plain_instrument, PLAN))


def molecule_images(instrument: Instrument) -> torch.Tensor:
    """Molecules at depths that no bead of the scan had."""
    position = torch.zeros((9, 3))
    position[:, 0] = torch.linspace(0, 1000, 9)
    return camera_images(view_pupil(instrument), position, (31, 110.0, True), instrument.views[0].blur_nm)


def test_slices_that_the_fit_did_not_see_are_predicted(calibration):
    assert calibration.held_out_z.sum() == 7
    assert calibration.correlation_z[calibration.held_out_z].min() > 0.985
    assert calibration.passed
    assert calibration.verdict.startswith("Good")
    assert calibration.measured_vzyx.shape == calibration.fitted_vzyx.shape == (1, 21, 41, 41)


def test_the_calibrated_instrument_draws_molecules_as_the_true_one(calibration, true_instrument, plain_instrument):
    true = molecule_images(true_instrument).numpy()
    assert correlations(true, molecule_images(calibration.instrument).numpy()).min() > 0.98
    assert correlations(true, molecule_images(plain_instrument).numpy()).max() < 0.95


def test_the_aberrations_are_recovered(calibration):
    content = zernike_content(calibration)
    assert {j: content[j] for j in ABERRATIONS} == pytest.approx(ABERRATIONS, abs=0.1)


def test_the_focal_plane_of_each_slice_is_told(calibration):
    assert np.diff(calibration.focus_z_nm) == pytest.approx(np.full(20, 100.0), abs=0.1)
    assert calibration.focus_z_nm[10] == pytest.approx(0.0, abs=50)


def test_the_blur_is_recovered(calibration):
    assert calibration.instrument.views[0].blur_nm == pytest.approx(80, abs=15)


def test_the_direction_of_z_is_not_claimed_when_the_stack_cannot_tell(calibration):
    held = calibration.held_out_z
    assert calibration.opposite_correlation_held_out == pytest.approx(calibration.correlation_z[held].mean(), abs=2e-3)
    assert "cannot tell the direction of z" in calibration.verdict
    assert "+100 nm" in calibration.verdict


def test_the_other_sign_of_the_step_gives_the_twin(stack, plain_instrument, calibration):
    other = finish(calibrate([stack], plain_instrument, PLAN.model_copy(update={"z_step_nm": -100.0, "try_both_signs": False})))
    assert np.diff(other.focus_z_nm)[0] == pytest.approx(-100.0, abs=0.1)
    assert other.correlation_z[other.held_out_z].mean() == pytest.approx(calibration.correlation_z[other.held_out_z].mean(), abs=5e-3)
    # astigmatism keeps its sign under psi(s) -> -psi(-s) only if odd: the even term turns over
    assert zernike_content(other)[6] == pytest.approx(-zernike_content(calibration)[6], abs=0.15)


def test_the_record_stays_with_the_instrument_and_the_file(calibration, tmp_path):
    record = calibration.instrument.calibration
    assert record is not None
    assert record.z_step_nm == 100
    assert record.correlation_held_out == pytest.approx(calibration.correlation_z[calibration.held_out_z].mean())
    assert load_instrument(save_instrument(calibration.instrument, tmp_path / "cal.json")) == calibration.instrument


def test_the_bound_covers_the_depth_range(calibration):
    z, *sigmas = calibration.bound_nm.T
    assert (z[0], z[-1]) == (0.0, 1000.0)
    assert all(s.min() > 1 and s.max() < 200 for s in sigmas)


def test_a_stack_that_was_cut_at_a_threshold_calibrates_as_well(true_instrument, plain_instrument, bead_scan):
    counts = bead_scan(true_instrument, [(2230.0, 2150.0)], (41, 41), FOCUS).counts_tyx[0].astype(int) - 120
    counts[counts < 15] = 0
    assert (counts == 0).mean() > 0.5
    plan = PLAN.model_copy(update={"try_both_signs": False})
    result = finish(calibrate([RawStack(counts_tyx=(counts.astype(np.uint16),))], plain_instrument, plan))
    assert result.correlation_z[result.held_out_z].min() > 0.98
    assert result.instrument.views[0].blur_nm == pytest.approx(80, abs=20)


def test_two_cameras_are_registered_and_their_focal_planes_told(true_instrument, bead_scan):
    second = View(name="second", camera=1, zernike_noll_rad={5: 0.8}, focus_shift_nm=300.0, photon_fraction=0.7)
    second = second.model_copy(update={"affine_yx": ((1.0, 0.0, 340.0), (0.0, 1.0, -225.0))})
    # the second camera shows the same light with other numbers
    cameras = (Camera(pixel_um=11.0), Camera(pixel_um=11.0, quantum_efficiency=0.5, gain_e_per_count=0.5))
    pair = true_instrument.model_copy(update={"cameras": cameras, "views": (true_instrument.views[0], second)})
    stack = bead_scan(pair, [(2400.0, 2600.0)], (49, 49), FOCUS)
    known = pair.model_copy(update={"views": (View(), View(name="second", camera=1))})
    result = finish(calibrate([stack], known, BRIEF))
    found = result.instrument.views[1]
    assert (found.affine_yx[0][2], found.affine_yx[1][2]) == pytest.approx((340.0, -225.0), abs=25)
    assert found.focus_shift_nm == pytest.approx(300.0, abs=80)
    assert found.photon_fraction == pytest.approx(0.7, abs=0.05)
    assert result.measured_vzyx.shape[0] == 2
    assert result.correlation_z[result.held_out_z].min() > 0.96


def test_several_beads_are_found_and_used_together(true_instrument, plain_instrument, bead_scan):
    stack = bead_scan(true_instrument, [(4000.0, 4200.0), (13000.0, 5000.0), (8000.0, 14000.0)], (160, 170), FOCUS[::2], photons=30000.0)
    positions = find_beads(stack, plain_instrument)
    assert sorted(round(row * 110 / 1000) for row, _ in positions) == [4, 8, 13]
    plan = BRIEF.model_copy(update={"z_step_nm": 200.0, "crop_px": 31, "bead_positions_yx_px": positions[:2]})
    result = finish(calibrate([stack], plain_instrument, plan))
    assert np.array(result.bead_positions_yx_px) == pytest.approx(np.array(positions[:2]))
    assert result.measured_vzyx.shape == (1, 11, 31, 31)
    assert result.correlation_z[result.held_out_z].min() > 0.95


def test_no_bead_in_the_stack_is_told_in_words(plain_instrument):
    noise = np.random.default_rng(0).poisson(100, (12, 64, 64)).astype(np.uint16)
    with pytest.raises(CalibrationError, match=r"no bead found: nothing in the mean of the slices \(64 x 64 pixels\).*give the positions"):
        finish(calibrate([RawStack(counts_tyx=(noise,))], plain_instrument, PLAN))
    with pytest.raises(CalibrationError, match="no bead found"):
        find_beads(RawStack(counts_tyx=(noise,)), plain_instrument)


def test_an_all_zero_stack_is_told_in_words(plain_instrument):
    with pytest.raises(CalibrationError, match="no bead found"):
        finish(calibrate([RawStack(counts_tyx=(np.zeros((12, 64, 64), np.uint16),))], plain_instrument, PLAN))


def test_a_position_without_anything_there_is_told_in_words(plain_instrument):
    plan = PLAN.model_copy(update={"bead_positions_yx_px": ((30.0, 30.0),), "crop_px": 21})
    with pytest.raises(CalibrationError, match="all pixels of the beads in view 0 have the value 0"):
        finish(calibrate([RawStack(counts_tyx=(np.zeros((12, 64, 64), np.uint16),))], plain_instrument, plan))


def test_a_saturated_bead_is_not_used(stack, plain_instrument):
    camera = plain_instrument.cameras[0].model_copy(update={"saturation_counts": 500.0})
    with pytest.raises(CalibrationError, match=r"1 bead\(s\) found, none usable.*saturated pixels \(from 500 counts\)"):
        finish(calibrate([stack], plain_instrument.model_copy(update={"cameras": (camera,)}), PLAN))


def test_values_that_are_not_finite_are_told_with_their_slice(stack, plain_instrument):
    counts = stack.counts_tyx[0].astype(np.float32)
    counts[4, 3, 3] = np.nan
    with pytest.raises(StackError, match=r"not finite.*frame 4"):
        finish(calibrate([RawStack(counts_tyx=(counts,))], plain_instrument, PLAN))


def test_a_single_image_is_no_bead_stack(stack, plain_instrument):
    with pytest.raises(StackError, match=r"has 1 slice\(s\), at least 7 are needed"):
        finish(calibrate([RawStack(counts_tyx=(stack.counts_tyx[0][:1],))], plain_instrument, PLAN))


def test_frames_are_not_taken_for_beads(stack, plain_instrument):
    with pytest.raises(StackError, match="marked as frames, a bead stack was expected"):
        finish(calibrate([stack.model_copy(update={"kind": "frames"})], plain_instrument, PLAN))


def test_a_missing_camera_is_told(stack, plain_instrument):
    two = plain_instrument.model_copy(update={"cameras": plain_instrument.cameras * 2})
    with pytest.raises(PlanError, match=r"has 2 camera\(s\), but the bead stack has 1"):
        finish(calibrate([stack], two, PLAN))


def test_the_z_step_is_required():
    with pytest.raises(ValidationError, match=r"z_step_nm\n.*required"):
        CalibrationPlan()
    with pytest.raises(ValidationError, match=r"z_step_nm is 0.0; a step of 1 to 5000 nm is expected \(\+ = the focal plane moves into"):
        CalibrationPlan(z_step_nm=0)


def test_a_held_out_slice_beyond_the_stack_is_told(stack, plain_instrument):
    with pytest.raises(PlanError, match="held_out_slices names slice 40, but the stack has slices 0 to 20"):
        finish(calibrate([stack], plain_instrument, PLAN.model_copy(update={"held_out_slices": (3, 40)})))


def test_a_cancel_half_way_acts_at_once_and_lets_go_of_the_data(stack, plain_instrument):
    class Counts(np.ndarray):
        """An array that can be watched."""

    counts = stack.counts_tyx[0].copy().view(Counts)
    watched = weakref.ref(counts)
    steps = calibrate([RawStack(counts_tyx=(counts,))], plain_instrument, PLAN)
    del counts
    for progress in steps:
        if progress.stage == "Pixels of the pupil":
            break
    begun = time.perf_counter()
    steps.close()
    assert time.perf_counter() - begun < 1
    del steps, progress
    gc.collect()
    assert watched() is None
    assert torch.is_grad_enabled()


def test_the_report_is_one_file_with_pictures_and_the_verdict(calibration, tmp_path):
    page = write_report(calibration, tmp_path / "report.html").read_text(encoding="utf-8")
    assert calibration.verdict.split("(")[0].strip() in page
    assert page.count("data:image/png;base64,") == 1
    assert "not seen" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_report_refuses_other_endings_and_leaves_nothing_behind(calibration, tmp_path):
    with pytest.raises(OutputError, match=r"is an \.html file"):
        write_report(calibration, tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_the_figure_needs_no_window(calibration):
    figure = calibration_figure(calibration)
    titles = {axis.get_title() for axis in figure.axes}
    assert {"Model against measurement", "Zernike content of the phase", "Phase", "Amplitude"} <= titles


def test_a_calibration_without_held_out_slices_says_that_it_proves_little(stack, plain_instrument):
    plan = BRIEF.model_copy(update={"held_out_slices": ()})
    result = finish(calibrate([stack], plain_instrument, plan))
    assert "none was held out" in result.verdict
    assert not result.held_out_z.any()


def test_the_verdict_follows_the_scores():
    good, held = np.full(9, 0.99), np.arange(9) % 3 == 1
    for scores, words in ((good, "Good"), (good - 0.06, "Usable with care"), (good - 0.3, "Not usable")):
        evidence = Evidence(scores, None, good, held)
        assert verdict_in_words(evidence, 100.0).startswith(words)
        assert evidence.passed == (words != "Not usable")
    one_bad = good.copy()
    one_bad[4] = 0.7
    assert "lowest 0.700 in slice 4" in verdict_in_words(Evidence(one_bad, None, good, held), 100.0)


def test_the_verdict_tells_when_the_opposite_direction_fits_better():
    scores, held = 0.95 + 0.001 * np.arange(9), np.ones(9, bool)
    assert "check the sign of the z step (-50 nm)" in verdict_in_words(Evidence(scores, scores + 0.02, scores, held), -50.0)
    assert "is confirmed" in verdict_in_words(Evidence(scores, scores - 0.02, scores, held), -50.0)


def test_while_it_fits_it_shows_measured_beside_fitted(plain_instrument, stack, monkeypatch):
    monkeypatch.setattr("napari_volumetric_smlm.recipes.fit_steps.PAUSE_S", 0.0)
    seen = []
    finish(calibrate([stack], plain_instrument, BRIEF), lambda progress: seen.append(progress) if progress.preview is not None else None)
    assert len(seen) > 50
    rows, columns = seen[-1].preview.shape
    assert columns == 2 * rows
    measured, fitted = np.hsplit(seen[-1].preview, 2)
    assert seen[-1].numbers["correlation"] == pytest.approx(correlations(measured[None], fitted[None])[0])
    assert seen[-1].numbers["correlation"] > max(0.9, seen[0].numbers["correlation"])
