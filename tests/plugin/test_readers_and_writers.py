"""Files in and out through napari's own machinery, and words for files that cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from napari.layers import Image, Layer, Points
from napari.plugins._npe2 import read as npe2_read
from napari.plugins.io import save_layers
from napari.utils.notifications import notification_manager

from napari_volumetric_smlm.domain.images import StackNote, Volume
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.io.results import write_image, write_provenance
from napari_volumetric_smlm.io.stacks import write_note
from napari_volumetric_smlm.io.tables import FORMATS, read_table, write_table
from napari_volumetric_smlm.plugin.layers import fill_molecules, lay_molecules, lay_picture, lay_table, noun_of
from napari_volumetric_smlm.plugin.readers import stack_reader, table_reader

PLUGIN = "napari-volumetric-smlm"
WRITERS = {
    "vsmlm-csv": "write_own_csv",
    "parquet": "write_parquet",
    "thunderstorm": "write_thunderstorm",
    "challenge": "write_challenge",
    "picasso": "write_picasso",
    "smap-csv": "write_smap_csv",
    "decode": "write_decode",
    "smlm": "write_smlm",
}


def some_molecules(count=40) -> Localizations:
    rng = np.random.default_rng(1)
    columns = {"frame": np.sort(rng.integers(0, 6, count)), "photons": rng.uniform(500, 5000, count)}
    columns |= {name: rng.uniform(0, 4000, count) for name in ("z_nm", "y_nm", "x_nm")}
    columns |= {name: rng.uniform(5, 30, count) for name in ("sigma_z_nm", "sigma_y_nm", "sigma_x_nm")}
    return Localizations(columns=columns, z_reference="coverslip", pixel_nm=110.0, frame_count=6, shape_yx_px=(40, 50))


@pytest.fixture
def said():
    """Return what napari showed to the user."""
    notification_manager.records.clear()

    def words() -> str:
        return " ".join(str(record.message) for record in notification_manager.records)

    return words


@pytest.fixture(autouse=True)
def registered(npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    return npe2pm


def test_every_writable_format_has_its_writer_here():
    assert set(WRITERS) == {name for name, entry in FORMATS.items() if entry.writable}


@pytest.mark.parametrize("name", WRITERS)
def test_saving_the_circles_of_one_frame_saves_the_full_table(name, tmp_path):
    whole = some_molecules()
    circles = Layer.create(*lay_molecules(None, 110.0))
    fill_molecules(circles, whole.select(whole["frame"] == 2), whole, (0, 4000))
    assert len(circles.data) < len(whole)
    path = tmp_path / f"table{FORMATS[name].suffix}"
    save_layers(str(path), [circles], plugin=PLUGIN, _writer=_writer(name))
    again = read_table(path, pixel_nm=110.0)
    assert len(again) == len(whole)
    for column in ("frame", "z_nm", "y_nm", "x_nm"):
        np.testing.assert_allclose(np.sort(again[column]), np.sort(whole[column]), atol=0.11)


@pytest.mark.parametrize("name", ["vsmlm-csv", "parquet", "thunderstorm", "smlm", "picasso"])
def test_a_written_table_is_read_through_npe2_again(name, tmp_path):
    whole = some_molecules()
    path = tmp_path / f"again{FORMATS[name].suffix}"
    write_table(whole, path, name)
    data, reader = npe2_read([str(path)], PLUGIN, stack=False)
    assert reader == PLUGIN
    picture, points = (Layer.create(*item) for item in data)
    assert isinstance(points, Points)
    assert isinstance(picture, Image)
    assert len(noun_of(points, "table")) == len(whole)


def _writer(name):
    from npe2 import PluginManager

    [found] = [w for w in PluginManager.instance().iter_compatible_writers(["points"]) if w.command == f"{PLUGIN}.{WRITERS[name]}"]
    return found


def test_a_points_layer_of_somebody_else_is_refused_in_words(tmp_path, said):
    path = tmp_path / "theirs.csv"
    with pytest.warns(UserWarning, match="did not return any written paths"):  # napari's own words
        save_layers(str(path), [Points([[1.0, 2.0]], name="theirs")], plugin=PLUGIN, _writer=_writer("vsmlm-csv"))
    assert "'theirs' was not made from a table of molecules" in said()
    assert not path.exists()


def test_a_table_that_cannot_be_written_is_told_and_the_old_file_stays(tmp_path, said):
    points = Layer.create(*lay_table(some_molecules(), "m", 100)[-1])
    target = tmp_path / "no" / "such" / "folder.csv"
    with pytest.warns(UserWarning, match="did not return any written paths"):
        save_layers(str(target), [points], plugin=PLUGIN, _writer=_writer("vsmlm-csv"))
    assert "does not exist" in said()


def test_a_picture_is_saved_with_the_size_of_its_pixels(tmp_path):
    from npe2 import PluginManager

    values = np.random.default_rng(0).random((1, 30, 40)).astype(np.float32)
    volume = Volume(values_zyx=values, voxel_zyx_nm=(500, 20, 20), origin_zyx_nm=(0, 0, 0), quantity="molecules")
    layer = Layer.create(*lay_picture(volume, "picture"))
    path = tmp_path / "picture.ome.tif"
    [writer] = [w for w in PluginManager.instance().iter_compatible_writers(["image"]) if w.command == f"{PLUGIN}.write_picture"]
    save_layers(str(path), [layer], plugin=PLUGIN, _writer=writer)
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), values[0])
        assert 'PhysicalSizeX="20' in tiff.ome_metadata
        assert 'PhysicalSizeXUnit="nm"' in tiff.ome_metadata


def test_an_image_without_a_pixel_size_is_refused_in_words(tmp_path, said):
    from npe2 import PluginManager

    [writer] = [w for w in PluginManager.instance().iter_compatible_writers(["image"]) if w.command == f"{PLUGIN}.write_picture"]
    with pytest.warns(UserWarning, match="did not return any written paths"):
        save_layers(str(tmp_path / "plain.ome.tif"), [Image(np.zeros((4, 5)), name="plain")], plugin=PLUGIN, _writer=writer)
    assert "does not say how large its pixels are" in said()
    assert not (tmp_path / "plain.ome.tif").exists()


def test_frames_are_opened_lazily_with_pixel_size_and_instrument(movie, toy_instrument):
    data, _ = npe2_read([str(movie)], PLUGIN, stack=False)
    layer = Layer.create(*data[0])
    assert not isinstance(layer.data, np.ndarray)
    assert tuple(layer.scale) == (1, 110, 110)
    assert noun_of(layer, "stack").kind == "frames"
    assert noun_of(layer, "instrument") == toy_instrument


def test_a_stack_that_nobody_described_is_not_guessed(tmp_path, said):
    path = tmp_path / "what.tif"
    tifffile.imwrite(path, np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7), photometric="minisblack")
    [data] = stack_reader(str(path))(str(path))
    assert noun_of(Layer.create(*data), "stack").kind is None
    assert "whether these are SMLM frames or beads" in said()


def write_volumes(path: Path, values: np.ndarray, axes: str) -> None:
    """Write what vsmlm deconvolve writes: OME-TIFF and the record beside it."""
    write_image(values, path, (250.0, 145.0, 145.0), axes=axes)
    record = {"voxel_zyx_nm": (250.0, 145.0, 145.0), "origin_zyx_nm": (-500.0, 14500.0, 29000.0), "quantity": "photons", "frames": [3, 4]}
    write_provenance(record, path)


def test_a_volume_that_was_written_opens_in_nanometres_with_its_depths(tmp_path, said):
    values = np.random.default_rng(0).random((5, 8, 9)).astype(np.float32)
    write_volumes(tmp_path / "volume.tif", values, "ZYX")
    [data], _ = npe2_read([str(tmp_path / "volume.tif")], PLUGIN, stack=False)
    layer = Layer.create(*data)
    assert np.array_equal(layer.data, values)
    assert tuple(layer.axis_labels) == ("z", "y", "x")
    assert {str(unit) for unit in layer.units} == {"nanometer"}
    assert layer.data_to_world((1, 2, 3)) == pytest.approx((-250, 14790, 29435))
    assert said() == ""


def test_a_series_of_volumes_is_read_volume_by_volume_and_counts_frames(tmp_path, said):
    values = np.random.default_rng(0).random((2, 5, 8, 9)).astype(np.float32)
    write_volumes(tmp_path / "volumes.tif", values, "TZYX")
    [data], _ = npe2_read([str(tmp_path / "volumes.tif")], PLUGIN, stack=False)
    layer = Layer.create(*data)
    assert not isinstance(layer.data, np.ndarray)
    assert tuple(layer.axis_labels) == ("t", "z", "y", "x")
    assert layer.data_to_world((1, 1, 2, 3)) == pytest.approx((4, -250, 14790, 29435))
    for index in (1, (1, 2), (slice(None), 2), (0, slice(1, 4), slice(2, 5), 3), (slice(None),) * 4):
        assert np.array_equal(layer.data[index], values[index])
    assert said() == ""


def published_psf(path: Path, version: str) -> np.ndarray:
    """Write an array (row, column, plane) as the published example set has it, in either kind of MATLAB file."""
    psf = np.random.default_rng(3).random((11, 13, 5)).astype(np.float32)
    if version == "5":
        scipy.io.savemat(path, {"FLFPSF": psf})
        return psf
    with h5py.File(path, "w", userblock_size=512) as file:
        file["FLFPSF"] = psf.T
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return psf


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_published_psf_of_either_matlab_version_is_dropped_as_beads_with_its_planes_in_order(version, tmp_path, said):
    path = tmp_path / "PSF_microtubule_red_10um.mat"
    psf = published_psf(path, version)
    data, reader = npe2_read([str(path)], PLUGIN, stack=False)
    layer = Layer.create(*data[0])
    assert reader == PLUGIN
    assert len(data) == 1
    assert isinstance(layer, Image)
    np.testing.assert_array_equal(np.asarray(layer.data), np.moveaxis(psf, 2, 0))
    assert (noun_of(layer, "stack").kind, layer.axis_labels) == ("beads", ("slice", "y", "x"))
    assert said() == ""


def test_a_psf_whose_voxels_are_known_lies_in_space(tmp_path):
    path = tmp_path / "PSF.mat"
    published_psf(path, "7.3")
    write_note(path, StackNote(pixel_nm=145.0, z_step_nm=-65.0))
    data, _ = npe2_read([str(path)], PLUGIN, stack=False)
    layer = Layer.create(*data[0])
    assert tuple(layer.scale) == (65, 145, 145)
    assert layer.axis_labels == ("z", "y", "x")
    assert {str(unit) for unit in layer.units} == {"nanometer"}


def test_a_matlab_file_that_is_neither_psf_nor_table_is_told_in_words(tmp_path, said):
    path = tmp_path / "mask.mat"
    scipy.io.savemat(path, {"mask": np.zeros((20, 20)), "name": "Tetrapod"})
    data, _ = npe2_read([str(path)], PLUGIN, stack=False)
    assert data == [(None,)]
    assert "0 arrays (rows, columns, planes)" in said()
    assert "mask 20 x 20" in said()
    assert "Traceback" not in said()


def test_molecules_in_a_matlab_file_are_still_a_table(tmp_path):
    path = tmp_path / "molecules_sml.mat"
    scipy.io.savemat(path, {"saveloc": {"loc": {name: np.arange(3.0) + 1 for name in ("frame", "xnm", "ynm", "znm")}}})
    data, _ = npe2_read([str(path)], PLUGIN, stack=False)
    assert [len(noun_of(Layer.create(*item), "table")) for item in data if item[2] == "points"] == [3]


def test_files_of_others_are_left_to_others(tmp_path):
    (tmp_path / "notes.csv").write_text("name,age\nAda,36\n")
    (tmp_path / "picture.tif").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "data.h5").write_bytes(b"nothing")
    (tmp_path / "model.mat").write_bytes(pickle.dumps({"a": 1}))
    for name in ("notes.csv", "picture.tif", "data.h5", "model.mat", "missing.tif"):
        assert stack_reader(str(tmp_path / name)) is None
        assert table_reader(str(tmp_path / name)) is None
    assert stack_reader([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]) is None


def broken_tiff(folder: Path) -> Path:
    whole, cut = folder / "whole.tif", folder / "cut.tif"
    tifffile.imwrite(whole, np.zeros((20, 64, 64), np.uint16), photometric="minisblack", contiguous=True)
    cut.write_bytes(whole.read_bytes()[: 64 * 64 * 2 * 7])
    return cut


def test_a_truncated_file_is_told_in_words_and_shows_nothing(tmp_path, said):
    path = broken_tiff(tmp_path)
    assert stack_reader(str(path))(str(path)) == [(None,)]
    assert "truncated" in said() or "cut" in said()
    assert "Traceback" not in said()


def test_a_table_with_missing_columns_is_told_in_words(tmp_path, said):
    path = tmp_path / "short.csv"
    path.write_text("frame,x_nm,y_nm,z_nm\n0,1,2\n")
    reader = table_reader(str(path))
    assert reader is not None
    assert reader(str(path)) == [(None,)]
    assert "cells where the header names" in said() or "cut off" in said()
