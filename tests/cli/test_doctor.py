"""The doctor finds what does not fit and says what to do."""

from __future__ import annotations

import json
import subprocess

import pytest

from napari_volumetric_smlm.cli import doctor, main
from napari_volumetric_smlm.io import napari_version


@pytest.fixture
def answers(monkeypatch):
    """Replace the processes that the doctor asks; return the dict to fill: last word of the command -> (status, stdout, stderr)."""
    replies: dict[str, tuple[int, str, str]] = {}

    def ask(*words):
        return subprocess.CompletedProcess(words, *replies.get(words[-1], (0, json.dumps({"opengl": "4.5"}), "")))

    monkeypatch.setattr(doctor, "_ask", ask)
    monkeypatch.setattr(doctor, "has_display", lambda: True)
    return replies


def installed(monkeypatch, **changes):
    usual = {"napari": "0.9.2", "PySide6-Essentials": "6.11.3", "torch": "2.13.0"}
    monkeypatch.setattr(napari_version, "version_of", lambda name: {**usual, **changes}.get(name))


def test_a_sound_installation_ends_with_zero(answers, monkeypatch, capsys):
    installed(monkeypatch)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "napari 0.9.2" in told
    assert "Devices: cpu" in told
    assert "Everything fits together." in told


def test_an_older_napari_gets_words(answers, monkeypatch, capsys):
    installed(monkeypatch, napari="0.8.1")
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "Problem: napari 0.8.1 is installed; 0.9 or newer is needed for the window: pip install --upgrade 'napari>=0.9'" in captured.out
    assert "Traceback" not in captured.err


def test_without_napari_the_command_line_is_still_sound(answers, monkeypatch, capsys):
    installed(monkeypatch, napari=None)
    assert main(["doctor"]) == 0
    assert "napari is not installed" in capsys.readouterr().out


def test_two_qt_bindings_are_one_too_many(answers, monkeypatch, capsys):
    installed(monkeypatch, PyQt6="6.11.0")
    assert main(["doctor"]) == 1
    assert "keep one" in capsys.readouterr().out


def test_no_qt_binding_is_told(answers, monkeypatch, capsys):
    installed(monkeypatch, **{"PySide6-Essentials": None})
    assert main(["doctor"]) == 1
    assert "pip install PySide6-Essentials" in capsys.readouterr().out


def test_a_broken_manifest_is_told(answers, monkeypatch, capsys):
    installed(monkeypatch)
    answers["napari-volumetric-smlm"] = (1, "", "first line\nno module named plugin.readers")
    assert main(["doctor"]) == 1
    assert "no module named plugin.readers" in capsys.readouterr().out


@pytest.mark.parametrize("reply", [(0, json.dumps({"binding": "PySide6", "opengl": ""}), ""), (-6, "", "could not connect to display")])
def test_a_window_that_does_not_open_is_told(answers, monkeypatch, capsys, reply):
    installed(monkeypatch)
    answers["napari_volumetric_smlm.plugin.window_check"] = reply
    assert main(["doctor"]) == 1
    assert "Problem: " in capsys.readouterr().out


def test_no_display_is_a_note(answers, monkeypatch, capsys):
    installed(monkeypatch)
    monkeypatch.setattr(doctor, "has_display", lambda: False)
    assert main(["doctor"]) == 0
    assert "no display was found" in capsys.readouterr().out


def test_json_holds_the_same_facts(answers, monkeypatch, capsys):
    installed(monkeypatch, napari="0.7.0")
    assert main(["doctor", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["napari"] == "0.7.0"
    assert len(facts["problems"]) == 1


def test_the_installed_set_is_examined_for_real():
    facts = doctor.examine()
    assert facts["problems"] == []
    assert facts["versions"]["torch"]


def test_a_qt_binding_that_ends_napari_is_a_problem(answers, monkeypatch, capsys):
    monkeypatch.setattr(napari_version.sys, "version_info", (3, 11, 4))
    installed(monkeypatch, **{"PySide6-Essentials": "6.12.0"})
    assert main(["doctor"]) == 1
    assert "pip install 'PySide6-Essentials==6.11.3'" in capsys.readouterr().out
