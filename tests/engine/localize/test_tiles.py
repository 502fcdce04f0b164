"""Tiles cover a frame once, and each sees what it needs around its core."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.engine.localize import tiles
from napari_volumetric_smlm.engine.localize.scene import padding
from napari_volumetric_smlm.engine.localize.tiles import Tiling, ViewImages, cut_patches
from napari_volumetric_smlm.engine.optics.table import PsfTable

SIZES = [(40, 40), (129, 300), (97, 61), (211, 64), (5, 500)]


@pytest.fixture
def small_cores(monkeypatch):
    monkeypatch.setattr(tiles, "CORE_PX", 40)
    monkeypatch.setattr(tiles, "CORE_WINDOWS", 1)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("window", [9, 21])
@pytest.mark.usefixtures("small_cores")
def test_cores_cover_every_pixel_once_and_lie_inside_patches_of_one_size(shape, window):
    tiling = Tiling.of_frame(shape, window)
    times = np.zeros(shape, int)
    for tile in tiling.tiles:
        y0, x0, y1, x1 = tile.core
        times[y0:y1, x0:x1] += 1
        bottom, right = tile.top + tiling.patch_yx[0], tile.left + tiling.patch_yx[1]
        assert 0 <= tile.top <= y0 < y1 <= bottom <= shape[0]
        assert 0 <= tile.left <= x0 < x1 <= right <= shape[1]
        for inner, outer, edge in ((y0, tile.top, 0), (x0, tile.left, 0)):
            # half a window around every molecule of the core, unless the frame ends
            assert outer == edge or inner - outer >= window // 2
        assert bottom == shape[0] or bottom - y1 >= window // 2
        assert right == shape[1] or right - x1 >= window // 2
    assert (times == 1).all()


def test_a_frame_hardly_larger_than_a_core_stays_whole():
    tiling = Tiling.of_frame((tiles.CORE_PX + 9, 50), 21)
    assert len(tiling.tiles) == 1
    assert tiling.patch_yx == (tiles.CORE_PX + 9, 50)


@pytest.mark.usefixtures("small_cores")
def test_every_point_belongs_to_exactly_one_tile_also_on_seams_and_beyond_the_edge():
    tiling = Tiling.of_frame((129, 97), 13)
    seams = [float(t.core[0]) - 0.5 for t in tiling.tiles] + [float(t.core[0]) for t in tiling.tiles]
    y, x = torch.meshgrid(torch.tensor([-3.0, -0.5, *seams, 128.4, 128.9, 132.0]), torch.linspace(-3, 99, 205), indexing="ij")
    owners = torch.stack([tiling.owned(tile, y, x) for tile in tiling.tiles]).sum(0)
    assert (owners == 1).all()


def coordinates(shape) -> ViewImages:
    """A frame whose pixels tell where they are."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    return ViewImages((rows * 1000.0 + columns)[None], torch.tensor(4.0), torch.ones((1, *shape)))


@pytest.mark.usefixtures("small_cores")
def test_a_patch_shows_the_pixels_of_its_place_and_zeros_around(one_view_table):
    frame = coordinates((90, 70))
    tiling = Tiling.of_frame((90, 70), one_view_table.window_px)
    pad = padding(one_view_table.window_px)
    for tile in tiling.tiles:
        patches = cut_patches([frame], one_view_table, tile, tiling, (0, 0))
        height, width = tiling.patch_yx
        inner = patches.photons_tvyx[0, 0, pad:-pad, pad:-pad]
        assert torch.equal(inner, frame.photons_tyx[0, tile.top : tile.top + height, tile.left : tile.left + width])
        assert patches.seen_tvyx.sum() == height * width
        assert patches.shape_yx == (height, width)
        assert patches.shift_tv2.abs().max() < 1e-3


def test_a_region_begins_at_its_own_first_pixel(one_view_table):
    frame = coordinates((50, 60))
    tiling = Tiling.of_frame((20, 30), one_view_table.window_px)
    patches = cut_patches([frame], one_view_table, tiling.tiles[0], tiling, (11, 23))
    pad = patches.pad
    assert patches.photons_tvyx[0, 0, pad, pad] == 11023.0
    assert patches.photons_tvyx[0, 0, -pad - 1, -pad - 1] == 30052.0


def test_a_second_view_is_cut_where_its_affine_puts_the_tile(two_views):
    table = PsfTable(two_views, 13)
    frame = coordinates((80, 90))
    tiling = Tiling.of_frame((30, 40), 13)
    patches = cut_patches([frame, frame], table, tiling.tiles[0], tiling, (25, 30))
    pad, pixel = patches.pad, table.pixel_v[1]
    # a point of the first view's patch, in whole-frame coordinates, and where the second view's patch shows it
    for point in ([3.0, 5.0], [15.0, 20.0], [28.0, 38.0]):
        here = torch.tensor(point) * pixel
        whole = here + torch.tensor([25.0, 30.0]) * pixel
        expected = table.linear_v22[1] @ whole + table.shift_v2[1]
        inside = (table.linear_v22[1] @ here + patches.shift_tv2[0, 1]) / pixel
        row, column = (int(n) for n in torch.round(inside))
        value = int(patches.photons_tvyx[0, 1, row + pad, column + pad])
        shown = torch.tensor([value // 1000, value % 1000]) * pixel
        assert (shown - expected).abs().max() <= 0.5 * pixel + 0.1
    # the middle of the patch stays the middle to within a pixel
    middle = torch.tensor([15.0, 20.0]) * pixel
    assert (table.linear_v22[1] @ middle + patches.shift_tv2[0, 1] - middle).abs().max() <= pixel


def test_parts_of_a_view_beyond_its_camera_are_not_seen(two_views):
    table = PsfTable(two_views, 13)
    frame = coordinates((40, 40))
    tiling = Tiling.of_frame((40, 40), 13)
    patches = cut_patches([frame, frame], table, tiling.tiles[0], tiling, (0, 0))
    first, second = patches.seen_tvyx.sum((0, 2, 3)).tolist()
    assert first == 1600
    assert 1200 < second < 1600
    assert (patches.photons_tvyx[patches.seen_tvyx == 0] == 0).all()
