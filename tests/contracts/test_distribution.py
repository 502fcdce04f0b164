"""What travels in the wheel and in the source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "napari_volumetric_smlm"
LARGEST_WHEEL_BYTES = 60e6


def build(kind, folder):
    code = f"import sys; from hatchling import build; sys.stdout.write(build.build_{kind}(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stderr
    return folder / run.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def shipped_files():
    return {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert names == shipped_files()
    assert "napari_volumetric_smlm/napari.yaml" in names
    assert any(name.startswith("napari_volumetric_smlm/resources/instruments/") for name in names)


def test_the_wheel_holds_licence_notices_and_entry_points(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = {name.split("/", 1)[1]: name for name in archive.namelist() if name.split("/")[0].endswith(".dist-info")}
        entry_points = archive.read(info["entry_points.txt"]).decode()
        metadata = archive.read(info["METADATA"]).decode()
    assert {"licenses/LICENSE", "licenses/NOTICE.md"} <= set(info)
    assert "napari_volumetric_smlm:napari.yaml" in entry_points
    assert "vsmlm = napari_volumetric_smlm.cli:main" in entry_points
    assert "Classifier: Framework :: napari" in metadata
    assert "License-Expression: BSD-3-Clause" in metadata


def test_the_wheel_is_small_enough(wheel):
    assert wheel.stat().st_size < LARGEST_WHEEL_BYTES


def test_the_source_distribution_holds_package_tests_and_notices(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"src/{name}" for name in shipped_files()} <= names
    assert {"LICENSE", "NOTICE.md", "Makefile", "constraints.txt", "README.md", "tests/conftest.py", "docs/glossary.md"} <= names
