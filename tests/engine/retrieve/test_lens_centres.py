"""Lens centres from frames whose centres are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.engine.retrieve.lens_centres import centres_from_frame, centres_from_spots
from napari_volumetric_smlm.errors import CalibrationError

CAMERA_UM = 13.0  # the published centres are stated on a grid of 512 x 512
PUBLISHED = np.array([(148.0, 384.0), (364.0, 254.0), (150.0, 132.0)])
ARRAY = MicrolensArray(pitch_mm=3.25, focal_length_mm=117, fourier_lens_mm=275, native_magnification=100, frame_yx_px=(512, 512))
SEVEN = ARRAY.model_copy(update={"layout": "hexagon", "pitch_mm": 1.95})


def spots(places_yx, sigma_px: float = 1.6, shape=(512, 512)) -> np.ndarray:
    image = np.zeros(shape)
    for y0, x0 in places_yx:
        y, x = np.arange(shape[0]) - y0, np.arange(shape[1]) - x0
        image += np.exp(-(y[:, None] ** 2) / 2 / sigma_px**2) * np.exp(-(x**2) / 2 / sigma_px**2)
    return image


def frame(centres, radius_px: float, random: np.random.Generator, beads: int = 60, lit: float = 40.0) -> torch.Tensor:
    """Beads that every view shows, on a background within the fields' edges, with noise."""
    angle, distance = random.uniform(0, 2 * math.pi, beads), radius_px * np.sqrt(random.uniform(0, 0.9, beads))
    offsets = np.stack([distance * np.sin(angle), distance * np.cos(angle)], 1)
    light = 300 * spots((centres[:, None] + offsets).reshape(-1, 2))
    y, x = np.arange(512)[:, None], np.arange(512)
    field = np.any([np.hypot(y - y0, x - x0) < radius_px for y0, x0 in centres], axis=0)
    return torch.from_numpy(random.poisson(light * field + lit * field + 10).astype(float))


def worst(found, centres) -> float:
    """Largest distance of a true centre from the nearest found one."""
    return float(np.hypot(*(centres[:, None] - found[None]).transpose(2, 0, 1)).min(1).max())


def spread(points) -> np.ndarray:
    return points - points.mean(0)


def test_the_published_centres_are_found_in_a_frame_of_beads():
    found = centres_from_frame(frame(PUBLISHED, 122.0, np.random.default_rng(1)), ARRAY, CAMERA_UM)
    assert found.edges_seen
    assert worst(spread(found.yx_px), spread(PUBLISHED)) < 0.15
    # where the middle of all fields lies is seen by their edges only
    assert worst(found.yx_px, PUBLISHED) < 4


@pytest.mark.parametrize("degrees", [-25.0, 11.3, 60.0, 176.0])
def test_a_turned_array_of_another_pitch_is_found(degrees):
    turned = ARRAY.model_copy(update={"rotation_rad": math.radians(degrees), "pitch_mm": 3.25 * 1.02})
    centres = turned.layout_yx_mm * 1000 / CAMERA_UM + np.array([259.0, 250.0])
    found = centres_from_frame(frame(centres, 120.0, np.random.default_rng(2)), ARRAY, CAMERA_UM)
    assert worst(spread(found.yx_px), spread(centres)) < 0.15
    assert worst(found.yx_px, centres) < 4


def test_seven_lenses_are_found_and_ordered_as_the_layout_names_them():
    centres = SEVEN.model_copy(update={"rotation_rad": 0.05}).layout_yx_mm * 1000 / CAMERA_UM + 255.5
    found = centres_from_frame(frame(centres, 70.0, np.random.default_rng(3), beads=40), SEVEN, CAMERA_UM)
    assert np.hypot(*(spread(found.yx_px) - spread(centres)).T).max() < 0.3


def test_a_frame_without_edges_gives_distances_and_says_that_it_does_not_know_the_middle():
    random = np.random.default_rng(4)
    centres = PUBLISHED + 1.3
    beads = random.uniform(-120, 120, (80, 2))
    image = torch.from_numpy(random.poisson(200 * spots((centres[:, None] + beads).reshape(-1, 2)) + 30).astype(float))
    found = centres_from_frame(image + 2000, ARRAY, CAMERA_UM)
    assert worst(spread(found.yx_px), spread(centres)) < 0.15
    assert not found.edges_seen
    assert found.yx_px.mean(0) == pytest.approx([255.5, 255.5], abs=0.01)


def test_a_frame_of_noise_has_no_lens_centres():
    noise = torch.from_numpy(np.random.default_rng(5).poisson(50, (512, 512)).astype(float))
    with pytest.raises(CalibrationError, match=r"no sign of 3 views.*average more frames"):
        centres_from_frame(noise, ARRAY, CAMERA_UM)


def test_a_dark_view_is_noticed():
    random = np.random.default_rng(8)
    image = frame(PUBLISHED, 122.0, random)
    y, x = np.arange(512)[:, None], np.arange(512)
    covered = np.hypot(y - PUBLISHED[1, 0], x - PUBLISHED[1, 1]) < 124
    image[torch.from_numpy(covered)] = torch.from_numpy(random.poisson(10, covered.sum()).astype(float))
    with pytest.raises(CalibrationError, match="only 2 of 3 views show the same: a view is dark"):
        centres_from_frame(image, ARRAY, CAMERA_UM)


def test_the_spots_of_a_psf_are_its_lens_centres():
    random = np.random.default_rng(6)
    centres = PUBLISHED + random.uniform(-0.5, 0.5, (3, 2))
    image = random.poisson(1000 * spots(centres) + 20).astype(float)
    found = centres_from_spots(torch.from_numpy(image), ARRAY, CAMERA_UM)
    assert worst(found.yx_px, centres) < 0.1


def test_the_published_centres_come_out_of_a_psf_as_wide_as_the_instruments():
    # at the published grid a view's full width of 590 nm is 2 pixels
    found = centres_from_spots(torch.from_numpy(1e4 * spots(PUBLISHED, 0.87)), ARRAY, CAMERA_UM)
    assert worst(found.yx_px, PUBLISHED) < 0.05


def test_too_few_spots_and_spots_at_other_distances_are_explained():
    random = np.random.default_rng(7)
    noise = random.normal(100, 3, (512, 512))
    with pytest.raises(CalibrationError, match="2 spots were found, the layout 'triangle' has 3 lenses"):
        centres_from_spots(torch.from_numpy(500 * spots(PUBLISHED[:2]) + noise), ARRAY, CAMERA_UM)
    moved = PUBLISHED + np.array([[0, 0], [60, 0], [0, 0]])
    with pytest.raises(CalibrationError, match="pixels apart, the layout 'triangle' expects 250"):
        centres_from_spots(torch.from_numpy(500 * spots(moved) + noise), ARRAY, CAMERA_UM)


def test_an_array_of_one_lens_has_no_distances():
    one = ARRAY.model_copy(update={"layout": "explicit", "centres_yx_mm": ((0.0, 0.0),)})
    with pytest.raises(CalibrationError, match="one lens"):
        centres_from_frame(torch.zeros((64, 64)), one, CAMERA_UM)
