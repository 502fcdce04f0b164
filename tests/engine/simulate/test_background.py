"""Backgrounds stay between their limits and have the shape of their name."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.simulate.background import background_images


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("structure", ["flat", "gaussian", "perlin"])
def test_no_pixel_leaves_the_range(structure):
    images = background_images(20, (60, 80), (12.0, 37.0), structure, seeded())
    assert images.shape == (20, 60, 80)
    assert images.min() >= 12 - 1e-4
    assert images.max() <= 37 + 1e-4


def test_a_flat_background_is_flat_and_its_level_varies_from_image_to_image():
    images = background_images(50, (8, 8), (10.0, 30.0), "flat", seeded())
    assert (images.amax((1, 2)) == images.amin((1, 2))).all()
    assert images[:, 0, 0].min() < 14
    assert images[:, 0, 0].max() > 26


def test_the_bump_is_one_hill_near_the_middle():
    images = background_images(10, (101, 101), (20.0, 120.0), "gaussian", seeded())
    for image in images:
        row, column = divmod(int(image.argmax()), 101)
        assert 30 < row < 70
        assert 30 < column < 70
        assert float(image.max()) > 119
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.max() < 60
        # falls on every way down from the top
        assert (image[row, column:].diff() <= 1e-3).all()
        assert (image[: row + 1, column].diff() >= -1e-3).all()


def test_clouds_reach_both_limits_and_are_smooth():
    images = background_images(10, (96, 96), (20.0, 40.0), "perlin", seeded())
    assert torch.allclose(images.amin((1, 2)), torch.tensor(20.0), atol=1e-3)
    assert torch.allclose(images.amax((1, 2)), torch.tensor(40.0), atol=1e-3)
    assert images.diff(dim=2).abs().max() < 3
    assert images.std((1, 2)).min() > 2


@pytest.mark.parametrize("structure", ["flat", "gaussian", "perlin"])
def test_the_same_seed_gives_the_same_background(structure):
    one, other, third = (background_images(2, (30, 30), (1.0, 9.0), structure, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
