"""The Reconstruct widget: one button, states, streaming, cancel, and everything that can happen to layers during a job."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.errors import EngineError
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.plugin.layers import MOLECULES, PICTURE, noun_of, role_of
from napari_volumetric_smlm.plugin.workers import State

FRAMES, EACH = 6, 2


def layer_of(viewer, role):
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


def start_and_wait_for(widget, recipes, qtbot, frames):
    recipes.hold()
    widget.panel.button.click()
    recipes.allow(frames)
    qtbot.wait_until(lambda: bool(widget.session.streamed) and widget.session.streamed.count == frames * EACH, timeout=10000)


def run_to_end(widget, qtbot):
    with qtbot.wait_signal(widget.panel.ended, timeout=20000) as ended:
        widget.panel.button.click()
    qtbot.wait_until(lambda: not widget.finisher.busy, timeout=10000)
    return ended.args[0]


def test_from_opened_frames_one_click_gives_table_picture_and_circles(widget, viewer, qtbot, toy_instrument):
    assert widget.panel.button.isEnabled()
    assert widget.session.instrument == toy_instrument
    outcome = run_to_end(widget, qtbot)
    assert outcome.kind == "done"
    assert len(widget.session.table) == FRAMES * EACH
    assert layer_of(viewer, PICTURE).visible
    circles = layer_of(viewer, MOLECULES)
    assert len(circles.data) == EACH
    assert noun_of(circles, "table") is widget.session.table
    assert "12 molecules in 6 frames" in widget.panel.message.text()


def test_a_result_is_saved_by_itself_with_its_plan(widget, qtbot, own_settings):
    run_to_end(widget, qtbot)
    [saved] = (own_settings / "results").glob("molecules-*.parquet")
    assert len(read_table(saved)) == FRAMES * EACH
    assert ReconstructPlan.model_validate_json(saved.with_suffix(".plan.json").read_text()) == widget.form.plan()


def test_the_states_follow_each_other_and_lock_the_button(widget, recipes, qtbot):
    states = []
    widget.panel.job.state_changed.connect(states.append)
    recipes.hold()
    widget.panel.button.click()
    assert widget.panel.button.text() == "Stop"
    assert widget.panel.bar.isVisibleTo(widget.panel)
    with qtbot.wait_signal(widget.panel.ended, timeout=10000):
        widget.panel.button.click()
        assert widget.panel.button.text() == "Stopping ..."
        assert not widget.panel.button.isEnabled()
    assert states == [State.RUNNING, State.STOPPING, State.DONE]
    assert widget.panel.button.text() == "Reconstruct"
    assert widget.panel.button.isEnabled()


def test_stop_keeps_draws_and_saves_what_was_found_and_says_that_it_is_not_all(widget, viewer, recipes, qtbot, own_settings):
    start_and_wait_for(widget, recipes, qtbot, frames=2)
    with qtbot.wait_signal(widget.panel.ended, timeout=5000):  # how soon is the business of benchmarks/napari_session.py
        widget.panel.button.click()
    qtbot.wait_until(lambda: not widget.finisher.busy, timeout=10000)
    table = widget.session.table
    assert len(table) == 2 * EACH
    assert table.provenance["complete"] is False
    assert layer_of(viewer, PICTURE) is not None
    assert f"{len(table)} molecules kept" in widget.panel.message.text()
    [saved] = (own_settings / "results").glob("molecules-*.parquet")
    assert len(read_table(saved)) == len(table)
    assert recipes.closed == 1


def test_a_failure_is_words_with_details_and_keeps_what_was_found(widget, recipes, qtbot):
    def fail_late(frame):
        if frame == 4:
            raise EngineError("the fit of frame 4 found no minimum; use a smaller region")

    recipes.steps = fail_late
    outcome = run_to_end(widget, qtbot)
    assert outcome.kind == "failed"
    assert widget.panel.job.state is State.FAILED
    assert "found no minimum; use a smaller region" in widget.panel.message.text()
    assert "Traceback" not in widget.panel.message.text()
    assert "Traceback" in widget.panel.details.toPlainText()
    assert not widget.panel.details.isVisibleTo(widget.panel)
    widget.panel.details_button.setChecked(True)
    assert widget.panel.details.isVisibleTo(widget.panel)
    assert len(widget.session.table) == 4 * EACH
    assert any("EngineError" in line for line in widget.session.log.lines)
    # and again from here
    recipes.steps = lambda frame: None
    assert run_to_end(widget, qtbot).kind == "done"
    assert not widget.panel.details_button.isVisibleTo(widget.panel)


def test_a_torch_error_is_not_swallowed(widget, recipes, qtbot):
    def shapes(frame):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    recipes.steps = shapes
    assert run_to_end(widget, qtbot).kind == "failed"
    assert "Something went wrong inside the program: RuntimeError" in widget.panel.message.text()


def test_too_little_memory_means_fewer_frames_at_once_and_is_told(widget, recipes, qtbot):
    class OutOfMemoryError(RuntimeError):
        pass

    def run_out(frame):
        if recipes.calls[-1][2].batch_frames > 2 and frame == 3:
            raise OutOfMemoryError("CUDA out of memory")

    recipes.steps = run_out
    widget.form.set_value("batch_frames", 8)
    assert run_to_end(widget, qtbot).kind == "done"
    assert [call[2].batch_frames for call in recipes.calls] == [8, 4, 2]
    # nothing of the first attempts is counted twice
    assert len(widget.session.table) == FRAMES * EACH
    assert any("starting again with 4 frames" in line for line in widget.session.log.lines)


def test_results_stream_in_while_it_runs(widget, viewer, recipes, qtbot):
    viewer.dims.set_current_step(0, 1)
    start_and_wait_for(widget, recipes, qtbot, frames=1)
    circles, growing = layer_of(viewer, MOLECULES), layer_of(viewer, PICTURE)
    assert len(circles.data) == 0
    assert growing.data.sum() == EACH
    recipes.allow(1)
    qtbot.wait_until(lambda: len(circles.data) == EACH, timeout=10000)
    assert growing.data.sum() == 2 * EACH
    assert widget.panel.job.busy
    recipes.allow(10)
    qtbot.wait_until(lambda: not widget.panel.job.busy, timeout=10000)
    assert growing not in viewer.layers


@pytest.mark.parametrize("deed", ["delete frames", "delete circles", "delete all", "rename", "new layer"])
def test_layers_may_come_go_and_be_renamed_during_a_job(widget, viewer, recipes, qtbot, deed):
    frames = viewer.layers[0]
    start_and_wait_for(widget, recipes, qtbot, frames=1)
    if deed == "delete frames":
        viewer.layers.remove(frames)
    elif deed == "delete circles":
        viewer.layers.remove(layer_of(viewer, MOLECULES))
    elif deed == "delete all":
        viewer.layers.clear()
    elif deed == "rename":
        frames.name = "something else"
        layer_of(viewer, MOLECULES).name = "mine"
    else:
        viewer.add_image(np.zeros((6, 40, 50)), name="another movie")
    recipes.allow(10)
    qtbot.wait_until(lambda: not widget.panel.job.busy and not widget.finisher.busy, timeout=20000)
    assert widget.panel.job.state is State.DONE
    assert len(widget.session.table) == FRAMES * EACH


def test_closing_the_dock_during_a_job_stops_it(viewer, widget, recipes, qtbot):
    start_and_wait_for(widget, recipes, qtbot, frames=1)
    viewer.window.remove_dock_widget(widget)
    qtbot.wait_until(lambda: recipes.closed == 1, timeout=5000)
    viewer.dims.set_current_step(0, 1)
    viewer.layers.clear()


def test_the_button_says_what_is_missing(viewer, recipes, qtbot, movie, tmp_path):
    from napari_volumetric_smlm.plugin.actions import open_widget

    widget = open_widget(viewer)
    assert not widget.panel.button.isEnabled()
    assert "Open or import frames" in widget.panel.button.toolTip()
    viewer.add_image(np.zeros((3, 8, 9)), name="frames of others")
    assert "Choose an instrument" in widget.panel.button.toolTip()
    assert "Choose an instrument" in widget.panel.message.text()
    widget.instrument.load(movie.parent / "toy.json")
    assert widget.panel.button.isEnabled()
    widget.form.editors["detection_threshold"].setText("-1")
    assert not widget.panel.button.isEnabled()
    assert "Detection threshold" in widget.panel.button.toolTip()
    widget.leave()


def test_frame_range_and_region_reach_the_recipe(widget, viewer, recipes, qtbot):
    viewer.add_shapes([np.array([[10, 20], [10, 30], [25, 30], [25, 20]]) * 110.0], shape_type="rectangle")
    widget.region_button.click()
    widget.form.editors["first_frame"].setText("2")
    widget.form.editors["last_frame"].setText("3")
    run_to_end(widget, qtbot)
    plan = recipes.calls[0][2]
    assert (plan.first_frame, plan.last_frame) == (2, 3)
    assert plan.region_yx_px == (10, 20, 26, 31)
    assert set(widget.session.table["frame"].tolist()) == {2, 3}


def test_a_region_without_a_rectangle_is_refused_in_words(widget):
    widget.region_button.click()
    assert "draw a rectangle over the frames first" in widget.panel.message.text()


def test_the_slider_moves_circles_and_rows(widget, viewer, qtbot):
    run_to_end(widget, qtbot)
    circles = layer_of(viewer, MOLECULES)
    for frame in (0, 3, 5):
        viewer.dims.set_current_step(0, frame)
        np.testing.assert_allclose(circles.data[:, 0], (10 + frame) * 110.0)
        assert widget.molecules.model.rowCount() == EACH
        assert set(widget.molecules.model.table["frame"].tolist()) == {frame}


def test_a_clicked_row_is_a_place_and_selected_circles_are_rows(widget, viewer, qtbot):
    run_to_end(widget, qtbot)
    widget.views.choose("frames")
    widget.molecules.all_frames.setChecked(True)
    assert widget.molecules.model.rowCount() == FRAMES * EACH
    widget.molecules.view.clicked.emit(widget.molecules.model.index(9, 0))
    assert viewer.dims.current_step[0] == 4
    circles = layer_of(viewer, MOLECULES)
    assert set(circles.selected_data) == {1}
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (14 * 110.0, 30 * 110.0))
    widget.molecules.all_frames.setChecked(False)
    circles.selected_data = {0}
    selected = {index.row() for index in widget.molecules.view.selectionModel().selectedRows()}
    assert selected == {0}


def test_rows_can_be_sorted_and_still_lead_to_their_molecule(widget, viewer, qtbot):
    from qtpy.QtCore import Qt

    run_to_end(widget, qtbot)
    widget.molecules.all_frames.setChecked(True)
    column = widget.molecules.model.names.index("photons")
    widget.molecules.view.sortByColumn(column, Qt.SortOrder.DescendingOrder)
    brightest = widget.molecules.model.data(widget.molecules.model.index(0, column))
    assert float(brightest) == 5000
    widget.molecules.view.clicked.emit(widget.molecules.model.index(0, 0))
    assert viewer.dims.current_step[0] == 5


def test_foreign_layers_the_theme_and_reader_preferences_stay_as_they_were(widget, viewer, qtbot):
    from napari.settings import get_settings

    theirs = viewer.add_image(np.zeros((6, 40, 50)), name="theirs", metadata={"a": 1}, visible=False, colormap="magma")
    widget.frames.pickers[0].choose(viewer.layers[0])
    theme, readers = get_settings().appearance.theme, dict(get_settings().plugins.extension2reader)
    run_to_end(widget, qtbot)
    for role in ("frames", "picture", "found", "residual"):
        widget.views.choose(role)
    assert (theirs.name, theirs.metadata, theirs.visible, theirs.colormap.name) == ("theirs", {"a": 1}, False, "magma")
    assert theirs in viewer.layers
    assert get_settings().appearance.theme == theme
    assert dict(get_settings().plugins.extension2reader) == readers


def test_the_activity_dock_follows_and_ends(widget, recipes, qtbot):
    from napari.utils import progress

    start_and_wait_for(widget, recipes, qtbot, frames=2)
    [bar] = progress._all_instances
    assert (bar.total, bar.n) == (FRAMES, 2)
    assert "localize" in bar.desc
    assert "2 of 6" in widget.panel.message.text()
    recipes.allow(10)
    qtbot.wait_until(lambda: not widget.panel.job.busy, timeout=10000)
    assert len(progress._all_instances) == 0


def test_each_camera_gets_the_layer_of_its_number(viewer, recipes, npe2pm):
    from npe2 import PluginManifest

    from napari_volumetric_smlm.plugin.actions import open_widget

    npe2pm.register(PluginManifest.from_distribution("napari-volumetric-smlm"))
    viewer.open_sample("napari-volumetric-smlm", "biplane")
    widget = open_widget(viewer)
    assert ["camera 1" in layer.name for layer in widget.frames.layers] == [True, False]
    assert widget.frames.stack() is noun_of(viewer.layers[0], "stack")
    widget.frames.pickers[1].choose(viewer.layers[0])
    assert "same layer is chosen for two cameras" in widget.panel.button.toolTip()
