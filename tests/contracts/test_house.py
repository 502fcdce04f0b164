"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "napari_volumetric_smlm"
MODULES = sorted(PACKAGE.rglob("*.py"))
# "sim" could mean structured illumination or simulation: the name must say which
AMBIGUOUS = re.compile(r"\bsim_|_sim\b")
ROOMS_WITHOUT_A_PURPOSE = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_MODULE_LINES = 300


def offending_names(source: str) -> list[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "name", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str) and AMBIGUOUS.search(value):
                names.add(value)
    return sorted(names)


def test_the_search_for_ambiguous_names_finds_them():
    assert offending_names("sim_frames = 1\ndef make_sim(n_sim): ...\nsimulate = simulated_psf = 2") == ["make_sim", "n_sim", "sim_frames"]


def test_no_module_is_too_long():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert len(lengths) > 10
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE_LINES} == {}


def test_no_room_without_a_purpose():
    rooms = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert rooms & ROOMS_WITHOUT_A_PURPOSE == set()


def test_no_name_leaves_open_whether_it_simulates_or_illuminates():
    assert {str(path): names for path in MODULES if (names := offending_names(path.read_text(encoding="utf-8")))} == {}


def test_the_manifest_at_the_top_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").read_bytes() == (PACKAGE / "napari.yaml").read_bytes()


def test_the_resources_at_the_top_are_those_in_the_package():
    shipped = {str(p.relative_to(PACKAGE / "resources")) for p in (PACKAGE / "resources").rglob("*") if p.is_file()}
    assert shipped
    assert {str(p.relative_to(ROOT / "resources")) for p in (ROOT / "resources").rglob("*") if p.is_file()} == shipped


def test_resources_hold_no_code():
    assert [p.name for p in (PACKAGE / "resources").rglob("*") if p.suffix in {".py", ".sh", ".pt", ".pth", ".pkl"}] == []
