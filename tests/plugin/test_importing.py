"""The Import button: what a file is comes from its content or from the user, never from a guess."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import tifffile

from napari_volumetric_smlm.io.stacks import read_note
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.plugin.layers import TABLE, noun_of, role_of
from napari_volumetric_smlm.plugin.widgets import importing
from napari_volumetric_smlm.plugin.widgets.columns import ColumnDialog
from napari_volumetric_smlm.plugin.widgets.importing import KindDialog


@pytest.fixture
def empty(viewer, recipes):
    from napari_volumetric_smlm.plugin.actions import open_widget

    return open_widget(viewer)


def take(widget, qtbot, path):
    heard = []
    widget.importer.done.connect(heard.append)
    widget.importer.failed.connect(lambda error: heard.append(str(error)))
    widget.importer.open(path)
    qtbot.wait_until(lambda: bool(heard) or not widget.importer.job.busy, timeout=10000)
    qtbot.wait(10)
    return heard


@pytest.fixture
def answer(monkeypatch):
    """Answer the dialog that asks what a stack is, as a user would by clicking."""
    asked = []

    def set_answer(kind, remember=True):
        def execute(dialog):
            asked.append(dialog)
            if kind is None:
                return 0
            dialog.kinds[kind].click()
            dialog.remember.setChecked(remember)
            return 1

        monkeypatch.setattr(KindDialog, "exec", execute)
        return asked

    return set_answer


def plain_stack(folder):
    path = folder / "plain.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(50, (4, 20, 20)).astype(np.uint16), photometric="minisblack")
    return path


def test_a_psf_in_a_matlab_file_says_what_it_is_and_another_array_is_told_in_words(empty, viewer, qtbot, tmp_path, answer):
    asked = answer(None)
    scipy.io.savemat(tmp_path / "psf.mat", {"FLFPSF": np.random.default_rng(0).random((20, 20, 4))})
    scipy.io.savemat(tmp_path / "mask.mat", {"mask": np.zeros((20, 20))})
    assert take(empty, qtbot, tmp_path / "psf.mat") == ["stack"]
    assert noun_of(viewer.layers[0], "stack").kind == "beads"
    assert asked == []
    assert "mask 20 x 20" in take(empty, qtbot, tmp_path / "mask.mat")[0]


@pytest.mark.parametrize("kind", ["frames", "beads"])
def test_a_stack_that_nobody_described_is_asked_for_once(empty, viewer, qtbot, tmp_path, answer, kind):
    path = plain_stack(tmp_path)
    asked = answer(kind)
    assert take(empty, qtbot, path) == ["stack"]
    assert noun_of(viewer.layers[0], "stack").kind == kind
    assert read_note(path).kind == kind
    assert take(empty, qtbot, path)[0] == "stack"
    assert len(asked) == 1


def test_no_answer_is_preselected_and_without_one_nothing_is_opened(empty, viewer, qtbot, tmp_path, answer):
    dialog = KindDialog("plain.tif")
    qtbot.add_widget(dialog)
    ok = dialog.box.button(dialog.box.StandardButton.Ok)
    assert not ok.isEnabled()
    dialog.kinds["beads"].click()
    assert ok.isEnabled()
    assert dialog.kind == "beads"
    answer(None)
    take(empty, qtbot, plain_stack(tmp_path))
    assert len(viewer.layers) == 0


def test_an_answer_need_not_be_kept(empty, qtbot, tmp_path, answer):
    path = plain_stack(tmp_path)
    answer("frames", remember=False)
    take(empty, qtbot, path)
    assert read_note(path) is None


def test_a_table_is_shown_and_becomes_the_result(empty, viewer, qtbot, tmp_path, toy_table):
    write_table(toy_table, tmp_path / "found.csv", "thunderstorm")
    assert take(empty, qtbot, tmp_path / "found.csv") == ["table"]
    assert len(empty.session.table) == len(toy_table)
    assert any(role_of(layer) == TABLE for layer in viewer.layers)
    assert empty.share.save_button.isEnabled()


@pytest.fixture
def toy_table():
    from napari_volumetric_smlm.domain.molecules import Localizations

    rng = np.random.default_rng(0)
    columns = {"frame": np.arange(20), **{name: rng.uniform(0, 900, 20) for name in ("z_nm", "y_nm", "x_nm", "photons")}}
    return Localizations(columns=columns, pixel_nm=110.0)


def test_an_instrument_is_recognised(empty, qtbot, movie, toy_instrument):
    assert take(empty, qtbot, movie.parent / "toy.json") == ["instrument"]
    assert empty.session.instrument == toy_instrument


UNKNOWN = "mol,t,posx,posy,brightness\n1,1,10.5,20.5,900\n2,1,11.5,21.5,800\n3,2,12.5,22.5,700\n"


def test_an_unknown_table_is_mapped_by_the_user_and_the_mapping_is_remembered(empty, qtbot, tmp_path, monkeypatch):
    (tmp_path / "first.csv").write_text(UNKNOWN)
    (tmp_path / "second.csv").write_text(UNKNOWN)
    dialogs = []

    def map_columns(dialog):
        dialogs.append(dialog)
        if len(dialogs) == 1:
            ok = dialog.box.button(dialog.box.StandardButton.Ok)
            assert not ok.isEnabled()
            assert "y_nm and x_nm" in dialog.problem.text()
            for ours, theirs in (("x_nm", "posx"), ("y_nm", "posy"), ("frame", "t"), ("photons", "brightness")):
                dialog.theirs[ours].setCurrentIndex(dialog.theirs[ours].findData(theirs))
            dialog.units["x_nm"].setCurrentText("px")
            dialog.units["y_nm"].setCurrentText("px")
            assert "pixel size" in dialog.problem.text()
            dialog.pixel.setText("100")
            dialog.first_frame.setText("1")
            assert ok.isEnabled()
        dialog.accept()
        return 1

    monkeypatch.setattr(ColumnDialog, "exec", map_columns)
    assert take(empty, qtbot, tmp_path / "first.csv") == ["table"]
    table = empty.session.table
    np.testing.assert_allclose(table["x_nm"], [1050, 1150, 1250])
    assert table["frame"].tolist() == [0, 0, 1]
    # the second time the answers stand there already
    assert take(empty, qtbot, tmp_path / "second.csv")[-1] == "table"
    assert dialogs[1].mapping() == dialogs[0].mapping()


def test_a_dialog_that_is_cancelled_opens_nothing(empty, qtbot, tmp_path, monkeypatch):
    (tmp_path / "unknown.csv").write_text(UNKNOWN)
    monkeypatch.setattr(ColumnDialog, "exec", lambda dialog: 0)
    assert take(empty, qtbot, tmp_path / "unknown.csv") == []
    assert empty.session.table is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.tif", b"", "empty"),
        ("cut.tif", b"II*\x00\x08\x00\x00\x00\xff\xff", "damaged|cannot be read|truncated"),
        ("picture.tif", b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        ("model.h5", b"\x80\x04\x95\x00\x00", "not a table|pickle|HDF5"),
        ("empty.csv", b"", "empty"),
        ("notes.json", b'{"a": 1}', "a"),
        ("bomb.smlm", b"PK\x03\x04" + bytes(30), "zip|ZIP|archive|table"),
    ],
)
def test_bad_files_are_words_and_change_nothing(empty, viewer, qtbot, tmp_path, name, content, words):
    import re

    (tmp_path / name).write_bytes(content)
    heard = take(empty, qtbot, tmp_path / name)
    assert len(heard) == 1
    assert re.search(words, heard[0]), heard
    assert heard[0] in empty.panel.message.text()
    assert "Something went wrong inside" not in empty.panel.message.text()
    assert len(viewer.layers) == 0
    assert empty.session.table is None


def test_every_kind_of_stack_can_be_answered():
    from typing import get_args

    from napari_volumetric_smlm.domain.images import StackKind

    assert set(importing.KINDS) == set(get_args(StackKind))
