"""Light-field frames into volumes without a network, raw and cut."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.domain.volume_plans import DeconvolvePlan, ViewsPlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import PlanError, StackError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.deconvolve import deconvolve
from napari_volumetric_smlm.recipes.light_field_views import sum_views
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import split_views

PLAN = DeconvolvePlan(iterations=12, depth_step_nm=200, window_px=41, device="cpu")


@pytest.fixture(scope="module")
def movie():
    """Two frames of 60 x 64 pixels a view, the same molecules in both."""
    shipped = load_example("light_field_3").model_copy(update={"depth_range_nm": (-1000.0, 1000.0)})
    small = light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (60, 64)}), shipped)
    plan = SimulatePlan(
        frame_count=2, shape_yx_px=(1024, 1024), density_per_um2=0.1, border_px=12, photons=(8000, 8000), mean_on_frames=1000,
        background_photons=(4, 4), seed=5, device="cpu",
    )  # fmt: skip
    return finish(simulate(small, plan))


def test_molecules_light_up_in_the_volume_where_they_are(movie):
    volume = finish(deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"iterations": 40})))
    assert volume.values_zyx.shape == (11, 60, 64)
    assert volume.voxel_zyx_nm == (200.0, 145.0, 145.0)
    first = movie.truth.select(movie.truth["frame"] == 0)
    index = (first.position_zyx_nm - volume.origin_zyx_nm) / volume.voxel_zyx_nm
    lone = [k for k in range(len(index)) if np.sort(np.hypot(*(index[:, 1:] - index[k, 1:]).T))[1] > 7]
    assert lone
    for z, y, x in index[lone]:
        around = volume.values_zyx[:, round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        light = around.sum()
        assert light == pytest.approx(8000 * 0.82, rel=0.2)
        assert (around.sum((1, 2)) @ np.arange(11)) / light == pytest.approx(z, abs=1.0)


def test_raw_frames_and_cut_ones_make_the_same_volume_each_counted_from_the_corner_of_its_frames(movie):
    raw = finish(deconvolve(movie.stack, movie.instrument, PLAN))
    cut = finish(deconvolve(*split_views(movie.stack, movie.instrument), PLAN))
    assert np.array_equal(raw.values_zyx, cut.values_zyx)
    top, left, _, _ = movie.instrument.views[0].region_yx_px
    assert min(top, left) > 100
    assert raw.origin_zyx_nm == pytest.approx((-1000.0, top * 145.0, left * 145.0))
    assert cut.origin_zyx_nm == (-1000.0, 0.0, 0.0)


def test_the_corner_is_that_of_the_first_pixel_that_is_left_where_a_view_reaches_beyond_the_sensor(movie):
    first, *others = movie.instrument.views
    _, left, _, right = first.region_yx_px
    beyond = movie.instrument.model_copy(update={"views": (first.model_copy(update={"region_yx_px": (-7, left, 53, right)}), *others)})
    # every row and every column shines in its own way
    rows, columns = np.mgrid[:1024, :1024]
    counts = np.stack([100 + 3 * rows, 100 + 3 * columns]).astype(np.uint16)
    stack = movie.stack.model_copy(update={"counts_tyx": (counts,)})
    for frame, axis in enumerate("yx"):
        plan = ViewsPlan(first_frame=frame, last_frame=frame, device="cpu")
        views = finish(sum_views(stack, beyond, plan))
        a_pixel = float(np.diff(views.views_vyx[0, :2, :2].numpy(), axis=frame).mean())
        assert views.views_vyx.shape[1:] == (53, 64)
        assert views.corner_yx_nm[frame] == pytest.approx(145.0 * float(views.views_vyx[0, 0, 0]) / a_pixel, abs=1.0), axis
    assert views.corner_yx_nm == pytest.approx((0.0, 145.0 * left))


def with_blank(stack, *frames):
    counts = np.array(stack.counts_tyx[0][:])
    counts[list(frames)] = 100
    return stack.model_copy(update={"counts_tyx": (counts,)})


def test_a_frame_that_the_camera_dropped_is_left_out_of_the_mean(movie):
    alone = finish(deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"last_frame": 0})))
    beside_blank = finish(deconvolve(with_blank(movie.stack, 1), movie.instrument, PLAN))
    assert np.array_equal(alone.values_zyx, beside_blank.values_zyx)


def test_blank_frames_alone_make_an_empty_volume(movie):
    volume = finish(deconvolve(with_blank(movie.stack, 0, 1), movie.instrument, PLAN))
    assert volume.values_zyx.sum() < 1


def test_frames_are_averaged(movie):
    def light(**changes):
        plan = PLAN.model_copy(update={"background_photons": 4 * 0.82, **changes})
        return finish(deconvolve(movie.stack, movie.instrument, plan)).values_zyx.sum()

    both, first, second = light(), light(last_frame=0), light(first_frame=1)
    assert both == pytest.approx((first + second) / 2, rel=0.03)


def test_a_stop_leaves_the_volume_of_the_last_whole_iteration(movie):
    done = finish(deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"iterations": 3})))
    steps = deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"tile_px": 32}))
    told = []
    for progress in steps:
        told.append(progress)
        # in the middle of the fourth iteration, of four tiles
        if progress.stage == "deconvolve" and progress.done == 14:
            break
    steps.close()
    reached = told[-1].preview
    assert reached.iterations == 3
    assert reached.volume().values_zyx == pytest.approx(done.values_zyx, rel=1e-2, abs=1e-3 * float(done.values_zyx.max()))
    assert [p.done for p in told if p.stage == "deconvolve"] == list(range(1, 15))
    assert {p.total for p in told if p.stage == "deconvolve"} == {48}


def test_the_wide_field_volume_is_smoother_and_keeps_the_light(movie):
    points = finish(deconvolve(movie.stack, movie.instrument, PLAN))
    wide = finish(deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"wide_field": True})))
    assert wide.quantity.startswith("wide-field")
    assert np.abs(np.diff(wide.values_zyx, axis=2)).max() / wide.values_zyx.max() < (
        np.abs(np.diff(points.values_zyx, axis=2)).max() / points.values_zyx.max()
    )
    # every plane of a focus scan holds the light of all depths near it
    assert wide.values_zyx[5].sum() < points.values_zyx.sum()


def test_what_makes_no_volume_is_told(movie):
    stack, instrument = split_views(movie.stack, movie.instrument)
    alone = instrument.model_copy(update={"views": instrument.views[:1], "cameras": instrument.cameras[:1]})
    with pytest.raises(PlanError, match="has one view"):
        finish(deconvolve(RawStack(counts_tyx=stack.counts_tyx[:1]), alone, PLAN))
    counts = [np.asarray(c[:]) for c in stack.counts_tyx]
    uneven = RawStack(counts_tyx=(counts[0], counts[1], counts[2][:, :50]))
    with pytest.raises(StackError, match="views differ in size"):
        finish(deconvolve(uneven, instrument, PLAN))
    with pytest.raises(PlanError, match="frames 0 to 7 were asked for"):
        finish(deconvolve(movie.stack, movie.instrument, PLAN.model_copy(update={"last_frame": 7})))
    with pytest.raises(ValueError, match="lies before first_frame"):
        DeconvolvePlan(first_frame=3, last_frame=1)
