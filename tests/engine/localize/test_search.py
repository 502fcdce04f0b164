"""The matched filter gives the gain of one more molecule, as written out place by place."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.engine.localize.scene import Patches, padding
from napari_volumetric_smlm.engine.localize.search import Candidates, MatchedFilter, local_maxima
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes.split_views import cut_instrument

WINDOW_PX, SHAPE_YX, STEP_NM = 13, (34, 29), 100.0
PLACES = [(0, 17, 14), (3, 17, 14), (5, 20, 9), (8, 12, 19), (6, 1, 2), (4, 33, 28)]


def two_view_instrument(toy: Instrument, affine) -> Instrument:
    second = View(zernike_noll_rad={5: 0.8}, focus_shift_nm=200, photon_fraction=1.5, affine_yx=affine)
    return Instrument.model_validate({**dict(toy), "views": (toy.views[0], second)})


def images_of_noise(views: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and weights (1, V, y, x) that vary from pixel to pixel; a few pixels do not count."""
    generator = torch.Generator().manual_seed(5)
    weight = 0.05 + 0.05 * torch.rand((1, views, *SHAPE_YX), generator=generator)
    weight[..., 15, 10:14] = 0
    score = (torch.randn((1, views, *SHAPE_YX), generator=generator) * 3 + 2) * weight
    return score, weight


def patches_for(table: PsfTable) -> Patches:
    pad, views = padding(table.window_px), len(table.pixel_v)
    empty = torch.zeros((1, views, SHAPE_YX[0] + 2 * pad, SHAPE_YX[1] + 2 * pad))
    return Patches(empty, empty, empty, table.shift_v2[None], table.pixel_v, pad)


def brute_force(table: PsfTable, z_nm: float, y: int, x: int, images: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Gain and photons of a molecule at a pixel of the first view: sums over its windows, a constant under each projected out."""
    numerator = denominator = 0.0
    half = table.window_px // 2
    for v, pixel in enumerate(table.pixel_v):
        place = table.linear_v22[v] @ (torch.tensor([y, x]) * table.pixel_v[0]) + table.shift_v2[v]
        nearest = torch.round(place / pixel)
        position = torch.zeros((1, len(table.pixel_v), 3))
        position[..., 0] = z_nm
        position[0, v, 1:] = place - nearest * pixel
        h = table.images(position, derivatives=False).value[0, v]
        cut = []
        for image in images:
            padded = torch.nn.functional.pad(image[0, v], (half,) * 4)
            top, left = int(nearest[0]), int(nearest[1])
            cut.append(padded[top : top + table.window_px, left : left + table.window_px])
        score, weight = cut
        share = (weight * h).sum() / weight.sum()
        numerator += float((score * h).sum() - share * score.sum())
        denominator += float((weight * h * h).sum() - share * (weight * h).sum())
    photons = numerator / denominator
    return numerator**2 / (2 * denominator) if photons > 0 else 0.0, photons


@pytest.mark.parametrize("affine", [None, ((1.0, 0.0, 220.0), (0.0, 1.0, -330.0))])
def test_gain_and_photons_are_the_sums_written_out(toy_instrument, affine):
    table = PsfTable(toy_instrument if affine is None else two_view_instrument(toy_instrument, affine), WINDOW_PX)
    search = MatchedFilter(table, SHAPE_YX, STEP_NM)
    images = images_of_noise(len(table.pixel_v))
    gain, photons = search.gains(patches_for(table), images[0], search.weigh(patches_for(table), images[1]))
    assert gain.shape == (1, len(search.z_nm), *SHAPE_YX)
    for d, y, x in PLACES:
        if affine is not None and not (y + 2 < SHAPE_YX[0] and x - 3 >= 0):
            continue  # the second view shows nothing of it
        expected = brute_force(table, float(search.z_nm[d]), y, x, images)
        assert float(photons[0, d, y, x]) == pytest.approx(expected[1], rel=2e-3, abs=0.5)
        assert float(gain[0, d, y, x]) == pytest.approx(expected[0], rel=4e-3, abs=1e-3)


def test_a_molecule_in_two_turned_views_is_found_where_the_first_view_has_it(toy_instrument):
    affine = ((0.9962, -0.0872, 130.0), (0.0872, 0.9962, -275.0))
    table = PsfTable(two_view_instrument(toy_instrument, affine), WINDOW_PX)
    search = MatchedFilter(table, SHAPE_YX, STEP_NM)
    d, y, x, photons = 5, 18, 15, 3000.0
    score = torch.zeros((1, 2, *SHAPE_YX))
    weight = torch.full_like(score, 0.05)
    for v, pixel in enumerate(table.pixel_v):
        place = table.linear_v22[v] @ (torch.tensor([float(y), float(x)]) * table.pixel_v[0]) + table.shift_v2[v]
        nearest = torch.round(place / pixel)
        position = torch.zeros((1, 2, 3))
        position[..., 0] = search.z_nm[d]
        position[0, v, 1:] = place - nearest * pixel
        top, left = (int(n) - WINDOW_PX // 2 for n in nearest)
        light = table.images(position, derivatives=False).value[0, v] * photons
        score[0, v, top : top + WINDOW_PX, left : left + WINDOW_PX] = light * 0.05
    gain, found = search.gains(patches_for(table), score, search.weigh(patches_for(table), weight))
    assert tuple(int(k) for k in torch.nonzero(gain[0] == gain[0].max())[0]) == (d, y, x)
    # the second view's map is interpolated between its pixels
    assert float(found[0, d, y, x]) == pytest.approx(photons, rel=0.1)
    assert float(gain.max()) == pytest.approx(brute_force(table, float(search.z_nm[d]), y, x, (score, weight))[0], rel=0.15)


def test_darkness_gains_nothing(one_view_table):
    patches = patches_for(one_view_table)
    search = MatchedFilter(one_view_table, SHAPE_YX, STEP_NM)
    weight = torch.full((1, 1, *SHAPE_YX), 0.05)
    gain, _ = search.gains(patches, weight * -2.0, search.weigh(patches, weight))
    assert gain.max() < 1e-3


def peaks(*places: tuple[int, int, int, int, float]) -> torch.Tensor:
    gain = torch.zeros((2, 6, 20, 20))
    for t, d, y, x, value in places:
        gain[t, d, y, x] = value
    return gain


def maxima(gain: torch.Tensor, smallest: float = 10.0, apart_nm: float = 300.0):
    photons = gain * 7
    found = local_maxima(gain, photons, torch.arange(6) * 100.0, 100.0, (torch.full((2,), smallest), apart_nm))
    rows = zip(found.patch_m.tolist(), found.position_m3.tolist(), found.photons_m.tolist(), found.gain_m.tolist(), strict=True)
    return [(t, *position, photons, gain) for t, position, photons, gain in rows]


def test_maxima_come_by_patch_best_first_with_their_photons():
    found = maxima(peaks((0, 2, 5, 5, 20), (0, 3, 15, 12, 50), (1, 1, 4, 9, 30)))
    assert found == [(0, 300, 1500, 1200, 350, 50), (0, 200, 500, 500, 140, 20), (1, 100, 400, 900, 210, 30)]


def test_a_better_maximum_silences_those_near_it_in_its_own_patch_only():
    found = maxima(peaks((0, 2, 5, 5, 20), (0, 4, 5, 7, 50), (1, 2, 5, 5, 20)))
    assert [(t, gain) for t, *_, gain in found] == [(0, 50), (1, 20)]


def test_neighbours_of_a_maximum_are_none_and_edges_can_be():
    found = maxima(peaks((0, 0, 0, 0, 40), (0, 1, 1, 1, 39), (0, 5, 19, 19, 30)), apart_nm=0.0)
    assert [(z, y, x) for _, z, y, x, *_ in found] == [(0, 0, 0), (500, 1900, 1900)]


def test_what_gains_too_little_is_no_candidate():
    assert maxima(peaks((0, 2, 5, 5, 9.9), (1, 2, 5, 5, 10.1)))[0][0] == 1
    assert maxima(peaks()) == []


def some_candidates(*places: tuple[int, float, float, float]) -> Candidates:
    patch = torch.tensor([place[0] for place in places])
    return Candidates(patch, torch.tensor([place[1:] for place in places]), torch.ones(len(places)), torch.arange(len(places), 0.0, -1.0))


def of_lenses(count: int) -> MatchedFilter:
    """Return the filter of the first `count` lenses of the example array."""
    array = cut_instrument(load_example("light_field_3"))
    few = array.model_copy(update={"views": array.views[:count], "cameras": array.cameras[:count], "microlenses": None})
    return MatchedFilter(PsfTable(few, 35, 100.0), (60, 60), 200.0)


def test_one_lens_keeps_the_best_of_the_places_that_look_alike_to_it():
    # the centre of the lens lies at NA 0.682: its chief ray moves by tan(asin(0.682 / 1.515)) = 0.504 of the depth, its light by more
    ridge = [(0, 0.0, 4000.0, 4000.0), (0, 1600.0, 4000.0 + 0.57 * 1600, 4000.0), (0, -1600.0, 4000.0 - 0.57 * 1600, 4000.0)]
    another = [(0, 1600.0, 4000.0 - 0.57 * 1600, 4000.0), (1, 1600.0, 4000.0 + 0.57 * 1600, 4000.0)]
    found = some_candidates(*ridge, *another)
    kept = of_lenses(1).told_apart(found, 1000.0)
    assert kept.gain_m.tolist() == [5.0, 2.0, 1.0]
    # a second lens moves the other way: nothing looks alike to both
    assert of_lenses(2).told_apart(found, 1000.0) is found


def test_a_microscope_on_the_axis_keeps_all_maxima(one_view_table):
    found = some_candidates((0, 0.0, 500.0, 500.0), (0, 400.0, 900.0, 500.0))
    assert MatchedFilter(one_view_table, SHAPE_YX, STEP_NM).told_apart(found, 500.0) is found
