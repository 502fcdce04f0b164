"""What the pages say agrees with the program, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from napari_volumetric_smlm import __version__
from napari_volumetric_smlm.cli.program import VERBS
from napari_volumetric_smlm.domain.molecules import COLUMNS
from napari_volumetric_smlm.io.tables import FORMATS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "NOTICE.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        place = (page.parent / target).resolve()
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place)


def test_every_verb_is_on_the_page_about_the_command_line():
    assert re.findall(r"^\| `(\w+)` \|", read("docs/howto/command-line.md"), re.MULTILINE) == [module.NAME for module in VERBS]


def test_every_table_format_is_on_its_page_with_what_it_can_do():
    rows = re.findall(r"^\| .+? \| `([\w-]+)` \| (yes|no) \| (yes|no) \|", read("docs/howto/tables.md"), re.MULTILINE)
    said = {name: (readable == "yes", writable == "yes") for name, readable, writable in rows}
    assert said == {name: (rules.readable, rules.writable) for name, rules in FORMATS.items()}


def test_every_column_is_in_the_glossary():
    names = {name.strip() for cells in re.findall(r"^\| ([\w, ]+) \|", read("docs/glossary.md"), re.MULTILINE) for name in cells.split(",")}
    assert set(COLUMNS) <= names


def test_sources_named_in_the_pages_are_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", read("docs/references.bib"), re.MULTILINE))
    cited = set(re.findall(r"\[([a-z]+\d{4})\]", read("docs/theory.md")))
    assert cited
    assert cited <= known


def test_the_version_is_the_same_everywhere():
    assert f"version: {__version__}" in read("CITATION.cff")
    assert __version__ in read("CHANGELOG.md")


def test_menus_named_in_the_pages_are_in_the_manifest():
    manifest = yaml.safe_load(read("napari.yaml"))
    samples = {sample["display_name"] for sample in manifest["contributions"]["sample_data"]}
    widgets = {widget["display_name"] for widget in manifest["contributions"]["widgets"]}
    writers = {writer["display_name"] for writer in manifest["contributions"]["writers"]}
    text = read("README.md") + read("docs/howto/window.md")
    title = manifest["display_name"]
    said_samples = set(re.findall(rf"Open Sample > {title} > ([^*]+)\*", text))
    said_widgets = set(re.findall(rf"Plugins > {title} > ([^*]+)\*", text))
    assert said_samples
    assert said_samples <= samples
    assert said_widgets == widgets
    assert set(re.findall(r"\*(Molecules[,f ][^*]+)\*", text)) <= writers


def test_modules_named_in_the_tour_exist():
    named = re.findall(r"`((?:io|domain|engine|recipes|plugin|cli)/[\w/.]*)`", read("docs/tour.md"))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "src" / "napari_volumetric_smlm" / name).exists()] == []


def test_benchmarks_named_in_the_page_exist():
    named = re.findall(r"^python (benchmarks/\w+\.py)", read("docs/benchmarks.md"), re.MULTILINE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_readme_names_the_two_commands_on_its_first_screen():
    first_screen = "\n".join(read("README.md").splitlines()[:25])
    assert "make demo" in first_screen
    assert "make test" in first_screen
