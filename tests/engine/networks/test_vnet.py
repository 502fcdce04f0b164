"""The compact V-Net: the plane sweep is physics, tiles leave no trace, and nothing is left to chance."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.networks.vnet import SWEPT, CompactVNet, Exposure, tile_volume, tiles_of
from napari_volumetric_smlm.engine.simulate.phantoms import Phantom
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid, parallax_px, view_kernels
from napari_volumetric_smlm.engine.simulate.volumes import VolumeScene
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes.split_views import cut_instrument

COARSE = 3  # planes


@pytest.fixture(scope="module")
def network():
    """A small network in which every weight matters."""
    generator = torch.Generator().manual_seed(5)
    parallax = 12 * torch.rand((3, 5, 2), generator=generator) - 6
    network = CompactVNet(parallax, 8, (1, 3), COARSE).eval().requires_grad_(False)
    for weights in network.parameters():
        weights.copy_(0.2 * torch.randn(weights.shape, generator=generator))
    return network


def frames(shape, count=2):
    generator = torch.Generator().manual_seed(6)
    views = torch.poisson(torch.full((count, 3, *shape), 20.0), generator=generator)
    coarse = 20 * torch.rand((count, COARSE, *((n + 1) // 2 for n in shape)), generator=generator)
    return views - 15, Exposure.of(views, torch.full((count, 3), 15.0), 2.0), coarse


@pytest.mark.parametrize("shape", [(64, 48), (33, 47)])
def test_a_volume_has_the_size_of_its_frames_and_comes_again_to_the_bit(network, shape):
    views, exposure, coarse = frames(shape)
    volume = network(views, exposure, coarse)
    assert volume.shape == (2, 5, *shape)
    assert (volume >= 0).all()
    assert torch.equal(volume, network(views, exposure, coarse))
    alone = network(views[1:], Exposure(exposure.unit_t[1:], exposure.noise_t[1:]), coarse[1:])
    assert (alone[0] - volume[1]).abs().max() < 1e-5 * volume.max()


@pytest.mark.parametrize("shape", [(120, 90), (121, 87)])
def test_tiles_make_the_same_volume_as_the_whole_frame(network, shape):
    views, exposure, coarse = frames(shape)
    whole, tiled = network(views, exposure, coarse), torch.full((2, 5, *shape), torch.nan)
    tiles = tiles_of(shape, 32)
    for tile in tiles:
        top, left, bottom, right = tile
        tiled[..., top:bottom, left:right] = tile_volume(network, views, exposure, coarse, tile)
    assert len(tiles) == 12
    assert (tiled - whole).abs().max() < 1e-5 * whole.max()


def test_the_halo_is_not_wider_than_needed_and_not_narrower(network):
    views, exposure, coarse = frames((160, 160), 1)
    before = network(views, exposure, coarse)
    views[..., 80, 80] += 1000
    changed = (network(views, exposure, coarse) != before).any((0, 1)).nonzero()
    reach = (changed - 80).abs().max()
    assert network.halo_px - 6 <= reach <= network.halo_px


def test_shifted_back_by_their_parallax_views_of_a_point_agree_at_its_depth_only():
    instrument = cut_instrument(load_example("light_field_3"))
    grid = DepthGrid.of(instrument, 250.0)
    network = CompactVNet(parallax_px(view_kernels(instrument, grid, 61)), 4, (1,), COARSE)
    # far from focus the brightest spot of a view lags behind its centre of light, which the parallax is taken from
    for plane, slack in ((4, 0), (8, 0), (10, 0), (14, 2)):
        point = torch.tensor([[float(grid.z_nm[plane]), 32 * 145.0, 28 * 145.0]])
        views, _ = VolumeScene(instrument, grid, (64, 64), 61).draw(Phantom(point, torch.tensor([1000.0])))
        least = network._sweep(views[None])[0].amin(0)
        z, y, x = (int(n) for n in torch.unravel_index(least.argmax(), least.shape))
        assert abs(SWEPT * z - plane) <= slack
        assert abs(2 * y + 0.5 - 32) < 2
        assert abs(2 * x + 0.5 - 28) < 2


def test_the_unit_of_a_frame_is_its_signal_and_not_its_noise():
    generator = torch.Generator().manual_seed(7)
    dark = torch.poisson(torch.full((1, 3, 200, 200), 50.0), generator=generator)
    bright = torch.poisson(torch.full((1, 3, 200, 200), 50.0) + 200 * (torch.arange(200) % 2), generator=generator)
    ground = torch.full((1, 3), 50.0)
    assert float(Exposure.of(dark, ground, 0.0).unit_t) < 1.5
    # half of the pixels 200 above the background
    found = Exposure.of(bright, ground, 0.0)
    assert float(found.unit_t) == pytest.approx(200 / 2**0.5, rel=0.03)
    assert float(found.noise_t) == pytest.approx(150**0.5 / (200 / 2**0.5), rel=0.03)
