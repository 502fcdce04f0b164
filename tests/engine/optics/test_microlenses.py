"""Full wave optics through the array against the sub-pupil of each view."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.optics.microlenses import array_images
from napari_volumetric_smlm.engine.optics.psf import sampled_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.examples import load_example

GRID = (81, 145.0, 145.0)
SAMPLES = 449  # the least, 337, and some more


@pytest.fixture(scope="module")
def published():
    return load_example("light_field_3")


def by_sub_pupils(instrument, position, grid=GRID):
    share = torch.tensor([view.photon_fraction for view in instrument.views])
    images = torch.stack(
        [sampled_images(view_pupil(instrument, v), position, grid, view.blur_nm) for v, view in enumerate(instrument.views)], 1
    )
    return images * (share / share.sum())[:, None, None]


def centroid_nm(image: torch.Tensor, step_nm: float = GRID[1]) -> torch.Tensor:
    x = (torch.arange(image.shape[-1]) - image.shape[-1] // 2) * step_nm
    return torch.stack([(image.sum(-1) * x).sum(-1), (image.sum(-2) * x).sum(-1)], -1) / image.sum((-1, -2))[..., None]


def assert_alike(one, other, peak=0.015, centroid=3.0):
    correlation = (one * other).sum((2, 3)) / (one.square().sum((2, 3)) * other.square().sum((2, 3))).sqrt()
    assert correlation.min() > 0.999
    assert ((one - other).abs().amax((2, 3)) / other.amax((2, 3))).max() < peak
    assert (centroid_nm(one) - centroid_nm(other)).abs().max() < centroid


def test_both_models_agree_over_the_depth_and_off_the_axis(published):
    position = torch.tensor([[0.0, 0, 0], [2000, 0, 0], [-2000, 4000, -3000], [1000, -350, 130]])
    assert_alike(array_images(published, position, GRID, SAMPLES), by_sub_pupils(published, position))


@pytest.mark.parametrize(("outline", "samples"), [("hexagon", SAMPLES), ("sector", 769)])
def test_both_models_agree_for_other_outlines(published, outline, samples):
    from napari_volumetric_smlm.engine.optics.views import light_field_instrument

    array = published.microlenses.model_copy(update={"outline": outline})
    instrument = light_field_instrument(array, published)
    position = torch.tensor([[0.0, 100, -200], [800, 0, 0]])
    # a sector reaches the pupil's rim, where the light is steepest and the sub-pupil's grid coarse
    assert_alike(array_images(instrument, position, GRID, samples), by_sub_pupils(instrument, position), peak=0.06, centroid=20.0)


def test_aberrations_of_single_views_pass_through_the_array(published):
    views = tuple(
        view.model_copy(update={"zernike_noll_rad": {5: 1.5 * v, 8: -0.8}, "blur_nm": 60.0}) for v, view in enumerate(published.views)
    )
    instrument = published.model_copy(update={"views": views})
    position = torch.tensor([[500.0, 0, 0]])
    through = array_images(instrument, position, GRID, SAMPLES)
    assert_alike(through, by_sub_pupils(instrument, position))
    plain = array_images(published, position, GRID, SAMPLES)
    assert ((through - plain).abs().amax((2, 3)) / plain.amax((2, 3))).min() > 0.1


def test_the_light_of_all_views_is_one(published):
    light = array_images(published, torch.zeros((1, 3)), (161, 145.0, 145.0), SAMPLES).sum()
    assert 0.98 < float(light) < 1.0


def test_the_focal_length_of_the_lenses_sets_the_scale_on_the_camera_and_not_the_image_in_the_sample(published):
    position = torch.tensor([[1000.0, 300, 0]])
    array = published.microlenses.model_copy(update={"focal_length_mm": 100.0})
    shorter = array_images(published.model_copy(update={"microlenses": array}), position, GRID, SAMPLES)
    assert_alike(shorter, array_images(published, position, GRID, SAMPLES), peak=0.01)


def test_too_few_samples_for_the_lenses_are_refused(published):
    with pytest.raises(InstrumentError, match=r"201 samples across the pupil are too few.*use 3[34]\d or more"):
        array_images(published, torch.zeros((1, 3)), GRID, 201)


def test_an_instrument_without_array_is_refused(published):
    with pytest.raises(InstrumentError, match="has no microlens array"):
        array_images(published.model_copy(update={"microlenses": None}), torch.zeros((1, 3)), GRID)
