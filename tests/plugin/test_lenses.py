"""The views of a microlens array in the window: lens centres to drag, views over each other, molecules in each of them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.engine.optics.parallax import image_shifts
from napari_volumetric_smlm.io.samples import open_sample, sample_instrument, sample_truth
from napari_volumetric_smlm.plugin.layers import FRAMES, MOLECULES, lay_stack, role_of
from napari_volumetric_smlm.plugin.view_jobs import DEPTHS
from napari_volumetric_smlm.plugin.view_layers import IN_VIEWS, LENSES, VIEW, places_in_view


def layers_of(viewer, role):
    return [layer for layer in viewer.layers if role_of(layer) == role]


@pytest.fixture
def widget(viewer, qtbot):
    from napari.layers import Layer

    from napari_volumetric_smlm.plugin.actions import open_widget

    for data in lay_stack(open_sample("light_field"), sample_instrument("light_field")):
        viewer.layers.append(Layer.create(*data))
    opened = open_widget(viewer)
    yield opened
    opened.leave()
    qtbot.wait_until(lambda: not any(job.busy for job in (opened.lenses.job, opened.projection.job)), timeout=20000)


def done(box, qtbot, button):
    with qtbot.wait_signal(box.job.ended, timeout=60000) as ended:
        button.click()
    return ended.args[0]


def test_the_section_is_there_for_raw_light_field_frames_only(widget, toy_instrument):
    assert widget.lenses.isVisibleTo(widget)
    assert widget.lenses.find_button.isEnabled()
    widget.session.choose_instrument(toy_instrument, "test")
    assert not widget.lenses.isVisibleTo(widget)


def test_centres_are_found_dragged_and_applied(widget, viewer, qtbot):
    box, before = widget.lenses, widget.session.instrument
    assert done(box, qtbot, box.find_button).kind == "done"
    [points] = layers_of(viewer, LENSES)
    found = np.array(points.data)
    # a disc of light is fitted to square fields: some pixels
    assert np.abs(found - np.array(before.microlenses.sensor_centres_yx_px)).max() < 10
    assert "3 lens centres found" in box.words.text()
    assert widget.session.instrument is before
    frames = layers_of(viewer, FRAMES)[0]
    assert points.data_to_world(found[1]) == pytest.approx(frames.data_to_world((0, *found[1]))[1:])
    points.data = np.add(found, [[0, 0], [0, 0], [0, 2]])
    assert done(box, qtbot, box.apply_button).kind == "done"
    placed = widget.session.instrument
    assert np.array(placed.microlenses.sensor_centres_yx_px) == pytest.approx(np.add(found, [[0, 0], [0, 0], [0, 2]]), abs=1e-3)
    assert widget.session.instrument_origin == "came with the images, views placed"
    assert placed.views[2].affine_yx[1][2] == pytest.approx((found[2, 1] + 2 - found[0, 1]) * 145, abs=0.2)


def test_a_point_too_few_is_words_and_the_instrument_stays(widget, viewer, qtbot):
    box, before = widget.lenses, widget.session.instrument
    box.apply_button.click()
    assert "Find the lens centres first" in box.words.text()
    done(box, qtbot, box.find_button)
    [points] = layers_of(viewer, LENSES)
    points.data = np.array(points.data)[:2]
    assert done(box, qtbot, box.apply_button).kind == "failed"
    assert "2 lens centres were measured, the layout 'triangle' has 3 lenses" in widget.panel.message.text()
    assert widget.session.instrument is before


def test_frames_without_views_leave_points_to_drag(widget, viewer, qtbot, monkeypatch):
    noise = np.random.default_rng(0).normal(110, 5, (2, 270, 290)).astype(np.uint16)
    monkeypatch.setattr(widget.frames, "stack", lambda: open_sample("light_field").model_copy(update={"counts_tyx": (noise,)}))
    assert done(widget.lenses, qtbot, widget.lenses.find_button).kind == "failed"
    assert "no sign of 3 views that show the same" in widget.lenses.words.text()
    [points] = layers_of(viewer, LENSES)
    assert np.array(points.data) == pytest.approx(np.array(widget.session.instrument.microlenses.sensor_centres_yx_px))


def test_views_lie_over_each_other_where_the_first_one_is(widget, viewer, qtbot):
    assert done(widget.lenses, qtbot, widget.lenses.show_button).kind == "done"
    views, frames = layers_of(viewer, VIEW), layers_of(viewer, FRAMES)[0]
    instrument = widget.session.instrument
    assert [view.data.shape for view in views] == [(20, 128, 128)] * 3
    for layer, view in zip(views, instrument.views, strict=True):
        top, left, *_ = view.region_yx_px
        shift = np.array([row[2] for row in view.affine_yx])
        # the point of the first view that this view's first pixel shows
        expected = (np.array([top, left]) * 145 - shift) / 145
        assert layer.data_to_world((3, 0, 0)) == pytest.approx(frames.data_to_world((3, *expected)), abs=1e-3)
        assert np.array_equal(np.asarray(layer.data[4]), np.asarray(frames.data[4])[top : top + 128, left : left + 128])
    done(widget.lenses, qtbot, widget.lenses.show_button)
    assert len(layers_of(viewer, VIEW)) == 3


def test_squares_sit_on_the_images_in_every_view():
    instrument, truth, stack = sample_instrument("light_field"), sample_truth("light_field"), open_sample("light_field")
    shifts = image_shifts(instrument, np.linspace(*instrument.depth_range_nm, DEPTHS))
    bright = truth.select(truth["photons"] > 6000)
    frames = np.asarray(stack.counts_tyx[0][:]).astype(float)
    rows, columns = np.mgrid[-4:5, -4:5]
    for v in range(3):
        offsets = []
        for frame, place in zip(bright["frame"], places_in_view(bright, instrument, v, shifts[v]) / 145, strict=True):
            row, column = np.rint(place).astype(int)
            light = frames[frame, row - 4 : row + 5, column - 4 : column + 5] - 115
            light = np.clip(light, 0, None)
            offsets.append([(light * rows).sum() / light.sum() + row - place[0], (light * columns).sum() / light.sum() + column - place[1]])
        assert len(offsets) > 50
        # neighbours pull single ones; half a pixel for the middle of them
        assert np.abs(np.median(offsets, 0)).max() < 0.5


def test_molecules_of_the_frame_are_projected_into_every_view(widget, viewer, qtbot):
    truth = sample_truth("light_field")
    widget.session.keep_table(truth)
    qtbot.wait_until(lambda: bool(layers_of(viewer, IN_VIEWS)), timeout=30000)
    [squares] = layers_of(viewer, IN_VIEWS)
    viewer.dims.set_current_step(0, 7)
    here = truth.select(truth["frame"] == 7)
    assert len(squares.data) == 3 * len(here) > 0
    regions = np.array([view.region_yx_px for view in widget.session.instrument.views]) * 145
    for part, (top, left, bottom, right) in zip(np.split(np.array(squares.data), 3), regions, strict=True):
        inside = (part[:, 0] > top - 1500) & (part[:, 0] < bottom + 1500) & (part[:, 1] > left - 1500) & (part[:, 1] < right + 1500)
        assert inside.all()
    # what covers the frames must not cover them
    viewer.add_image(np.zeros((20, 20)))
    viewer.layers.move(len(viewer.layers) - 1, viewer.layers.index(squares) + 1)
    viewer.dims.set_current_step(0, 6)
    [circles] = layers_of(viewer, MOLECULES)
    assert viewer.layers.index(circles) == viewer.layers.index(squares) + 1
    widget.views.choose("picture")
    assert not squares.visible
    # deleted by the user: not made anew by stepping
    viewer.layers.remove(squares)
    viewer.dims.set_current_step(0, 8)
    assert layers_of(viewer, IN_VIEWS) == []
    widget.session.keep_table(truth.select(slice(None)))
    assert len(layers_of(viewer, IN_VIEWS)) == 1


def test_an_instrument_of_one_view_needs_no_squares(widget, viewer, toy_instrument):
    widget.session.choose_instrument(toy_instrument, "test")
    widget.session.keep_table(
        Localizations(columns={"frame": [0], "z_nm": [0.0], "y_nm": [500.0], "x_nm": [500.0]}, z_reference="coverslip")
    )
    assert not widget.projection.job.busy
    assert layers_of(viewer, IN_VIEWS) == []


@pytest.fixture
def optics(viewer, qtbot):
    from napari_volumetric_smlm.plugin.session import session_of
    from napari_volumetric_smlm.plugin.widgets.optics import OpticsPanel

    session_of(viewer).choose_instrument(sample_instrument("light_field"), "test")
    panel = OpticsPanel(session_of(viewer))
    qtbot.add_widget(panel)
    yield panel
    panel.job.abandon()


def edited(optics, qtbot, name, value):
    with qtbot.wait_signal(optics.job.ended, timeout=60000):
        optics.objective.editors[name].setText(value)
    return optics.session.instrument


def test_another_aperture_or_magnification_gives_other_views(optics, qtbot):
    from napari_volumetric_smlm.engine.optics.views import energy_shares

    before = optics.session.instrument
    # at twice the magnification a pixel is half as large, and so are all distances between the views in the sample
    larger = edited(optics, qtbot, "magnification", str(2 * before.objective.magnification))
    assert larger.pixel_nm() == pytest.approx(before.pixel_nm() / 2)
    assert larger.microlenses.pixel_nm == pytest.approx(72.5)
    assert larger.views[1].affine_yx[0][2] == pytest.approx(before.views[1].affine_yx[0][2] / 2, rel=1e-4)
    assert [view.region_yx_px for view in larger.views] == [view.region_yx_px for view in before.views]
    assert optics.session.instrument_origin == "test, edited"
    # lenses at the pupil's edge see less of a smaller pupil, the first one as the others
    smaller = edited(optics, qtbot, "numerical_aperture", "0.9")
    assert smaller.objective.numerical_aperture == 0.9
    assert smaller.views[0].aperture == larger.views[0].aperture
    shares = energy_shares(smaller)
    assert [view.photon_fraction for view in smaller.views] == pytest.approx([share / max(shares) for share in shares], abs=1e-4)


def test_views_that_cannot_be_are_words_and_the_instrument_stays(optics, qtbot):
    before, told = optics.session.instrument, []
    optics.failed.connect(told.append)
    assert edited(optics, qtbot, "numerical_aperture", "0.01") is before
    assert "sees nothing of the pupil" in str(told[0])
