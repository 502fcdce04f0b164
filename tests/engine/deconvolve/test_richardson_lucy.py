"""Richardson-Lucy: light is kept, the likelihood rises, tiles leave no trace, and points come out where they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from napari_volumetric_smlm.engine.deconvolve.ground import dark_level
from napari_volumetric_smlm.engine.deconvolve.richardson_lucy import Deconvolution, as_wide_field
from napari_volumetric_smlm.engine.simulate.molecules import Emissions
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid, view_kernels, wide_field_kernels
from napari_volumetric_smlm.engine.simulate.scene import Scene
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes.split_views import cut_instrument

NO_GROUND = torch.zeros(3)


@pytest.fixture(scope="module")
def instrument():
    return cut_instrument(load_example("light_field_3")).model_copy(update={"depth_range_nm": (-1000.0, 1000.0)})


@pytest.fixture(scope="module")
def grid(instrument):
    return DepthGrid.of(instrument, 200.0)


@pytest.fixture(scope="module")
def kernel(instrument, grid):
    return view_kernels(instrument, grid, 41)


@pytest.fixture(scope="module")
def views(instrument):
    place = torch.tensor([[-600.0, 25 * 145.0, 20 * 145.0], [600.0, 30.3 * 145, 33.6 * 145], [0.0, 45 * 145.0, 12 * 145.0]])
    points = Emissions(torch.zeros(3).long(), torch.arange(3), place, torch.tensor([3000.0, 3000.0, 3000.0]), torch.ones(3), torch.zeros(3))
    return Scene(instrument, (60, 50), window_px=41).draw(points, 1)[0]


def run(state, iterations):
    for _ in range(iterations):
        for _ in state.iterate():
            pass
    return state


def test_every_iteration_keeps_the_light_of_the_views(views, kernel):
    state = Deconvolution(views, kernel, NO_GROUND)
    for _ in range(3):
        run(state, 1)
        assert float(state.expected().sum()) == pytest.approx(float(views.sum()), rel=1e-3)


def test_the_likelihood_rises_with_every_iteration(views, kernel):
    noisy = torch.poisson(views + 5, generator=torch.Generator().manual_seed(1))
    state = Deconvolution(noisy, kernel, torch.full((3,), 5.0))
    likelihoods = []
    for _ in range(8):
        mean = run(state, 1).expected().double()
        likelihoods.append(float((noisy * mean.log() - mean).sum()))
    assert all(later > earlier for earlier, later in pairwise(likelihoods))


def test_points_come_out_at_their_depth_and_place_with_their_light(views, kernel, grid):
    volume = run(Deconvolution(views, kernel, NO_GROUND), 60).volume_zyx
    for z, y, x in ((-600, 25, 20), (600, 30.3, 33.6), (0, 45, 12)):
        around = volume[:, round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5]
        light = around.sum()
        centre = (around.sum((1, 2)) @ grid.z_nm / light, around.sum((0, 2)) @ torch.arange(9.0) / light + round(y) - 4)
        assert float(centre[0]) == pytest.approx(z, abs=120)
        assert float(centre[1]) == pytest.approx(y, abs=0.3)
        assert float(light) == pytest.approx(3000, rel=0.1)


@pytest.mark.parametrize("tile_px", [25, 32])
def test_tiles_make_the_same_volume_as_the_whole_field(views, kernel, tile_px):
    whole, tiled = (run(Deconvolution(views, kernel, NO_GROUND, tile_px=px), 6) for px in (256, tile_px))
    assert whole.tiles == 1
    assert tiled.tiles > 3
    assert (whole.volume_zyx - tiled.volume_zyx).abs().max() < 1e-3 * whole.volume_zyx.max()


def test_background_that_is_stated_does_not_become_structure(views, kernel):
    bright, dark = views + 20, torch.full_like(views, 20.0)
    ground = torch.full((3,), 20.0)
    told = run(Deconvolution(bright, kernel, ground), 60).volume_zyx.sum()
    untold = run(Deconvolution(bright, kernel, NO_GROUND), 60).volume_zyx.sum()
    nothing = run(Deconvolution(dark, kernel, ground), 60).volume_zyx.sum()
    # what is dimmer than the background goes away slowly
    assert 9000 < told < 12500
    assert untold > 10 * told
    assert nothing < 0.01 * told


def test_pixels_that_do_not_count_do_not_matter(views, kernel):
    seen = torch.ones_like(views)
    seen[1, 20:24, 10:14] = 0
    broken = views.clone()
    broken[1, 20:24, 10:14] = 1e5
    one = run(Deconvolution(views, kernel, NO_GROUND, seen), 5).volume_zyx
    other = run(Deconvolution(broken, kernel, NO_GROUND, seen), 5).volume_zyx
    assert torch.equal(one, other)


def test_a_voxel_of_light_is_blurred_to_the_wide_field_psf(instrument, grid):
    kernel = wide_field_kernels(instrument, grid, 15, 600.0)
    volume = torch.zeros((grid.planes, 30, 31))
    volume[5, 14, 16] = 100.0
    shown = as_wide_field(volume, kernel)
    assert shown[2:9, 7:22, 9:24] == pytest.approx(100 * kernel.flip(0), abs=1e-4)


def test_the_dark_level_is_that_between_structures():
    generator = torch.Generator().manual_seed(4)
    views = torch.full((1, 3, 160, 160), 12.0)
    views[:, :, 30:80, 20:120] += 200
    level = dark_level(torch.poisson(views, generator=generator))
    assert level == pytest.approx(torch.full((1, 3), 12.0), abs=1.2)
