"""The demo's last step: a window, a screenshot, or words."""

from __future__ import annotations

import subprocess

import pytest

from napari_volumetric_smlm.cli import demo, main
from napari_volumetric_smlm.io import napari_version


@pytest.fixture
def started(monkeypatch):
    """Keep the command that would be started; `behave` says what it does."""
    commands = []

    def run(command, **options):
        commands.append((command, options))
        return run.behave(command)

    run.behave = lambda command: subprocess.CompletedProcess(command, 0, "", "")
    monkeypatch.setattr(demo.subprocess, "run", run)
    monkeypatch.setattr(napari_version, "version_of", lambda name: "0.9.2")
    monkeypatch.setattr(demo, "has_display", lambda: False)
    monkeypatch.setattr(demo.shutil, "which", lambda name: f"/usr/bin/{name}")
    commands.append(run)
    return commands


def test_an_older_napari_gets_words_instead_of_a_window(started, monkeypatch, tmp_path):
    monkeypatch.setattr(napari_version, "version_of", lambda name: "0.8.0")
    assert "napari 0.8.0 is installed; 0.9 or newer" in demo.look(tmp_path)
    monkeypatch.setattr(napari_version, "version_of", lambda name: None)
    assert "napari is not installed" in demo.look(tmp_path)
    assert len(started) == 1


def test_with_a_display_the_window_opens(started, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "has_display", lambda: True)
    assert demo.look(tmp_path) == "Closed."
    command, _ = started[1]
    assert command[1:] == ["-m", "napari_volumetric_smlm.plugin.demo", str(tmp_path)]


def test_without_a_display_there_is_a_screenshot(started, monkeypatch, tmp_path):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")

    def behave(command):
        (tmp_path / "screenshot.png").write_bytes(b"picture")
        return subprocess.CompletedProcess(command, 0, "", "")

    started[0].behave = behave
    assert str(tmp_path / "screenshot.png") in demo.look(tmp_path)
    command, options = started[1]
    assert command[0] == "/usr/bin/xvfb-run"
    assert command[-2:] == ["--screenshot", str(tmp_path / "screenshot.png")]
    assert "QT_QPA_PLATFORM" not in options["env"]


def test_without_display_and_xvfb_there_are_words(started, monkeypatch, tmp_path):
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    assert demo.look(tmp_path).startswith("Not opened: no display was found")


def test_an_old_screenshot_is_never_taken_for_a_new_one(started, tmp_path):
    (tmp_path / "screenshot.png").write_bytes(b"of yesterday")
    started[0].behave = lambda command: subprocess.CompletedProcess(command, 1, "", "first\nlibxcb-cursor is missing")
    words = demo.look(tmp_path)
    assert "No screenshot (libxcb-cursor is missing)" in words
    assert not (tmp_path / "screenshot.png").exists()


def test_a_window_that_hangs_does_not_hang_the_demo(started, tmp_path):
    def hang(command):
        raise subprocess.TimeoutExpired(command, 180)

    started[0].behave = hang
    assert "did not answer" in demo.look(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["demo", "--output", str(tmp_path / "taken"), "--no-window"]) == 1
    assert "cannot make the folder" in capsys.readouterr().err
