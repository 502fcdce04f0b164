"""The localizer network's shapes, and its units from and to nanometres."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.networks.localizer import LocalizerNetwork, Prediction
from napari_volumetric_smlm.engine.networks.units import Units

UNITS = Units(low_nm=0.0, high_nm=4000.0, pixel_nm=110.0, photons=5000.0)


def blank(height: int, width: int) -> Prediction:
    """Return a prediction without molecules."""
    places = torch.zeros((1, 4, height, width))
    return Prediction(torch.full((1, height, width), -12.0), places, torch.ones_like(places), torch.zeros((1, height, width)))


@pytest.mark.parametrize("shape", [(32, 32), (33, 40), (41, 27)])
def test_every_pixel_gets_an_answer_whatever_the_size(shape):
    network = LocalizerNetwork(6, 8, (1, 2))
    found = network(torch.randn(3, 6, *shape))
    assert found.logit_tyx.shape == (3, *shape)
    assert found.mean_tpyx.shape == found.sigma_tpyx.shape == (3, 4, *shape)
    assert bool((found.sigma_tpyx > 0).all())
    assert bool((found.mean_tpyx[:, 1:3].abs() <= 1).all())


def test_a_new_network_expects_hardly_any_molecule():
    found = LocalizerNetwork(6, 8, (1, 2))(torch.randn(1, 6, 40, 40))
    assert float(torch.sigmoid(found.logit_tyx).mean().detach()) < 0.05


def test_moving_the_frame_by_a_cell_moves_the_answer():
    torch.manual_seed(0)
    network = LocalizerNetwork(3, 8, (1,)).eval()
    wide = torch.randn(1, 3, 44, 44)
    # the norm sees the whole frame, so both crops are given the same mean and spread by mirroring nothing else than their content
    network.blocks[0].norm = torch.nn.Identity()
    here, there = network(wide[..., :40, :40]), network(wide[..., 2:42, 2:42])
    torch.testing.assert_close(here.logit_tyx[:, 10:30, 10:30], there.logit_tyx[:, 8:28, 8:28])


def test_a_molecule_comes_back_from_where_it_was_put():
    predicted = blank(20, 24)
    place = UNITS.encode(torch.tensor([[3100.0, 7.3 * 110, 11.8 * 110]]), torch.tensor([8000.0]))[0]
    predicted.logit_tyx[0, 7, 12] = 4.0
    predicted.mean_tpyx[0, :, 7, 12] = torch.tensor([place[0], place[1] - 7, place[2] - 12, place[3]])
    predicted.sigma_tpyx[0, :, 7, 12] = torch.tensor([0.01, 0.1, 0.2, 0.05])
    found = UNITS.decode(predicted, 0.5)
    torch.testing.assert_close(found.position_n3, torch.tensor([[3100.0, 7.3 * 110, 11.8 * 110]]))
    torch.testing.assert_close(found.photons_n, torch.tensor([8000.0]))
    torch.testing.assert_close(found.sigma_n4, torch.tensor([[20.0, 11.0, 22.0, 250.0]]))


def test_a_molecule_that_two_pixels_share_is_one():
    predicted = blank(20, 20)
    predicted.logit_tyx[0, 7, 8], predicted.logit_tyx[0, 7, 9] = 0.1, -0.1
    found = UNITS.decode(predicted, 0.9)
    assert len(found.frame_n) == 1
    assert float(found.probability_n) > 0.95


def with_and_without_context(width: int = 8) -> tuple[LocalizerNetwork, LocalizerNetwork]:
    """Return a network that joins neighbours at random, and one of single frames with the same weights."""
    torch.manual_seed(1)
    beside, alone = LocalizerNetwork(3, width, (1, 2, 1), context_frames=1).eval(), LocalizerNetwork(3, width, (1, 2, 1)).eval()
    torch.nn.init.normal_(beside.join.weight)
    for block in beside.blocks:
        torch.nn.init.normal_(block.mix.weight, std=0.1)
    alone.load_state_dict({name: value for name, value in beside.state_dict().items() if not name.startswith("join")})
    return beside, alone


def same(one: Prediction, other: Prediction) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@torch.no_grad()
def test_a_frame_without_neighbours_is_read_as_by_a_network_that_knows_none():
    beside, alone = with_and_without_context()
    frames = torch.randn(2, 3, 3, 21, 18)
    still = frames[:, 1]
    assert same(beside(still), alone(still))
    torch.testing.assert_close(beside(frames * torch.tensor([0.0, 1, 0])[:, None, None, None]).logit_tyx, alone(still).logit_tyx)
    shown = beside(frames).logit_tyx
    assert shown.shape == (2, 21, 18)
    assert not torch.allclose(shown, alone(still).logit_tyx, atol=0.01)
    # the frame before says something else than the frame after
    assert not torch.allclose(shown, beside(frames.flip(1)).logit_tyx, atol=0.01)


@torch.no_grad()
def test_first_layers_that_ran_once_a_frame_of_a_movie_say_what_they_say_of_each_frame_and_its_neighbours():
    beside, _ = with_and_without_context()
    movie = torch.randn(4, 3, 20, 20)
    glance = beside.look(movie)
    middle = type(glance)(glance.entered[1:-1], glance.seen[1:-1])
    at_once = beside.judge(middle, (glance.seen[:-2], glance.seen[2:]), (20, 20))
    each = beside(torch.stack([movie[:-2], movie[1:-1], movie[2:]], 1))
    torch.testing.assert_close(at_once.logit_tyx, each.logit_tyx)
    torch.testing.assert_close(at_once.mean_tpyx, each.mean_tpyx)


def test_neighbours_cost_one_convolution_more_and_leave_the_other_weights_as_they_were():
    weights = []
    for context in (0, 1):
        torch.manual_seed(5)
        weights.append(LocalizerNetwork(3, 8, (1, 2), context).state_dict())
    assert set(weights[1]) - set(weights[0]) == {"join.weight"}
    assert weights[1]["join.weight"].shape == (8, 16, 1, 1)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
