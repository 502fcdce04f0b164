"""Molecules on the cameras: right place, right light, in every view."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.simulate.molecules import Emissions
from napari_volumetric_smlm.engine.simulate.scene import Scene, choose_window_px

SHAPE = (61, 61)
MIDDLE = 30 * 110.0
TURN = ((math.cos(0.05), -math.sin(0.05), 700.0), (math.sin(0.05), math.cos(0.05), -450.0))


def emissions(*rows: tuple[int, float, float, float, float], blur: float = 0.0) -> Emissions:
    """Rows of frame, z, y, x, photons."""
    table = torch.tensor(rows)
    count = len(rows)
    return Emissions(table[:, 0].long(), torch.arange(count), table[:, 1:4], table[:, 4], torch.ones(count), torch.full((count,), blur))


def changed(instrument: Instrument, **changes) -> Instrument:
    return Instrument.model_validate({**dict(instrument), **changes})


def exact(instrument: Instrument, z: float, y: float, x: float, view: int = 0, blur: float = 0.0) -> torch.Tensor:
    """The image of one molecule on a frame of 61 x 61 pixels straight from the pupil."""
    position = torch.tensor([[z, y - MIDDLE, x - MIDDLE]])
    return camera_images(view_pupil(instrument, view), position, (61, 110.0, True), blur)[0]


@pytest.mark.parametrize("position", [(0.0, MIDDLE, MIDDLE), (430.0, MIDDLE + 33, MIDDLE - 271), (1000.0, 1210.0, 5125.0)])
def test_a_molecule_is_drawn_as_the_pupil_images_it(toy_instrument, position):
    drawn = Scene(toy_instrument, SHAPE, window_px=61).draw(emissions((0, *position, 5000.0)), 1)[0, 0] / 5000
    expected = exact(toy_instrument, *position)
    # within the window: a molecule off the middle has a window that leaves the frame on one side
    inside = drawn > 0
    assert inside.float().mean() > 0.4
    assert (drawn - expected)[inside].abs().max() < 0.006 * expected.max()


def test_molecules_add_up_in_their_own_frames(toy_instrument):
    scene = Scene(toy_instrument, SHAPE, window_px=31)
    one, two, three = (0, 100.0, 2000.0, 3000.0, 900.0), (2, 700.0, 2500.0, 3100.0, 4000.0), (2, 300.0, 4000.0, 4400.0, 100.0)
    movie = scene.draw(emissions(one, two, three), 3)
    assert movie.shape == (3, 1, *SHAPE)
    assert torch.allclose(movie[0, 0], scene.draw(emissions(one), 1)[0, 0])
    assert (movie[1] == 0).all()
    alone = [scene.draw(emissions((0, *row[1:])), 1)[0, 0] for row in (two, three)]
    assert torch.allclose(movie[2, 0], alone[0] + alone[1], atol=1e-4)


def test_many_molecules_are_drawn_like_one_after_the_other(toy_instrument):
    generator = torch.Generator().manual_seed(0)
    rows = [(0, *row) for row in (torch.rand((150, 4), generator=generator) * torch.tensor([1000.0, 6600, 6600, 3000])).tolist()]
    scene = Scene(toy_instrument, SHAPE, window_px=21)
    together = scene.draw(emissions(*rows), 1)
    assert torch.allclose(together, sum(scene.draw(emissions(row), 1) for row in rows), atol=1e-2)


def test_the_photons_of_a_molecule_arrive_up_to_what_leaves_the_window(toy_instrument):
    scene = Scene(toy_instrument, SHAPE)
    drawn = scene.draw(emissions((0, 500.0, MIDDLE, MIDDLE, 10000.0)), 1)
    window = choose_window_px(toy_instrument, 0, SHAPE)
    expected = camera_images(view_pupil(toy_instrument), torch.tensor([[500.0, 0, 0]]), (window, 110.0, True)).sum()
    assert float(drawn.sum()) == pytest.approx(10000 * float(expected), rel=2e-3)
    assert float(expected) > 0.9


def test_light_beyond_the_frame_is_lost_and_not_folded_back(toy_instrument):
    scene = Scene(toy_instrument, SHAPE, window_px=31)
    full = scene.draw(emissions((0, 500.0, MIDDLE, MIDDLE, 1000.0)), 1).sum()
    corner = scene.draw(emissions((0, 500.0, -55.0, -55.0, 1000.0)), 1)
    assert float(corner.sum() / full) == pytest.approx(0.25, abs=0.05)
    assert corner[0, 0, 31:].sum() == 0
    assert scene.draw(emissions((0, 500.0, -9000.0, 2000.0, 1000.0)), 1).sum() == 0


def test_each_view_receives_its_share(toy_instrument):
    views = (View(name="a", photon_fraction=3.0), View(name="b", photon_fraction=1.0, camera=1))
    instrument = changed(toy_instrument, views=views, cameras=toy_instrument.cameras * 2)
    movie = Scene(instrument, SHAPE, window_px=31).draw(emissions((0, 500.0, MIDDLE, MIDDLE, 1000.0)), 1)
    assert float(movie[0, 0].sum() / movie[0, 1].sum()) == pytest.approx(3, rel=1e-5)
    alone = Scene(toy_instrument, SHAPE, window_px=31).draw(emissions((0, 500.0, MIDDLE, MIDDLE, 1000.0)), 1).sum()
    assert float(movie.sum() / alone) == pytest.approx(1, rel=0.05)


def test_the_affine_puts_the_second_view_where_it_says(toy_instrument):
    views = (View(), View(name="turned", camera=1, affine_yx=TURN, focus_shift_nm=200.0, zernike_noll_rad={6: -1.0}))
    instrument = changed(toy_instrument, views=views, cameras=toy_instrument.cameras * 2)
    y, x = 2600.0, 3900.0
    movie = Scene(instrument, SHAPE, window_px=61).draw(emissions((0, 350.0, y, x, 2.0)), 1)
    (a, b, ty), (c, d, tx) = TURN
    expected = exact(instrument, 350.0, a * y + b * x + ty, c * y + d * x + tx, view=1)
    drawn = movie[0, 1]
    inside = drawn > 0
    assert (drawn - expected)[inside].abs().max() < 0.006 * expected.max()
    assert (movie[0, 0] - drawn).abs().max() > 0.1 * drawn.max()


def test_two_views_may_share_a_camera(toy_instrument):
    views = (View(), View(name="right half", affine_yx=((1.0, 0.0, 0.0), (0.0, 1.0, 30 * 110.0))))
    instrument = changed(toy_instrument, views=views)
    movie = Scene(instrument, SHAPE, window_px=15).draw(emissions((0, 500.0, MIDDLE, 15 * 110.0, 1000.0)), 1)
    assert movie.shape == (1, 1, *SHAPE)
    left, right = movie[0, 0, :, 7:23], movie[0, 0, :, 37:53]
    assert torch.allclose(left, right, atol=1e-3)
    assert left.sum() > 100


def test_cameras_may_have_different_pixels(toy_instrument):
    cameras = (toy_instrument.cameras[0], toy_instrument.cameras[0].model_copy(update={"pixel_um": 16.0}))
    instrument = changed(toy_instrument, views=(View(), View(camera=1)), cameras=cameras)
    movie = Scene(instrument, SHAPE).draw(emissions((0, 500.0, 3300.0, 4800.0, 1000.0)), 1)[0]
    for image, pixel in zip(movie, (110.0, 160.0), strict=True):
        row, column = divmod(int(image.argmax()), 61)
        assert (row, column) == (round(3300 / pixel), round(4800 / pixel))


@pytest.mark.parametrize("own", [0.0, 60.0])
def test_the_blur_of_a_molecule_adds_to_that_of_the_view(toy_instrument, own):
    instrument = changed(toy_instrument, views=(View(zernike_noll_rad={6: 1.0}, blur_nm=own),))
    scene = Scene(instrument, SHAPE, blur_nm=(0.0, 140.0), window_px=61)
    for blur in (0.0, 45.0, 140.0):
        drawn = scene.draw(emissions((0, 500.0, MIDDLE, MIDDLE, 1.0), blur=blur), 1)[0, 0]
        expected = exact(instrument, 500.0, MIDDLE, MIDDLE, blur=math.hypot(own, blur))
        assert (drawn - expected).abs().max() < 0.01 * expected.max(), blur


def test_one_blur_for_all_molecules_works_too(toy_instrument):
    scene = Scene(toy_instrument, SHAPE, blur_nm=(80.0, 80.0), window_px=61)
    drawn = scene.draw(emissions((0, 500.0, MIDDLE, MIDDLE, 1.0), blur=80.0), 1)[0, 0]
    expected = exact(toy_instrument, 500.0, MIDDLE, MIDDLE, blur=80.0)
    assert (drawn - expected).abs().max() < 0.01 * expected.max()


def test_the_window_is_chosen_so_that_its_edge_is_faint(toy_instrument):
    window = choose_window_px(toy_instrument, 0, (128, 128))
    smaller = choose_window_px(toy_instrument, 0, (128, 128), faint=2e-4)
    assert window % 2 == smaller % 2 == 1
    assert smaller < window < 128
    pupil = view_pupil(toy_instrument)
    edges = []
    for side in (window, smaller):
        image = camera_images(pupil, torch.tensor([[0.0, 0, 0], [500, 0, 0], [1000, 0, 0]]), (side, 110.0, True))
        edges.append(float(torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1).mean(1).max()))
    assert edges[0] < 2e-5 < edges[1] < 2.1e-4


def test_the_window_is_no_larger_than_the_frame_can_show(toy_instrument):
    assert choose_window_px(toy_instrument, 0, (9, 12), faint=1e-12) == 23


def test_a_scene_without_molecules_is_dark(toy_instrument):
    empty = emissions((0, 0.0, 0.0, 0.0, 1.0)).in_frames(5, 6)
    assert len(empty) == 0
    assert (Scene(toy_instrument, (20, 30)).draw(empty, 4) == 0).all()
