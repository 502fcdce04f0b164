"""The published V-Net: its layers by their number of weights, and the mended defects."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.networks.published_vnet import PublishedVNet
from napari_volumetric_smlm.engine.networks.vnet import Exposure
from napari_volumetric_smlm.errors import PlanError

PUBLISHED_WEIGHTS = 90_529_360


@pytest.mark.parametrize(("copies", "fewer"), [(8, 0), (1, 7 * 16 * 27)])
def test_it_has_as_many_weights_as_published(copies, fewer):
    with torch.device("meta"):
        network = PublishedVNet(3, 64, stem_copies=copies)
    assert sum(weights.numel() for weights in network.parameters()) == PUBLISHED_WEIGHTS - fewer


def test_equal_copies_of_the_stem_are_one_channel_with_the_sum_of_their_weights():
    torch.manual_seed(1)
    many, one = PublishedVNet(3, 4, 2, 4, stem_copies=8).eval(), PublishedVNet(3, 4, 2, 4).eval()
    weights = many.state_dict()
    weights["down.0.0.weight"] = weights["down.0.0.weight"].sum(1, keepdim=True)
    one.load_state_dict(weights)
    views, exposure = frames((8, 8))
    assert (many(views, exposure) - one(views, exposure)).abs().max() < 1e-4


def frames(shape):
    views = 100 * torch.rand((2, 3, *shape), generator=torch.Generator().manual_seed(2))
    return views, Exposure.of(views, torch.zeros(2, 3), 2.0)


def test_any_size_is_read_and_nothing_is_dropped_when_it_is_used():
    torch.manual_seed(3)
    network = PublishedVNet(3, 8, 3, 4)
    views, exposure = frames((19, 26))
    network.train()
    assert not torch.equal(network(views, exposure), network(views, exposure))
    network.eval()
    volume = network(views, exposure)
    assert volume.shape == (2, 8, 19, 26)
    assert torch.equal(volume, network(views, exposure))


def test_planes_that_cannot_be_halved_are_told():
    with pytest.raises(PlanError, match=r"depth_planes is 33.*multiple of 64"):
        PublishedVNet(3, 33)
