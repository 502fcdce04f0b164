"""From voxels to molecules: the same whichever way the maximum is taken, and where they were put."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import maximum_filter

from napari_volumetric_smlm.engine.networks.voxels import VoxelGrid, VoxelRules, decode_voxels, largest_around
from napari_volumetric_smlm.errors import EngineError

GRID = VoxelGrid(low_nm=0.0, high_nm=4000.0, depth_planes=40, pixel_nm=110.0, upsampling=4)
SHAPE = (40, 60, 72)


def draw(places: torch.Tensor, heights: torch.Tensor, sigma: float = 0.8, frame: torch.Tensor | None = None, frames: int = 1):
    """Blobs at fractional indices (n, 3)."""
    volume = torch.zeros((frames, *SHAPE), dtype=places.dtype)
    axes = torch.meshgrid(*(torch.arange(n, dtype=places.dtype) for n in SHAPE), indexing="ij")
    for k, (place, height) in enumerate(zip(places, heights, strict=True)):
        square = sum((axis - at) ** 2 for axis, at in zip(axes, place, strict=True))
        volume[0 if frame is None else int(frame[k])] += height * torch.exp(-square / (2 * sigma**2))
    return volume


def scatter(count: int, seed: int = 0):
    """Places anywhere in the volume, edges included, and heights."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand((count, 3), generator=generator) * (torch.tensor(SHAPE) - 1)
    return places, 100 + 700 * torch.rand(count, generator=generator)


def test_the_maximum_filter_agrees_with_another_implementation():
    volume = torch.rand((2, 11, 12, 13))
    for by_axis in (False, True):
        found = largest_around(volume, 2, by_axis)
        for mine, one in zip(found, volume, strict=True):
            torch.testing.assert_close(mine, torch.from_numpy(maximum_filter(one.numpy(), 5, mode="nearest")), rtol=0, atol=0)


@pytest.mark.parametrize("reach", [2, 4])
def test_both_ways_of_taking_the_maximum_find_identical_molecules(reach):
    places, heights = scatter(60)
    volume = draw(places, heights) + 60 * torch.rand((1, *SHAPE))
    # what a network's last layer cuts off has no single peak
    volume = volume.clamp(max=500)
    dense = decode_voxels(volume, GRID, VoxelRules(reach_voxels=reach, axis_by_axis=False))
    quick = decode_voxels(volume, GRID, VoxelRules(reach_voxels=reach, axis_by_axis=True))
    assert len(dense.frame_n) > 30
    assert torch.equal(dense.frame_n, quick.frame_n)
    assert torch.equal(dense.position_n3, quick.position_n3)
    assert torch.equal(dense.confidence_n, quick.confidence_n)


def test_molecules_come_back_from_between_the_voxels_where_they_were_put():
    places = torch.tensor([[10.3, 20.4, 30.2], [25.0, 40.6, 10.8], [25.4, 20.0, 55.5001]], dtype=torch.float64)
    frame = torch.tensor([1, 0, 2])
    found = decode_voxels(draw(places, torch.full((3,), 700.0), frame=frame, frames=3), GRID, VoxelRules(threshold=0.5))
    assert found.frame_n.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.position_n3, GRID.position_nm(places[[1, 0, 2]]), rtol=0, atol=0.1)


def test_a_voxel_of_the_coarse_grid_is_a_camera_pixel():
    coarse = VoxelGrid(low_nm=2000.0, high_nm=6000.0, depth_planes=80, pixel_nm=110.0, upsampling=1)
    assert coarse.position_nm(torch.tensor([[0, 7, 3]])).tolist() == [[2025.0, 770.0, 330.0]]


def test_the_four_voxels_of_a_pixel_lie_evenly_about_its_centre():
    index = torch.tensor([[0, y, 0] for y in (28, 29, 30, 31)])
    assert GRID.position_nm(index)[:, 1].tolist() == pytest.approx([770 - 41.25, 770 - 13.75, 770 + 13.75, 770 + 41.25])
    assert GRID.voxel_zyx_nm == (100.0, 27.5, 27.5)


def test_indices_and_nanometres_are_each_other_s_inverse():
    places = torch.rand((20, 3), dtype=torch.float64) * 4000
    torch.testing.assert_close(GRID.position_nm(GRID.index(places)), places)


def test_a_molecule_at_the_very_corner_is_found():
    volume = torch.zeros((1, *SHAPE))
    volume[0, 0, 0, 0] = volume[0, -1, -1, -1] = 300.0
    found = decode_voxels(volume, GRID)
    torch.testing.assert_close(found.position_n3, GRID.position_nm(torch.tensor([[0, 0, 0], [n - 1 for n in SHAPE]])))
    assert found.confidence_n.tolist() == [300.0, 300.0]


def test_what_stays_below_the_threshold_is_no_molecule():
    volume = draw(*scatter(5)).clamp(max=39.0)
    found = decode_voxels(volume, GRID, VoxelRules(threshold=40.0))
    assert found.position_n3.shape == (0, 3)
    assert len(found.frame_n) == len(found.confidence_n) == 0


def test_two_voxels_at_the_limit_are_one_molecule():
    volume = torch.zeros((1, *SHAPE))
    volume[0, 20, 30, 30] = volume[0, 20, 30, 31] = 800.0
    found = decode_voxels(volume, GRID)
    torch.testing.assert_close(found.position_n3, GRID.position_nm(torch.tensor([[20.0, 30.0, 30.5]])))


def test_a_volume_that_is_all_at_the_limit_does_not_flood_the_table():
    assert len(decode_voxels(torch.full((1, *SHAPE), 800.0), GRID).frame_n) == 1


def test_numbers_that_are_not_finite_are_refused_in_words():
    volume = torch.zeros((1, *SHAPE))
    volume[0, 3, 4, 5] = torch.nan
    with pytest.raises(EngineError, match="not finite"):
        decode_voxels(volume, GRID)
