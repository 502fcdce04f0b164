"""The lens in three dimensions, and what a standing pattern makes of it."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine.structured.otf import transfer_of
from napari_volumetric_smlm.engine.structured.volume_otf import focus_series

STEP_UM, PLANES = 0.1, 60


@pytest.fixture(scope="module")
def series(lens):
    return focus_series(lens, transfer_of(lens), STEP_UM, PLANES)


def farthest_axial(q):
    """From a ray at the rim of the pupil to the one that lies q towards the opposite rim, both on the sphere of radius n / wavelength."""
    medium, rim = 1.518 / 0.525, 1.3 / 0.525
    return math.sqrt(medium**2 - (rim - q) ** 2) - math.sqrt(medium**2 - rim**2)


@pytest.mark.parametrize("q", [0.8, 1.6, 2.4, 3.2, 4.0])
def test_the_lens_passes_light_up_to_the_edge_of_its_support_and_none_beyond(series, q):
    size = series.transfer()(torch.tensor([q])).abs()[:, 0]
    kz, step = series.axial_frequencies().abs(), 1 / (PLANES * STEP_UM)
    edge = farthest_axial(q)
    inside, outside = kz < edge - step, kz > edge + 2 * step
    assert float(size[inside].min()) > 0.05 * float(size.max())
    assert float(size[outside].max()) < 0.03 * float(size.max())


def test_without_a_pattern_there_is_a_missing_cone(series):
    size = series.transfer()(torch.tensor([0.0])).abs()[:, 0]
    assert float(size[0]) == pytest.approx(PLANES, rel=1e-4)
    assert float(size[1:].max()) < 1e-3


def test_a_standing_wave_sees_through_two_copies_of_the_lens(series):
    moved = 9
    lens = series.transfer().values_k
    split = series.transfer(moved / (PLANES * STEP_UM)).values_k
    assert torch.allclose(split, 0.5 * (lens.roll(moved, 0) + lens.roll(-moved, 0)), atol=1e-4)


def test_what_a_damped_lens_lacks_in_focus_it_lacks_in_all_planes(lens, series):
    damped = focus_series(lens, transfer_of(lens).damped(0.3), STEP_UM, PLANES)
    q = torch.tensor([1.0, 2.5, 4.0])
    expected = series.transfer()(q) * 0.3 ** (q / series.in_focus.cutoff_per_um)
    assert torch.allclose(damped.transfer()(q), expected, atol=0.02)
    # the mean over k_z is the plane in focus
    assert torch.allclose(damped.transfer()(q).real.mean(0), damped.in_focus(q), atol=1e-4)
