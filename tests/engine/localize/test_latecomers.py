"""Molecules whose light their neighbours took, and guesses that stand twice at one place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_volumetric_smlm.engine.localize.latecomers import most_promising, profile_gain
from napari_volumetric_smlm.engine.localize.localizer import Localizer, Rules
from napari_volumetric_smlm.engine.localize.refine import Refiner
from napari_volumetric_smlm.engine.localize.scene import State
from napari_volumetric_smlm.engine.localize.search import Candidates
from napari_volumetric_smlm.engine.localize.unrefined import Unrefined
from napari_volumetric_smlm.engine.optics.table import PsfTable

SIDE_PX = 40
RULES = Rules(threshold=25.0, depth_step_nm=200.0, apart_nm=700.0, largest_count=50, background_scale_px=40.0, passes=1, largest_reseats=0)
CROWDED = replace(RULES, weakest_first=True, neighbours_follow=True)


@pytest.fixture(scope="module")
def table(toy_instrument) -> PsfTable:
    return PsfTable(toy_instrument, 13)


def test_the_gain_of_a_newcomer_is_that_of_a_joint_step_with_all_others(table, state_of, frame_of):
    localizer = Localizer(table, (SIDE_PX, SIDE_PX), RULES)
    middle = sum(localizer.refiner.z_range) / 2
    truth = state_of(localizer, [(middle, 20.0, 18.0, 6000.0), (middle + 90, 19.0, 22.5, 5000.0), (middle - 80, 23.0, 20.0, 4000.0)])
    patches = frame_of(localizer, truth)
    state = truth.only(torch.tensor([True, True, False]))
    here, _ = localizer.refiner.refine(patches, state, 20)
    here = localizer.refiner.linearize(patches, state)
    new = state_of(localizer, [(middle - 60, 22.6, 20.4, 1.0), (middle, 8.0, 31.0, 1.0)])
    gain, photons = profile_gain(localizer.refiner, patches, new, here)
    for k in range(2):
        both = State(**state.__dict__)
        both.add(new.patch_m[:1], new.position_m3[k : k + 1], new.photons_m[k : k + 1] * 1e-3, new.blur_m[:1])
        joint = localizer.refiner.linearize(patches, both)
        # a place without light does not count: of the newcomer, only its photons are free
        free = torch.tensor([*range(8), 11, *range(12, 12 + localizer.background.count)])
        fisher, gradient = joint.fisher_t[0][free][:, free].double(), joint.gradient_t[0][free].double()
        step = torch.linalg.solve(fisher, gradient)
        old = torch.linalg.solve(here.fisher_t[0].double(), here.gradient_t[0].double())
        expected = float(gradient @ step - here.gradient_t[0].double() @ old) / 2
        assert float(photons[k]) == pytest.approx(float(step[8]), rel=0.03, abs=5)
        assert float(gain[k]) == pytest.approx(expected, rel=0.05, abs=0.05)


def test_of_two_guesses_at_one_place_one_stays(table, state_of, frame_of):
    localizer = Localizer(table, (SIDE_PX, SIDE_PX), RULES)
    middle = sum(localizer.refiner.z_range) / 2
    patches = frame_of(localizer, state_of(localizer, [(middle, 20.2, 19.6, 6000.0)]))
    twice = [(middle + 10, 20.2, 19.6, 3000.0), (middle - 10, 20.2, 19.6, 3000.0)]
    left = {}
    for name, rules in (("all at once", RULES), ("weakest first", CROWDED)):
        localizer, state = Localizer(table, (SIDE_PX, SIDE_PX), rules), state_of(localizer, twice)
        here = localizer.refiner.refine(patches, state, 3)[0]
        localizer._judge(patches, state, here, RULES.threshold)
        left[name] = len(state.photons_m)
    assert left == {"all at once": 0, "weakest first": 1}


def test_a_molecule_whose_light_its_neighbours_took_gains_more_when_they_follow(table, state_of, frame_of):
    localizer = Localizer(table, (SIDE_PX, SIDE_PX), CROWDED)
    middle = sum(localizer.refiner.z_range) / 2
    truth = state_of(localizer, [(middle, 20.0, 18.0, 6000.0), (middle, 20.0, 22.0, 6000.0), (middle, 20.5, 20.0, 2000.0)])
    patches = frame_of(localizer, truth)
    state = truth.only(torch.tensor([True, True, False]))
    localizer.refiner.refine(patches, state, 30)
    here = localizer.refiner.linearize(patches, state)
    maps = localizer.filter.gains_beyond(patches, here.mean_tvyx)
    held = float(maps[0][..., 17:24, 16:25].max())
    found = most_promising(localizer, patches, (state, here), maps)
    assert float(found.gain_m[0]) > 1.5 * held
    assert float((found.position_m3[0] - truth.position_m3[2])[1:].norm()) < 250
    # a network's guess is weighed where the gain has no maximum at all
    flat = (torch.zeros_like(maps[0]), maps[1])
    assert len(most_promising(localizer, patches, (state, here), flat).gain_m) == 0
    guesses = Candidates(
        torch.zeros(2).long(), truth.position_m3[2] + torch.tensor([[0.0, 0, 0], [0, 700, 900]]), torch.ones(2), torch.ones(2)
    )
    (chosen,) = most_promising(localizer, patches, (state, here), flat, guesses).position_m3
    assert torch.equal(chosen, truth.position_m3[2])


def test_a_doubtful_guess_waits_until_the_sure_ones_are_fitted_and_then_has_to_earn_its_place(table, state_of, frame_of):
    middle = sum(Localizer(table, (SIDE_PX, SIDE_PX), RULES).refiner.z_range) / 2
    # the third is hidden between two, the fourth guess is wrong
    places = [(middle, 20.0, 18.0, 6000.0), (middle, 20.0, 22.0, 6000.0), (middle, 20.5, 20.0, 2000.0), (middle, 8.0, 31.0, 2000.0)]
    begun: list[int] = []

    def run(way: type[Localizer], sure: float, doubtful: float) -> State:
        localizer = way(table, (SIDE_PX, SIDE_PX), replace(CROWDED, rounds=3, sure=sure))
        guesses = state_of(localizer, places)
        patches = frame_of(localizer, guesses.only(torch.tensor([True, True, True, False])))
        gain = torch.tensor([0.9, 0.9, doubtful, doubtful])
        localizer.propose = lambda _: Candidates(guesses.patch_m, guesses.position_m3, guesses.photons_m, gain)
        steps = localizer.run(patches)
        begun.append(next(steps))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value.state

    found = run(Localizer, 0.15, 0.1)
    assert begun.pop() == 2
    assert len(found.photons_m) == 3
    truth = torch.tensor(places[2][1:3]) * table.pixel_v[0]
    assert float((found.position_m3[:, 1:] - truth).norm(dim=1).min()) < 100
    assert len(run(Unrefined, 0.15, 0.1).photons_m) == 2
    assert len(run(Unrefined, 0.15, 0.2).photons_m) == 4


def test_the_linearization_of_a_patch_among_others_is_that_of_the_patch_alone(one_view_table, make_state, make_patches):
    state, background = make_state(one_view_table, 3)
    patches = make_patches(one_view_table, state, background)
    refiner = Refiner(one_view_table, background)
    cut, alone = (
        refiner.linearize(patches, state).of_patch(1, state),
        refiner.linearize(patches.select(torch.tensor([1])), state.of_patch(1)),
    )
    for name in ("likelihood_t", "mean_tvyx", "jacobian", "place_m5"):
        torch.testing.assert_close(getattr(cut, name), getattr(alone, name))
    assert torch.equal(cut.layout.index, alone.layout.index)
    torch.testing.assert_close(cut.fisher_t[0], alone.fisher_t[0])
    torch.testing.assert_close(cut.gradient_t[0], alone.gradient_t[0], rtol=1e-3, atol=1e-2)
