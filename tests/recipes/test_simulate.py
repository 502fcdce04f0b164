"""Simulated movies and their truth."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, View
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.domain.runs import Progress, Simulation
from napari_volumetric_smlm.errors import InstrumentError, PlanError
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.simulate import simulate

QUICK = SimulatePlan(frame_count=6, shape_yx_px=(48, 40), density_per_um2=0.5, background_photons=(20, 20), device="cpu", seed=4)


def quick(**changes) -> SimulatePlan:
    return SimulatePlan.model_validate(QUICK.model_dump() | changes)


def changed(instrument: Instrument, **changes) -> Instrument:
    return Instrument.model_validate({**dict(instrument), **changes})


@pytest.fixture(scope="module")
def movie(toy_instrument) -> Simulation:
    return finish(simulate(toy_instrument, QUICK))


def test_a_movie_is_a_stack_of_frames_with_its_truth(movie, toy_instrument):
    (counts,) = movie.stack.counts_tyx
    assert counts.shape == (6, 48, 40)
    assert counts.dtype == np.uint16
    assert movie.stack.kind == "frames"
    assert movie.stack.pixel_nm == 110
    assert movie.instrument == toy_instrument
    assert len(movie.stack.fingerprint) == 16
    truth = movie.truth
    assert set(truth.columns) == {"frame", "z_nm", "y_nm", "x_nm", "photons", "background_photons", "id", "on_fraction"}
    assert truth.z_reference == "coverslip"
    assert truth.shape_yx_px == (48, 40)
    assert truth.frame_count == 6
    assert truth.provenance["plan"]["seed"] == 4
    assert set(truth["frame"]) <= set(range(6))
    assert len(truth) > 20


def test_the_truth_lies_inside_the_frame_without_its_border_and_inside_the_depth_range(movie):
    low, high = movie.truth.position_zyx_nm.min(0), movie.truth.position_zyx_nm.max(0)
    assert (low >= [0, 9.5 * 110, 9.5 * 110]).all()
    assert (high <= [1000, 37.5 * 110, 29.5 * 110]).all()


def test_bright_pixels_lie_where_the_truth_says(toy_instrument):
    plan = quick(density_per_um2=0.12, photons=(20000, 20000), mean_on_frames=0, frame_count=40)
    simulation = finish(simulate(toy_instrument, plan))
    (counts,) = simulation.stack.counts_tyx
    numbers = np.bincount(simulation.truth["frame"], minlength=40)
    alone = np.flatnonzero(numbers == 1)
    assert len(alone) > 5
    for frame in alone:
        row = int(np.flatnonzero(simulation.truth["frame"] == frame)[0])
        light = np.clip(counts[frame].astype(float) - 60, 0, None)
        y, x = np.indices(light.shape) * 110.0
        found = np.array([(light * y).sum(), (light * x).sum()]) / light.sum()
        assert np.abs(found - simulation.truth.position_zyx_nm[row, 1:]).max() < 60


def test_the_photons_of_the_truth_are_those_that_the_camera_detects(toy_instrument):
    camera = Camera(pixel_um=11, quantum_efficiency=0.6)
    plan = quick(shape_yx_px=(81, 81), border_px=38, density_per_um2=20, photons=(5000, 5000), mean_on_frames=0, frame_count=20)
    simulation = finish(simulate(changed(toy_instrument, cameras=(camera,)), plan))
    assert simulation.truth["photons"] == pytest.approx(3000)
    assert simulation.truth["background_photons"] == pytest.approx(12)
    (counts,) = simulation.stack.counts_tyx
    arrived = counts.sum() - 20 * 81 * 81 * 12
    # the window and the frame hold nearly all light of molecules in the middle
    assert 0.85 < arrived / simulation.truth["photons"].sum() < 1.0


def test_photons_are_shared_between_cameras_of_different_efficiency(toy_instrument):
    cameras = (Camera(pixel_um=11, quantum_efficiency=0.9), Camera(pixel_um=11, quantum_efficiency=0.5))
    views = (View(photon_fraction=3), View(camera=1, photon_fraction=1, affine_yx=((1, 0, 220), (0, 1, -110))))
    plan = quick(photons=(1000, 1000), mean_on_frames=0)
    simulation = finish(simulate(changed(toy_instrument, cameras=cameras, views=views), plan))
    assert simulation.truth["photons"] == pytest.approx(1000 * (0.75 * 0.9 + 0.25 * 0.5))
    dark = finish(simulate(changed(toy_instrument, cameras=cameras, views=views), quick(density_per_um2=1e-9, frame_count=40)))
    assert [stack.mean() for stack in dark.stack.counts_tyx] == pytest.approx([20 * 0.9, 20 / 3 * 0.5], rel=0.02)


def test_molecules_keep_their_number_place_and_brightness_over_their_frames(toy_instrument):
    truth = finish(simulate(toy_instrument, quick(mean_on_frames=3, frame_count=12))).truth
    several = 0
    for number in np.unique(truth["id"]):
        rows = truth["id"] == number
        several += rows.sum() > 2
        assert len(np.unique(truth.position_zyx_nm[rows], axis=0)) == 1
        full = truth["photons"][rows] / truth["on_fraction"][rows]
        assert full == pytest.approx(full[0], rel=1e-4)
    assert several > 5


def test_a_flat_background_has_its_level_and_its_noise(toy_instrument):
    camera = Camera(pixel_um=11, offset_counts=100, gain_e_per_count=0.5, read_noise_e=2)
    plan = quick(density_per_um2=1e-9, background_photons=(30, 30), frame_count=60)
    (counts,) = finish(simulate(changed(toy_instrument, cameras=(camera,)), plan)).stack.counts_tyx
    electrons = (counts.astype(float) - 100) * 0.5
    assert electrons.mean() == pytest.approx(30, rel=0.01)
    assert electrons.var() == pytest.approx(30 + 4 + 0.25 / 12, rel=0.03)


@pytest.mark.parametrize("structure", ["gaussian", "perlin"])
def test_the_truth_tells_the_background_at_each_molecule(toy_instrument, structure):
    plan = quick(background_structure=structure, background_photons=(10, 200), photons=(2, 2), frame_count=300, mean_on_frames=0)
    simulation = finish(simulate(toy_instrument, plan))
    mean = simulation.stack.counts_tyx[0].mean(0)
    rows, columns = np.rint(simulation.truth.position_zyx_nm[:, 1:] / 110).astype(int).T
    assert np.abs(simulation.truth["background_photons"] / mean[rows, columns] - 1).max() < 0.35
    assert np.corrcoef(simulation.truth["background_photons"], mean[rows, columns])[0, 1] > 0.99


def test_the_same_seed_gives_the_same_movie_and_another_one_does_not(toy_instrument, movie):
    again = finish(simulate(toy_instrument, QUICK))
    assert np.array_equal(again.stack.counts_tyx[0], movie.stack.counts_tyx[0])
    assert again.truth == movie.truth
    assert again.stack.fingerprint == movie.stack.fingerprint
    other = finish(simulate(toy_instrument, quick(seed=5)))
    assert not np.array_equal(other.stack.counts_tyx[0], movie.stack.counts_tyx[0])
    assert other.stack.fingerprint != movie.stack.fingerprint


def test_progress_counts_frames_and_can_be_stopped_at_any_step(toy_instrument):
    steps = simulate(toy_instrument, quick(frame_count=40, density_per_um2=2))
    reports = [next(steps) for _ in range(3)]
    steps.close()
    assert all(isinstance(report, Progress) for report in reports)
    assert reports[0].stage == "prepare"
    assert 0 < reports[1].done < reports[2].done <= reports[2].total == 40


def test_a_frame_without_border_and_a_single_frame_work(toy_instrument):
    simulation = finish(simulate(toy_instrument, quick(frame_count=1, border_px=0, shape_yx_px=(17, 33))))
    assert simulation.stack.counts_tyx[0].shape == (1, 17, 33)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"border_px": 20}, "border of 20 pixels leaves nothing of a frame of 48 x 40"),
        ({"photons": (5000, 1000)}, r"photons is \(5000, 1000\): expected the lowest and then the highest"),
        ({"background_photons": (-5, 1)}, r"background_photons is \(-5, 1\).*neither below 0"),
        ({"blur_nm": (50, 10)}, r"blur_nm is \(50, 10\)"),
        ({"frame_count": 100_000, "shape_yx_px": (2048, 2048)}, "100000 frames of 2048 x 2048.*take 781.2 GiB.*several shorter ones"),
    ],
)
def test_settings_that_contradict_each_other_are_explained(toy_instrument, changes, words):
    with pytest.raises(PlanError, match=words):
        finish(simulate(toy_instrument, quick(**changes)))


def test_a_camera_map_of_another_size_is_explained(toy_instrument):
    camera = Camera(pixel_um=11, offset_counts=np.full((64, 64), 100.0))
    with pytest.raises(InstrumentError, match=r"offset_counts.*64 x 64 pixels, the frames are 48 x 40"):
        finish(simulate(changed(toy_instrument, cameras=(camera,)), QUICK))
