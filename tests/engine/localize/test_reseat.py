"""Moves out of local optima: wrong states on noisy patches whose truth is known."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.localizer import Localizer, Rules
from napari_volumetric_smlm.engine.localize.reseat import reseat
from napari_volumetric_smlm.engine.localize.scene import Patches, State, model_image, padding, place_windows, window_index
from napari_volumetric_smlm.engine.optics.table import PsfTable

SIDE_PX, GROUND = 40, 10.0
RULES = Rules(threshold=30.0, depth_step_nm=100.0, apart_nm=700.0, largest_count=50, background_scale_px=40.0)


@pytest.fixture(scope="module")
def localizer(toy_instrument) -> Localizer:
    return Localizer(PsfTable(toy_instrument, 13), (SIDE_PX, SIDE_PX), RULES)


def state_of(localizer: Localizer, molecules: list[tuple[float, ...]]) -> State:
    """Return a state with a flat background; molecules are z (nm), y, x (px), photons."""
    rows = torch.tensor(molecules).reshape(-1, 4)
    position = rows[:, :3].clone()
    position[:, 1:] *= localizer.table.pixel_v[0]
    ground = torch.zeros((1, 1, localizer.background.count))
    ground[..., 0] = GROUND
    return State(torch.zeros(len(rows)).long(), position, rows[:, 3].clone(), torch.zeros(len(rows)), ground, torch.ones((1, 1)))


def frame_of(localizer: Localizer, truth: State) -> Patches:
    """Return a patch with Poisson noise."""
    pad = padding(localizer.table.window_px)
    side = SIDE_PX + 2 * pad
    seen = torch.zeros((1, 1, side, side))
    seen[..., pad:-pad, pad:-pad] = 1
    patches = Patches(seen.clone(), torch.ones_like(seen), seen, torch.zeros((1, 1, 2)), localizer.table.pixel_v, pad)
    windows = place_windows(localizer.table, patches, truth, derivatives=False)
    mean = model_image(patches, truth, windows, window_index(windows, patches, truth, 13), localizer.background)
    patches.photons_tvyx = torch.poisson(mean.clamp(min=0), generator=torch.Generator().manual_seed(0)) * seen
    return patches


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


def test_a_molecule_at_the_wrong_depth_goes_to_the_right_one(localizer):
    low, high = localizer.refiner.z_range
    truth = state_of(localizer, [(low + 0.25 * (high - low), 20.3, 19.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.95 * (high - low), 20.0, 20.0, 5000.0)])
    assert moved(localizer, patches, state)
    assert float(distances(state, truth).max()) < 40


def test_one_molecule_that_stands_for_two_becomes_two(localizer):
    low, high = localizer.refiner.z_range
    middle = (low + high) / 2
    truth = state_of(localizer, [(middle, 20.2, 17.4, 6000.0), (middle, 20.1, 22.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(middle, 20.0, 20.0, 12000.0)])
    assert moved(localizer, patches, state)
    assert len(state.photons_m) == 2
    assert float(distances(state, truth).max()) < 40


def test_what_explains_its_light_stays(localizer):
    low, high = localizer.refiner.z_range
    truth = state_of(localizer, [(low + 0.5 * (high - low), 20.3, 13.6, 6000.0), (low + 0.4 * (high - low), 14.3, 27.6, 6000.0)])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.5 * (high - low), 20.3, 13.6, 6000.0), (low + 0.4 * (high - low), 14.3, 27.6, 6000.0)])
    assert not moved(localizer, patches, state)
    torch.testing.assert_close(state.position_m3, truth.position_m3)


def test_molecules_far_from_the_bad_place_keep_their_position_to_the_bit(localizer):
    low, high = localizer.refiner.z_range
    far = (low + 0.5 * (high - low), 6.0, 33.0, 6000.0)
    truth = state_of(localizer, [(low + 0.25 * (high - low), 26.3, 12.6, 6000.0), far])
    patches = frame_of(localizer, truth)
    state = state_of(localizer, [(low + 0.95 * (high - low), 26.0, 13.0, 5000.0), far])
    assert moved(localizer, patches, state)
    assert bool((state.position_m3 == truth.position_m3[1]).all(1).any())
