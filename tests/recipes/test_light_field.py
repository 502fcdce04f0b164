"""Molecules through a microlens array, from the raw frame to the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.plans import ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.engine.optics.microlenses import array_images
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.photons import frames_and_region, noise_floors, read_photons
from napari_volumetric_smlm.recipes.reconstruct import explain_frame, reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import cut_instrument, split_views

PLAN = ReconstructPlan(device="cpu")


def paired(found, truth):
    """Rows of both that belong together: same frame, nearest."""
    pairs = []
    for k in range(len(found)):
        there = np.flatnonzero(truth["frame"] == found["frame"][k])
        distance = np.linalg.norm(truth.position_zyx_nm[there] - found.position_zyx_nm[k], axis=1)
        if len(there) and distance.min() < 200:
            pairs.append((k, int(there[distance.argmin()])))
    return np.array(pairs).reshape(-1, 2)


def test_molecules_lie_in_the_first_view_s_part_of_the_frame(lens_array, array_movie):
    top, left, bottom, right = lens_array.views[0].region_yx_px
    rows, columns = array_movie.truth["y_nm"] / 145, array_movie.truth["x_nm"] / 145
    assert rows.min() >= top + 13.5 - 0.01
    assert rows.max() <= bottom - 14.5 + 0.01
    assert columns.min() >= left + 13.5 - 0.01
    assert columns.max() <= right - 14.5 + 0.01


def test_molecules_are_found_in_three_dimensions_within_their_errors(array_movie, array_table):
    pairs = paired(array_table, array_movie.truth)
    assert len(array_movie.truth) >= 8
    assert len(pairs) >= len(array_movie.truth) - 2
    assert len(array_table) <= len(array_movie.truth) + 1
    ours, true = pairs.T
    miss = (array_table.position_zyx_nm[ours] - array_movie.truth.position_zyx_nm[true]) / array_table.sigma_zyx_nm[ours]
    assert np.sqrt(np.median(miss**2)) < 1.2
    assert np.abs(array_table["photons"][ours] / array_movie.truth["photons"][true] - 1).mean() < 0.1


def test_cut_views_give_the_same_molecules_as_the_raw_frame(lens_array, array_movie, array_table):
    stack, split = split_views(array_movie.stack, lens_array)
    cut = finish(reconstruct(stack, split, PLAN)).localizations
    corner = np.array([0, *lens_array.views[0].region_yx_px[:2]]) * lens_array.pixel_nm()
    assert len(cut) == len(array_table)
    order, same = (np.lexsort((t["x_nm"], t["frame"])) for t in (cut, array_table))
    apart = np.abs((cut.position_zyx_nm + corner)[order] - array_table.position_zyx_nm[same])
    assert (apart < 0.5 * array_table.sigma_zyx_nm[same]).all()


def test_what_explains_a_raw_frame_lies_where_each_view_is(lens_array, array_movie):
    explained = finish(explain_frame(array_movie.stack, lens_array, PLAN, 1))
    assert explained.camera_v == (0, 0, 0)
    assert explained.corner_vyx_px == tuple(view.region_yx_px[:2] for view in lens_array.views)
    frame = (np.asarray(array_movie.stack.counts_tyx[0][1]) - 100.0) * lens_array.cameras[0].gain_e_per_count
    for photons, model, (top, left) in zip(explained.photons_vyx, explained.model_vyx, explained.corner_vyx_px, strict=True):
        part = frame[top : top + photons.shape[0], left : left + photons.shape[1]]
        assert np.abs(part - photons).max() < 1e-3
        assert np.corrcoef(part.ravel(), model.ravel())[0, 1] > 0.8


def test_a_view_is_blind_to_the_light_of_another_one(lens_array, array_movie):
    images = read_photons(array_movie.stack, lens_array, range(1), noise_floors(array_movie.stack, lens_array, range(1)))
    assert len(images) == 3
    total = sum(image.seen_tyx for image in images)
    assert total.max() == 1
    for image, view in zip(images, lens_array.views, strict=True):
        top, left, bottom, right = view.region_yx_px
        assert image.seen_tyx[:, top:bottom, left:right].min() == 1
        assert image.seen_tyx.sum() == (bottom - top) * (right - left)


def test_a_part_of_the_frame_beyond_the_sensor_is_blind_and_does_not_wrap(lens_array, array_movie):
    beyond = lens_array.views[0].model_copy(update={"region_yx_px": (-20, 1000, 30, 1060)})
    image = read_photons(array_movie.stack, lens_array.model_copy(update={"views": (beyond,)}), range(1), [0.0])[0]
    assert image.seen_tyx[:, :30, 1000:].min() == 1
    assert image.seen_tyx.sum() == 30 * 24
    _, region = frames_and_region(array_movie.stack, PLAN, lens_array.model_copy(update={"views": (beyond,)}))
    assert region == (0, 1000, 30, 1024)


def test_a_frame_smaller_than_the_instruments_is_explained(lens_array):
    with pytest.raises(PlanError, match=r"'lens 1' reaches to row \d+ .* has 128 x 128 pixels: .* raw frames, 1024 1024"):
        finish(simulate(lens_array, SimulatePlan(shape_yx_px=(128, 128), device="cpu")))


def test_simulated_frames_are_as_large_as_the_instruments_where_no_size_is_given(lens_array):
    plan = SimulatePlan(frame_count=1, density_per_um2=0.02, device="cpu")
    raw = finish(simulate(lens_array, plan))
    assert (raw.stack.counts_tyx[0].shape, raw.plan.shape_yx_px) == ((1, 1024, 1024), (1024, 1024))
    assert raw.truth.shape_yx_px == (1024, 1024)
    cut = finish(simulate(cut_instrument(lens_array), plan))
    assert [counts.shape for counts in cut.stack.counts_tyx] == [(1, 70, 80)] * 3


def test_molecules_drawn_by_the_wave_through_the_array_are_fitted_without_bias(lens_array):
    split = cut_instrument(lens_array)
    size, pixel = 61, split.pixel_nm()
    depths = torch.tensor([-1500.0, 0.0, 1500.0])
    position = torch.stack([depths, torch.tensor([30.0, -20.0, 10.0]), torch.tensor([0.0, 40.0, -50.0])], 1)
    light = array_images(split, position, (size, pixel, pixel), 449)
    # the views' lens axes are their crops' middle but for the affines, which the wave does not know
    straight = tuple(view.model_copy(update={"affine_yx": split.views[0].affine_yx}) for view in split.views)
    counts = (200000 * light + 20).round().numpy().astype(np.uint16)
    camera = split.cameras[0].model_copy(update={"offset_counts": 0.0, "gain_e_per_count": 1.0})
    model = split.model_copy(update={"views": straight, "cameras": (camera,) * 3})
    found = finish(reconstruct(RawStack(counts_tyx=tuple(counts.swapaxes(0, 1))), model, PLAN)).localizations
    brightest = [int(np.flatnonzero(found["frame"] == t)[found["photons"][found["frame"] == t].argmax()]) for t in range(3)]
    error = found.position_zyx_nm[brightest] - position.numpy() - np.array([0, size // 2, size // 2]) * pixel
    assert np.abs(error[:, 1:]).max() < 3
    assert np.abs(error[:, 0]).max() < 6
