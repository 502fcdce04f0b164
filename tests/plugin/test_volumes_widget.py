"""Live inspection of light-field frames: the newest frame wins, nothing is made twice, and closing anything at any time is harmless."""

from __future__ import annotations

import shlex
import sys
import threading
import types

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent

from napari_volumetric_smlm.domain.images import Volume
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.domain.volume_plans import DeconvolvePlan, VolumePlan
from napari_volumetric_smlm.errors import EngineError
from napari_volumetric_smlm.io.samples import open_sample, sample_instrument, sample_truth
from napari_volumetric_smlm.plugin.layers import lay_stack
from napari_volumetric_smlm.plugin.volume_jobs import FrameVolume, VolumeCache, VolumeQuestion, volumes_job
from napari_volumetric_smlm.plugin.volume_layers import FRAME_MOLECULES, FRAME_VOLUME, GAP_PX, UNDERNEATH, Slot
from napari_volumetric_smlm.plugin.widgets.models import VOLUMES, models_that_suit

SHAPE, VOXEL = (5, 12, 16), (1000.0, 145.0, 145.0)
# as that of a volume made from raw frames: the first view begins somewhere in the middle
ORIGIN = (-2000.0, 21000.0, 4350.0)
RL = "Richardson-Lucy"


def made_by(plan):
    """A volume that tells its frame and method."""
    values = np.full(SHAPE, 0.1, np.float32)
    values[2] = 1 + plan.first_frame + 100 * isinstance(plan, VolumePlan)
    return Volume(values_zyx=values, voxel_zyx_nm=VOXEL, origin_zyx_nm=ORIGIN, quantity="photons")


def no_parallax(instrument, chosen):
    yield Progress(stage="Computing the parallax")
    return np.zeros((len(instrument.views), 2, 2))


def frame_of(layer):
    return round(float(layer.data[2, 0, 0])) - 1


class FakeVolumes:
    """Stands for recipes.volume_series. made : plans of the volumes that were begun. closed : how often a recipe was cleaned up."""

    def __init__(self):
        self.made, self.written, self.closed = [], [], 0
        self.permits = threading.Semaphore(1_000_000)
        self.error = None

    def hold(self):
        self.permits = threading.Semaphore(0)

    def allow(self, volumes):
        for _ in range(volumes):
            self.permits.release()

    def volume_of(self, stack, instrument, plan):
        self.made.append(plan)
        try:
            while not self.permits.acquire(timeout=0.02):
                yield Progress(stage="deconvolve", message="Iteration 1 of 9")
            if self.error is not None:
                raise self.error
            return made_by(plan)
        finally:
            self.closed += 1

    def write_volumes(self, stack, instrument, plan, place):
        self.written.append((plan, place))
        yield Progress(stage="volumes", done=1, total=1)
        return types.SimpleNamespace(count=stack.frame_count, place=place)


class FakeViewer:
    """A viewer without a window; what is docked in it is destroyed when it closes."""

    def __init__(self):
        from napari.components import ViewerModel

        self.model, self.docked = ViewerModel(ndisplay=3), []
        self.window = types.SimpleNamespace(add_dock_widget=lambda bar, **options: self.docked.append(bar))

    def __getattr__(self, name):
        return getattr(self.model, name)

    def close(self):
        for bar in self.docked:
            bar.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def volumes(monkeypatch):
    from napari_volumetric_smlm.plugin import projection, volume_jobs, workers

    fake = FakeVolumes()
    module = types.ModuleType("napari_volumetric_smlm.recipes.volume_series")
    module.volume_of, module.write_volumes = fake.volume_of, fake.write_volumes
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(workers, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(volume_jobs, "prepare_engine", lambda chosen: None)
    monkeypatch.setattr(projection, "shifts_job", no_parallax)
    return fake


@pytest.fixture
def widget(viewer, volumes, recipes, qtbot):
    from napari.layers import Layer

    from napari_volumetric_smlm.plugin.actions import VOLUMES as NAME
    from napari_volumetric_smlm.plugin.actions import open_widget

    for data in lay_stack(open_sample("light_field"), sample_instrument("light_field")):
        viewer.layers.append(Layer.create(*data))
    viewer.dims.set_current_step(0, 0)
    opened = open_widget(viewer, NAME)
    opened.live.window.make = FakeViewer
    opened.forms.inspection.set_value("method", RL)
    opened.forms.inspection.set_value("molecules", False)
    yield opened
    volumes.allow(1000)
    recipes.allow(1000)
    opened.leave()
    from superqt.utils._qthreading import WorkerBase

    qtbot.wait_until(lambda: not WorkerBase._worker_set, timeout=30000)


def shown(widget, role=FRAME_VOLUME):
    return widget.live.window.layers(role)


def wait_for(widget, qtbot, frame):
    qtbot.wait_until(lambda: f"Frame {frame} · {RL}" in widget.words.text(), timeout=5000)


@pytest.fixture
def following(widget, qtbot):
    widget.show_button.click()
    wait_for(widget, qtbot, 0)
    return widget


def test_one_click_shows_the_volume_and_stepping_shows_that_of_the_next_frame(following, viewer, qtbot):
    [layer] = shown(following)
    assert frame_of(layer) == 0
    assert tuple(layer.scale) == VOXEL
    assert tuple(layer.translate) == ORIGIN
    assert {str(unit) for unit in layer.units} == {"nanometer"}
    viewer.dims.set_current_step(0, 7)
    wait_for(following, qtbot, 7)
    assert shown(following) == [layer]
    assert frame_of(layer) == 7
    assert "Frame 7" in following.live.window.viewer.canvas.overlays.text.text
    assert following.live.window.bar.slider.value() == 7


def test_the_slider_of_the_volumes_moves_that_of_the_frames(following, viewer, qtbot):
    following.live.window.bar.slider.setValue(4)
    wait_for(following, qtbot, 4)
    assert viewer.dims.current_step[0] == 4


def test_a_frame_seen_before_is_shown_at_once_and_not_made_again(following, viewer, volumes, qtbot):
    viewer.dims.set_current_step(0, 3)
    wait_for(following, qtbot, 3)
    volumes.hold()
    before = len(volumes.made)
    viewer.dims.set_current_step(0, 0)
    assert frame_of(shown(following)[0]) == 0
    assert "Frame 0" in following.words.text()
    qtbot.wait(250)
    assert len(volumes.made) == before


def test_a_changed_setting_makes_the_volume_anew(following, volumes, qtbot):
    following.forms.deconvolution.set_value("iterations", 7)
    qtbot.wait_until(lambda: [plan.iterations for plan in volumes.made] == [50, 7], timeout=5000)


def test_frames_that_are_only_passed_are_not_made(following, viewer, volumes, qtbot):
    for frame in (1, 2, 3, 4):
        viewer.dims.set_current_step(0, frame)
    wait_for(following, qtbot, 4)
    assert [plan.first_frame for plan in volumes.made] == [0, 4]


def test_moving_on_stops_the_frame_before_and_the_newest_wins(following, viewer, volumes, qtbot):
    volumes.hold()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: len(volumes.made) == 2, timeout=5000)
    qtbot.wait_until(lambda: "Frame 1: Iteration 1 of 9" in following.words.text(), timeout=5000)
    viewer.dims.set_current_step(0, 2)
    qtbot.wait_until(lambda: len(volumes.made) == 3, timeout=5000)
    # the recipe of frame 1 was closed, not left hanging
    assert volumes.closed == 2
    # until the new one is there the old picture says whose it is
    assert "Frame 0" in following.live.window.viewer.canvas.overlays.text.text
    volumes.allow(1)
    wait_for(following, qtbot, 2)
    assert frame_of(shown(following)[0]) == 2
    assert len(following.live.cache) == 2


def test_switching_off_stops_the_job_and_leaves_the_picture(following, viewer, volumes, qtbot):
    volumes.hold()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: len(volumes.made) == 2, timeout=5000)
    following.show_button.click()
    qtbot.wait_until(lambda: not following.live.preview.job.busy, timeout=5000)
    assert volumes.closed == 2
    assert frame_of(shown(following)[0]) == 0
    viewer.dims.set_current_step(0, 5)
    qtbot.wait(200)
    assert len(volumes.made) == 2


def vnet_model(folder, instrument, views=3):
    from napari_volumetric_smlm.domain.plans import TrainPlan
    from napari_volumetric_smlm.domain.runs import ModelCard
    from napari_volumetric_smlm.io.models import write_model_weights

    low, high = instrument.depth_range_nm
    card = ModelCard(
        kind="vnet",
        architecture={"parallax_px": [[[0.0, 0.0]] * 5] * views, "width": 8, "dilations": [1]},
        units={"low_nm": low, "high_nm": high, "pixel_nm": instrument.pixel_nm(), "photons": 1000.0},
        window_px=31,
        ground_px=0.0,
        instrument=instrument.name,
        instrument_fingerprint=instrument.fingerprint,
        plan=TrainPlan(architecture="vnet"),
        frames_seen=1,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return write_model_weights({"w": np.zeros(2, np.float32)}, card.model_dump(mode="json"), folder / f"vnet{views}.safetensors")


@pytest.fixture
def model(widget, tmp_path):
    place = vnet_model(tmp_path / "models", widget.session.instrument)
    assert widget.model.load(place)
    return place


def test_both_methods_stand_beside_each_other_with_one_contrast(widget, model, qtbot):
    widget.forms.inspection.set_value("method", "side by side")
    widget.show_button.click()
    qtbot.wait_until(lambda: len(shown(widget)) == 2, timeout=5000)
    left, right = (widget.live.window.layer(Slot(method)) for method in ("V-Net", RL))
    assert frame_of(left) == 100
    assert frame_of(right) == 0
    assert right.translate[2] - left.translate[2] == (SHAPE[2] + GAP_PX) * VOXEL[2]
    left.contrast_limits = (3.0, 4.0)
    assert tuple(right.contrast_limits) == (3.0, 4.0)
    qtbot.wait_until(lambda: "V-Net" in widget.words.text() and RL in widget.words.text(), timeout=5000)


def test_a_volume_that_is_not_there_yet_is_dark_beside_one_that_is(widget, model, viewer, volumes, qtbot):
    widget.forms.inspection.set_value("method", "side by side")
    widget.show_button.click()
    qtbot.wait_until(lambda: len(shown(widget)) == 2, timeout=5000)
    volumes.hold()
    viewer.dims.set_current_step(0, 4)
    volumes.allow(1)
    left, right = (widget.live.window.layer(Slot(method)) for method in ("V-Net", RL))
    qtbot.wait_until(lambda: frame_of(left) == 104, timeout=5000)
    # frame 0 beside frame 4 would be taken for a difference of the methods
    assert not np.any(right.data)
    volumes.allow(1)
    qtbot.wait_until(lambda: frame_of(right) == 4, timeout=5000)


def test_even_and_odd_frames_are_two_colours(following, viewer, qtbot):
    following.forms.inspection.set_value("two_colors", True)
    viewer.dims.set_current_step(0, 7)
    qtbot.wait_until(lambda: "Frames 6 and 7 · " in following.words.text(), timeout=5000)
    even, odd = (following.live.window.layer(Slot(RL, parity)) for parity in (0, 1))
    assert (frame_of(even), frame_of(odd)) == (6, 7)
    assert (even.colormap.name, odd.colormap.name) == ("green", "magenta")
    assert len(shown(following)) == 2
    following.forms.inspection.set_value("two_colors", False)
    assert [layer.name for layer in shown(following)] in ([RL], [])
    wait_for(following, qtbot, 7)


def test_molecules_of_this_frame_and_those_before_lie_in_the_volume(following, viewer, qtbot):
    truth = sample_truth("light_field")
    following.session.keep_table(truth)
    following.forms.inspection.set_value("molecules", True)
    viewer.dims.set_current_step(0, 7)
    wait_for(following, qtbot, 7)
    [points] = shown(following, FRAME_MOLECULES)
    here = truth.select(truth["frame"] == 7)
    np.testing.assert_allclose(points.data, here.position_zyx_nm)
    # depth decides on the colour: blue below, orange above
    depth = here["z_nm"]
    assert points.face_color[np.argmin(depth)][2] > 0.8
    assert points.face_color[np.argmax(depth)][0] > 0.8
    following.forms.inspection.set_value("molecule_frames", 3)
    assert len(points.data) == int(np.isin(truth["frame"], (5, 6, 7)).sum())
    following.forms.inspection.set_value("two_colors", True)
    qtbot.wait_until(lambda: "Frames 6 and 7 · " in following.words.text(), timeout=5000)
    even, odd = (next(p for p in shown(following, FRAME_MOLECULES) if p.name.endswith(name)) for name in ("even frames", "odd frames"))
    assert len(even.data) == int((truth["frame"] == 6).sum())
    assert len(odd.data) == int(np.isin(truth["frame"], (5, 7)).sum())
    following.forms.inspection.set_value("molecules", False)
    assert shown(following, FRAME_MOLECULES) == []


def test_without_a_result_the_molecules_of_the_frame_are_found(following, viewer, recipes, qtbot):
    following.forms.inspection.set_value("molecules", True)
    qtbot.wait_until(lambda: 0 in recipes.explained, timeout=5000)
    qtbot.wait_until(lambda: bool(shown(following, FRAME_MOLECULES)), timeout=5000)
    assert len(shown(following, FRAME_MOLECULES)[0].data) == 2
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: following.molecules(0, 1)["frame"].tolist() == [0, 0, 1, 1], timeout=5000)
    assert following.session.table is None


def test_an_image_lies_underneath_where_the_viewer_has_it(following, viewer, qtbot):
    frames = viewer.layers[0]
    corner = np.array([50.0, 60.0]) * 145
    viewer.add_image(np.random.default_rng(0).random((30, 20)), scale=(72.5, 72.5), translate=corner, units=("nm", "nm"), name="bright")
    following.under.switch.setChecked(True)
    assert following.under.layer.name == "bright"
    [layer] = shown(following, UNDERNEATH)
    assert following.live.window.viewer.layers[0] is layer
    place = layer.data_to_world((0, 10, 4))
    assert place[1:] == pytest.approx(corner + 72.5 * np.array([10, 4]), abs=1e-6)
    assert place[0] == -2000 - VOXEL[0]
    # of a movie the current frame
    following.under.picker.choose(frames)
    viewer.dims.set_current_step(0, 3)
    wait_for(following, qtbot, 3)
    [layer] = shown(following, UNDERNEATH)
    assert np.array_equal(layer.data[0], np.asarray(frames.data[3]))
    following.under.switch.setChecked(False)
    assert shown(following, UNDERNEATH) == []


def test_layers_may_go_while_the_job_runs(following, viewer, volumes, qtbot):
    volumes.hold()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: following.live.preview.job.busy, timeout=5000)
    following.live.window.viewer.layers.clear()
    volumes.allow(1)
    wait_for(following, qtbot, 1)
    assert frame_of(shown(following)[0]) == 1
    viewer.dims.set_current_step(0, 2)
    volumes.hold()
    qtbot.wait_until(lambda: following.live.preview.job.busy, timeout=5000)
    viewer.layers.clear()
    assert "Open or import frames" in following.words.text()
    qtbot.wait_until(lambda: not following.live.preview.job.busy, timeout=5000)


def test_closing_the_window_of_the_volume_stops_and_a_click_opens_it_again(following, viewer, volumes, qtbot):
    volumes.hold()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: following.live.preview.job.busy, timeout=5000)
    following.live.window.viewer.close()
    assert not following.show_button.isChecked()
    assert following.live.window.viewer is None
    qtbot.wait_until(lambda: not following.live.preview.job.busy, timeout=5000)
    volumes.allow(5)
    following.show_button.click()
    wait_for(following, qtbot, 1)
    assert frame_of(shown(following)[0]) == 1


def test_closing_the_dock_leaves_the_job_and_closes_the_window(following, viewer, volumes, qtbot):
    volumes.hold()
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: len(volumes.made) == 2, timeout=5000)
    viewer.window.remove_dock_widget(following)
    assert following.live.window.viewer is None
    assert not following.live.preview.job.busy
    qtbot.wait_until(lambda: volumes.closed == 2, timeout=5000)
    viewer.dims.set_current_step(0, 2)
    qtbot.wait(200)
    assert len(volumes.made) == 2


def test_an_error_is_words_and_the_next_frame_works(following, viewer, volumes, qtbot):
    volumes.error = EngineError("not enough memory for 90 million voxels")
    viewer.dims.set_current_step(0, 1)
    qtbot.wait_until(lambda: "not enough memory for 90 million" in following.words.text(), timeout=5000)
    volumes.error = None
    viewer.dims.set_current_step(0, 2)
    wait_for(following, qtbot, 2)


def test_what_is_missing_is_said(widget, toy_instrument):
    widget.forms.inspection.set_value("method", "V-Net")
    widget.choice.choose_model(None)
    assert "Choose a model for volumes" in widget.words.text()
    assert not widget.show_button.isEnabled()
    widget.session.choose_instrument(toy_instrument, "test")
    assert "has one view" in widget.words.text()
    assert not widget.panel.button.isEnabled()


def test_only_models_that_make_volumes_of_so_many_views_are_offered(widget, tmp_path):
    from napari_volumetric_smlm.plugin.settings import preferences
    from napari_volumetric_smlm.plugin.training import models_folder
    from napari_volumetric_smlm.plugin.widgets.models import MOLECULES, ModelPicker

    instrument = widget.session.instrument
    folder = models_folder(preferences())
    mine, other = vnet_model(folder, instrument), vnet_model(folder, instrument, views=7)
    suiting = models_that_suit(instrument, VOLUMES)
    assert mine in suiting
    assert other not in suiting
    assert mine not in models_that_suit(instrument, MOLECULES)
    # nobody chose: the first that suits is taken
    widget.choice.model = None
    widget.choice._by_hand = False
    widget.choice.adapt()
    assert widget.choice.model == mine
    assert widget.session.model is None
    # what the user chose stays, from wherever it is
    elsewhere = vnet_model(tmp_path / "elsewhere", instrument)
    widget.choice.choose_model(elsewhere)
    widget.choice.adapt()
    assert widget.choice.model == elsewhere
    localizers = ModelPicker(widget.session)
    widget.session.choose_model(mine)
    assert "makes volumes, not molecules" in localizers.warning.text()
    assert localizers.problem
    widget.session.choose_model(None)


def test_volumes_of_all_frames_are_written_by_the_recipe_and_its_call_can_be_copied(widget, volumes, tmp_path, qtbot):
    from napari_volumetric_smlm.cli.program import parser

    widget.forms.deconvolution.set_value("iterations", 9)
    widget.forms.span.set_value("last_frame", 3)
    with qtbot.wait_signal(widget.panel.ended, timeout=5000):
        widget.write_all(tmp_path / "v")
    [(plan, place)] = volumes.written
    assert (plan.iterations, plan.first_frame, plan.last_frame, plan.wide_field) == (9, 0, 3, True)
    assert place == tmp_path / "v.tif"
    assert "20 volumes: v.tif" in widget.panel.message.text()
    words = shlex.split(widget.calls.text(python=False))
    assert words[:3] == ["vsmlm", "deconvolve", "--each-frame"]
    args = parser().parse_args(words[1:])
    assert (args.each_frame, args.iterations, args.last_frame, args.wide_field) == (True, 9, 3, True)
    compile(widget.calls.text(python=True), "call", "exec")


def test_the_call_of_the_network_is_that_of_reconstruct_and_two_methods_are_no_file(widget, model):
    from napari_volumetric_smlm.cli.program import parser

    widget.forms.inspection.set_value("method", "V-Net")
    widget.forms.views.set_value("background_photons", 4.0)
    args = parser().parse_args(shlex.split(widget.calls.text(python=False))[1:])
    assert (args.volume, args.each_frame, args.model, args.background_photons) == (True, True, str(model), 4.0)
    widget.forms.inspection.set_value("method", "side by side")
    assert not widget.panel.button.isEnabled()
    assert "one file holds the volumes of one of them" in widget.panel.button.toolTip()


def test_the_cache_keeps_what_was_looked_at_last_within_its_bytes():
    stack, instrument = open_sample("light_field"), sample_instrument("light_field")
    size = int(np.prod(SHAPE)) * 4
    cache = VolumeCache(limit_bytes=2 * size)
    asked = [VolumeQuestion(stack, instrument, DeconvolvePlan(first_frame=t, last_frame=t)) for t in range(3)]
    for question in asked[:2]:
        cache.keep(FrameVolume(question, made_by(question.plan), 0.1))
    assert cache.find(asked[0]) is not None
    cache.keep(FrameVolume(asked[2], made_by(asked[2].plan), 0.1))
    assert [cache.find(question) is not None for question in asked] == [True, False, True]
    assert cache.nbytes == 2 * size
    # another setting, another instrument: another volume
    assert cache.find(VolumeQuestion(stack, instrument, DeconvolvePlan(iterations=3))) is None
    other = instrument.model_copy(update={"emission_nm": 600.0})
    assert cache.find(VolumeQuestion(stack, other, asked[0].plan)) is None


def test_a_molecule_shines_in_the_volume_where_the_table_has_it():
    """Raw frames, the real recipe: depth, row and column of the brightest voxel are those of the brightest molecule."""
    from napari_volumetric_smlm.plugin.settings import Preferences

    stack, instrument, truth = open_sample("light_field"), sample_instrument("light_field"), sample_truth("light_field")
    brightest = truth.select([int(np.argmax(truth["photons"]))])
    frame = int(brightest["frame"][0])
    plan = DeconvolvePlan(iterations=12, wide_field=False, depth_step_nm=250, first_frame=frame, last_frame=frame, device="cpu")
    made = [p.preview for p in volumes_job([VolumeQuestion(stack, instrument, plan)], Preferences()) if p.preview is not None]
    volume = made[0].volume
    values = np.array(volume.values_zyx)
    place = np.array(np.unravel_index(np.argmax(values), values.shape)) * volume.voxel_zyx_nm + volume.origin_zyx_nm
    distance = np.abs(truth.select(truth["frame"] == frame).position_zyx_nm - place)
    near = distance[np.argmin(distance[:, 1:].sum(1))]
    assert near[0] < 260
    assert near[1:].max() < 150
