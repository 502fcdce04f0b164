"""evaluate, convert and render on real files, with the exit status and the words that the user sees."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.io.tables import read_table, write_table


@pytest.fixture
def tables(tmp_path):
    """Write 100 molecules and the same ones with known errors; return both paths."""
    rng = np.random.default_rng(0)
    position = rng.uniform(1000, 9000, (100, 3))
    frame = np.sort(rng.integers(0, 10, 100))

    def write(name, shift, **columns):
        z, y, x = (position + shift).T
        table = Localizations(
            columns={"frame": frame, "z_nm": z, "y_nm": y, "x_nm": x, "photons": np.full(100, 5000.0), **columns},
            z_reference="coverslip",
            pixel_nm=100,
            shape_yx_px=(100, 100),
        )
        return write_table(table, tmp_path / name)[0]

    sigmas = {f"sigma_{axis}_nm": np.full(100, 10.0) for axis in "zyx"}
    return write("truth.csv", 0), write("found.csv", (10, 3, 4), **sigmas)


def test_scores_are_printed_in_words_with_units(tables, capsys):
    assert main(["evaluate", *map(str, tables)]) == 0
    told = capsys.readouterr().out
    assert "Jaccard index                    1.000" in told
    assert "RMSE lateral (2D), axial         5.0 nm, 10.0 nm" in told
    assert "bias z / y / x                   10.0 / 3.0 / 4.0 nm" in told


def test_a_part_of_a_movie_is_told_when_it_is_compared_with_all_of_it(tables, tmp_path, capsys):
    found = read_table(tables[1])
    part = write_table(found.select(found["frame"] < 4), tmp_path / "part.csv")[0]
    assert main(["evaluate", str(tables[0]), str(part)]) == 0
    err = capsys.readouterr().err
    assert "found in frames 0 to 3, the true ones are in frames 0 to 9" in err
    assert "count as missed" in err
    assert main(["evaluate", *map(str, tables)]) == 0
    assert capsys.readouterr().err == ""


def test_scores_as_json_and_gates_as_options(tables, capsys):
    assert main(["evaluate", *map(str, tables), "--json", "--gate-nm", "11"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["true_positives"] == 0
    assert scores["false_negatives"] == 100


def test_where_nothing_was_found_there_is_no_precision(tables, tmp_path, capsys):
    truth = read_table(tables[0])
    nothing = write_table(truth.select(truth["frame"] < 0), tmp_path / "nothing.csv")[0]
    assert main(["evaluate", str(tables[0]), str(nothing)]) == 0
    assert "precision, recall                -, 0.000" in capsys.readouterr().out


def test_a_missing_table_ends_with_two_and_words(tables, capsys):
    assert main(["evaluate", str(tables[0]), "nowhere.csv"]) == 2
    err = capsys.readouterr().err
    assert "nowhere.csv: there is no such file" in err
    assert "Traceback" not in err


def test_depths_from_different_places_are_not_compared(tables, tmp_path, capsys):
    found = read_table(tables[1]).model_copy(update={"z_reference": "focus"})
    other = write_table(found, tmp_path / "focus.csv")[0]
    assert main(["evaluate", str(tables[0]), str(other)]) == 2
    assert "coverslip" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["fly"], [], ["evaluate"], ["evaluate", "a", "b", "--gate-nm", "near"], ["convert", "a.csv"]])
def test_bad_arguments_end_with_two_and_a_line_not_a_page(words, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert 1 <= len(err.strip().splitlines()) <= 2
    assert "--help" in err


def test_a_table_is_converted(tables, tmp_path, capsys):
    target = tmp_path / "found.parquet"
    assert main(["convert", str(tables[1]), "--output", str(target)]) == 0
    assert "100 molecules" in capsys.readouterr().out
    assert np.allclose(read_table(target).position_zyx_nm, read_table(tables[1]).position_zyx_nm)


def test_columns_that_a_format_cannot_hold_are_told(tables, tmp_path, capsys):
    assert main(["convert", str(tables[1]), "--output", str(tmp_path / "c.csv"), "--to", "challenge"]) == 0
    assert "no place for the columns" in capsys.readouterr().err


def test_a_result_never_replaces_its_input(tables, capsys):
    before = tables[0].read_bytes()
    assert main(["convert", str(tables[0]), "--output", str(tables[0])]) == 2
    assert "is the input itself" in capsys.readouterr().err
    assert tables[0].read_bytes() == before


def test_a_result_without_a_folder_fails_before_the_work(tables, capsys):
    assert main(["render", str(tables[1]), "--output", "no/such/folder/sr.tif"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_a_picture_knows_its_pixel_size(tables, tmp_path, capsys):
    target = tmp_path / "sr.tif"
    assert main(["render", str(tables[1]), "--output", str(target), "--pixel-nm", "25"]) == 0
    assert "pixel 25 nm, 400 x 400 voxels" in capsys.readouterr().out
    with tifffile.TiffFile(target) as tiff:
        assert 'PhysicalSizeX="25' in (tiff.ome_metadata or "")
        assert tiff.asarray().sum() == pytest.approx(100, rel=0.01)


def test_a_volume_is_written_with_its_depth_step(tables, tmp_path):
    target = tmp_path / "volume.tif"
    assert main(["render", str(tables[1]), "--output", str(target), "--dimensions", "3d", "--depth-step-nm", "200"]) == 0
    with tifffile.TiffFile(target) as tiff:
        assert tiff.asarray().ndim == 3
        assert 'PhysicalSizeZ="200' in (tiff.ome_metadata or "")


def test_a_volume_of_a_part_of_the_frame_knows_where_it_lies(tables, tmp_path):
    from napari_volumetric_smlm.io.volume_files import open_volumes

    whole = read_table(tables[1])
    part = write_table(whole.select((whole["y_nm"] > 5000) & (whole["x_nm"] > 5000)), tmp_path / "part.csv")[0]
    target = tmp_path / "part.tif"
    assert main(["render", str(part), "--output", str(target), "--dimensions", "3d", "--method", "histogram"]) == 0
    volume, table = open_volumes(target).volume(0), read_table(part)
    assert volume.values_zyx.sum() == len(table)
    heaviest = np.stack(np.nonzero(volume.values_zyx), 1)
    place = heaviest * volume.voxel_zyx_nm + np.array(volume.origin_zyx_nm)
    # every molecule lies within half a voxel of a voxel that is not empty
    near = np.abs(table.position_zyx_nm[:, None] - place).max(2, where=[False, True, True], initial=0).min(1)
    assert near.max() <= 10 + 1e-6
    assert volume.values_zyx.shape[1] < 300


@pytest.mark.parametrize("options", [[], ["--color-by-depth"]])
def test_a_png_is_a_picture_for_the_eye(tables, tmp_path, options):
    import matplotlib.image

    target = tmp_path / "sr.png"
    assert main(["render", str(tables[1]), "--output", str(target), *options]) == 0
    picture = matplotlib.image.imread(target)
    assert picture.shape[:2] == (500, 500)
    assert picture.max() == 1


@pytest.mark.parametrize(("name", "options", "words"), [
    ("sr.jpg", [], "found the ending .jpg"),
    ("sr.png", ["--dimensions", "3d"], "write it as .tif"),
    ("sr.tif", ["--pixel-nm", "0.01"], "choose larger ones"),
    ("sr.tif", ["--pixel-nm", "-3"], "pixel_nm"),
])  # fmt: skip
def test_impossible_pictures_are_refused_in_words(tables, tmp_path, capsys, name, options, words):
    assert main(["render", str(tables[1]), "--output", str(tmp_path / name), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_an_error_inside_the_program_is_one_message_and_a_traceback_only_on_request(tables, capsys, monkeypatch):
    def broken(*args):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("napari_volumetric_smlm.recipes.evaluate.evaluate", broken)
    assert main(["evaluate", *map(str, tables)]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: shape mismatch" in err
    assert "Traceback" not in err
    assert main(["evaluate", *map(str, tables), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(tables, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_volumetric_smlm.recipes.evaluate.evaluate", interrupted)
    assert main(["evaluate", *map(str, tables)]) == 130
    assert "nothing was written" in capsys.readouterr().err


def test_version_and_help_end_with_zero(capsys):
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("vsmlm 0")
    assert "Exit status: 0" in told
