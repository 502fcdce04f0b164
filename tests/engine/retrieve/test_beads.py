"""Beads are found where they are, and words say why one was left out."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.engine.retrieve.beads import BeadField, choose_crop, cut_window, find_beads, given_beads
from napari_volumetric_smlm.errors import CalibrationError


def field_of(spots, shape=(200, 200), noise=1.0, width=3.0, seed=0, saturation=np.inf):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mean = np.random.default_rng(seed).normal(0, noise, shape)
    for row, column, light in spots:
        mean += light * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    return BeadField(mean, mean + 100, saturation)


def test_isolated_beads_are_found_brightest_first():
    beads = find_beads(field_of([(60.3, 50.2, 100), (140, 150.6, 200)]), crop_px=31)
    assert beads.crop_px == 31
    assert beads.positions_yx_px == pytest.approx(np.array([[140, 150.6], [60.3, 50.2]]), abs=0.3)


def test_noise_alone_is_no_bead():
    with pytest.raises(CalibrationError, match=r"no bead found.*200 x 200 pixels.*check that this is a bead stack"):
        find_beads(field_of([]))


def test_an_empty_field_is_no_bead():
    with pytest.raises(CalibrationError, match=r"no bead found"):
        find_beads(BeadField(np.zeros((50, 50)), np.zeros((50, 50))))


def test_two_lobes_of_one_bead_are_one_bead():
    beads = find_beads(field_of([(100, 95, 100), (100, 105, 90)], width=4), crop_px=41)
    assert len(beads.positions_yx_px) == 1
    assert beads.positions_yx_px[0] == pytest.approx([100, 99.8], abs=0.7)


def test_beads_that_crowd_each_other_are_left_out_with_words():
    with pytest.raises(CalibrationError, match=r"2 bead\(s\) found, none usable.*another one 24 pixels away.*sparser"):
        find_beads(field_of([(100, 88, 100), (100, 112, 100)]), crop_px=51)


def test_a_smaller_crop_is_chosen_where_beads_are_crowded():
    beads = find_beads(field_of([(100, 82, 100), (100, 118, 100)]))
    assert len(beads.positions_yx_px) == 2
    assert 15 <= beads.crop_px <= 55


def test_a_bead_at_the_edge_is_left_out():
    beads = find_beads(field_of([(100, 6, 300), (100, 100, 100)]), crop_px=41)
    assert len(beads.positions_yx_px) == 1
    assert "pixels from the edge" in beads.left_out[0]


def test_a_saturated_bead_is_left_out():
    beads = find_beads(field_of([(60, 60, 300), (140, 140, 100)], saturation=350), crop_px=41)
    assert beads.positions_yx_px[:, 0] == pytest.approx([140], abs=0.5)
    assert "saturated pixels (from 350 counts)" in beads.left_out[0]


def test_a_small_frame_with_one_bead_is_taken_whole():
    assert find_beads(field_of([(30, 31, 100)], shape=(61, 64))).crop_px == 61


def test_the_crop_holds_the_light_of_the_bead():
    mean = field_of([(100, 100, 100)], noise=0, width=5).mean_yx
    side = choose_crop(mean, np.array([[100.0, 100.0], [10.0, 190.0]]))
    half = side // 2
    assert mean[100 - half : 101 + half, 100 - half : 101 + half].sum() > 0.95 * mean.sum()
    assert side < 80


def test_given_positions_outside_the_frame_are_told():
    with pytest.raises(CalibrationError, match=r"\(row 20, column 300\) lies outside the frame of 200 x 200"):
        given_beads(field_of([(20, 20, 100)]), np.array([[20.0, 20.0], [20.0, 300.0]]))


def test_a_window_near_the_edge_moves_into_the_frame():
    assert cut_window(np.array([2.0, 50.0]), 21, (100, 100)) == (0, 40)
    assert cut_window(np.array([50.0, 99.0]), 21, (100, 100)) == (40, 79)
