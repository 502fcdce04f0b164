"""Losses of the voxel networks: against sums written out, and lowest where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from napari_volumetric_smlm.engine.networks.voxels import VoxelGrid, VoxelRules, decode_voxels
from napari_volumetric_smlm.engine.training.voxel_losses import autods3d_loss, blob_voxels, deepstorm3d_loss, forgiving, occupied_voxels

SHAPE = (2, 12, 14, 15)
FRAME = torch.tensor([0, 1, 1])
INDEX = torch.tensor([[6.0, 7.0, 7.0], [3.0, 4.0, 9.0], [8.0, 9.0, 4.0]], dtype=torch.float64)


def random_voxels(seed: int = 0) -> torch.Tensor:
    return 800 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_forgiving_kernel_is_a_gaussian_of_height_one():
    step = np.arange(-3, 4)
    z, y, x = np.meshgrid(step, step, step, indexing="ij")
    kernel = np.exp(-(z**2 + y**2 + x**2) / 2)
    volume = random_voxels()
    for mine, one in zip(forgiving(volume), volume, strict=True):
        np.testing.assert_allclose(mine.numpy(), convolve(one.numpy(), kernel, mode="constant"), rtol=1e-9)


def test_deepstorm3d_s_loss_is_the_sum_written_out():
    p, t = random_voxels(), occupied_voxels(FRAME, INDEX, SHAPE)
    found = deepstorm3d_loss(p, t)
    assert float(found["volume"]) == pytest.approx(float(((forgiving(p) - 800 * forgiving(t)) ** 2).mean()), rel=1e-9)
    overlaps = []
    for q, one in zip(p / 800, t, strict=True):
        overlaps.append(1 - (2 * float((q * one).sum()) + 1) / (float((q**2).sum()) + float((one**2).sum()) + 1))
    assert float(found["overlap"]) == pytest.approx(float(np.mean(overlaps)), rel=1e-9)


def test_the_truth_costs_nothing():
    t = occupied_voxels(FRAME, INDEX, SHAPE)
    assert [float(v) for v in deepstorm3d_loss(800 * t, t).values()] == pytest.approx([0.0, 0.0])
    blobs = blob_voxels(FRAME, INDEX, torch.ones(3, dtype=torch.float64), SHAPE)
    assert [float(autods3d_loss(blobs, blobs, k)["volume"]) for k in (1, 2, 4)] == [0.0, 0.0, 0.0]


def test_a_false_molecule_raises_the_overlap_term():
    t = occupied_voxels(FRAME, INDEX, SHAPE)
    false = 800 * t
    false[:, 1, 1, 1] = 800.0
    # with the published denominator, sum q t + sum t^2, it would stay 0
    assert float(deepstorm3d_loss(false, t)["overlap"]) > 0.1


def test_a_miss_by_one_voxel_costs_less_than_one_by_four():
    t = occupied_voxels(FRAME, INDEX, SHAPE)
    near, far = (float(deepstorm3d_loss(800 * torch.roll(t, k, -1), t)["volume"]) for k in (1, 4))
    assert near < 0.5 * far


def test_molecules_outside_the_grid_are_left_out_and_two_in_a_voxel_are_one():
    index = torch.tensor([[6.0, 7.0, 7.0], [6.2, 7.1, 6.8], [-3.0, 4.0, 9.0], [3.0, 4.0, 15.0]])
    found = occupied_voxels(torch.zeros(4, dtype=torch.long), index, (1, *SHAPE[1:]))
    assert float(found.sum()) == 1.0
    assert float(found[0, 6, 7, 7]) == 1.0


def test_a_blob_tells_the_place_between_the_voxels_and_the_brightness():
    grid = VoxelGrid(low_nm=0.0, high_nm=1200.0, depth_planes=12, pixel_nm=110.0, upsampling=1)
    index = INDEX + torch.tensor([[0.3, -0.4, 0.2], [-0.2, 0.1, 0.45], [0.0, 0.25, -0.3]], dtype=torch.float64)
    blobs = blob_voxels(FRAME, index, torch.tensor([1.0, 0.5, 0.8], dtype=torch.float64), SHAPE)
    found = decode_voxels(blobs, grid, VoxelRules(threshold=1e-9, reach_voxels=2))
    assert found.frame_n.tolist() == FRAME.tolist()
    # the blob ends after 5 voxels, on one side a little sooner than on the other
    torch.testing.assert_close(found.position_n3, grid.position_nm(index), rtol=0, atol=2.0)
    assert float(blob_voxels(FRAME[:1], INDEX[:1], torch.ones(1, dtype=torch.float64), SHAPE).max()) == 800.0


def test_blobs_add_and_are_cut_at_the_edge():
    index = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.long)
    one = blob_voxels(zero[:1], index[:1], torch.ones(1, dtype=torch.float64), SHAPE)
    two = blob_voxels(zero, index, torch.ones(2, dtype=torch.float64), SHAPE)
    torch.testing.assert_close(two, 2 * one)
    assert int((one > 0).sum()) == 27


def test_both_losses_pull_the_true_voxel_up_and_a_false_one_down():
    t = occupied_voxels(FRAME, INDEX, SHAPE)
    blobs = blob_voxels(FRAME, INDEX, torch.ones(3, dtype=torch.float64), SHAPE)
    for loss in (lambda p: deepstorm3d_loss(p, t), lambda p: autods3d_loss(p, blobs, 1), lambda p: autods3d_loss(p, blobs, 4)):
        voxels = torch.full(SHAPE, 1.0, dtype=torch.float64)
        voxels[0, 1, 1, 1] = 300.0
        voxels.requires_grad_()
        for part in loss(voxels).values():
            (slope,) = torch.autograd.grad(part, voxels)
            assert float(slope[0, 6, 7, 7]) < 0 < float(slope[0, 1, 1, 1])


def test_a_batch_costs_the_mean_of_its_frames():
    p, t = random_voxels(), occupied_voxels(FRAME, INDEX, SHAPE)
    whole = deepstorm3d_loss(p, t)
    single = [deepstorm3d_loss(p[k : k + 1], t[k : k + 1]) for k in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in single]).mean())
