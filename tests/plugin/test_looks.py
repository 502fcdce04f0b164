"""What the user sees: circles on their spots pixel for pixel, tooltips everywhere, both themes, a narrow dock."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtWidgets import QAbstractButton, QCheckBox, QComboBox, QLineEdit, QPushButton, QToolButton, QWidget

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.plugin.layers import fill_molecules, lay_molecules, lay_stack

PIXEL_NM = 110.0


@pytest.fixture(scope="module")
def window(qapp):
    """Return a viewer that is shown: pixels need a canvas."""
    import napari

    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(1100, 700)
    yield viewer
    viewer.close()


def settle(seconds=0.3):
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def centre_of(picture, bright):
    """Return the mean (row, column) of the pixels for which `bright` holds."""
    rows, columns = np.nonzero(bright(picture[..., :3].astype(float)))
    assert len(rows) > 4
    return np.array([rows.mean(), columns.mean()])


@pytest.mark.parametrize("place", [(8.0, 11.0), (8.5, 11.5), (3.0, 3.0)])
def test_a_circle_sits_on_its_spot_on_the_screen(viewer, place):
    from napari.layers import Layer

    from napari_volumetric_smlm.domain.images import RawStack

    counts = np.zeros((2, 20, 24), np.uint16)
    # on a half pixel the light is shared by the neighbours
    for row in {int(np.floor(place[0])), int(np.ceil(place[0]))}:
        for column in {int(np.floor(place[1])), int(np.ceil(place[1]))}:
            counts[:, row, column] = 1000
    frames = Layer.create(*lay_stack(RawStack(counts_tyx=(counts,), kind="frames", pixel_nm=PIXEL_NM))[0])
    viewer.layers.append(frames)
    viewer.reset_view()
    settle()
    spot = centre_of(viewer.screenshot(canvas_only=True, flash=False), lambda rgb: rgb.min(axis=-1) > 128)
    circles = Layer.create(*lay_molecules(frames, PIXEL_NM))
    columns = {name: [value] for name, value in zip(("frame", "z_nm", "y_nm", "x_nm"), (0, 0, *np.multiply(place, PIXEL_NM)), strict=True)}
    fill_molecules(circles, Localizations(columns=columns), None, (0, 1000))
    circles.border_color = "red"
    viewer.layers.append(circles)
    settle()
    picture = viewer.screenshot(canvas_only=True, flash=False)
    ring = centre_of(picture, lambda rgb: (rgb[..., 0] > 128) & (rgb[..., 1] < 100))
    camera_pixel = picture.shape[0] / 22
    assert np.abs(ring - spot).max() < 0.08 * camera_pixel + 1
    # a shift by half a camera pixel would be seen
    assert 0.5 * camera_pixel > 0.08 * camera_pixel + 1


@pytest.fixture(params=["Reconstruct", "Train", "Instrument and calibration", "Structured illumination", "Volumes"])
def opened(request, viewer, movie, recipes):
    from napari_volumetric_smlm.plugin.actions import open_widget

    viewer.open(str(movie), plugin="napari-volumetric-smlm")
    return open_widget(viewer, request.param)


def controls(widget):
    return [
        part
        for part in widget.findChildren(QWidget)
        if isinstance(part, (QLineEdit, QComboBox, QCheckBox, QPushButton, QToolButton)) and not part.objectName().startswith("qt_")
    ]


def test_every_control_has_a_tooltip_and_a_name(opened):
    found = controls(opened)
    assert len(found) > 25
    for part in found:
        text = part.text() if isinstance(part, QAbstractButton) else ""
        name = part.accessibleName() or part.accessibleDescription() or text
        assert part.toolTip() or not part.isEnabled(), (type(part).__name__, part.objectName(), text)
        assert name, (type(part).__name__, part.objectName())


def test_every_control_can_be_reached_with_the_keyboard(opened):
    from qtpy.QtCore import Qt

    for part in controls(opened):
        assert part.focusPolicy() & Qt.FocusPolicy.TabFocus or isinstance(part, QToolButton), part.objectName()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_widget_is_drawn_in_both_themes_and_fits_a_narrow_dock(opened, viewer, theme):
    before = viewer.theme
    viewer.theme = theme
    opened.resize(320, 700)
    settle(0.2)
    picture = opened.grab().toImage()
    viewer.theme = before
    width, height = picture.width(), picture.height()
    samples = np.array([picture.pixelColor(x, y).lightness() for x in range(2, width, 7) for y in range(2, height, 7)])
    assert samples.std() > 5
    assert (np.median(samples) < 128) == (theme == "dark")
    assert opened.minimumSizeHint().width() <= 360
    for part in controls(opened):
        if part.isVisible():
            right = part.mapTo(opened, part.rect().topRight()).x()
            assert right <= opened.width(), (part.objectName(), right, opened.width())


def test_nothing_lies_under_the_scroll_bar_of_a_narrow_dock(opened):
    from qtpy.QtWidgets import QScrollArea, QStyle

    from napari_volumetric_smlm.plugin.widgets.sections import NARROWEST_PX

    opened.resize(NARROWEST_PX, 300)
    settle(0.2)
    area = opened.findChild(QScrollArea)
    bar = area.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
    assert area.verticalScrollBar().isVisible()
    assert area.widget().minimumSizeHint().width() <= NARROWEST_PX - bar


@pytest.mark.parametrize(("sample", "instrument"), [("astigmatic", "Astigmatic"), ("light_field", "Fourier light field")])
def test_a_sample_opens_its_widget_and_one_click_is_left(viewer, qtbot, npe2pm, sample, instrument):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-volumetric-smlm"))
    viewer.open_sample("napari-volumetric-smlm", sample)
    qtbot.wait_until(lambda: "Reconstruct (Volumetric SMLM)" in viewer.window.dock_widgets, timeout=5000)
    widget = viewer.window.dock_widgets["Reconstruct (Volumetric SMLM)"]
    assert widget.panel.button.isEnabled()
    assert widget.session.instrument.name.startswith(instrument)


def test_volume_and_points_in_three_dimensions_are_not_black(viewer, qtbot):
    import napari

    from napari_volumetric_smlm.domain.images import Volume
    from napari_volumetric_smlm.plugin.space import open_space, volume_plan
    from napari_volumetric_smlm.plugin.widgets.reconstruct import DRAWING

    rng = np.random.default_rng(0)
    columns = {"frame": np.zeros(60), **{name: rng.uniform(0, 800, 60) for name in ("z_nm", "y_nm", "x_nm")}}
    table = Localizations(columns=columns, z_reference="coverslip")
    plan = volume_plan(table, DRAWING)
    assert plan.dimensions == "3d"
    values = rng.random((8, 20, 20)).astype(np.float32)
    volume = Volume(values_zyx=values, voxel_zyx_nm=(100, 40, 40), origin_zyx_nm=(0, 0, 0), quantity="molecules")
    space = open_space(table, volume)
    try:
        settle(0.5)
        picture = space.screenshot(canvas_only=True, flash=False)
        assert picture[..., :3].std() > 5
        assert space.dims.ndisplay == 3
        assert space.canvas.overlays.scale_bar.visible
        assert "coverslip" in space.canvas.overlays.text.text
        assert napari.current_viewer() is not None
    finally:
        space.close()
