"""The manifest holds what it should, every command leads somewhere, and opening a file waits for nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).resolve().parents[2]
NAME = "napari-volumetric-smlm"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_nothing_of_the_manifest_is_dropped(manifest):
    # unknown keys validate and vanish: count
    contributions = manifest.contributions
    assert len(contributions.readers) == 2
    assert len(contributions.writers) == 9
    assert [widget.display_name for widget in contributions.widgets] == [
        "Instrument and calibration",
        "Train",
        "Reconstruct",
        "Volumes",
        "Structured illumination",
    ]
    assert [sample.key for sample in contributions.sample_data] == [
        "astigmatic",
        "tetrapod",
        "biplane",
        "light_field",
        "light_field_microtubules",
        "light_field_mitochondria",
        "tetrapod_beads",
        "structured",
        "molecules",
    ]
    # a MATLAB file may be either: the content decides
    assert [reader.command.rpartition(".")[2] for reader in contributions.readers if "*.mat" in reader.filename_patterns] == [
        "read_stack",
        "read_table",
    ]
    assert set(contributions.menus) == {"napari/file/io_utilities", "napari/layers/visualize", "napari/layers/data"}
    assert set(contributions.configurations) == {"compute", "display", "results"}


def test_the_installed_manifest_is_this_one(manifest):
    installed = PluginManifest.from_distribution(NAME)
    assert installed.model_dump(exclude={"package_metadata"}) == manifest.model_dump(exclude={"package_metadata"})


def test_every_command_leads_to_something_callable(manifest):
    from npe2._command_registry import CommandHandler

    for command in manifest.contributions.commands:
        assert callable(CommandHandler(command.id, python_name=command.python_name).resolve()), command.id


def test_no_sample_takes_the_name_of_a_command(manifest):
    # napari registers both under one name, and the plugin is lost at the second
    contributions = manifest.contributions
    commands = {command.id for command in contributions.commands}
    assert {f"{NAME}.{sample.key}" for sample in contributions.sample_data} & commands == set()


def test_every_writable_format_has_a_writer(manifest):
    from napari_volumetric_smlm.io.tables import FORMATS
    from napari_volumetric_smlm.plugin import writers

    suffixes = {writer.command: writer.filename_extensions[0] for writer in manifest.contributions.writers}
    commands = {command.id: command.python_name.rpartition(":")[2] for command in manifest.contributions.commands}
    written = {getattr(writers, commands[command]).__doc__.split()[-1].rstrip("."): suffix for command, suffix in suffixes.items()}
    expected = {name: entry.suffix for name, entry in FORMATS.items() if entry.writable}
    assert {name: suffix for name, suffix in written.items() if name in FORMATS} == expected


def test_every_stack_suffix_and_table_suffix_has_a_pattern(manifest):
    from napari_volumetric_smlm.io.stacks.opening import READERS
    from napari_volumetric_smlm.io.tables import FORMATS

    stacks, tables = (set(reader.filename_patterns) for reader in manifest.contributions.readers)
    # a .yaml beside a .raw is offered by its .raw
    assert {f"*{suffix}" for suffix in READERS} - {"*.yaml", "*.yml"} <= stacks
    assert {f"*{suffix}" for entry in FORMATS.values() for suffix in entry.suffixes} <= tables


def test_preferences_are_those_of_the_manifest(manifest, plugin_settings):
    from napari_volumetric_smlm.plugin.settings import Preferences, preferences

    page = manifest.contributions.configurations
    defaults = {name: value.default for group in page.values() for name, value in group.properties.items()}
    assert preferences() == Preferences(**defaults) == Preferences()


def test_a_preference_that_the_user_changes_counts(npe2pm, manifest, plugin_settings):
    from napari.settings import get_plugin_settings

    from napari_volumetric_smlm.plugin.settings import preferences

    npe2pm.register(manifest)
    page = get_plugin_settings(NAME)
    page.display.point_limit = 5000
    page.results.folder = "/somewhere"
    assert preferences().point_limit == 5000
    assert str(preferences().work_folder) == "/somewhere"


def test_readers_writers_and_samples_load_without_torch_napari_or_qt_and_quickly():
    code = (
        "import time, sys, numpy, pydantic, tifffile, yaml; start = time.process_time()  # napari has these loaded\n"
        "import napari_volumetric_smlm.plugin.readers, napari_volumetric_smlm.plugin.writers, napari_volumetric_smlm.plugin.samples\n"
        "took = time.process_time() - start\n"
        "print(took, [name for name in ('torch', 'napari', 'qtpy', 'PySide6', 'matplotlib') if name in sys.modules])"
    )
    best = 9.9
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        seconds, _, loaded = run.stdout.strip().partition(" ")
        assert loaded == "[]"
        best = min(best, float(seconds))
    assert best < 0.2


@pytest.mark.parametrize(
    "name",
    [
        "astigmatic",
        "tetrapod",
        "tetrapod_beads",
        "biplane",
        "light_field",
        "light_field_microtubules",
        "light_field_mitochondria",
        "structured",
        "molecules",
    ],
)
def test_sample_data_open_offline_with_their_instrument(name):
    from napari.layers import Layer

    from napari_volumetric_smlm.plugin import samples
    from napari_volumetric_smlm.plugin.layers import noun_of

    layers = [Layer.create(*data) for data in getattr(samples, f"open_{name}")()]
    assert len(layers) == (2 if name in ("biplane", "molecules") else 1)
    if name != "molecules":
        assert noun_of(layers[0], "instrument") is not None
        kinds = {"tetrapod_beads": "beads", "structured": "structured"}
        assert noun_of(layers[0], "stack").kind == kinds.get(name, "frames")
        assert noun_of(layers[0], "stack").pixel_nm is not None
