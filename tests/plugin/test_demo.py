"""The demo: words where there is no window, a picture where there is one, and words for an older napari."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_volumetric_smlm.io import napari_version
from napari_volumetric_smlm.io.napari_version import binding_warning, napari_problem
from napari_volumetric_smlm.plugin import demo


def run(*words, **surroundings):
    return subprocess.run(
        [sys.executable, "-m", "napari_volumetric_smlm.plugin.demo", *words],
        env={name: value for name, value in {**os.environ, **surroundings}.items() if value},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_without_a_display_it_ends_well_with_words():
    done = run(DISPLAY="", WAYLAND_DISPLAY="", QT_QPA_PLATFORM="")
    if sys.platform.startswith("linux"):
        assert done.returncode == 0, done.stderr
        assert "no display" in done.stdout
        assert done.stderr == ""


def test_a_folder_without_a_result_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "why_not", lambda: "")
    assert demo.main([str(tmp_path)]) == 2
    assert "holds no frames.tif" in capsys.readouterr().out


@pytest.mark.parametrize("found", ["0.8.1", "0.7.0rc1", "0.4.19"])
def test_an_older_napari_gets_words(monkeypatch, found):
    monkeypatch.setattr(napari_version, "version_of", lambda name: found)
    assert f"napari {found} is installed; 0.9 or newer is needed" in napari_problem()
    assert "The window is left out" in demo.why_not()


@pytest.mark.parametrize("found", ["0.9.2", "0.10.0", "1.0"])
def test_a_newer_napari_gets_a_window(monkeypatch, found):
    monkeypatch.setattr(napari_version, "version_of", lambda name: found)
    assert napari_problem() == ""


def test_an_older_napari_gets_words_in_the_dock(qtbot, monkeypatch):
    from napari_volumetric_smlm.plugin.widgets import job_widget
    from napari_volumetric_smlm.plugin.widgets.reconstruct import ReconstructWidget

    monkeypatch.setattr(job_widget, "napari_problem", lambda: "napari 0.8.1 is installed; 0.9 or newer is needed")
    widget = ReconstructWidget(None)
    qtbot.add_widget(widget)
    from qtpy.QtWidgets import QLabel

    assert "cannot work here: napari 0.8.1" in widget.findChild(QLabel).text()


@pytest.mark.parametrize(("found", "python", "warned"), [("6.12.0", (3, 11), True), ("6.12.0", (3, 12), False), ("6.11.3", (3, 11), False)])
def test_the_binding_that_ends_napari_is_told(monkeypatch, found, python, warned):
    monkeypatch.setattr(napari_version, "version_of", lambda name: found)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    assert bool(binding_warning()) is warned


def test_the_installed_binding_keeps_none_alive(qtbot):
    from qtpy.QtWidgets import QWidget

    widget = QWidget()
    qtbot.add_widget(widget)
    before = sys.getrefcount(None)
    for _ in range(200):
        widget.update()
    assert sys.getrefcount(None) > before - 100
