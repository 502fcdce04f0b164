"""Every foreign table in the shared folder, against values read from the raw file without our readers."""

from __future__ import annotations

import json
import zipfile

import h5py
import numpy as np
import pytest

from napari_volumetric_smlm.io.tables import FORMATS, read_table, sniff_format

FILES = {
    "thunderstorm": ("Thunderstorm_dstorm_data.csv", 19),
    "picasso": ("picasso_locs.hdf5", 2399),
    "decode": ("decode_dstorm_data.h5", 96),
    "smap-mat": ("smap_dstorm_data.mat", 4884),
    "smlm": ("SMLM_dstorm_data.smlm", 10),
    "rapidstorm": ("rapidSTORM_dstorm_data.txt", 14),
    "elyra": ("Elyra_dstorm_data.txt", 15),
    "nanoimager": ("Nanoimager_dstorm_data.csv", 14),
}


@pytest.fixture(scope="module")
def tables(shared_data):
    return shared_data / "tables"


@pytest.mark.parametrize("name", FILES)
def test_each_is_recognised_and_read_whole(name, tables):
    file, rows = FILES[name]
    assert sniff_format(tables / file) == name
    table = read_table(tables / file)
    assert len(table) == rows
    assert table["frame"].min() >= 0
    assert table.provenance["source"]["origin_px"] == FORMATS[name].origin_px


def numbers(lines, separator=","):
    return np.array([[float(cell) for cell in line.split(separator)] for line in lines if line.strip()])


def test_thunderstorm_although_its_header_is_one_quoted_cell(tables):
    path = tables / FILES["thunderstorm"][0]
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"id,""frame""')
    raw = numbers(lines[1:])
    table = read_table(path)
    for column, values in zip(
        ("id", "frame", "x_nm", "y_nm", "psf_width_nm", "photons", "background_photons", "background_std_photons", "chi2", "sigma_x_nm"),
        raw.T, strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(table[column], values - (column == "frame"), err_msg=column)
    np.testing.assert_array_equal(table["sigma_y_nm"], table["sigma_x_nm"])
    np.testing.assert_allclose(read_table(path, pixel_nm=130)["x_nm"], raw[:, 2] - 65)


def test_thunderstorm_wrapped_in_quotes_line_by_line(tables, tmp_path):
    path = tables / FILES["thunderstorm"][0]
    lines = path.read_text().splitlines()
    wrapped = tmp_path / "wrapped.csv"
    wrapped.write_text("\r\n".join([lines[0], *(f'"{line}"' for line in lines[1:])]) + "\r\n")
    assert sniff_format(wrapped) == "thunderstorm"
    np.testing.assert_array_equal(read_table(wrapped)["x_nm"], read_table(path)["x_nm"])


def test_picasso(tables):
    with h5py.File(tables / FILES["picasso"][0]) as file:
        raw = file["locs"][()]
    table = read_table(tables / FILES["picasso"][0])
    assert (table.pixel_nm, table.frame_count, table.shape_yx_px, table.z_reference) == (130, 5000, (32, 32), "none")
    np.testing.assert_array_equal(table["frame"], raw["frame"])
    np.testing.assert_allclose(table["x_nm"], raw["x"].astype(float) * 130, rtol=1e-6)
    np.testing.assert_allclose(table["y_nm"], raw["y"].astype(float) * 130, rtol=1e-6)
    np.testing.assert_allclose(table["sigma_x_nm"], raw["lpx"].astype(float) * 130, rtol=1e-6)
    np.testing.assert_allclose(table["psf_width_y_nm"], raw["sy"].astype(float) * 130, rtol=1e-6)
    np.testing.assert_allclose(table["photons"], raw["photons"])
    # the simulation stood on a field of 32 pixels
    assert table["x_nm"].max() < 32 * 130


def test_decode_with_swapped_axes_and_pixels_that_are_not_square(tables):
    with h5py.File(tables / FILES["decode"][0]) as file:
        xyz, sigma, frame = file["data/xyz"][()].astype(float), file["data/xyz_sig"][()].astype(float), file["data/frame_ix"][()]
    table = read_table(tables / FILES["decode"][0])
    np.testing.assert_array_equal(table["frame"], frame)
    np.testing.assert_allclose(table.position_zyx_nm, xyz[:, [2, 0, 1]] * [1, 127, 117], rtol=1e-6)
    np.testing.assert_allclose(table.sigma_zyx_nm, sigma[:, [2, 0, 1]] * [1, 127, 117], rtol=1e-6)
    assert table.pixel_nm is None
    assert any("not square (127 nm along y, 117 nm along x)" in note for note in table.provenance["notes"])
    assert "sigma_background_photons" not in table


def test_smap_matlab(tables):
    with h5py.File(tables / FILES["smap-mat"][0]) as file:
        raw = {name: values[0].astype(float) for name, values in file["saveloc/loc"].items()}
    table = read_table(tables / FILES["smap-mat"][0])
    assert (table.pixel_nm, table.shape_yx_px, table.z_reference) == (104, (256, 256), "unknown")
    np.testing.assert_array_equal(table["frame"], raw["frame"] - 1)
    np.testing.assert_allclose(table["x_nm"], raw["xnm"] - 104, rtol=1e-6)
    np.testing.assert_allclose(table["y_nm"], (raw["ypix"] - 1) * 104, rtol=1e-5)
    np.testing.assert_allclose(table["z_nm"], raw["znm"])
    np.testing.assert_allclose(table["sigma_z_nm"], raw["locprecznm"])
    np.testing.assert_allclose(table["sigma_y_nm"], raw["ynmerr"])
    np.testing.assert_allclose(table["photons"], raw["phot"])
    # the file has a frame more than it counts
    assert table.frame_count == 1001


def test_smlm(tables):
    with zipfile.ZipFile(tables / FILES["smlm"][0]) as archive:
        limits = json.loads(archive.read("manifest.json"))["files"][0]
    table = read_table(tables / FILES["smlm"][0])
    names = {"x_nm": "position_x", "y_nm": "position_y", "frame": "frame", "id": "original_index", "intensity": "intensity"}
    for ours, theirs in names.items():
        np.testing.assert_allclose([table[ours].min(), table[ours].max()], [limits["min"][theirs], limits["max"][theirs]], rtol=1e-6)
    assert table["x_nm"][0] == pytest.approx(1653.34, rel=1e-6)
    # the file does not say that its intensities are photons
    assert "photons" not in table


def test_rapidstorm(tables):
    raw = numbers((tables / FILES["rapidstorm"][0]).read_text().splitlines()[1:], None)
    table = read_table(tables / FILES["rapidstorm"][0])
    for column, values in zip(("x_nm", "y_nm", "frame", "counts", "FitResidues-0-0", "background_counts"), raw.T, strict=True):
        np.testing.assert_array_equal(table[column], values, err_msg=column)


def test_elyra_with_notes_after_the_table(tables):
    lines = (tables / FILES["elyra"][0]).read_bytes().decode("latin-1").split("\x00")[0].splitlines()
    raw = numbers(lines[1:], "\t")
    table = read_table(tables / FILES["elyra"][0])
    np.testing.assert_array_equal(table["frame"], raw[:, 1] - 1)
    np.testing.assert_array_equal(table["x_nm"], raw[:, 4])
    np.testing.assert_array_equal(table["y_nm"], raw[:, 5])
    np.testing.assert_array_equal(table["sigma_y_nm"], raw[:, 6])
    np.testing.assert_array_equal(table["photons"], raw[:, 7])
    assert table.pixel_nm == pytest.approx(97.0873786)


def test_nanoimager(tables):
    raw = numbers((tables / FILES["nanoimager"][0]).read_text().splitlines()[1:])
    table = read_table(tables / FILES["nanoimager"][0])
    for column, values in zip(("channel", "frame", "x_nm", "y_nm", "z_nm", "photons", "background_photons"), raw.T, strict=True):
        np.testing.assert_array_equal(table[column], values, err_msg=column)
    assert table.z_reference == "none"


def test_a_thunderstorm_table_with_another_first_column(shared_data):
    path = shared_data / "drift" / "beads_a.csv"
    table = read_table(path, pixel_nm=100)
    assert len(table) == len(path.read_text().splitlines()) - 1
    assert table["x_nm"][0] == pytest.approx(4046.190498 - 50)
    assert "hmm" in table


def test_peers_tables_are_our_own_kind(shared_data):
    path = shared_data / "peers" / "deepstorm3d" / "high_snr_10" / "truth.csv"
    raw = numbers(path.read_text().splitlines()[1:])
    table = read_table(path)
    np.testing.assert_array_equal(table.position_zyx_nm, raw[:, [3, 2, 1]])
    np.testing.assert_array_equal(table["frame"], raw[:, 0])


def test_a_matlab_file_of_another_kind_is_named_as_such(shared_data):
    from napari_volumetric_smlm.errors import TableError

    path = shared_data / "drift" / "npc_dstorm.mat"
    assert sniff_format(path) is None
    with pytest.raises(TableError, match=r"no saveloc\.loc, as SMAP writes it; found data"):
        read_table(path)
