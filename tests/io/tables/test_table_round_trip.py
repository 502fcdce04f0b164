"""Contract of every writable format: what is written comes back, in our units and our counting."""

from __future__ import annotations

import csv
import json
import zipfile

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.errors import TableError
from napari_volumetric_smlm.io.tables import FORMATS, columns_left_out, read_table, sniff_format, write_table

WRITABLE = [name for name, entry in FORMATS.items() if entry.writable]
OWN = ["vsmlm-csv", "parquet"]
TEXT = ["vsmlm-csv", "thunderstorm", "challenge", "smap-csv"]
# of these the number types are known: text and Parquet keep float64, the others float32
RELATIVE = {"vsmlm-csv": 0, "parquet": 0, "thunderstorm": 1e-14, "challenge": 1e-14, "smap-csv": 1e-14}
JOINED = {"thunderstorm": {"sigma_y_nm", "sigma_x_nm"}}


def test_eight_formats_are_written():
    assert WRITABLE == ["vsmlm-csv", "parquet", "thunderstorm", "challenge", "picasso", "smap-csv", "decode", "smlm"]


@pytest.mark.parametrize("name", WRITABLE)
def test_every_column_that_the_format_knows_comes_back(name, molecules, tmp_path):
    written = write_table(molecules, tmp_path / f"m{FORMATS[name].suffix}", name)
    assert sorted(p.name for p in written) == sorted(p.name for p in tmp_path.iterdir())
    assert sniff_format(written[0]) == name
    back = read_table(written[0])
    expected = set(molecules.columns) - set(columns_left_out(molecules, name))
    assert {"frame", "z_nm", "y_nm", "x_nm"} <= expected <= set(back.columns)
    assert len(back) == 200
    for column in expected - JOINED.get(name, set()):
        relative = RELATIVE.get(name, 3e-7)
        np.testing.assert_allclose(back[column], molecules[column], rtol=relative, atol=relative * 6e4, err_msg=column)
    assert (back.z_reference, back.pixel_nm, back.frame_count, back.shape_yx_px) == ("coverslip", 110.0, 50, (280, 460))
    assert back.provenance["plan"] == {"minimum_photons": 300.5}
    assert back.provenance["words"] == molecules.provenance["words"]
    assert "notes" not in back.provenance


@pytest.mark.parametrize("name", WRITABLE)
def test_the_format_that_content_shows_is_used_whatever_the_name(name, molecules, tmp_path):
    path = write_table(molecules, tmp_path / f"m{FORMATS[name].suffix}", name)[0]
    odd = path.rename(tmp_path / "renamed.data")
    assert sniff_format(odd) == name


@pytest.mark.parametrize("name", OWN)
def test_our_own_formats_keep_a_table_equal(name, molecules, tmp_path):
    path = write_table(molecules, tmp_path / "m", name)[0]
    assert path.suffix == FORMATS[name].suffix
    back = read_table(path)
    assert back == molecules
    assert {n: v.dtype for n, v in back.columns.items()} == {n: v.dtype for n, v in molecules.columns.items()}
    bare = molecules.model_copy(update={"provenance": {}})
    assert read_table(write_table(bare, tmp_path / "bare", name)[0]) == bare


@pytest.mark.parametrize("name", WRITABLE)
def test_a_table_without_molecules_stays_one(name, tmp_path):
    empty = Localizations.empty("focus").model_copy(update={"pixel_nm": 100.0})
    path = write_table(empty, tmp_path / "none", name)[0]
    back = read_table(path)
    assert len(back) == 0
    assert (back.z_reference, back.pixel_nm) == ("focus", 100.0)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_flat_table_stays_flat(name, tmp_path):
    flat = Localizations(columns={"frame": [4], "z_nm": [0.0], "y_nm": [200.0], "x_nm": [300.0]}, z_reference="none", pixel_nm=100)
    back = read_table(write_table(flat, tmp_path / "flat", name)[0])
    assert (back.z_reference, back["z_nm"].tolist(), back["frame"].tolist()) == ("none", [0.0], [4])
    np.testing.assert_allclose(back.position_zyx_nm, [[0, 200, 300]])


@pytest.mark.parametrize("name", [name for name in WRITABLE if name != "picasso"])
def test_without_a_pixel_size_positions_stay_and_both_sides_say_so(name, tmp_path):
    table = Localizations(columns={"frame": [0], "z_nm": [5.0], "y_nm": [200.25], "x_nm": [300.5]}, z_reference="focus")
    path = write_table(table, tmp_path / "m", name)[0]
    back = read_table(path)
    np.testing.assert_allclose(back.position_zyx_nm, table.position_zyx_nm)
    if FORMATS[name].origin_px:
        assert "positions were not moved" in json.loads((tmp_path / f"{path.name}.json").read_text())["notes"][0]
        assert "the pixel size is not known" in back.provenance["notes"][0]
    else:
        assert "notes" not in back.provenance


def test_picasso_refuses_a_table_without_a_pixel_size(tmp_path):
    table = Localizations(columns={"frame": [0], "z_nm": [5.0], "y_nm": [200.0], "x_nm": [300.0]})
    with pytest.raises(TableError, match=r"Picasso measures in pixels.*does not know its pixel size"):
        write_table(table, tmp_path / "m.hdf5")
    assert list(tmp_path.iterdir()) == []


def rows_of(path):
    with path.open(newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def test_a_spot_on_row_3_column_7_lands_on_the_documented_numbers_of_each_format(spot, tmp_path):
    at = {name: write_table(spot, tmp_path / f"spot-{name}", name)[0] for name in WRITABLE}
    for name in ("vsmlm-csv",):
        assert rows_of(at[name]) == [
            {"frame": 0, "z_nm": 250, "y_nm": 330, "x_nm": 770, "photons": 1500, "sigma_z_nm": 33, "sigma_y_nm": 11, "sigma_x_nm": 11}
        ]
    assert pq.read_table(at["parquet"]).select(["frame", "y_nm", "x_nm"]).to_pylist() == [{"frame": 0, "y_nm": 330.0, "x_nm": 770.0}]
    (row,) = rows_of(at["thunderstorm"])
    # the centre of a pixel is half a pixel from the corner; frames from 1
    assert (row["frame"], row["x [nm]"], row["y [nm]"], row["z [nm]"]) == (1, 7.5 * 110, 3.5 * 110, 250)
    assert (row["uncertainty_xy [nm]"], row["uncertainty_z [nm]"], row["intensity [photon]"]) == (pytest.approx(11), 33, 1500)
    (row,) = rows_of(at["challenge"])
    assert (row["frame"], row["xnano"], row["ynano"], row["znano"], row["intensity"]) == (1, 825, 385, 250, 1500)
    (row,) = rows_of(at["smap-csv"])
    # MATLAB counts pixels and frames from 1
    assert (row["frame"], row["xnm"], row["ynm"], row["znm"], row["phot"]) == (1, 8 * 110, 4 * 110, 250, 1500)
    assert row["locprecnm"] == pytest.approx(11)
    with h5py.File(at["picasso"]) as file:
        record = file["locs"][0]
        assert (record["frame"], record["x"], record["y"], record["z"]) == (0, 7, 3, 250)
        assert record["lpx"] == record["lpy"] == pytest.approx(0.1)
        assert json.loads(file["metadata"][()])[0]["Pixelsize"] == 110
    information = yaml.safe_load(at["picasso"].with_suffix(".yaml").read_text())
    assert {key: information[key] for key in ("Width", "Height", "Frames", "Pixelsize")} == {
        "Width": 32, "Height": 16, "Frames": 1, "Pixelsize": 110.0,
    }  # fmt: skip
    with h5py.File(at["decode"]) as file:
        # x is the row there
        assert file["data/xyz"][0].tolist() == [3, 7, 250]
        assert file["data/frame_ix"][0] == 0
        assert file["meta"].attrs["xy_unit"] == "px"
        assert file["meta"].attrs["px_size"].tolist() == [110, 110]
        assert file["data/bg_cr"].shape is None
        allowed = {"xyz", "xyz_sig", "xyz_cr", "phot", "phot_sig", "phot_cr", "bg", "bg_sig", "bg_cr", "frame_ix", "id", "prob", "code"}
        assert set(file["data"]) <= allowed
    with zipfile.ZipFile(at["smlm"]) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        rules = next(iter(manifest["formats"].values()))
        values = dict(zip(rules["headers"], np.frombuffer(archive.read("table-0.bin"), "<f4"), strict=True))
        assert (values["frame"], values["x"], values["y"], values["z"]) == (0, 770, 330, 250)
        assert dict(zip(rules["headers"], rules["units"], strict=True))["x"] == "nm"
    for name, path in at.items():
        back = read_table(path)
        np.testing.assert_allclose(back.position_zyx_nm, [[250, 330, 770]], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(back.sigma_zyx_nm if name != "challenge" else [[33, 11, 11]], [[33, 11, 11]], rtol=1e-6, err_msg=name)
        assert back["frame"].tolist() == [0]


@pytest.mark.parametrize("name", [name for name in TEXT if FORMATS[name].origin_px])
def test_a_copy_without_its_notes_needs_the_pixel_size_to_find_the_spot(name, spot, tmp_path):
    path, notes = write_table(spot, tmp_path / "spot.csv", name)
    notes.unlink()
    shift = FORMATS[name].origin_px * 110
    kept = read_table(path)
    np.testing.assert_allclose(kept.position_zyx_nm[:, 1:], [[330 + shift, 770 + shift]])
    assert "read it again with pixel_nm" in kept.provenance["notes"][0]
    moved = read_table(path, pixel_nm=110)
    np.testing.assert_allclose(moved.position_zyx_nm, [[250, 330, 770]])
    assert (moved.z_reference, moved.pixel_nm) == ("unknown", 110)


def test_own_text_opens_anywhere_because_the_first_line_is_the_header(molecules, tmp_path):
    path, notes = write_table(molecules, tmp_path / "m.csv")
    lines = path.read_text().splitlines()
    assert lines[0].split(",") == list(molecules.columns)
    assert len(lines) == 201
    assert notes.name == "m.csv.json"
    said = json.loads(notes.read_text())
    assert (said["z_reference"], said["rows"], said["columns"]["x_nm"]["type"]) == ("coverslip", 200, "float64")


def test_values_that_are_not_finite_outside_positions_survive_in_text_and_parquet(tmp_path):
    columns = {"frame": [0, 1], "z_nm": [1.0, 2.0], "y_nm": [1.0, 2.0], "x_nm": [1.0, 2.0]}
    columns |= {"sigma_z_nm": [np.nan, 4.0], "photons": [np.inf, 3.0]}
    table = Localizations(columns=columns, z_reference="focus", pixel_nm=100)
    for name in (*OWN, "thunderstorm", "smlm"):
        back = read_table(write_table(table, tmp_path / name, name)[0])
        np.testing.assert_array_equal(back["sigma_z_nm"], [np.nan, 4.0])
        np.testing.assert_array_equal(back["photons"], [np.inf, 3.0])
    assert ",NaN" in (tmp_path / "thunderstorm.csv").read_text()


def test_picasso_gets_no_column_that_would_make_it_drop_rows(tmp_path):
    columns = {"frame": [0, 1], "z_nm": [1.0, 2.0], "y_nm": [1.0, 2.0], "x_nm": [1.0, 2.0], "log_likelihood_ratio": [np.nan, 4.0]}
    path, beside = write_table(Localizations(columns=columns, pixel_nm=100), tmp_path / "m.hdf5")
    with h5py.File(path) as file:
        assert set(file["locs"].dtype.names) == {"frame", "x", "y", "z", "lpx", "lpy"}
    notes = yaml.safe_load(beside.read_text())["napari-volumetric-smlm"]["notes"]
    assert any("log_likelihood_ratio" in note and "left out" in note for note in notes)
    back = read_table(path)
    assert "sigma_x_nm" not in back
    assert any("no uncertainty is known" in note for note in back.provenance["notes"])


def test_columns_without_a_place_are_named_before_they_are_lost(molecules):
    assert columns_left_out(molecules, "parquet") == []
    assert {"probability", "converged", "log_likelihood_ratio"} <= set(columns_left_out(molecules, "thunderstorm"))
    assert "x_nm" not in columns_left_out(molecules, "challenge")


def test_notes_of_another_table_are_not_used(molecules, tmp_path):
    path, notes = write_table(molecules, tmp_path / "m.csv")
    foreign = write_table(molecules, tmp_path / "t.csv", "thunderstorm")[0]
    notes.write_bytes((tmp_path / "t.csv.json").read_bytes())
    assert any("are for 'thunderstorm', not vsmlm-csv" in note for note in read_table(path).provenance["notes"])
    (tmp_path / "t.csv.json").write_text("{broken")
    back = read_table(foreign, pixel_nm=110)
    assert back.z_reference == "unknown"
    assert any("damaged JSON" in note for note in back.provenance["notes"])


def test_formats_are_asked_for_by_a_known_name_or_suffix(molecules, tmp_path):
    with pytest.raises(TableError, match="unknown table format 'excel'; known are vsmlm-csv"):
        write_table(molecules, tmp_path / "m.csv", "excel")
    with pytest.raises(TableError, match=r"no format has the suffix \.xls; use \.csv"):
        write_table(molecules, tmp_path / "m.xls")
    with pytest.raises(TableError, match="Zeiss Elyra text can be read, not written"):
        write_table(molecules, tmp_path / "m.txt", "elyra")
    assert list(tmp_path.iterdir()) == []
