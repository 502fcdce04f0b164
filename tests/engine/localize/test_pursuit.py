"""Matching pursuit: as good as a maximum-likelihood fit for molecules that stand alone, and greedy where they do not."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.background import CosineBackground
from napari_volumetric_smlm.engine.localize.localizer import Localizer, Rules
from napari_volumetric_smlm.engine.localize.pursuit import Pursuit
from napari_volumetric_smlm.engine.localize.refine import Refiner
from napari_volumetric_smlm.engine.localize.scene import State, padding
from napari_volumetric_smlm.recipes import finish

SHAPE_YX = (30, 26)
RULES = Rules(threshold=25.0, depth_step_nm=100.0, apart_nm=300.0, largest_count=20, background_scale_px=30.0)
ALONE = (430.0, 14.3, 12.6, 4000.0)
APART = [(300.0, 6.2, 6.8, 4000.0), (650.0, 22.7, 18.4, 3000.0)]


def flat(table, molecules, patches=1):
    """State of some patches with the same molecules (z nm, row px, column px, photons) on a flat background of 20 photons."""
    background = CosineBackground(SHAPE_YX, padding(table.window_px), RULES.background_scale_px, table.device)
    rows = torch.tensor(molecules).reshape(-1, 4).repeat(patches, 1)
    ground = torch.zeros((patches, len(table.pixel_v), background.count))
    ground[..., 0] = 20.0
    place = rows[:, :3] * torch.tensor([1.0, table.pixel_v[0], table.pixel_v[0]])
    patch = torch.arange(patches).repeat_interleave(len(molecules))
    return State(patch, place, rows[:, 3], torch.zeros(len(rows)), ground, torch.full(ground.shape[:2], 300.0)), background


def pursue(table, patches, **rules):
    return finish(Pursuit(table, SHAPE_YX, Rules(**{**RULES.__dict__, **rules})).run(patches))


@pytest.mark.parametrize("views", ["one_view_table", "two_view_table"])
def test_a_molecule_alone_is_found_where_the_maximum_of_its_likelihood_is(views, request, make_patches):
    table = request.getfixturevalue(views)
    truth, background = flat(table, [ALONE], 6)
    patches = make_patches(table, truth, background)
    found = pursue(table, patches)
    assert found.state.patch_m.tolist() == list(range(6))
    assert bool(found.converged_m.all())
    best, _ = flat(table, [ALONE], 6)
    Refiner(table, background).refine(patches, best, 20)
    # only the background is told apart from the molecule in another way
    assert float(((found.state.position_m3 - best.position_m3).abs() / found.sigma_mp[:, :3]).max()) < 0.25
    scatter = (found.state.position_m3 - truth.position_m3) / found.sigma_mp[:, :3]
    assert 0.5 < float(scatter.square().mean().sqrt()) < 1.6


def test_molecules_far_apart_are_found_one_after_the_other_and_nothing_else(one_view_table, make_patches):
    truth, background = flat(one_view_table, APART, 4)
    patches = make_patches(one_view_table, truth, background)
    steps = Pursuit(one_view_table, SHAPE_YX, RULES).run(patches)
    told = []
    try:
        while True:
            told.append(next(steps))
    except StopIteration as end:
        found = end.value
    assert told == [1, 2] * 4
    assert found.state.patch_m.tolist() == truth.patch_m.tolist()
    # in each patch the one that explains more comes first
    assert bool((found.state.photons_m[0::2] > found.state.photons_m[1::2]).all())
    assert float(((found.state.position_m3 - truth.position_m3).abs() / found.sigma_mp[:, :3]).max()) < 4
    inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
    left = (patches.photons_tvyx[inner] - found.mean_tvyx) ** 2 / (found.mean_tvyx + patches.read_variance_tvyx[inner])
    assert float(left[patches.seen_tvyx[inner] > 0].mean()) == pytest.approx(1.0, abs=0.1)


def test_where_images_overlap_it_never_gives_light_back_as_the_joint_fit_does(one_view_table, make_patches):
    close = [(400.0, 14.0, 10.5, 5000.0), (500.0, 15.0, 13.5, 5000.0)]
    truth, background = flat(one_view_table, close, 8)
    patches = make_patches(one_view_table, truth, background)
    ways = {name: finish(way(one_view_table, SHAPE_YX, RULES).run(patches)) for name, way in (("joint", Localizer), ("greedy", Pursuit))}
    error = {}
    for name, found in ways.items():
        nearest = torch.cdist(truth.position_m3, found.state.position_m3)
        nearest[truth.patch_m[:, None] != found.state.patch_m[None]] = torch.inf
        error[name] = float(nearest.min(1).values.square().mean().sqrt())
    assert error["greedy"] > 2 * error["joint"]


def test_noise_holds_no_molecule(one_view_table, make_patches):
    truth, background = flat(one_view_table, [], 3)
    found = pursue(one_view_table, make_patches(one_view_table, truth, background))
    assert len(found.state.photons_m) == 0
    assert float(found.mean_tvyx.mean()) == pytest.approx(20, rel=0.1)


def test_it_stops_at_the_largest_count(one_view_table, make_patches):
    truth, background = flat(one_view_table, APART)
    found = pursue(one_view_table, make_patches(one_view_table, truth, background), largest_count=1)
    assert len(found.state.photons_m) == 1


def test_the_blur_of_a_molecule_alone_is_fitted_too(blurred_table, make_patches):
    truth, background = flat(blurred_table, [(430.0, 14.3, 12.6, 20000.0)])
    truth.blur_m += 125.0
    found = pursue(blurred_table, make_patches(blurred_table, truth, background), fit_blur=True)
    assert abs(float(found.state.blur_m[0]) - 125) < 4 * float(found.sigma_mp[0, 4])
