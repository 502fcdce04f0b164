"""What was done can be saved, repeated elsewhere, remembered and reported."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.plugin.session import session_of
from napari_volumetric_smlm.plugin.settings import Memory


def run_to_end(widget, qtbot):
    with qtbot.wait_signal(widget.panel.ended, timeout=60000) as ended:
        widget.panel.button.click()
    qtbot.wait_until(lambda: not widget.finisher.busy, timeout=10000)
    return ended.args[0]


@pytest.fixture
def real(viewer, tmp_path, qtbot):
    """Return the Reconstruct widget over two real frames with the real recipe."""
    from napari_volumetric_smlm.domain.images import StackNote
    from napari_volumetric_smlm.io.instruments import save_instrument
    from napari_volumetric_smlm.io.results import write_image
    from napari_volumetric_smlm.io.samples import open_sample, sample_instrument
    from napari_volumetric_smlm.io.stacks import write_note
    from napari_volumetric_smlm.plugin.actions import open_widget

    instrument = sample_instrument("astigmatic")
    frames = np.asarray(open_sample("astigmatic").counts_tyx[0][:2, :48, :48])
    path = write_image(frames, tmp_path / "two frames.tif", (1.0, instrument.pixel_nm(), instrument.pixel_nm()), axes="TYX")
    save_instrument(instrument, tmp_path / "astigmatic.json")
    write_note(path, StackNote(kind="frames", instrument="astigmatic.json"))
    viewer.open(str(path), plugin="napari-volumetric-smlm")
    widget = open_widget(viewer)
    widget.form.set_value("detection_threshold", 45.5)
    yield widget
    widget.leave()


def test_the_copied_script_and_command_give_the_table_that_the_button_gave(real, qtbot, tmp_path):
    assert run_to_end(real, qtbot).kind == "done"
    mine = real.session.table
    assert len(mine) > 0
    real.share.calls.python_button.click()
    script = QApplication.clipboard().text()
    real.share.calls.command_button.click()
    command = QApplication.clipboard().text()
    for name, words in (("script", [sys.executable, "-c", script]), ("command", _as_python(shlex.split(command)))):
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stderr
        theirs = read_table(folder / "molecules.csv")
        assert len(theirs) == len(mine)
        for column in ("frame", "z_nm", "y_nm", "x_nm", "photons"):
            np.testing.assert_allclose(theirs[column], mine[column], rtol=1e-4, atol=0.05)


def _as_python(words):
    assert words[0] == "vsmlm"
    return [sys.executable, "-c", "import sys; from napari_volumetric_smlm.cli import main; sys.exit(main())", *words[1:]]


def test_frames_that_are_in_memory_only_cannot_be_repeated_and_that_is_said(widget, viewer):
    viewer.add_image(np.zeros((3, 40, 50)), name="in memory")
    widget.frames.pickers[0].choose(viewer.layers["in memory"])
    widget.share.calls.python_button.click()
    assert "in memory only" in widget.panel.message.text()


@pytest.mark.parametrize("name", ["vsmlm-csv", "thunderstorm", "picasso"])
def test_the_table_is_saved_in_the_chosen_format(widget, qtbot, tmp_path, name):
    run_to_end(widget, qtbot)
    path = tmp_path / "saved"
    with qtbot.wait_signal(widget.share.told, timeout=10000) as told:
        widget.share.save(path.with_suffix(".hdf5" if name == "picasso" else ".csv"), name)
    assert "Saved 12 molecules" in told.args[0]
    assert len(list(tmp_path.glob("saved*"))) >= 1


def test_a_table_that_cannot_be_saved_is_words(widget, qtbot, tmp_path):
    run_to_end(widget, qtbot)
    with qtbot.wait_signal(widget.share.failed, timeout=10000):
        widget.share.save(tmp_path / "missing" / "table.csv", "vsmlm-csv")
    assert "does not exist" in widget.panel.message.text()


def test_settings_are_remembered_for_the_instrument(widget, viewer, qtbot, toy_instrument):
    widget.form.set_value("detection_threshold", 17.5)
    run_to_end(widget, qtbot)
    again = Memory(widget.session.memory.path)
    assert again.recall_plan(ReconstructPlan, toy_instrument.fingerprint).detection_threshold == 17.5
    assert again.recall_plan(ReconstructPlan, "another") is None


def test_a_damaged_memory_is_forgotten_not_an_error(tmp_path):
    path = tmp_path / "memory.json"
    path.write_text("{ damaged")
    memory = Memory(path)
    assert memory.recall("folders", "import") is None
    memory.store({"a": 1}, "x", "y")
    assert Memory(path).recall("x", "y", "a") == 1
    path.write_text('{"plans": {"ReconstructPlan": {"f": {"unknown": 1}}}, "folders": 3}')
    assert Memory(path).recall_plan(ReconstructPlan, "f") is None
    assert Memory(path).folder("import") == ""
    memory.forget()
    assert not path.exists()


def test_presets_are_saved_loaded_reset_and_a_wrong_one_is_words(widget, tmp_path):
    widget.form.set_value("detection_threshold", 12.25)
    widget.presets.save(tmp_path / "mine.json")
    widget.presets.reset()
    assert widget.form.plan() == ReconstructPlan()
    widget.presets.load(tmp_path / "mine.json")
    assert widget.form.plan().detection_threshold == 12.25
    (tmp_path / "wrong.json").write_text('{"detection_treshold": 3}')
    widget.presets.load(tmp_path / "wrong.json")
    assert "did you mean 'detection_threshold'" in widget.panel.message.text()
    assert widget.form.plan().detection_threshold == 12.25


def test_the_report_holds_versions_state_and_log(widget, viewer, qtbot):
    run_to_end(widget, qtbot)
    text = session_of(viewer).report()
    for words in (
        "napari-volumetric-smlm 0.",
        "Python 3.",
        "napari 0.",
        "torch 2.",
        "Instrument: toy",
        "12 molecules",
        "Reconstruct: started",
    ):
        assert words in text
    assert Path(widget.session.log.path).read_text().count("Reconstruct: started") == 1
    # nobody's name and nothing of the environment
    assert "HOME" not in text


def test_menu_commands_work_on_the_selected_layer(widget, viewer, qtbot, monkeypatch):
    from napari.utils.notifications import notification_manager

    from napari_volumetric_smlm.plugin import actions

    notification_manager.records.clear()
    actions.draw_selected()
    assert "There are no molecules yet" in str(notification_manager.records[-1].message)
    run_to_end(widget, qtbot)
    drawn = []
    monkeypatch.setattr(type(widget), "draw", lambda self: drawn.append(self.session.table))
    actions.draw_selected()
    assert len(drawn) == 1
