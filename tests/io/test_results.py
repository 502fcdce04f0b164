import errno
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.errors import InputError, OutputError
from napari_volumetric_smlm.io.results import provenance_path, read_provenance, write_image, write_png, write_provenance
from napari_volumetric_smlm.io.stacks import open_stack


def test_a_picture_keeps_its_values_and_its_pixel_size(tmp_path):
    picture = np.random.default_rng(0).gamma(2.0, size=(20, 30)).astype(np.float32)
    path = write_image(picture, tmp_path / "sr.tif", (50.0, 12.5, 12.5))
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), picture)
        assert tiff.series[0].axes == "YX"
        assert 'PhysicalSizeX="12.5" PhysicalSizeXUnit="nm"' in tiff.ome_metadata
        assert "PhysicalSizeZ" not in tiff.ome_metadata
    assert open_stack(path).pixel_nm == pytest.approx(12.5)


def test_a_volume_keeps_its_axes_and_all_three_sizes(tmp_path):
    volume = np.random.default_rng(0).integers(0, 60000, (3, 20, 30)).astype(np.uint16)
    path = write_image(volume, tmp_path / "volume.ome.tif", (50.0, 20.0, 20.0))
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), volume)
        assert tiff.series[0].axes == "ZYX"
    stack = open_stack(path)
    assert (stack.pixel_nm, stack.z_step_nm) == (pytest.approx(20), pytest.approx(50))


def test_a_colour_picture_is_written_in_colour(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    path = write_image(colour, tmp_path / "colour.tif", (1.0, 20.0, 20.0))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
        np.testing.assert_array_equal(tiff.asarray(), colour)


@pytest.mark.parametrize(("given", "written"), [("float64", "float32"), ("bool", "uint8"), ("int64", "uint32"), ("uint16", "uint16")])
def test_types_that_few_programs_read_are_written_as_ones_that_they_do(tmp_path, given, written):
    path = write_image(np.eye(12).astype(given), tmp_path / "a.tif", (1.0, 20.0, 20.0))
    assert tifffile.imread(path).dtype == written
    np.testing.assert_array_equal(tifffile.imread(path), np.eye(12))


def test_what_is_no_picture_is_refused_before_anything_is_written(tmp_path):
    for array in (np.ones(5), np.ones((2, 3, 4, 5)), np.ones((0, 4))):
        with pytest.raises(OutputError, match="is no picture or volume"):
            write_image(array, tmp_path / "a.tif", (1.0, 1.0, 1.0))
    with pytest.raises(OutputError, match="uint8 picture"):
        write_png(np.ones((4, 4)), tmp_path / "a.png")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (7, 9, 4)])
def test_a_png_comes_back_pixel_by_pixel(tmp_path, shape):
    image_module = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = write_png(picture, tmp_path / "a.png")
    with image_module.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert zlib.crc32(b"IEND") == int.from_bytes(path.read_bytes()[-4:], "big")


def test_the_record_of_a_result_stands_beside_it_and_comes_back(tmp_path):
    record = {"plan": {"pixel_nm": 20.0}, "seed": 3, "source": "frames.tif", "µ": None}
    place = write_provenance(record, tmp_path / "sr.ome.tif")
    assert place == provenance_path(tmp_path / "sr.ome.tif") == tmp_path / "sr.ome.tif.json"
    assert read_provenance(tmp_path / "sr.ome.tif") == record
    assert read_provenance(tmp_path / "other.tif") is None
    place.write_text("{")
    with pytest.raises(InputError, match="damaged JSON in line 1"):
        read_provenance(tmp_path / "sr.ome.tif")


def test_a_record_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(OutputError, match="cannot be JSON"):
        write_provenance({"loss": float("inf")}, tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


WRITERS = {
    "image": lambda path: write_image(np.ones((8, 8), np.float32), path, (1.0, 1.0, 1.0)),
    "png": lambda path: write_png(np.ones((8, 8), np.uint8), path),
    "provenance": lambda path: write_provenance({"a": 1}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_older_file_whole_and_nothing_beside_it(tmp_path, monkeypatch, writer):
    target = tmp_path / "result.tif"
    WRITERS[writer](target)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="the disk is full; free some space"):
        WRITERS[writer](target)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_told(tmp_path, monkeypatch, writer, code):
    # the rights of a folder do not bind an administrator, so the refusal is made here
    def refuse(**options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match="the folder or file is read-only; choose a folder that you may write to; nothing was changed"):
        WRITERS[writer](tmp_path / "result.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_missing_folder_and_a_folder_of_that_name_are_told(tmp_path, writer):
    with pytest.raises(OutputError, match="does not exist"):
        WRITERS[writer](tmp_path / "missing" / "result.tif")
    (tmp_path / "result.tif").mkdir()
    (tmp_path / "result.tif.json").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"):
        WRITERS[writer](tmp_path / "result.tif")
