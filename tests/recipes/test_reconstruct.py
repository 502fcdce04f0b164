"""Frames to molecules: right in number, place and brightness, with honest errors; words for everything that cannot be done."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, View
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.domain.runs import Reconstruction
from napari_volumetric_smlm.engine.localize import tiles
from napari_volumetric_smlm.errors import PlanError, StackError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.samples import open_sample, sample_instrument, sample_truth
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.evaluate import evaluate
from napari_volumetric_smlm.recipes.reconstruct import explain_frame, reconstruct
from napari_volumetric_smlm.recipes.record import Collector
from napari_volumetric_smlm.recipes.simulate import simulate

PIXEL_NM = 110.0
FOUR = [(t, 300.0 + 100 * t, 12.3 + t, 14.6, 4000.0) for t in range(4)] + [(t, 650.0, 29.8, 31.2 - t, 5000.0) for t in range(4)]


def run(stack: RawStack, instrument: Instrument, **choices) -> Localizations:
    return finish(reconstruct(stack, instrument, ReconstructPlan(device="cpu", **choices))).localizations


def changed(instrument: Instrument, **changes) -> Instrument:
    return Instrument.model_validate({**dict(instrument), **changes})


def truth_of(rows) -> Localizations:
    frame, z, y, x, photons = np.array(sorted(rows)).T
    columns = {"frame": frame, "z_nm": z, "y_nm": y * PIXEL_NM, "x_nm": x * PIXEL_NM, "photons": photons}
    return Localizations(columns=columns, z_reference="coverslip")


@pytest.fixture(scope="module")
def movie(film, toy_instrument) -> RawStack:
    """Four frames of two molecules each."""
    return film(toy_instrument, FOUR, (44, 48), 4)


@pytest.fixture(scope="module")
def result(movie, toy_instrument) -> Reconstruction:
    return finish(reconstruct(movie, toy_instrument, ReconstructPlan(device="cpu")))


# -- right


@pytest.mark.parametrize(("name", "frames", "jaccard", "lateral_nm", "axial_nm"), [
    ("tetrapod", 4, 0.85, 16, 28), ("astigmatic", 3, 0.78, 36, 36), ("biplane", 4, 0.76, 14, 32),
])  # fmt: skip
def test_the_samples_are_read_as_well_as_their_density_allows(name, frames, jaccard, lateral_nm, axial_nm):
    truth = sample_truth(name)
    found = run(open_sample(name), sample_instrument(name), last_frame=frames - 1)
    scores = evaluate(truth.select(truth["frame"] < frames), found, EvaluatePlan())
    assert scores.jaccard > jaccard
    assert scores.precision > 0.92
    assert scores.rmse_lateral_nm < lateral_nm
    assert scores.rmse_axial_nm < axial_nm
    assert found["converged"].mean() > 0.9


def test_repeated_fits_scatter_as_their_sigmas_say_without_bias(film, toy_instrument):
    rows = [(t, 380.0, 14.3, 15.8, 3000.0) for t in range(96)]
    found = run(film(toy_instrument, rows, (31, 31), 96), toy_instrument)
    assert len(found) == 96
    error = found.position_zyx_nm - np.array([380.0, 14.3 * PIXEL_NM, 15.8 * PIXEL_NM])
    ratio = error / found.sigma_zyx_nm
    # a standard deviation from 96 fits is known to 7 %
    assert np.abs(ratio.std(0) - 1).max() < 0.22
    assert np.abs(ratio.mean(0)).max() < 0.35
    assert 0.5 < (np.abs(ratio) < 1).mean() < 0.85
    photons = (found["photons"] - 3000) / found["sigma_photons"]
    assert 0.78 < photons.std() < 1.25
    assert found["photons"].mean() == pytest.approx(3000, rel=0.03)
    assert found["background_photons"].mean() == pytest.approx(20, rel=0.03)
    assert (found["log_likelihood_ratio"] > 100).all()
    assert found["probability"] == pytest.approx(1)


def test_two_molecules_a_frame_are_found_once_each_in_their_frames(result):
    table = result.localizations
    assert table["frame"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    scores = evaluate(truth_of(FOUR), table, EvaluatePlan(gate_nm=100))
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (8, 0, 0)
    assert result.complete
    assert result.frames_done == 4
    assert table.pixel_nm == PIXEL_NM
    assert table.frame_count == 4
    assert table.shape_yx_px == (44, 48)
    assert table.provenance["complete"] is True
    assert table.provenance["plan"]["detection_threshold"] == 30.0
    assert table.provenance["instrument_fingerprint"] == result.instrument_fingerprint


def test_same_input_same_result(movie, toy_instrument, result):
    assert run(movie, toy_instrument).columns.keys() == result.localizations.columns.keys()
    for name, values in run(movie, toy_instrument).columns.items():
        assert np.array_equal(values, result.localizations[name]), name


def test_frames_computed_one_by_one_give_what_they_give_together(movie, toy_instrument, result):
    alone = run(movie, toy_instrument, batch_frames=1)
    difference = np.abs(alone.position_zyx_nm - result.localizations.position_zyx_nm)
    assert (difference < 0.1 * alone.sigma_zyx_nm).all()


def test_region_and_frames_are_honoured_in_whole_frame_coordinates(movie, toy_instrument, result):
    part = run(movie, toy_instrument, region_yx_px=(18, 16, 42, 46), first_frame=1, last_frame=2)
    assert part["frame"].tolist() == [1, 2]
    whole = result.localizations
    expected = whole.select((whole["y_nm"] > 20 * PIXEL_NM) & (whole["frame"] >= 1) & (whole["frame"] <= 2))
    assert (np.abs(part.position_zyx_nm - expected.position_zyx_nm) < 0.5 * expected.sigma_zyx_nm).all()


def test_molecules_on_seams_of_tiles_count_once(film, toy_instrument, monkeypatch):
    monkeypatch.setattr(tiles, "CORE_PX", 40)
    monkeypatch.setattr(tiles, "CORE_WINDOWS", 1)
    shape = (96, 90)
    tiling = tiles.Tiling.of_frame(shape, 37)
    assert len(tiling.tiles) == 4
    seam_y, seam_x = tiling.tiles[-1].core[:2]
    # on the seams, a hair beside them, and where all four tiles meet
    places = [
        (seam_y - 0.5, 20.0),
        (seam_y - 0.45, 70.0),
        (15.0, seam_x - 0.5),
        (80.0, seam_x - 0.55),
        (seam_y - 0.5, seam_x - 0.5),
        (22.0, 22.0),
    ]
    rows = [(t, 400.0 + 50 * t, y, x, 6000.0) for t in range(2) for y, x in places]
    found = run(film(toy_instrument, rows, shape, 2), toy_instrument, window_px=37)
    scores = evaluate(truth_of(rows), found, EvaluatePlan(gate_nm=120))
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (12, 0, 0)


@pytest.mark.parametrize(("sample_index", "focal_plane_nm", "reference"), [(1.33, 500.0, "coverslip"), (1.518, 0.0, "focus")])
def test_z_is_from_the_coverslip_when_indices_differ_else_from_the_focus(film, toy_instrument, sample_index, focal_plane_nm, reference):
    low = -500.0 if reference == "focus" else 0.0
    instrument = changed(toy_instrument, sample_index=sample_index, focal_plane_nm=focal_plane_nm, depth_range_nm=(low, low + 1000))
    rows = [(t, low + 250.0 + 150 * t, 15.0, 16.0, 8000.0) for t in range(4)]
    found = run(film(instrument, rows, (31, 31), 4), instrument)
    assert found.z_reference == reference
    assert np.abs(found["z_nm"] - [row[1] for row in rows]).max() < 60


# -- cameras


def one_bright_molecule(instrument: Instrument, film, **options) -> Localizations:
    rows = [(t, 500.0, 15.2, 15.7, 6000.0) for t in range(12)]
    found = run(film(instrument, rows, (31, 31), 12, **options), instrument)
    assert len(found) == 12
    return found


def test_photons_of_an_emccd_are_detected_ones(film, toy_instrument):
    camera = Camera(pixel_um=11, quantum_efficiency=0.9, em_gain=200, gain_e_per_count=15, offset_counts=400, read_noise_e=60)
    found = one_bright_molecule(changed(toy_instrument, cameras=(camera,)), film)
    assert found["photons"].mean() == pytest.approx(5400, rel=0.05)
    assert found["background_photons"].mean() == pytest.approx(18, rel=0.06)
    # half the photons tell: the scatter is that of the doubled variance
    assert found["photons"].std() == pytest.approx(found["sigma_photons"].mean(), rel=0.6)


def test_maps_of_the_camera_are_used_pixel_by_pixel(film, toy_instrument):
    rows, columns = np.indices((31, 31))
    camera = Camera(
        pixel_um=11,
        # a bright corner that is no molecule
        offset_counts=100.0 + 8 * ((rows + columns) % 3) + 150.0 * ((rows - 5) ** 2 + (columns - 24) ** 2 < 8),
        gain_e_per_count=0.4 + 0.02 * (columns % 5),
        read_noise_e=1.0 + (rows % 4),
    )
    instrument = changed(toy_instrument, cameras=(camera,))
    found = one_bright_molecule(instrument, film)
    assert found["photons"].mean() == pytest.approx(6000, rel=0.05)
    assert found["background_photons"].mean() == pytest.approx(20, rel=0.06)
    assert np.abs(found.position_zyx_nm[:, 1:].mean(0) - np.array([15.2, 15.7]) * PIXEL_NM).max() < 5


def test_saturated_pixels_are_left_out(film, toy_instrument):
    camera = Camera(pixel_um=11, saturation_counts=330)
    instrument = changed(toy_instrument, cameras=(camera,))
    rows = [(t, 500.0, 15.2, 15.7, 12000.0) for t in range(8)]
    stack = film(instrument, rows, (31, 31), 8)
    assert (stack.counts_tyx[0] == 330).sum(axis=(1, 2)).min() >= 2
    told = run(stack, instrument)
    untold = run(stack, changed(toy_instrument, cameras=(Camera(pixel_um=11),)))
    assert told["photons"].mean() == pytest.approx(12000, rel=0.05)
    assert untold["photons"].mean() < 0.95 * told["photons"].mean()


@pytest.mark.parametrize("em_gain", [1.0, 300.0])
def test_two_cameras_of_different_kind_share_the_photons(film, toy_instrument, em_gain):
    cameras = (
        Camera(pixel_um=11, quantum_efficiency=0.9, offset_counts=100),
        Camera(pixel_um=11, quantum_efficiency=0.5, em_gain=em_gain, gain_e_per_count=10.0 if em_gain > 1 else 1.0, offset_counts=200),
    )
    views = (View(zernike_noll_rad={6: 1.0}), View(camera=1, zernike_noll_rad={6: 1.0}, focus_shift_nm=300, photon_fraction=2))
    instrument = changed(toy_instrument, cameras=cameras, views=views)
    found = one_bright_molecule(instrument, film)
    assert found["photons"].mean() == pytest.approx(6000 * (0.9 / 3 + 2 * 0.5 / 3), rel=0.05)
    error = (found.position_zyx_nm - np.array([500.0, 15.2 * PIXEL_NM, 15.7 * PIXEL_NM])) / found.sigma_zyx_nm
    assert np.abs(error.mean(0)).max() < 1.2


# -- nothing to find


def test_frames_without_molecules_give_an_empty_table(film, toy_instrument):
    table = run(film(toy_instrument, [], (48, 48), 6, background=30.0), toy_instrument)
    assert len(table) == 0
    assert {"frame", "sigma_z_nm", "photons", "converged"} <= set(table.columns)
    assert table.z_reference == "coverslip"


def test_frames_of_zeros_cost_nothing_and_do_not_disturb_the_others(movie, toy_instrument, result):
    counts = np.zeros((120, 44, 48), np.uint16)
    counts[[5, 50, 51, 119]] = movie.counts_tyx[0]
    started = time.process_time()
    found = run(RawStack(counts_tyx=(counts,), kind="frames"), toy_instrument)
    assert time.process_time() - started < 10
    assert found["frame"].tolist() == [5, 5, 50, 50, 51, 51, 119, 119]
    assert (np.abs(found.position_zyx_nm - result.localizations.position_zyx_nm) < 0.1 * found.sigma_zyx_nm).all()


def test_nothing_but_zeros_is_done_at_once(toy_instrument):
    stack = RawStack(counts_tyx=(np.zeros((200, 256, 256), np.uint16),), kind="frames")
    started = time.process_time()
    table = run(stack, toy_instrument)
    assert len(table) == 0
    assert time.process_time() - started < 8


# -- choices


def test_molecules_below_the_smallest_photons_are_dropped(movie, toy_instrument):
    found = run(movie, toy_instrument, min_photons=4500)
    assert len(found) == 4
    assert (found["photons"] >= 4500).all()


def test_no_more_molecules_are_added_than_allowed(movie, toy_instrument):
    found = run(movie, toy_instrument, max_molecules_per_frame=1)
    assert found["frame"].tolist() == [0, 1, 2, 3]


def test_a_higher_threshold_keeps_only_what_gains_more(film, toy_instrument):
    rows = [(0, 500.0, 15.0, 15.0, 500.0), (0, 500.0, 15.0, 40.0, 6000.0)]
    stack = film(toy_instrument, rows, (31, 56), 1)
    assert len(run(stack, toy_instrument, detection_threshold=10)) == 2
    assert len(run(stack, toy_instrument, detection_threshold=400)) == 1


@pytest.mark.parametrize("assumed_nm", [90.0, 0.0])
def test_the_blur_of_each_molecule_can_be_fitted(film, toy_instrument, assumed_nm):
    view = toy_instrument.views[0]
    blurred, assumed = (changed(toy_instrument, views=(view.model_copy(update={"blur_nm": blur}),)) for blur in (70.0, assumed_nm))
    rows = [(t, 350.0 + 50 * t, 15.2, 15.7, 10000.0) for t in range(8)]
    found = run(film(blurred, rows, (31, 31), 8), assumed, fit_blur=True)
    assert len(found) == 8
    assert np.median(found["psf_width_nm"]) == pytest.approx(70, abs=8)
    assert found["photons"].mean() == pytest.approx(10000, rel=0.03)
    assert np.abs((found["z_nm"] - [row[1] for row in rows]) / found["sigma_z_nm"]).max() < 4


# -- progress, previews, cancel


def test_previews_joined_are_the_table(movie, toy_instrument, result):
    collector = Collector((movie, toy_instrument, ReconstructPlan(device="cpu", batch_frames=1)))
    done = finish(reconstruct(*collector.asked), collector.take)
    assert len(collector.found) == 4
    partial = collector.partial("stopped by the user")
    assert partial.frames_done == 4
    assert not partial.complete
    assert partial.localizations.provenance["complete"] is False
    assert partial.localizations.provenance["notes"] == ["stopped by the user"]
    assert partial.localizations.provenance["plan"] == done.localizations.provenance["plan"]
    for name, values in done.localizations.columns.items():
        assert np.array_equal(values, partial.localizations[name]), name


def test_a_stop_keeps_the_frames_that_are_done_and_leaves_nothing_running(movie, toy_instrument, result):
    threads = threading.active_count()
    collector = Collector((movie, toy_instrument, ReconstructPlan(device="cpu", batch_frames=1)))
    steps = reconstruct(*collector.asked)
    for progress in steps:
        collector.take(progress)
        if progress.done == 2:
            break
    steps.close()
    assert threading.active_count() == threads
    with pytest.raises(StopIteration):
        next(steps)
    partial = collector.partial("stopped by the user")
    assert partial.frames_done == 2
    expected = result.localizations.select(result.localizations["frame"] < 2)
    assert partial.localizations["frame"].tolist() == [0, 0, 1, 1]
    assert (np.abs(partial.localizations.position_zyx_nm - expected.position_zyx_nm) < 0.1 * expected.sigma_zyx_nm).all()


def test_a_stop_before_the_first_batch_keeps_nothing(movie, toy_instrument):
    collector = Collector((movie, toy_instrument, ReconstructPlan(device="cpu")))
    steps = reconstruct(*collector.asked)
    collector.take(next(steps))
    steps.close()
    assert collector.partial("stopped by the user") is None


def test_between_two_steps_of_a_dense_tetrapod_frame_lies_less_than_a_second():
    instrument = load_example("tetrapod")
    plan = SimulatePlan(
        frame_count=1, shape_yx_px=(128, 128), density_per_um2=0.25, photons=(10000, 40000), mean_on_frames=0, seed=2, device="cpu"
    )
    steps = reconstruct(finish(simulate(instrument, plan)).stack, instrument, ReconstructPlan(device="cpu"))
    next(steps)
    next(steps)  # the table of the PSF and the first step are made
    longest, last = 0.0, time.process_time()
    for _ in steps:
        now = time.process_time()
        longest, last = max(longest, now - last), now
    assert longest < 1.0


def test_a_frame_is_explained_down_to_its_noise(movie, toy_instrument, result):
    explained = finish(explain_frame(movie, toy_instrument, ReconstructPlan(device="cpu"), 2))
    assert explained.photons_vyx.shape == (1, 44, 48)
    assert explained.photons_vyx[0] == pytest.approx(movie.counts_tyx[0][2].astype(float), abs=1e-3)
    assert explained.residual_vyx.std() == pytest.approx(1, abs=0.08)
    assert abs(explained.residual_vyx.mean()) < 0.05
    assert explained.model_vyx.sum() == pytest.approx(explained.photons_vyx.sum(), rel=0.02)
    expected = result.localizations.select(result.localizations["frame"] == 2)
    assert (np.abs(explained.localizations.position_zyx_nm - expected.position_zyx_nm) < 0.2 * expected.sigma_zyx_nm).all()


def test_an_explained_region_shows_that_region_and_a_blank_frame_nothing(movie, toy_instrument):
    plan = ReconstructPlan(device="cpu", region_yx_px=(10, 5, 40, 45))
    explained = finish(explain_frame(movie, toy_instrument, plan, 0))
    assert explained.photons_vyx[0] == pytest.approx(movie.counts_tyx[0][0, 10:40, 5:45].astype(float), abs=1e-3)
    blank = RawStack(counts_tyx=(np.full((1, 40, 40), 7, np.uint16),), kind="frames")
    explained = finish(explain_frame(blank, toy_instrument, ReconstructPlan(device="cpu"), 0))
    assert len(explained.localizations) == 0
    assert (explained.photons_vyx == 7).all()
    assert (explained.residual_vyx == 0).all()


# -- words


def stack_of(counts: np.ndarray) -> RawStack:
    return RawStack(counts_tyx=(counts,), kind="frames")


def test_a_value_that_is_not_finite_names_its_frame_and_keeps_what_came_before(movie, toy_instrument):
    counts = movie.counts_tyx[0].astype(np.float32)
    counts[2, 5, 6] = np.nan
    stack = stack_of(counts)
    collector = Collector((stack, toy_instrument, ReconstructPlan(device="cpu", batch_frames=1)))
    with pytest.raises(StackError, match=r"1 values that are not finite .* in frame 2"):
        finish(reconstruct(*collector.asked), collector.take)
    assert collector.partial("failed").localizations["frame"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("choices", "words"), [
    ({"last_frame": 4}, "frames 0 to 4 were asked for; the stack has 4 frames, numbered 0 to 3"),
    ({"first_frame": 9}, "frames from 9 on were asked for; the stack has 4 frames, numbered 0 to 3"),
    ({"region_yx_px": (0, 0, 45, 10)}, r"region_yx_px \(0, 0, 45, 10\) reaches beyond the frame of 44 x 48 pixels"),
    ({"region_yx_px": (0, 0, 4, 30)}, "a field of 4 x 30 pixels is too small to fit a molecule in"),
])  # fmt: skip
def test_frames_and_regions_that_are_not_there_get_words(movie, toy_instrument, choices, words):
    with pytest.raises((PlanError, StackError), match=words):
        run(movie, toy_instrument, **choices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_gets_words(movie, toy_instrument):
    with pytest.raises(PlanError, match=r"device cuda was asked for, but this machine offers .*cpu"):
        finish(reconstruct(movie, toy_instrument, ReconstructPlan(device="cuda")))


def test_every_camera_needs_its_stack(movie, toy_instrument):
    two = changed(toy_instrument, cameras=(Camera(pixel_um=11), Camera(pixel_um=11)), views=(View(), View(camera=1)))
    with pytest.raises(PlanError, match=r"the instrument has 2 cameras, but 1 stack\(s\) were given; open one stack per camera"):
        run(movie, two)


@pytest.mark.parametrize("name", ["offset_counts", "gain_e_per_count", "read_noise_e"])
def test_a_map_of_another_shape_gets_words(movie, toy_instrument, name):
    camera = Camera(pixel_um=11, **{name: np.full((44, 40), 2.0)})
    with pytest.raises(PlanError, match=rf"the map {name} of camera 0 has shape \(44, 40\), its frames \(44, 48\); crop both alike"):
        run(movie, changed(toy_instrument, cameras=(camera,)))


def test_matching_pursuit_finds_the_molecules_of_a_sparse_movie_and_says_that_it_was_it(movie, toy_instrument):
    found = run(movie, toy_instrument, method="pursuit")
    result = evaluate(truth_of(FOUR), found, EvaluatePlan())
    assert (result.true_positives, result.false_positives, result.false_negatives) == (8, 0, 0)
    assert result.rmse_lateral_nm < 20
    assert result.rmse_axial_nm < 30
    assert found.provenance["method"].startswith("matching pursuit")


def test_a_pursuit_with_a_model_is_refused_in_words():
    with pytest.raises(ValidationError, match="method is 'pursuit', which asks no model, but a model is given: leave the model out"):
        ReconstructPlan(method="pursuit", model="some.safetensors")
