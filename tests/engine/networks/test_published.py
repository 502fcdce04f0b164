"""The published networks have the published size, cost and shape."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_volumetric_smlm.engine.networks.published import LARGEST, AutoDs3d, DeepStorm3d
from napari_volumetric_smlm.errors import PlanError


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def giga_flop(network: torch.nn.Module) -> float:
    counter = FlopCounterMode(display=False)
    # nothing is computed on the meta device, only counted
    with torch.no_grad(), counter:
        network.to("meta")(torch.empty((1, 1, 128, 128), device="meta"))
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize(("planes", "published"), [(121, 612_703), (81, 435_743)])
def test_deepstorm3d_has_as_many_parameters_as_published(planes, published):
    assert parameters(DeepStorm3d(planes)) == published
    # dilation costs nothing
    assert parameters(DeepStorm3d(planes, short=True)) == published


@pytest.mark.parametrize(("planes", "published"), [(121, 212.8), (81, 120.2)])
def test_deepstorm3d_costs_as_much_as_published(planes, published):
    assert giga_flop(DeepStorm3d(planes)) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("upsampling", "published"), [(4, 120.2), (2, 38.3), (1, 14.2)])
def test_autods3d_costs_as_much_as_published(upsampling, published):
    assert giga_flop(AutoDs3d(81, upsampling)) == pytest.approx(published, rel=0.01)


def test_autods3d_has_the_same_weights_on_every_grid():
    shapes = [{n: v.shape for n, v in AutoDs3d(21, k).state_dict().items()} for k in (1, 2, 4)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert parameters(AutoDs3d(81, 4)) == 435_743


@pytest.mark.parametrize(
    ("network", "scale"), [(DeepStorm3d(9), 4), (DeepStorm3d(5, short=True), 4), (AutoDs3d(9, 2), 2), (AutoDs3d(9), 1)]
)
def test_every_pixel_becomes_a_column_of_voxels_whatever_the_size(network, scale):
    with torch.no_grad():
        found = network.eval()(torch.randn(2, 1, 13, 22))
    assert found.shape == (2, network.depth_planes, 13 * scale, 22 * scale)
    assert 0 <= float(found.min()) <= float(found.max()) <= LARGEST


@torch.no_grad()
def reach(network: torch.nn.Module) -> int:
    """Pixels over which one pixel of the frame is felt."""
    network.eval()
    dark, lit = torch.zeros(1, 1, 101, 101), torch.zeros(1, 1, 101, 101)
    lit[..., 50, 50] = 100.0
    seen = []
    network.leave.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(dark)
    network(lit)
    columns = (seen[0] != seen[1]).any(1)[0].any(0).nonzero()[:, 0]
    return int(columns.max() - columns.min() + 1) // network.upsampling


def test_the_short_network_sees_less_of_the_frame():
    torch.manual_seed(0)
    whole, short = reach(DeepStorm3d(3)), reach(DeepStorm3d(3, short=True))
    # 1 + 2 (1 + 1 + 2 + 4 + 8 + 16) pixels before the grid becomes finer; short: 1 + 2 (1 + 1 + 2 + 4 + 1 + 1)
    assert 65 <= whole <= 65 + 6
    assert 21 <= short <= 21 + 6


def test_another_grid_is_refused_in_words():
    with pytest.raises(PlanError, match="upsampling 3: the published networks know 1, 2 and 4"):
        AutoDs3d(81, 3)
