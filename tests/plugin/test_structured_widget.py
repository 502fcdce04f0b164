"""The Structured illumination widget: one click from raw frames to a sharper image, previews, words for whatever is wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from napari.layers import Layer
from superqt.utils._qthreading import WorkerBase

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.domain.structured_plans import Microscope, StructuredPlan, StructuredSimulatePlan
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.plugin.actions import STRUCTURED, open_widget
from napari_volumetric_smlm.plugin.layers import FRAMES, lay_stack, role_of
from napari_volumetric_smlm.plugin.structured_layers import EVIDENCE, RETOUCHED, SECTION, SHARP, WIDE_FIELD
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

PIXEL_NM = 65.0
MICROSCOPE = Microscope(numerical_aperture=1.3, emission_nm=525, pixel_nm=PIXEL_NM)
ROWS, COLUMNS, TIMES = 90, 101, 2


@pytest.fixture(scope="module")
def raw():
    plan = StructuredSimulatePlan(shape_yx_px=(ROWS, COLUMNS), time_count=TIMES, otf_damping=0.3, photons=400, device="cpu")
    return finish(simulate_structured(MICROSCOPE.instrument(), plan)).stack


@pytest.fixture
def show(viewer, qtbot):
    """Return a way to open a stack and the widget over it."""
    made = []

    def open_over(stack, instrument=None):
        viewer.layers.append(Layer.create(*lay_stack(stack, instrument)[0]))
        made.append(open_widget(viewer, STRUCTURED))
        return made[-1]

    yield open_over
    for widget in made:
        widget.leave()
    qtbot.wait_until(lambda: not WorkerBase._worker_set, timeout=20000)


@pytest.fixture
def widget(show, raw):
    return show(raw, MICROSCOPE.instrument())


def click(widget, qtbot):
    with qtbot.wait_signal(widget.panel.ended, timeout=60000) as ended:
        widget.panel.button.click()
    until_laid(widget, qtbot)
    return ended.args[0]


def until_laid(widget, qtbot):
    """Wait until the layers of a result are there, one after the other."""
    if widget.view.busy:
        with qtbot.wait_signal(widget.view.laid, timeout=10000):
            pass


def finest(image):
    """Return the share of the highest frequencies."""
    size = np.abs(np.fft.rfft2(image))
    return size[40:60, 40:].mean() / size[:20, :20].mean()


def layer_of(viewer, role):
    found = [layer for layer in viewer.layers if role_of(layer) == role]
    return found[-1] if found else None


def test_from_the_sample_one_click_is_left_to_a_reconstruction(viewer, qtbot, npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-volumetric-smlm"))
    viewer.open_sample("napari-volumetric-smlm", "structured")
    title = "Structured illumination (Volumetric SMLM)"
    qtbot.wait_until(lambda: title in viewer.window.dock_widgets, timeout=5000)
    widget = viewer.window.dock_widgets[title]
    assert click(widget, qtbot).kind == "done"
    assert widget.evidence.words.text().startswith("✓ All 3 orientations were found")
    sharp, wide = layer_of(viewer, SHARP), layer_of(viewer, WIDE_FIELD)
    assert sharp.visible
    assert not wide.visible
    assert sharp.data.shape == wide.data.shape == (512, 512)
    # the reconstruction holds more fine structure than the wide field, beyond what noise would add
    fine = [np.abs(np.fft.rfft2(layer.data / layer.data.mean()))[60:100, 40:100].mean() for layer in (sharp, wide)]
    assert fine[0] > 3 * fine[1]


def test_images_of_a_series_lie_on_the_frames_in_space_and_time(widget, viewer, qtbot):
    assert click(widget, qtbot).kind == "done"
    frames, sharp = layer_of(viewer, FRAMES), layer_of(viewer, SHARP)
    assert sharp.data.shape == (TIMES, 2 * ROWS, 2 * COLUMNS)
    assert tuple(map(str, sharp.units)) == tuple(map(str, frames.units))
    for frame in range(9 * TIMES):
        place = sharp.world_to_data(frames.data_to_world((frame, 30, 40)))
        assert round(float(place[0])) == frame // 9
        assert place[1:] == pytest.approx((60, 80))
    # the light is where the frames have it
    mean = np.asarray(frames.data[:9], float).mean(0)
    assert np.corrcoef(mean.ravel(), sharp.data[0, ::2, ::2].ravel())[0, 1] > 0.8


def test_the_verdict_stands_in_a_table_with_a_picture_that_can_be_a_layer(widget, viewer, qtbot):
    click(widget, qtbot)
    table = widget.evidence.table
    rows = [[table.item(row, column).text() for column in range(table.columnCount())] for row in range(table.rowCount())]
    assert [row[0] for row in rows] == ["0 ✓", "1 ✓", "2 ✓"]
    estimate = widget.retouch.answer.patterns.estimate.illumination
    for row, orientation in zip(rows, estimate.orientations, strict=True):
        (wave,) = orientation.waves
        assert float(row[1]) == pytest.approx(wave.period_nm, abs=0.1)
        assert float(row[3]) == pytest.approx(wave.modulation, abs=0.01)
        assert float(row[4]) == pytest.approx(wave.evidence.z_score, abs=0.1)
        assert float(row[5]) == pytest.approx(wave.evidence.modulation_to_noise, abs=0.01)
    assert not widget.evidence.picture.pixmap().isNull()
    widget.evidence.layer_button.click()
    picture = layer_of(viewer, EVIDENCE)
    assert picture.rgb
    # beside the frames, not over them
    assert picture.extent.world[0][-1] > layer_of(viewer, FRAMES).extent.world[1][-1]


def test_a_preview_shows_what_the_button_would_make_of_the_current_time(widget, viewer, qtbot):
    click(widget, qtbot)
    before = layer_of(viewer, SHARP).data.copy()
    viewer.dims.set_point(0, 12)
    with qtbot.wait_signal(widget.retouch.shown, timeout=20000):
        widget.forms.filter.set_value("wiener", 0.5)
    preview = layer_of(viewer, RETOUCHED).data.copy()
    assert np.array_equal(layer_of(viewer, SHARP).data, before)
    assert "image 1" in widget.retouch.words.text()
    # a large Wiener parameter leaves little of what is finer than the stripes
    assert finest(preview) < 0.7 * finest(before[1])
    # another time is another preview
    with qtbot.wait_signal(widget.retouch.shown, timeout=20000):
        viewer.dims.set_point(0, 3)
    assert "image 0" in widget.retouch.words.text()
    first = layer_of(viewer, RETOUCHED).data.copy()
    click(widget, qtbot)
    result = layer_of(viewer, SHARP).data
    assert np.allclose(result[1], preview, atol=1e-3 * preview.max())
    assert np.allclose(result[0], first, atol=1e-3 * first.max())
    qtbot.wait_until(lambda: layer_of(viewer, RETOUCHED) is None, timeout=5000)


def test_there_is_no_preview_of_other_frames_or_another_search(widget, viewer, qtbot):
    click(widget, qtbot)
    widget.forms.search.set_value("otf_damping", 0.9)
    qtbot.wait_until(lambda: "have changed" in widget.retouch.words.text(), timeout=5000)
    assert layer_of(viewer, RETOUCHED) is None


def test_buttons_toggle_what_is_seen(widget, viewer, qtbot):
    click(widget, qtbot)
    for role in (WIDE_FIELD, SECTION, FRAMES, SHARP):
        widget.views.buttons[role].click()
        seen = {role_of(layer) for layer in viewer.layers if layer.visible}
        assert seen == {FRAMES, role}


def test_frames_upside_down_give_a_picture_that_lies_on_the_frames(widget, viewer, qtbot):
    click(widget, qtbot)
    straight = layer_of(viewer, WIDE_FIELD).data[0].copy()
    widget.forms.frames.set_value("flip_y", True)
    click(widget, qtbot)
    turned = layer_of(viewer, WIDE_FIELD)
    assert turned.world_to_data((0, 0, 0))[1] == pytest.approx(1)
    # one fine row further down, and its margin apart the same
    assert np.corrcoef(turned.data[0][9:-8].ravel(), straight[8:-9].ravel())[0, 1] > 0.999


def test_settings_come_back_with_their_microscope(widget, viewer, qtbot, show, raw):
    widget.forms.filter.set_value("attenuation", 0.8)
    assert click(widget, qtbot).kind == "done"
    widget.microscope.set_value("emission_nm", 610)
    widget.forms.set_plan(StructuredPlan())
    widget.microscope.set_value("emission_nm", 525)
    assert widget.forms.plan().attenuation == 0.8
    assert widget.session.memory.recall_plan(StructuredPlan, widget.microscope.fingerprint).attenuation == 0.8
    # and the numbers of the last microscope wait for a stack that knows none, but not its pixel
    widget.leave()
    viewer.window.remove_dock_widget(widget)
    viewer.layers.clear()
    other = show(RawStack(counts_tyx=raw.counts_tyx, kind="structured"))
    assert other.microscope.values()[0]["numerical_aperture"] == 1.3
    assert not other.panel.button.isEnabled()
    assert "the images do not say it; fill in the camera's pixel" in other.panel.message.text()
    other.microscope.set_value("pixel_nm", PIXEL_NM)
    assert other.panel.button.isEnabled()


def test_the_microscope_of_the_images_counts_until_it_is_changed(widget, show, raw):
    camera = MICROSCOPE.instrument().cameras[0].model_copy(update={"offset_counts": 90.0})
    theirs = MICROSCOPE.instrument().model_copy(update={"cameras": (camera,)})
    other = show(raw, theirs)
    assert other.question().instrument == theirs
    other.microscope.set_value("emission_nm", 530)
    assert other.question().instrument.emission_nm == 530
    assert other.microscope.problem == ""


def test_a_layer_of_somebody_else_tells_its_pixel_by_its_scale(viewer, show, raw):
    viewer.add_image(np.asarray(raw.counts_tyx[0][:]), scale=(1, 0.065, 0.065), units=("pixel", "um", "um"), name="foreign")
    widget = open_widget(viewer, STRUCTURED)
    assert widget.microscope.values()[0]["pixel_nm"] == pytest.approx(PIXEL_NM)
    widget.leave()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda counts: counts[:16], "16 frames are not a multiple of 9 (3 orientations x 3 phases)"),
        (lambda counts: counts[:, :20, :40], "20 x 40 pixels; at least 32"),
    ],
)
def test_frames_that_do_not_fit_are_refused_in_words(show, qtbot, raw, change, words):
    widget = show(raw.model_copy(update={"counts_tyx": (change(np.asarray(raw.counts_tyx[0])),)}), MICROSCOPE.instrument())
    assert click(widget, qtbot).kind == "failed"
    assert words in widget.panel.message.text()
    assert "Traceback" in widget.panel.details.toPlainText()


def test_a_pixel_off_by_ten_is_warned_of_and_refused(widget, qtbot):
    widget.microscope.set_value("pixel_nm", 10 * PIXEL_NM)
    assert "the stack's metadata say 65 nm a pixel, the instrument 650 nm" in widget.warning.text()
    assert click(widget, qtbot).kind == "failed"
    assert "pixels of 650 nm in the sample do not fit a lens" in widget.panel.message.text()


def test_frames_without_a_pattern_show_the_evidence_and_no_invented_picture(show, viewer, qtbot, raw):
    mean = np.asarray(raw.counts_tyx[0][:9], float).mean(0)
    counts = np.random.default_rng(0).poisson(mean, (9, *mean.shape)).astype(np.uint16)
    widget = show(RawStack(counts_tyx=(counts,), kind="structured", pixel_nm=PIXEL_NM), MICROSCOPE.instrument())
    assert click(widget, qtbot).kind == "done"
    assert widget.evidence.words.text().startswith("✗ No pattern was found")
    assert [widget.evidence.table.item(row, 0).text() for row in range(3)] == ["0 ✗", "1 ✗", "2 ✗"]
    assert np.array_equal(layer_of(viewer, SHARP).data, layer_of(viewer, WIDE_FIELD).data)


def test_a_dead_orientation_is_marked_in_the_table(show, qtbot, raw):
    counts = np.asarray(raw.counts_tyx[0][:9]).copy()
    counts[3:6] = np.random.default_rng(0).poisson(counts[3:6].astype(float).mean(0), counts[3:6].shape)
    widget = show(RawStack(counts_tyx=(counts,), kind="structured", pixel_nm=PIXEL_NM), MICROSCOPE.instrument())
    widget.forms.frames.set_value("order", "apz")
    assert click(widget, qtbot).kind == "done"
    assert [widget.evidence.table.item(row, 0).text() for row in range(3)] == ["0 ✓", "1 ✗", "2 ✓"]
    assert "not orientation 1" in widget.evidence.words.text()


def test_what_looks_wrong_is_told_beside_the_result(show, qtbot, raw):
    counts = np.asarray(raw.counts_tyx[0][:9]).copy()
    counts[3:6] = np.roll(counts[3:6], (2, 2), (-2, -1))
    camera = MICROSCOPE.instrument().cameras[0].model_copy(update={"saturation_counts": float(np.quantile(counts, 0.98))})
    widget = show(raw.model_copy(update={"counts_tyx": (counts,)}), MICROSCOPE.instrument().model_copy(update={"cameras": (camera,)}))
    click(widget, qtbot)
    assert "pixels apart: the sample or the stage moved" in widget.notes.text()
    assert "of the pixels are saturated" in widget.notes.text()


def test_patterns_and_otf_come_from_files_and_wrong_files_are_told(widget, qtbot, tmp_path):
    click(widget, qtbot)
    widget.supplied.save_patterns(tmp_path / "patterns.json")
    widget.supplied.load_patterns(tmp_path / "patterns.json")
    # known patterns are another question: the button comes first
    qtbot.wait_until(lambda: "have changed" in widget.retouch.words.text(), timeout=5000)
    click(widget, qtbot)
    assert widget.evidence.words.text().endswith("The patterns were given.")
    assert widget.retouch.answer.images.illumination == widget.supplied.illumination
    (tmp_path / "no.json").write_text("{}", encoding="utf-8")
    widget.supplied.load_patterns(tmp_path / "no.json")
    assert widget.panel.message.text().startswith("⚠")
    assert widget.supplied.patterns_name.text() == "patterns.json"
    widget.supplied.step.setText("much")
    widget.supplied.load_transfer(tmp_path / "no.json")
    assert "'much' is not a positive number" in widget.panel.message.text()
    widget.supplied.clear()
    assert widget.question().illumination is None


def test_contradicting_counts_lock_the_button_with_a_reason(widget):
    widget.forms.frames.set_value("geometry", "2d-3x5")
    widget.forms.frames.set_value("phases", 4)
    assert not widget.panel.button.isEnabled()
    assert "4 phases cannot separate waves" in widget.panel.message.text()


def test_the_copied_script_makes_the_same_image(viewer, qtbot, tmp_path, monkeypatch, raw, show):
    import tifffile

    from napari_volumetric_smlm.io.results import write_image

    path = write_image(np.asarray(raw.counts_tyx[0][:9]), tmp_path / "raw.tif", (1.0, PIXEL_NM, PIXEL_NM), axes="TYX")
    widget = show(open_stack(path, kind="structured"), MICROSCOPE.instrument())
    click(widget, qtbot)
    monkeypatch.chdir(tmp_path)
    exec(compile(widget.calls.text(python=True), "copied", "exec"), {})
    assert np.allclose(tifffile.imread(tmp_path / "sharp.tif"), layer_of(viewer, SHARP).data, atol=1e-4)
    assert widget.calls.text(python=False).startswith("vsmlm structured reconstruct ")


def test_a_series_is_saved_as_times_with_the_size_of_its_pixels(widget, viewer, qtbot, tmp_path):
    import tifffile

    from napari_volumetric_smlm.plugin.writers import write_picture

    click(widget, qtbot)
    data, options, _ = layer_of(viewer, SHARP).as_layer_data_tuple()
    (saved,) = write_picture(str(tmp_path / "series.ome.tif"), data, options)
    with tifffile.TiffFile(saved) as file:
        assert file.series[0].axes == "TYX"
        assert 'PhysicalSizeX="32.5"' in file.ome_metadata
        assert np.array_equal(file.asarray(), data)


PLANES = 7


@pytest.fixture(scope="module")
def deep():
    """Return a way to simulate stacks of planes."""
    return lambda times: (
        finish(
            simulate_structured(
                MICROSCOPE.instrument(),
                StructuredSimulatePlan(
                    geometry="3d-3x5",
                    shape_yx_px=(64, 70),
                    planes=PLANES,
                    time_count=times,
                    structure="shells",
                    otf_damping=0.3,
                    device="cpu",
                ),
            )
        ).stack
    )


def test_one_click_makes_a_volume_with_the_step_of_its_planes(show, viewer, qtbot, deep):
    widget = show(deep(1), MICROSCOPE.instrument())
    widget.forms.frames.set_value("geometry", "3d-3x5")
    assert click(widget, qtbot).kind == "done"
    sharp, wide = layer_of(viewer, SHARP), layer_of(viewer, WIDE_FIELD)
    assert sharp.data.shape == wide.data.shape == (PLANES, 128, 140)
    assert sharp.scale == pytest.approx((125.0, 32.5, 32.5))
    assert [str(unit) for unit in sharp.units] == ["nanometer"] * 3
    assert tuple(sharp.axis_labels) == ("z", "y", "x")
    assert "7 planes each 125 nm" in widget.panel.message.text()
    # the middle plane is seen, with light in it
    assert round(float(sharp.world_to_data(viewer.dims.point)[0])) == PLANES // 2
    # another setting shows another volume over it, at the same place
    widget.forms.filter.set_value("wiener", 0.5)
    qtbot.wait_until(lambda: layer_of(viewer, RETOUCHED) is not None, timeout=20000)
    preview = layer_of(viewer, RETOUCHED)
    assert preview.data.shape == sharp.data.shape
    assert preview.scale == pytest.approx(sharp.scale)
    assert finest(preview.data[3]) < 0.5 * finest(sharp.data[3])


def test_a_series_of_volumes_has_a_slider_for_time_and_one_for_depth(show, viewer, qtbot, deep, tmp_path):
    import tifffile

    from napari_volumetric_smlm.plugin.writers import write_picture

    widget = show(deep(TIMES), MICROSCOPE.instrument())
    widget.forms.frames.set_value("geometry", "3d-3x5")
    widget.forms.frames.set_value("planes", PLANES)
    assert click(widget, qtbot).kind == "done"
    sharp = layer_of(viewer, SHARP)
    assert sharp.data.shape == (TIMES, PLANES, 128, 140)
    assert tuple(sharp.axis_labels) == ("t", "z", "y", "x")
    viewer.dims.set_point(0, 1)
    assert widget.view.image_number(widget.retouch.answer) == PLANES
    data, options, _ = sharp.as_layer_data_tuple()
    (saved,) = write_picture(str(tmp_path / "series.ome.tif"), data, options)
    with tifffile.TiffFile(saved) as file:
        assert file.series[0].axes == "TZYX"
        assert 'PhysicalSizeZ="125.0"' in file.ome_metadata


class SlowSeries:
    """Stands for the recipe: a series that waits before each image until it is allowed."""

    def __init__(self, real):
        self.real, self.permits, self.closed = real, threading.Semaphore(0), threading.Event()

    def __call__(self, *question):
        images = finish(self.real(*question))
        try:
            for done, image in enumerate(images.images_tyx, start=1):
                while not self.permits.acquire(timeout=0.02):
                    yield Progress(stage="reconstruct", done=done - 1, total=5)
                yield Progress(stage="reconstruct", done=done, total=5, preview=image)
            while not self.permits.acquire(timeout=0.02):
                yield Progress(stage="reconstruct", done=done, total=5)
            return images
        finally:
            self.closed.set()


@pytest.fixture
def slow(monkeypatch):
    from napari_volumetric_smlm.plugin import workers
    from napari_volumetric_smlm.recipes import structured

    stand_in = SlowSeries(structured.reconstruct_structured)
    monkeypatch.setattr(structured, "reconstruct_structured", stand_in)
    monkeypatch.setattr(workers, "TICK_SECONDS", 0.0)
    yield stand_in
    for _ in range(100):
        stand_in.permits.release()


def test_stop_keeps_the_images_that_are_there_and_says_so(widget, viewer, slow, qtbot):
    widget.panel.button.click()
    for _ in range(2):
        slow.permits.release()
    qtbot.wait_until(lambda: len(widget._images) == 2, timeout=30000)
    with qtbot.wait_signal(widget.panel.ended, timeout=5000) as ended:
        widget.panel.button.click()
    assert ended.args[0].kind == "stopped"
    assert slow.closed.wait(5)
    kept = layer_of(viewer, SHARP)
    assert kept.name == "Reconstruction (stopped after 2)"
    assert kept.data.shape == (2, 2 * ROWS, 2 * COLUMNS)
    assert "2 time points kept" in widget.panel.message.text()
    assert widget.panel.button.isEnabled()


@pytest.mark.parametrize("deed", ["delete", "rename", "close"])
def test_layers_and_dock_may_go_during_a_job(widget, viewer, slow, qtbot, deed):
    widget.panel.button.click()
    qtbot.wait_until(lambda: widget.evidence.patterns is not None, timeout=30000)
    if deed == "close":
        viewer.window.remove_dock_widget(widget)
        assert not widget.panel.job.busy
        qtbot.wait_until(slow.closed.is_set, timeout=10000)
        return
    if deed == "delete":
        viewer.layers.clear()
    else:
        layer_of(viewer, FRAMES).name = "mine"
    with qtbot.wait_signal(widget.panel.ended, timeout=20000) as ended:
        for _ in range(3):
            slow.permits.release()
    assert ended.args[0].kind == "done"
    until_laid(widget, qtbot)
    assert layer_of(viewer, SHARP) is not None
