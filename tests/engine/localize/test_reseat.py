"""Moves out of local optima: wrong states on noisy patches whose truth is known."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.localizer import Localizer, Rules
from napari_volumetric_smlm.engine.localize.reseat import reseat
from napari_volumetric_smlm.engine.localize.scene import Patches, State
from napari_volumetric_smlm.engine.optics.table import PsfTable

SIDE_PX = 40
RULES = Rules(threshold=30.0, depth_step_nm=100.0, apart_nm=700.0, largest_count=50, background_scale_px=40.0)


@pytest.fixture(scope="module")
def localizer(toy_instrument) -> Localizer:
    return Localizer(PsfTable(toy_instrument, 13), (SIDE_PX, SIDE_PX), RULES)


def moved(localizer: Localizer, patches: Patches, state: State) -> bool:
    """Run the moves to their end."""
    steps = reseat(localizer, patches, state)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def distances(state: State, truth: State) -> torch.Tensor:
    """Distance in nm from each true molecule to the nearest found one."""
    return torch.cdist(truth.position_m3, state.position_m3).amin(1)


def test_a_molecule_at_the_wrong_depth_goes_to_the_right_one(localizer, state_of, frame_of):
    low, high = localizer.refiner.z_range
    truth = state_of(localizer, [(low + 0.25 * (high - low), 20.3, 19.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.95 * (high - low), 20.0, 20.0, 5000.0)])
    assert moved(localizer, patches, state)
    assert float(distances(state, truth).max()) < 40


def test_one_molecule_that_stands_for_two_becomes_two(localizer, state_of, frame_of):
    low, high = localizer.refiner.z_range
    middle = (low + high) / 2
    truth = state_of(localizer, [(middle, 20.2, 17.4, 6000.0), (middle, 20.1, 22.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(middle, 20.0, 20.0, 12000.0)])
    assert moved(localizer, patches, state)
    assert len(state.photons_m) == 2
    assert float(distances(state, truth).max()) < 40


def test_what_explains_its_light_stays(localizer, state_of, frame_of):
    low, high = localizer.refiner.z_range
    truth = state_of(localizer, [(low + 0.5 * (high - low), 20.3, 13.6, 6000.0), (low + 0.4 * (high - low), 14.3, 27.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.5 * (high - low), 20.3, 13.6, 6000.0), (low + 0.4 * (high - low), 14.3, 27.6, 6000.0)])
    assert not moved(localizer, patches, state)
    torch.testing.assert_close(state.position_m3, truth.position_m3)


def test_molecules_far_from_the_bad_place_keep_their_position_to_the_bit(localizer, state_of, frame_of):
    low, high = localizer.refiner.z_range
    far = (low + 0.5 * (high - low), 6.0, 33.0, 6000.0)
    truth = state_of(localizer, [(low + 0.25 * (high - low), 26.3, 12.6, 6000.0), far])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.95 * (high - low), 26.0, 13.0, 5000.0), far])
    assert moved(localizer, patches, state)
    assert bool((state.position_m3 == truth.position_m3[1]).all(1).any())
