"""Instrument and calibration: the required step, beads corrected by clicks, the verdict, camera and optics."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.images import StackNote
from napari_volumetric_smlm.domain.instrument import CalibrationRecord
from napari_volumetric_smlm.domain.runs import Calibration, Progress
from napari_volumetric_smlm.errors import CalibrationError
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.io.stacks import write_note
from napari_volumetric_smlm.plugin.layers import BEADS, FITTED, MEASURED, role_of


def layer_of(viewer, role):
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


class FakeCalibrate:
    def __init__(self):
        self.calls = []
        self.error = None

    def calibrate(self, stacks, instrument, plan):
        self.calls.append((stacks, instrument, plan))
        yield Progress(stage="Zernike terms", done=1, total=2, preview=np.random.default_rng(0).random((8, 16)))
        if self.error is not None:
            raise self.error
        record = CalibrationRecord(z_step_nm=plan.z_step_nm, correlation_fitted=0.99, correlation_held_out=0.98, verdict="Good.")
        images = np.random.default_rng(0).random((1, 5, 12, 12))
        return Calibration(
            instrument=instrument.model_copy(update={"name": "calibrated", "calibration": record}),
            plan=plan,
            measured_vzyx=images,
            fitted_vzyx=images,
            correlation_z=np.full(5, 0.98),
            held_out_z=np.zeros(5, bool),
            neighbour_correlation_z=np.full(5, 0.9),
            bound_nm=np.ones((3, 4)),
            bead_positions_yx_px=((10.0, 12.0),),
            verdict="Good: the model predicts slices that it has not seen.",
            passed=True,
            seconds=0.1,
        )

    def find_beads(self, stack, instrument, crop_px):
        return ((10.0, 12.0), (30.5, 20.0))


@pytest.fixture
def fake(monkeypatch):
    from napari_volumetric_smlm.plugin import jobs

    fake = FakeCalibrate()
    module = types.ModuleType("napari_volumetric_smlm.recipes.calibrate")
    module.calibrate, module.find_beads = fake.calibrate, fake.find_beads
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(jobs, "prepare_engine", lambda chosen: None)
    return fake


@pytest.fixture
def beads(tmp_path, toy_instrument):
    path = tmp_path / "beads.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(100, (5, 40, 40)).astype(np.uint16), photometric="minisblack")
    save_instrument(toy_instrument, tmp_path / "toy.json")
    write_note(path, StackNote(kind="beads", instrument="toy.json", pixel_nm=110.0))
    return path


@pytest.fixture
def widget(viewer, fake, beads, qtbot):
    from napari_volumetric_smlm.plugin.actions import CALIBRATE, open_widget

    viewer.open(str(beads), plugin="napari-volumetric-smlm")
    return open_widget(viewer, CALIBRATE)


def run(widget, qtbot):
    with qtbot.wait_signal(widget.panel.ended, timeout=20000) as ended:
        widget.panel.button.click()
    return ended.args[0]


def test_the_z_step_is_asked_for_and_never_assumed(widget, qtbot, fake):
    assert widget.first.editors["z_step_nm"].text() == ""
    assert not widget.panel.button.isEnabled()
    assert "Z step (nm): is required" in widget.panel.button.toolTip()
    widget.first.editors["z_step_nm"].setText("-100")
    assert widget.panel.button.isEnabled()
    run(widget, qtbot)
    assert fake.calls[0][2].z_step_nm == -100
    assert fake.calls[0][2].bead_positions_yx_px is None
    assert fake.calls[0][0][0].kind == "beads"


def test_a_step_that_somebody_noted_beside_the_stack_is_taken_a_cameras_is_not(viewer, fake, beads, tmp_path):
    from napari_volumetric_smlm.plugin.actions import CALIBRATE, open_widget

    write_note(beads, StackNote(kind="beads", instrument="toy.json", z_step_nm=-50.0))
    viewer.open(str(beads), plugin="napari-volumetric-smlm")
    assert open_widget(viewer, CALIBRATE).first.editors["z_step_nm"].text() == "-50"


def test_a_calibration_shows_verdict_and_images_and_is_taken_for_reconstruction(widget, viewer, qtbot, own_settings):
    widget.first.set_value("z_step_nm", 100.0)
    assert run(widget, qtbot).kind == "done"
    assert widget.verdict.text().startswith("✓ Good")
    assert layer_of(viewer, MEASURED).data.shape == layer_of(viewer, FITTED).data.shape == (5, 12, 12)
    assert widget.session.instrument.name == "calibrated"
    [saved] = (own_settings / "results").glob("calibration-*.json")
    assert load_instrument(saved) == widget.session.instrument
    assert "✓" in widget.steps.calibrate.text()
    widget.next_button.click()
    assert "Reconstruct (Volumetric SMLM)" in viewer.window.dock_widgets


def test_found_beads_are_points_that_clicks_correct(widget, viewer, qtbot, fake):
    widget.first.set_value("z_step_nm", 100.0)
    widget.find_beads()
    qtbot.wait_until(lambda: not widget.finder.busy, timeout=10000)
    points = layer_of(viewer, BEADS)
    np.testing.assert_allclose(points.data, [(10, 12), (30.5, 20)])
    # pixel (10, 12) of the stack
    np.testing.assert_allclose(points.data_to_world((10, 12)), viewer.layers[0].data_to_world((0, 10, 12))[1:])
    assert "2 beads marked" in widget.bead_words.text()
    points.selected_data = {0}
    points.remove_selected()
    points.add((5.0, 6.0))
    assert "2 beads marked" in widget.bead_words.text()
    run(widget, qtbot)
    assert fake.calls[0][2].bead_positions_yx_px == ((30.5, 20.0), (5.0, 6.0))
    viewer.layers.remove(points)
    assert widget.bead_words.text() == ""


def test_a_calibration_that_fails_is_words(widget, qtbot, fake):
    widget.first.set_value("z_step_nm", 100.0)
    fake.error = CalibrationError("no bead in the stack stands out from its surroundings; mark beads by hand")
    assert run(widget, qtbot).kind == "failed"
    assert "no bead in the stack stands out" in widget.panel.message.text()
    assert widget.session.calibration is None


def test_the_copied_call_is_the_one_that_was_made(widget, qtbot, beads):
    widget.first.set_value("z_step_nm", 100.0)
    before = widget.session.instrument
    run(widget, qtbot)
    script = widget.calls.text(python=True)
    compile(script, "copied", "exec")
    place = script.split("load_instrument('")[1].split("'")[0]
    assert load_instrument(place) == before
    assert str(beads) in script
    assert "z_step_nm=100.0" in script


def test_an_edited_number_makes_another_instrument(widget, qtbot):
    widget.optics.optics.editors["emission_nm"].setText("580")
    qtbot.wait_until(lambda: widget.session.instrument.emission_nm == 580, timeout=3000)
    assert widget.session.instrument_origin.endswith("edited")
    widget.optics.objective.editors["numerical_aperture"].setText("1.6")
    qtbot.wait(600)
    # above the immersion's index: said at the field, not taken
    assert widget.session.instrument.objective.numerical_aperture == 1.4
    assert "no light travels at that angle" in widget.optics.objective.words.text()


def test_an_instrument_file_with_a_mistake_is_words(widget, tmp_path):
    path = tmp_path / "wrong.json"
    text = (tmp_path / "toy.json").read_text()
    path.write_text(text.replace('"emission_nm"', '"emision_nm"'))
    before = widget.session.instrument
    assert not widget.instrument.load(path)
    assert "did you mean 'emission_nm'" in widget.panel.message.text()
    assert widget.session.instrument is before


def test_an_instrument_can_be_saved_and_a_read_only_place_is_words(widget, tmp_path):
    widget.optics.save(tmp_path / "saved.json")
    assert load_instrument(tmp_path / "saved.json") == widget.session.instrument
    widget.optics.save(tmp_path / "missing" / "saved.json")
    assert "does not exist" in widget.panel.message.text()


def test_a_phase_mask_is_loaded_and_a_wrong_one_refused(widget, tmp_path):
    np.save(tmp_path / "mask.npy", np.linspace(-3, 3, 400).reshape(20, 20))
    widget.optics.load_mask(tmp_path / "mask.npy")
    assert "Fill in mask pixel and Fourier lens first" in widget.panel.message.text()
    widget.optics.mask.set_value("mask_pixel_um", 30.0)
    widget.optics.mask.set_value("fourier_lens_mm", 100.0)
    widget.optics.load_mask(tmp_path / "mask.npy")
    assert widget.session.instrument.views[0].mask.phase_rad_yx.shape == (20, 20)
    np.save(tmp_path / "levels.npy", np.arange(400).reshape(20, 20))
    widget.optics.load_mask(tmp_path / "levels.npy")
    assert "look like grey levels" in widget.panel.message.text()


def test_camera_presets_metadata_and_warnings(widget, viewer, qtbot, tmp_path):
    panel = widget.optics.camera
    panel.presets.setCurrentIndex(panel.presets.findText("EMCCD, 16 µm pixels, EM gain 200"))
    panel.presets.activated.emit(panel.presets.currentIndex())
    qtbot.wait_until(lambda: widget.session.instrument.cameras[0].em_gain == 200, timeout=3000)
    # the frames' median is 100: an offset of 200 would make most light negative
    assert "offset (200 counts) is above the median" in panel.words.text()
    panel.form.editors["offset_counts"].setText("90")
    assert panel.words.text() == ""
    assert not panel.metadata_button.isEnabled()
    write_note(tmp_path / "beads.tif", StackNote(kind="beads", instrument="toy.json", offset_counts=95.0, em_gain=100.0))
    viewer.layers.clear()
    viewer.open(str(tmp_path / "beads.tif"), plugin="napari-volumetric-smlm")
    assert panel.metadata_button.isEnabled()
    assert "em_gain is 200 here and 100 in the file's metadata" in panel.words.text()
    panel.metadata_button.click()
    assert (panel.camera().em_gain, panel.camera().offset_counts) == (100, 95)
    assert panel.words.text() == ""
