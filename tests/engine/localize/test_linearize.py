"""What a linearization keeps from one near by is what would be computed anew."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.linearize import HOLD_NM, Linearized
from napari_volumetric_smlm.engine.localize.refine import Refiner

PATCHES = 2


@pytest.fixture(params=["one_view_table", "two_view_table", "blurred_table"])
def world(request, make_state, make_patches):
    """Return refiner, patches and the state that made them, with three molecules in each of two patches."""
    table = request.getfixturevalue(request.param)
    state, background = make_state(table, PATCHES)
    return Refiner(table, background, fit_blur=table.blur2_knots is not None), make_patches(table, state, background), state


def assert_same(one: Linearized, other: Linearized, largest: float) -> None:
    """Both have the same likelihood, and in standard errors of each parameter alone the same gradient and matrix."""
    torch.testing.assert_close(one.likelihood_t, other.likelihood_t, rtol=1e-4, atol=0.05)
    for mine, theirs, slope, expected in zip(one.fisher_t, other.fisher_t, one.gradient_t, other.gradient_t, strict=True):
        scale = theirs.diagonal().rsqrt()
        assert float(((mine - theirs) * scale[:, None] * scale).abs().max()) < largest
        assert float(((slope - expected) * scale).abs().max()) < largest * 30


def test_a_molecule_that_left_is_computed_anew_and_the_others_hold(world):
    refiner, patches, state = world
    before = refiner.linearize(patches, state)
    state.position_m3[1] += torch.tensor([60.0, 30.0, -25.0])
    state.position_m3[3] += 0.4 * torch.tensor(HOLD_NM)
    partly, anew = refiner.linearize(patches, state, before), refiner.linearize(patches, state)
    assert_same(partly, anew, 0.15)
    same = [bool((now == then).all()) for now, then in zip(partly.jacobian, before.jacobian, strict=True)]
    assert same == [True, False, True, True, True, True]
    torch.testing.assert_close(partly.jacobian[1], anew.jacobian[1])
    assert float((partly.fisher_t[0] - before.fisher_t[0]).abs().max()) > 0


def test_nothing_left_means_nothing_new(world):
    refiner, patches, state = world
    before = refiner.linearize(patches, state)
    assert_same(refiner.linearize(patches, state, before), before, 1e-5)
    assert_same(refiner.followed(patches, state, before), before, 1e-5)


def test_a_molecule_that_goes_takes_its_rows_along(world):
    refiner, patches, state = world
    here = refiner.linearize(patches, state)
    keep = torch.tensor([True, False, True, True, True, False])
    fewer = refiner.without(patches, state, here, keep)
    assert state.patch_m.tolist() == [0, 0, 1, 1]
    anew = refiner.linearize(patches, state)
    # the noise is that of before, the rest is not
    torch.testing.assert_close(fewer.likelihood_t, anew.likelihood_t, rtol=1e-4, atol=0.05)
    torch.testing.assert_close(fewer.mean_tvyx, anew.mean_tvyx)
    torch.testing.assert_close(fewer.jacobian, anew.jacobian)
    for mine, theirs, slope, expected in zip(fewer.fisher_t, anew.fisher_t, fewer.gradient_t, anew.gradient_t, strict=True):
        assert mine.shape == theirs.shape
        scale = theirs.diagonal().rsqrt()
        torch.testing.assert_close(slope * scale, expected * scale, atol=1e-2, rtol=1e-3)


def test_a_molecule_that_comes_finds_room_among_those_of_its_patch(world, make_state):
    refiner, patches, state = world
    here = refiner.linearize(patches, state)
    place = torch.tensor([[400.0, 900.0, 1300.0], [550.0, 1500.0, 800.0]])
    order = state.add(torch.tensor([1, 0]), place, torch.tensor([3000.0, 2000.0]), torch.tensor([100.0, 90.0]))
    assert state.patch_m.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    room = refiner.with_more(state, here, order)
    assert room.place_m5.isnan().any(1).nonzero()[:, 0].tolist() == [3, 7]
    more = refiner.linearize(patches, state, room)
    anew = refiner.linearize(patches, state)
    torch.testing.assert_close(more.jacobian, anew.jacobian)
    torch.testing.assert_close(more.mean_tvyx, anew.mean_tvyx)
    p = refiner.parameters
    for mine, theirs in zip(more.fisher_t, anew.fisher_t, strict=True):
        new = slice(3 * p, 4 * p)
        scale = theirs.diagonal().rsqrt()
        torch.testing.assert_close(mine[new] * scale[new, None] * scale, theirs[new] * scale[new, None] * scale, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(mine, mine.T, atol=1e-3, rtol=1e-3)


def test_a_molecule_pushed_against_the_end_of_the_depths_stays_there_and_the_fit_ends(one_view_table, make_state, make_patches):
    truth, background = make_state(one_view_table, 1)
    refiner = Refiner(one_view_table, background)
    low = refiner.z_range[0]
    truth.position_m3[0, 0] = float(one_view_table.z_nm[0])
    patches = make_patches(one_view_table, truth, background)
    state, _ = make_state(one_view_table, 1)
    state.position_m3[0, 0] = low
    here, converged = refiner.refine(patches, state, 40)
    assert bool(converged.all())
    # what cannot move holds nothing else up
    free = refiner.linearize(patches, state)
    pinned = refiner._pinned(patches, state, free)
    steps, promised = refiner._steps(free, torch.zeros(1), pinned)
    assert float(promised[0]) < 0.05
    if bool(pinned[0, 0]):
        assert float(state.position_m3[0, 0]) == pytest.approx(low)
        assert float(steps[0][0]) == 0.0
    assert float(here.likelihood_t[0]) == pytest.approx(float(free.likelihood_t[0]), abs=0.05)
