"""Volumes and views of points against the pupil's own images, and imaging plane by plane against its adjoint."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.views import light_field_numbers, whole_pupil
from napari_volumetric_smlm.engine.simulate.molecules import Emissions
from napari_volumetric_smlm.engine.simulate.phantoms import Phantom
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid, FocusScan, PlaneImaging, parallax_px, view_kernels
from napari_volumetric_smlm.engine.simulate.scene import Scene
from napari_volumetric_smlm.engine.simulate.volumes import WIDE_FIELD_REACH_NM, VolumeScene
from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes.split_views import cut_instrument

SHAPE = (48, 40)


@pytest.fixture(scope="module")
def instrument():
    return cut_instrument(load_example("light_field_3"))


@pytest.fixture(scope="module")
def grid(instrument):
    return DepthGrid.of(instrument, 125.0)


@pytest.fixture(scope="module")
def scene(instrument, grid):
    return VolumeScene(instrument, grid, SHAPE, 61)


def test_planes_fill_the_depth_range(grid, instrument):
    assert (grid.planes, grid.step_nm) == (33, 125.0)
    assert (float(grid.z_nm[0]), float(grid.z_nm[-1])) == instrument.depth_range_nm
    assert float(grid.wider(2).z_nm[2]) == float(grid.z_nm[0])


def test_views_of_points_between_voxels_are_those_of_the_molecules_simulator(instrument, scene):
    generator = torch.Generator().manual_seed(1)
    count = 12
    place = torch.rand((count, 3), generator=generator) * torch.tensor([3800.0, 47 * 145.0, 39 * 145.0]) - torch.tensor([1900.0, 0.0, 0.0])
    light = 100 + 900 * torch.rand(count, generator=generator)
    shown, _ = scene.draw(Phantom(place, light))
    emissions = Emissions(torch.zeros(count).long(), torch.arange(count), place, light, torch.ones(count), torch.zeros(count))
    exact = Scene(instrument, SHAPE, window_px=61).draw(emissions, 1)[0]
    assert (shown - exact).abs().max() < 0.004 * exact.max()
    assert shown.sum() == pytest.approx(float(exact.sum()), rel=2e-3)


@pytest.mark.parametrize("place", [(250.0, 20 * 145.0, 18 * 145.0), (190.0, 20.4 * 145.0, 17.7 * 145.0)])
def test_a_plane_of_the_wide_field_volume_is_the_image_with_the_focus_there(place, instrument, grid, scene):
    point = torch.tensor(place)
    _, volume = scene.draw(Phantom(point[None], torch.tensor([1000.0])))
    pupil = view_pupil(whole_pupil(instrument))
    middle = torch.round(point[1:] / 145)
    for plane in (16, 18, 20):
        away = torch.cat([point[:1] - grid.z_nm[plane], point[1:] - middle * 145])
        exact = 1000 * camera_images(pupil, away[None], (11, 145.0, True))[0]
        row, column = int(middle[0]) - 5, int(middle[1]) - 5
        found = volume[plane, row : row + 11, column : column + 11]
        assert (found - exact).abs().max() < 0.03 * 1000 * camera_images(pupil, torch.zeros(1, 3), (11, 145.0, True)).max()


def test_light_from_far_planes_fades_out_of_the_wide_field_volume(scene, grid):
    _, volume = scene.draw(Phantom(torch.tensor([[0.0, 24 * 145.0, 20 * 145.0]]), torch.tensor([1000.0])))
    light = volume.sum((1, 2))
    assert light[16] == pytest.approx(1000, rel=0.05)
    away = (grid.z_nm - 0.0).abs()
    assert light[away > WIDE_FIELD_REACH_NM + 2 * 125].abs().max() < 1


def test_views_shift_with_depth_as_the_rays_of_their_lenses(instrument, grid):
    shift = parallax_px(view_kernels(instrument, grid, 81)) * 145
    slope = torch.tensor(light_field_numbers(load_example("light_field_3")).slope_yx_v)
    # per depth, between -1 um and 1 um, where hardly any light leaves the window
    measured = (shift[:, 24] - shift[:, 8]) / float(grid.z_nm[24] - grid.z_nm[8])
    assert measured == pytest.approx(slope, abs=0.05)


@pytest.mark.parametrize("shape", [(17, 22), (16, 9)])
def test_giving_light_back_is_the_exact_adjoint_of_imaging(shape):
    generator = torch.Generator().manual_seed(2)
    kernel = torch.rand((3, 4, 7, 7), generator=generator, dtype=torch.float64)
    imaging = PlaneImaging(kernel, shape)
    volume = torch.rand((4, *imaging.volume_yx), generator=generator, dtype=torch.float64)
    views = torch.rand((3, *shape), generator=generator, dtype=torch.float64)
    one, other = (imaging.forward(volume) * views).sum(), (volume * imaging.adjoint(views)).sum()
    assert float(one) == pytest.approx(float(other), rel=1e-12)
    # and imaging is the plain sum over planes and places
    assert imaging.forward(volume)[1, 3, 5] == pytest.approx(float((volume[:, 3:10, 5:12] * kernel[1].flip((1, 2))).sum()), rel=1e-12)


def test_a_focus_scan_is_the_plain_sum_over_planes():
    generator = torch.Generator().manual_seed(3)
    kernel = torch.rand((3, 5, 5), generator=generator, dtype=torch.float64)
    volume = torch.rand((6, 14, 15), generator=generator, dtype=torch.float64)
    images = FocusScan(kernel, (8, 9), 1).images(volume)
    assert images.shape == (4, 8, 9)
    # the point one plane above the focus uses the last kernel; the volume reaches 3 pixels beyond the image, the kernel 2
    expected = (volume[1:4, 4:9, 6:11] * kernel.flip((1, 2))).sum()
    assert float(images[1, 3, 5]) == pytest.approx(float(expected), rel=1e-12)


def test_views_that_are_turned_against_each_other_are_refused(instrument, grid):
    turned = instrument.views[1].model_copy(update={"affine_yx": ((1.0, 0.02, 0.0), (-0.02, 1.0, 0.0))})
    with pytest.raises(InstrumentError, match=r"'lens 2' is turned.*differ by\s+shifts only"):
        view_kernels(instrument.model_copy(update={"views": (instrument.views[0], turned)}), grid, 15)
