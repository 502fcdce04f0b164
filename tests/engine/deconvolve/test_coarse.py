"""The coarse volume: light where it belongs, in the unit of the fine one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from napari_volumetric_smlm.engine.deconvolve.coarse import CoarseOptics, coarse_planes, coarse_volume
from napari_volumetric_smlm.engine.simulate.phantoms import Phantom
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid, PlaneImaging, view_kernels
from napari_volumetric_smlm.engine.simulate.volumes import VolumeScene
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes.split_views import cut_instrument

WINDOW_PX = 61


@pytest.fixture(scope="module")
def instrument():
    return cut_instrument(load_example("light_field_3"))


@pytest.fixture(scope="module")
def grid(instrument):
    return DepthGrid.of(instrument, 4000 / 24)


@pytest.fixture(scope="module")
def optics(instrument, grid):
    return CoarseOptics.of(instrument, grid, WINDOW_PX)


def test_a_coarse_voxel_images_as_the_fine_pixels_in_it(instrument, grid, optics):
    assert optics.kernel_vzyx.shape == (3, coarse_planes(25), 31, 31)
    # a block of two by two pixels, in the planes that a coarse one stands for
    fine = PlaneImaging(view_kernels(instrument, grid, WINDOW_PX), (64, 64))
    volume = torch.zeros((25, *fine.volume_yx))
    at = fine.margin + 32
    for away, share in ((-2, 1), (-1, 2), (0, 3), (1, 2), (2, 1)):
        volume[12 + away, at : at + 2, at : at + 2] = share / 36
    wanted = 4 * avg_pool2d(fine.forward(volume), 2)
    coarse = PlaneImaging(optics.kernel_vzyx, (32, 32))
    single = torch.zeros((9, *coarse.volume_yx))
    single[4, coarse.margin + 16, coarse.margin + 16] = 1
    found = coarse.forward(single)
    assert 0.97 < float(found.sum()) < 1
    assert (found - wanted).abs().max() < 1e-5 * wanted.max()


def test_large_structures_are_where_they_belong_and_as_bright(instrument, grid, optics):
    # two layers of dense points, side by side, at different depths
    generator = torch.Generator().manual_seed(3)
    place = torch.rand((4000, 3), generator=generator) * torch.tensor([200.0, 6000.0, 3000.0]) + torch.tensor([0.0, 1500.0, 1000.0])
    place[::2, 0] += 900
    place[1::2, 0] -= 1000
    place[1::2, 2] += 4000
    points = Phantom(place, torch.full((4000,), 400.0))
    views, truth = VolumeScene(instrument, grid, (64, 64), WINDOW_PX).draw(points)
    noisy = torch.poisson(views + 5, generator=generator)
    found = coarse_volume(noisy, torch.full((3,), 5.0), optics)
    fine = avg_pool2d(truth, 2)[::3]
    assert found.shape == fine.shape == (9, 32, 32)
    assert float(torch.corrcoef(torch.stack([found.flatten(), fine.flatten()]))[0, 1]) > 0.9
    # ten iterations leave some of the light around it
    assert float((found * fine).sum() / (fine**2).sum()) == pytest.approx(0.86, abs=0.05)
    # the first layer above, the second below
    left, right = found[:, :, 6:12].sum((1, 2)), found[:, :, 18:26].sum((1, 2))
    assert left.argmax() > 4 > right.argmax()


def test_odd_sizes_and_pixels_that_do_not_count_leave_no_trace(optics):
    generator = torch.Generator().manual_seed(4)
    views = torch.poisson(torch.full((3, 41, 37), 50.0), generator=generator)
    dark = coarse_volume(views, torch.full((3,), 50.0), optics)
    assert dark.shape == (9, 21, 19)
    seen = torch.ones_like(views)
    seen[:, 20, 20] = 0
    views[:, 20, 20] = 1e6
    bright = coarse_volume(views, torch.full((3,), 50.0), optics, seen)
    assert bright.max() < 3 * dark.max()
