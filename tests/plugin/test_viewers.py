"""Viewers of their own: closed during a job, two at once, and everything of ours gone with them."""

from __future__ import annotations

import time

from napari_volumetric_smlm.plugin.layers import MOLECULES, PICTURE, role_of


def layer_of(viewer, role):
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


def run_to_end(widget, qtbot):
    with qtbot.wait_signal(widget.panel.ended, timeout=20000):
        widget.panel.button.click()
    qtbot.wait_until(lambda: not widget.finisher.busy, timeout=10000)


def test_closing_the_viewer_during_a_job_is_clean(make_viewer, movie, recipes, qtbot):
    from napari_volumetric_smlm.plugin.actions import open_widget

    viewer = make_viewer()
    viewer.open(str(movie), plugin="napari-volumetric-smlm")
    widget = open_widget(viewer)
    recipes.hold()
    widget.panel.button.click()
    recipes.allow(1)
    qtbot.wait_until(lambda: bool(widget.session.streamed and widget.session.streamed.count), timeout=10000)
    began = time.monotonic()
    viewer.close()
    qtbot.wait_until(lambda: recipes.closed == 1, timeout=5000)
    assert time.monotonic() - began < 3


def test_two_viewers_share_nothing(make_viewer, movie, recipes, qtbot):
    from napari_volumetric_smlm.plugin.actions import open_widget

    first, second = make_viewer(), make_viewer()
    widgets = []
    for viewer in (first, second):
        viewer.open(str(movie), plugin="napari-volumetric-smlm")
        widgets.append(open_widget(viewer))
    assert widgets[0].session is not widgets[1].session
    run_to_end(widgets[0], qtbot)
    assert widgets[1].session.table is None
    assert layer_of(second, MOLECULES) is None
    assert layer_of(second, PICTURE) is None
    for widget in widgets:
        widget.leave()
