"""Pictures against Gaussians and histograms worked out by other means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from scipy.special import erf

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import RenderPlan
from napari_volumetric_smlm.engine.assemble.colors import DEPTH_COLORS, depth_color
from napari_volumetric_smlm.engine.assemble.render import canvas_of, draw
from napari_volumetric_smlm.errors import PlanError, TableError
from napari_volumetric_smlm.recipes.render import render, render_by_depth


def table(positions_zyx, sigma=None, shape=(40, 50), pixel_nm=100.0):
    positions = np.asarray(positions_zyx, float).reshape(-1, 3)
    columns = {"frame": np.zeros(len(positions)), **{f"{axis}_nm": positions[:, i] for i, axis in enumerate("zyx")}}
    if sigma is not None:
        sigmas = np.broadcast_to(np.asarray(sigma, float), positions.shape)
        columns |= {f"sigma_{axis}_nm": sigmas[:, i] for i, axis in enumerate("zyx")}
    return Localizations(columns=columns, shape_yx_px=shape, pixel_nm=pixel_nm)


def gaussian(n, pixel_nm, centre_nm, sigma_nm, first_nm):
    """Share of a Gaussian in each of n pixels."""
    edges = first_nm + (np.arange(n + 1) - 0.5) * pixel_nm
    return np.diff(erf((edges - centre_nm) / (np.sqrt(2) * sigma_nm))) / 2


@pytest.mark.parametrize("method", ["histogram", "gaussian", "ash"])
@pytest.mark.parametrize("dimensions", ["2d", "3d"])
def test_each_molecule_counts_once(method, dimensions):
    rng = np.random.default_rng(0)
    positions = rng.uniform([0, 1000, 1000], [1000, 3000, 4000], (200, 3))
    positions[0, 0], positions[1, 0] = -2000, 3000  # room above and below for the Gaussians
    plan = RenderPlan(method=method, dimensions=dimensions)
    picture = render(table(positions, sigma=rng.uniform(8, 60, (200, 3))), plan).values_zyx
    lost = 1.5 if dimensions == "3d" else 0.5  # tails beyond three sigma; half of the two outermost molecules
    assert picture.sum() == pytest.approx(200, abs=lost)
    assert picture.min() >= 0


def test_the_picture_covers_the_camera_frame():
    volume = render(table([[0, 0, 0]]), RenderPlan(pixel_nm=20, method="histogram"))
    assert volume.values_zyx.shape == (1, 200, 250)
    # camera pixel (0, 0) reaches from -50 to 50 nm, so the first fine pixel has its centre at -40 nm
    assert volume.origin_zyx_nm[1:] == (-40, -40)
    assert np.argwhere(volume.values_zyx[0]).tolist() == [[2, 2]]


def test_a_spot_stands_where_its_molecule_is():
    y, x = 1234.5, 2345.6
    volume = render(table([[0, y, x]], sigma=25), RenderPlan(pixel_nm=20))
    centre = np.array(center_of_mass(volume.values_zyx[0])) * 20 + volume.origin_zyx_nm[1:]
    assert centre == pytest.approx([y, x], abs=0.05)


@pytest.mark.parametrize("sigma", [8.0, 25.0, 55.0, 80.0, 190.0, 410.0])
def test_a_spot_has_the_shape_of_its_own_uncertainty(sigma):
    y, x, wide = 2010.0, 2503.0, sigma * 1.3
    volume = render(table([[0, y, x]], sigma=(1, sigma, wide)), RenderPlan(pixel_nm=20))
    rows = gaussian(200, 20, y, sigma, volume.origin_zyx_nm[1])
    columns = gaussian(250, 20, x, wide, volume.origin_zyx_nm[2])
    expected = np.outer(rows, columns)
    # tails beyond three sigma are cut; broad spots are interpolated from larger pixels
    assert np.abs(volume.values_zyx[0] - expected).max() < 0.012 * expected.max()


def test_a_volume_spreads_a_molecule_along_z():
    volume = render(table([[0, 2000, 2000], [400, 2000, 2000], [1000, 2000, 2000]], sigma=(60, 10, 10)), RenderPlan(dimensions="3d"))
    assert volume.voxel_zyx_nm == (50, 20, 20)
    along_z = volume.values_zyx.sum((1, 2))
    expected = sum(gaussian(len(along_z), 50, z, 60, volume.origin_zyx_nm[0]) for z in (0, 400, 1000))
    assert np.abs(along_z - expected).max() < 0.01


def test_the_averaged_shifted_histogram_is_the_mean_of_shifted_histograms():
    rng = np.random.default_rng(3)
    positions = rng.uniform(500, 2500, (300, 3))
    picture = render(table(positions), RenderPlan(method="ash", pixel_nm=20)).values_zyx[0]
    mean = np.zeros((200, 250))
    for dy in (0, 1):
        for dx in (0, 1):
            edges_y, edges_x = (np.arange(-50 - 40 + 20 * d, 6000, 40) for d in (dy, dx))
            histogram = np.histogram2d(positions[:, 1], positions[:, 2], (edges_y, edges_x))[0] / 4
            mean += np.kron(histogram, np.ones((2, 2)))[2 - dy :, 2 - dx :][:200, :250] / 4
    assert picture == pytest.approx(mean, abs=1e-6)


def test_molecules_outside_the_frame_are_left_out():
    positions = [[0, -500, 1000], [0, 1000, 9000], [0, 2000, 2000]]
    assert render(table(positions), RenderPlan(method="histogram")).values_zyx.sum() == 1
    assert render(table(positions, sigma=10), RenderPlan()).values_zyx.sum() == pytest.approx(1, abs=0.01)


def test_a_table_without_sigmas_is_drawn_with_the_smallest():
    with_sigma = render(table([[0, 1000, 1000]], sigma=5), RenderPlan(smallest_sigma_nm=5))
    assert np.array_equal(render(table([[0, 1000, 1000]]), RenderPlan(smallest_sigma_nm=5)).values_zyx, with_sigma.values_zyx)


def test_an_unknown_sigma_takes_the_median_of_the_others():
    known = render(table([[0, 1000, 1000]] * 3, sigma=[[20] * 3] * 3), RenderPlan())
    partly = render(table([[0, 1000, 1000]] * 3, sigma=[[20] * 3, [np.nan] * 3, [20] * 3]), RenderPlan())
    assert np.array_equal(known.values_zyx, partly.values_zyx)


def test_a_volume_covers_the_part_of_a_frame_in_which_there_are_molecules():
    rng = np.random.default_rng(1)
    positions = rng.uniform([0, 20010, 31000], [900, 24000, 33000], (300, 3))
    # a lens's view in a raw frame of many; one find lies outside the frame
    wide = table([*positions, [500, -9000, 31000]], sigma=12, shape=(2048, 2048))
    plan = RenderPlan(dimensions="3d", method="histogram")
    volume, flat = render(wide, plan), render(wide, plan.model_copy(update={"dimensions": "2d"}))
    planes, rows, columns = volume.values_zyx.shape
    assert (planes, rows, columns) == (18, pytest.approx(4990 / 20, abs=2), pytest.approx(3000 / 20, abs=2))
    assert volume.values_zyx.sum() == 300
    # laid over the projection, which has the frame's size, by its origin
    top, left = (round((a - b) / 20) for a, b in zip(volume.origin_zyx_nm[1:], flat.origin_zyx_nm[1:], strict=True))
    assert np.array_equal(flat.values_zyx[0, top : top + rows, left : left + columns], volume.values_zyx.sum(0))
    spots = render(wide, RenderPlan(dimensions="3d"))
    assert spots.values_zyx.sum() == pytest.approx(300, abs=1.5 + 3)


def test_what_is_too_large_comes_with_a_pixel_that_fits():
    corners = table([[-2000, 0, 0], [2000, 60000, 60000]], shape=(700, 700))
    with pytest.raises(PlanError, match=r"81 x \d+ x \d+ voxels .* depth_step_nm 50: .*a pixel_nm of \d+ fits") as refused:
        render(corners, RenderPlan(dimensions="3d"))
    fits = float(str(refused.value).split("a pixel_nm of ")[1].split()[0])
    canvas_of(corners, RenderPlan(dimensions="3d", pixel_nm=fits))
    with pytest.raises(PlanError, match="voxels"):
        canvas_of(corners, RenderPlan(dimensions="3d", pixel_nm=0.9 * fits))


def test_without_a_camera_the_picture_holds_all_molecules():
    bare = table([[0, -330, 77], [10, 905, 1501]]).model_copy(update={"shape_yx_px": None})
    assert render(bare, RenderPlan(method="histogram")).values_zyx.sum() == 2


def test_an_empty_table_is_a_black_picture_or_words():
    empty = table(np.empty((0, 3)))
    assert render(empty, RenderPlan()).values_zyx.sum() == 0
    assert render_by_depth(empty, RenderPlan()).rgb_yxc.max() == 0
    with pytest.raises(TableError, match="nothing to draw"):
        render(Localizations.empty(), RenderPlan())


def test_a_picture_that_is_too_large_is_refused_in_words():
    with pytest.raises(PlanError, match=r"pixel_nm is 0\.1"):
        render(table([[0, 0, 0]]), RenderPlan(pixel_nm=0.1))


def test_colour_says_depth_and_brightness_says_how_many():
    deep, shallow = [[1000, 1000, 1000]] * 5, [[0, 3000, 3000]] * 5
    picture = render_by_depth(table(deep + shallow), RenderPlan(method="histogram"))
    assert picture.depth_range_nm == (0, 1000)
    at = lambda y, x: picture.rgb_yxc[int((y + 50) / 20), int((x + 50) / 20)]  # noqa: E731
    assert at(1000, 1000) == pytest.approx(DEPTH_COLORS[-1] * 255, abs=1)
    assert at(3000, 3000) == pytest.approx(DEPTH_COLORS[0] * 255, abs=1)
    dim = render_by_depth(table([*deep, [0, 3000, 3000]]), RenderPlan(method="histogram"))
    assert dim.rgb_yxc[152, 152].max() < 120


def test_depth_colours_keep_their_order_for_red_green_blindness():
    # deuteranopia sees blue against yellow: that contrast must rise all the way
    colors = depth_color(np.linspace(0, 1, 50), (0, 1))
    yellow_minus_blue = (colors[:, 0] + colors[:, 1]) / 2 - colors[:, 2]
    assert (np.diff(yellow_minus_blue) > -0.02).all()
    assert yellow_minus_blue[-1] - yellow_minus_blue[0] > 1


def test_a_large_table_is_drawn_in_little_memory_and_time():
    rng = np.random.default_rng(0)
    n = 300_000
    positions = rng.uniform(0, 20000, (n, 3))
    large = table(positions, sigma=rng.uniform(5, 20, (n, 3)), shape=(200, 200))
    plan = RenderPlan()
    picture = draw(large, plan, canvas_of(large, plan))
    assert picture.shape == (1, 1, 1000, 1000)
    assert float(picture.sum()) == pytest.approx(n, rel=0.01)
