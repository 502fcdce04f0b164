"""The example instruments: their files, and that each PSF does what its name says."""

from __future__ import annotations

import itertools
import math
import runpy
from pathlib import Path

import pytest
import torch

from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "src" / "napari_volumetric_smlm" / "resources" / "instruments"
NAMES = ["astigmatic", "biplane", "double_helix", "light_field_3", "tetrapod", "two_camera"]


def example(name: str):
    return load_instrument(FOLDER / f"{name}.json")


def images(name: str, z_nm: list[float], pixels: int, view: int = 0) -> torch.Tensor:
    instrument = example(name)
    position = torch.zeros((len(z_nm), 3))
    position[:, 0] = torch.tensor(z_nm)
    return camera_images(view_pupil(instrument, view), position, (pixels, instrument.pixel_nm(view), True))


def spread(image_yx: torch.Tensor) -> tuple[float, float, float]:
    """Covariance yy, xx, yx in pixels^2 of the bright part, which tails do not sway."""
    bright = (image_yx - 0.2 * image_yx.max()).clamp(min=0)
    bright = bright / bright.sum()
    x = torch.arange(image_yx.shape[-1]) - image_yx.shape[-1] // 2.0
    cy, cx = float((bright.sum(1) * x).sum()), float((bright.sum(0) * x).sum())
    covariance = (bright * (x[:, None] - cy) * (x - cx)).sum()
    return float((bright.sum(1) * (x - cy) ** 2).sum()), float((bright.sum(0) * (x - cx) ** 2).sum()), float(covariance)


def long_axis_degrees(image_yx: torch.Tensor) -> float:
    yy, xx, yx = spread(image_yx)
    return math.degrees(0.5 * math.atan2(2 * yx, xx - yy)) % 180


def test_all_examples_are_listed_here():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_small_and_comes_back_from_its_file(name, tmp_path):
    instrument = example(name)
    assert (FOLDER / f"{name}.json").stat().st_size < 100_000
    again = load_instrument(save_instrument(instrument, tmp_path / "again.json"))
    assert again == instrument
    assert again.fingerprint == instrument.fingerprint
    assert instrument.z_reference == ("focus" if name == "light_field_3" else "coverslip")


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_script_makes_the_shipped_example(name):
    made = runpy.run_path(str(ROOT / "docs" / "make_instruments.py"))["make_instruments"]()
    assert made[f"{name}.json"] == example(name)


def test_the_examples_differ():
    assert len({example(name).fingerprint for name in NAMES}) == len(NAMES)


def test_the_astigmatic_spot_is_wide_in_x_below_focus_and_in_y_above():
    below, focus, above = (spread(image) for image in images("astigmatic", [50, 390, 850], 25))
    assert below[1] > 3 * below[0]
    assert above[0] > 3 * above[1]
    assert 0.4 < focus[0] / focus[1] < 2.5


def test_the_tetrapod_is_long_in_y_at_the_bottom_and_in_x_at_the_top():
    bottom, middle, top = (spread(image) for image in images("tetrapod", [200, 1800, 3800], 61))
    assert bottom[0] > 10 * bottom[1]
    assert top[1] > 10 * top[0]
    assert 0.3 < middle[0] / middle[1] < 3
    # two lobes, micrometres apart
    assert 2 * math.sqrt(top[1]) * 110 > 1500


def test_the_double_helix_turns_one_way_by_less_than_half_a_turn():
    stack = images("double_helix", [100.0 * k for k in range(23)], 21)
    angles = [long_axis_degrees(image) for image in stack]
    steps = [((after - before + 90) % 180) - 90 for before, after in itertools.pairwise(angles)]
    assert len({math.copysign(1, step) for step in steps}) == 1
    assert 90 < abs(sum(steps)) < 175
    # two lobes with little light between them
    assert (stack[:, 10, 10] < 0.3 * stack.amax((1, 2))).all()


def test_the_biplane_views_are_sharp_at_different_depths():
    z = [25.0 * k for k in range(41)]
    sharpest = [z[int(images("biplane", z, 15, view).amax((1, 2)).argmax())] for view in (0, 1)]
    # 500 nm of focal plane in oil are about 500 * 1.33 / 1.518 nm or less in water
    assert 250 < sharpest[1] - sharpest[0] < 450


def test_the_three_views_of_the_light_field_move_towards_the_array_s_centre_as_a_molecule_moves_away_from_the_objective():
    instrument = example("light_field_3")
    places = torch.tensor([[view.affine_yx[0][2], view.affine_yx[1][2]] for view in instrument.views])
    outward = places - places.mean(0)
    for v in range(3):
        shift = [image.flatten().argmax() for image in images("light_field_3", [-1500, 1500], 41, v)]
        moved = torch.tensor([float(shift[1] // 41 - shift[0] // 41), float(shift[1] % 41 - shift[0] % 41)]) * instrument.pixel_nm()
        along = -float(moved @ outward[v] / outward[v].norm())
        # the brightest point lags behind the ray law's 0.63 of the depth
        assert 0.5 * 3000 < along < 0.63 * 3000
        assert float(moved.norm()) == pytest.approx(along, abs=120)


def test_the_two_masks_of_the_two_cameras_are_turned_by_45_degrees():
    upright, turned = (long_axis_degrees(images("two_camera", [3600], 61, view)[0]) for view in (0, 1))
    apart = abs(upright - turned) % 180
    assert min(apart, 180 - apart) == pytest.approx(45, abs=4)


def test_the_mask_of_the_two_camera_example_is_the_tetrapod_of_the_zernike_example():
    z = [500.0, 2000.0, 3500.0]
    by_mask, by_zernike = images("two_camera", z, 41), images("tetrapod", z, 41)
    for one, other in zip(by_mask, by_zernike, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.995
