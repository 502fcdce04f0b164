"""What may be loaded by whom, seen from outside: each check starts a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
IMPORT_EVERYTHING_AND_LOOK = """
import importlib, pkgutil, sys
for name in sys.argv[1].split(","):
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
loaded = sorted(name for name in sys.argv[2].split(",") if name in sys.modules)
print(",".join(loaded))
"""


def loaded_after_importing(packages: str, of_interest: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING_AND_LOOK, packages, of_interest],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={"PYTHONPATH": str(SOURCE), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_this_check_can_fail():
    assert loaded_after_importing("napari_volumetric_smlm.errors,json", "json,torch") == "json"


@pytest.mark.parametrize("package", ["domain", "io"])
def test_opening_a_file_does_not_wait_for_torch(package):
    assert loaded_after_importing(f"napari_volumetric_smlm.{package}", "torch") == ""


def test_the_work_is_done_without_napari_and_qt():
    packages = ",".join(f"napari_volumetric_smlm.{name}" for name in ("engine", "recipes", "cli"))
    assert loaded_after_importing(packages, "napari,qtpy,PySide6,PyQt6,magicgui,superqt,vispy") == ""


def test_the_plugin_loads_without_torch():
    assert loaded_after_importing("napari_volumetric_smlm.plugin", "torch") == ""
