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
