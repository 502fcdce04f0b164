"""Live preview: newest wish only, found and residual over the frame."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_volumetric_smlm.plugin.layers import FOUND, MOLECULES, RESIDUAL, role_of


def layer_of(viewer, role):
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


def wait_for_preview(widget, qtbot, frame):
    qtbot.wait_until(lambda: f"in frame {frame} with these settings" in widget.preview.words.text(), timeout=10000)


@pytest.fixture
def previewing(widget, viewer, qtbot):
    viewer.dims.set_current_step(0, 0)
    widget.preview.switch.setChecked(True)
    wait_for_preview(widget, qtbot, 0)
    return widget


def test_switching_it_on_shows_molecules_model_and_residual_of_the_frame(previewing, viewer):
    frames = viewer.layers[0]
    found, residual = layer_of(viewer, FOUND), layer_of(viewer, RESIDUAL)
    assert found.data.shape == residual.data.shape == (40, 50)
    np.testing.assert_allclose(found.data_to_world((3, 4)), frames.data_to_world((0, 3, 4))[1:])
    assert len(layer_of(viewer, MOLECULES).data) == 2
    # it looks, it does not find anything for good
    assert previewing.session.table is None


def test_the_frame_slider_and_a_setting_ask_again(previewing, viewer, recipes, qtbot):
    viewer.dims.set_current_step(0, 4)
    wait_for_preview(previewing, qtbot, 4)
    np.testing.assert_allclose(layer_of(viewer, MOLECULES).data[:, 0], 14 * 110.0)
    before = len(recipes.explained)
    previewing.form.editors["detection_threshold"].setText("12")
    qtbot.wait_until(lambda: len(recipes.explained) == before + 1, timeout=10000)


def test_many_changes_ask_once(previewing, viewer, recipes, qtbot):
    before = len(recipes.explained)
    for frame in (1, 2, 3, 4, 5):
        viewer.dims.set_current_step(0, frame)
    wait_for_preview(previewing, qtbot, 5)
    assert recipes.explained[before:] == [5]


def test_an_answer_that_comes_too_late_is_not_shown(previewing, viewer, recipes, qtbot):
    shown = []
    previewing.preview.preview.arrived.connect(lambda context, explanation: shown.append(explanation.frame))
    recipes.steps = lambda frame: time.sleep(0.6 if frame == 1 else 0.0)
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: previewing.preview.preview.job.busy, timeout=5000)
    viewer.dims.set_current_step(0, 2)
    wait_for_preview(previewing, qtbot, 2)
    qtbot.wait(700)
    assert shown == [2]


def test_only_the_region_is_explained_and_lies_where_it_belongs(previewing, viewer, qtbot):
    previewing.form.set_value("region_yx_px", (5, 10, 25, 40))
    qtbot.wait_until(lambda: layer_of(viewer, FOUND).data.shape == (20, 30), timeout=10000)
    np.testing.assert_allclose(layer_of(viewer, FOUND).data_to_world((0, 0)), (5 * 110.0, 10 * 110.0))


def test_an_error_of_the_preview_is_words_and_no_more(previewing, viewer, recipes, qtbot):
    def fail(frame):
        raise RuntimeError("shapes")

    recipes.steps = fail
    viewer.dims.set_current_step(0, 3)
    qtbot.wait_until(lambda: "shapes" in previewing.preview.words.text(), timeout=10000)
    assert previewing.panel.button.isEnabled()


def test_switching_it_off_shows_the_results_again(previewing, viewer, qtbot):
    previewing.preview.switch.setChecked(False)
    assert len(layer_of(viewer, MOLECULES).data) == 0
    assert previewing.preview.words.text() == ""


def test_the_views_show_one_picture_at_a_time(previewing, viewer):
    found, residual = layer_of(viewer, FOUND), layer_of(viewer, RESIDUAL)
    for role, visible in (("found", (True, False)), ("residual", (False, True)), ("frames", (False, False))):
        previewing.views.choose(role)
        assert (found.visible, residual.visible) == visible
    assert layer_of(viewer, MOLECULES).visible
    previewing.views.choose("picture")
    assert not layer_of(viewer, MOLECULES).visible
