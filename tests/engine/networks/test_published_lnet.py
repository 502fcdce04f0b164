"""The published L-Net: its size, its grid, and molecules out of its answer."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.networks import published_lnet
from napari_volumetric_smlm.engine.networks.published_lnet import PublishedLNet, molecules_of
from napari_volumetric_smlm.engine.training.voxel_losses import lnet_loss


@pytest.mark.parametrize(("scale", "levels", "parameters"), [((4, 4, 4), 2, 70_353), ((4, 4, 4), 4, 1_326_001), ((4, 8, 8), 6, 21_401_393)])
def test_it_has_as_many_parameters_as_published(scale, levels, parameters):
    with torch.device("meta"):
        network = PublishedLNet(scale, levels)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_its_answer_lies_on_the_finer_grid_and_is_never_negative():
    network = PublishedLNet((4, 8, 8), 3).eval()
    with torch.no_grad():
        answer = network(torch.rand((2, 3, 5, 4)))
    assert answer.shape == (2, 12, 40, 32)
    assert answer.min() >= 0


class Sharpest(PublishedLNet):
    """Answers as a perfect network would for volumes with single bright voxels: the finer voxel in the middle of each."""

    def forward(self, volumes_tzyx):
        fine = torch.zeros((1, *(n * s for n, s in zip(volumes_tzyx.shape[1:], self.scale_zyx, strict=True))))
        for _, z, y, x in volumes_tzyx.nonzero().tolist():
            a, b, c = (slice(n * s + s // 2 - 1, n * s + s // 2 + 1) for n, s in zip((z, y, x), self.scale_zyx, strict=True))
            fine[0, a, b, c] = volumes_tzyx[0, z, y, x]
        self.calls = getattr(self, "calls", 0) + 1
        return fine


def test_molecules_come_out_once_each_wherever_the_patches_meet(monkeypatch):
    monkeypatch.setattr(published_lnet, "FINE_PX", 32)  # patches of 8 voxels, of which 4 count
    volume = torch.zeros((9, 14, 14))
    truth = torch.cartesian_prod(torch.tensor([0, 4, 8]), torch.tensor([0, 3, 7, 12]), torch.tensor([1, 4, 8, 13]))
    volume[tuple(truth.T)] = 2.0 + torch.rand(len(truth), generator=torch.Generator().manual_seed(0))
    places, heights = molecules_of(Sharpest((4, 4, 4), 2), volume, 1.0)
    assert len(places) == len(truth)
    distance, nearest = torch.cdist(truth.float(), places).min(1)
    assert distance.max() < 1e-4
    assert torch.allclose(heights[nearest], volume[tuple(truth.T)])


def test_empty_patches_are_skipped(monkeypatch):
    monkeypatch.setattr(published_lnet, "FINE_PX", 32)
    network = Sharpest((4, 4, 4), 2)
    volume = torch.zeros((4, 40, 40))
    volume[2, 5, 5] = 3.0
    molecules_of(network, volume, 1.0)
    assert network.calls == 1
    assert len(molecules_of(network, torch.zeros((4, 40, 40)), 1.0)[0]) == 0
    assert network.calls == 1


def test_the_loss_is_the_sum_over_all_that_a_molecule_spreads_even_at_the_edge():
    answer = torch.zeros((1, 12, 12, 12))
    losses = []
    for place in ((6, 6, 6), (0, 0, 0), (0, 6, 11)):
        wrong = answer.clone()
        wrong[0][place] = 0.5
        losses.append(float(lnet_loss(wrong, answer)["volume"]))
    # by hand: the squares of a Gaussian of sigma one, cut at three, add up along each axis
    line = sum(torch.exp(torch.tensor(-float(k * k))) for k in range(-3, 4))
    assert losses == pytest.approx([0.25 * float(line) ** 3] * 3, rel=1e-4)
    assert float(lnet_loss(answer, answer)["volume"]) == 0
