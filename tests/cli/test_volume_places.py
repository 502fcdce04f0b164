"""From a raw light-field movie by way of a written volume to molecules: they lie where the truth has them, on the raw frame."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import save_instrument
from napari_volumetric_smlm.io.results import write_image, write_provenance
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.io.volume_files import open_volumes
from napari_volumetric_smlm.io.volume_origin import origin_in, origin_words


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Folder with the truth (m_truth.csv), the volumes of each frame (v.tif) and the molecules in them (found.csv)."""
    folder = tmp_path_factory.mktemp("movie")
    shipped = load_example("light_field_3").model_copy(update={"depth_range_nm": (-600.0, 600.0)})
    small = light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (60, 64)}), shipped)
    save_instrument(small, folder / "i.json")
    drawn = ["--frame-count", "2", "--shape-yx-px", "1024", "1024", "--density-per-um2", "0.1", "--border-px", "12", "--seed", "6"]
    drawn += ["--photons", "15000", "15000", "--mean-on-frames", "1000", "--background-photons", "2", "2"]
    quiet = ["--device", "cpu", "--quiet"]
    assert main(["simulate", "--instrument", str(folder / "i.json"), "--output", str(folder / "m.tif"), *drawn, *quiet]) == 0
    frames = [str(folder / "m.tif"), "--instrument", str(folder / "m_instrument.json"), "--output", str(folder / "v.tif"), "--each-frame"]
    assert main(["deconvolve", *frames, "--iterations", "30", "--depth-step-nm", "150", "--window-px", "41", *quiet]) == 0
    assert main(["find", str(folder / "v.tif"), "--what", "molecules", "--output", str(folder / "found.csv"), *quiet]) == 0
    return folder


def test_molecules_of_a_volume_lie_where_the_truth_has_them_on_the_raw_frame(found, capsys):
    truth, table = read_table(found / "m_truth.csv"), read_table(found / "found.csv")
    assert len(truth) == 8
    for frame in (0, 1):
        true, seen = (part.select(part["frame"] == frame).position_zyx_nm for part in (truth, table))
        assert np.linalg.norm(true[:, None] - seen, axis=2).min(1).max() < 150
    capsys.readouterr()
    assert main(["evaluate", str(found / "m_truth.csv"), str(found / "found.csv"), "--gate-nm", "150", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["jaccard"] == 1


def test_a_volume_lies_where_it_was_also_when_the_record_beside_it_is_lost(found, tmp_path):
    whole = open_volumes(found / "v.tif")
    assert min(whole.origin_zyx_nm[1:]) > 10_000
    # the series has lost its record, the single volume never had one
    shutil.copy(found / "v.tif", tmp_path / "alone.tif")
    write_image(whole.volume(0).values_zyx, tmp_path / "single.tif", whole.voxel_zyx_nm, origin_zyx_nm=whole.origin_zyx_nm)
    for name in ("alone.tif", "single.tif"):
        volume = open_volumes(tmp_path / name).volume(0)
        assert volume.origin_zyx_nm == whole.origin_zyx_nm
        assert np.array_equal(volume.values_zyx, whole.volume(0).values_zyx)


def test_a_volume_whose_place_nobody_wrote_begins_at_zero(tmp_path):
    write_image(np.ones((3, 8, 9), np.float32), tmp_path / "v.tif", (150.0, 145.0, 145.0))
    assert open_volumes(tmp_path / "v.tif").volume(0).origin_zyx_nm == (0.0, 0.0, 0.0)
    write_provenance({"voxel_zyx_nm": (150.0, 145.0, 145.0)}, tmp_path / "v.tif")
    assert open_volumes(tmp_path / "v.tif").volume(0).origin_zyx_nm == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("place", [(-600.0, 116290.0, 72.5), (1e-7, -2.5e20, 0.0)])
def test_the_words_for_a_place_are_read_as_they_were_written(place):
    assert origin_in(origin_words(place)) == place
    assert origin_in("a volume of another program, 1.0, 2.0, 3.0") is None
