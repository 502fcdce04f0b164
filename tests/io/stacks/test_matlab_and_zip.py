"""Point-spread functions in MATLAB files of both kinds, and recordings in ZIP archives: as labs publish them."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.stacks import open_stack, sniff_matlab, sniff_stack
from napari_volumetric_smlm.io.stacks.extra_line import without_extra_line


def save_new(path, **arrays):
    """Write MATLAB 7.3: HDF5 behind a block of 512 bytes, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            place = file.create_dataset(name, data=np.asarray(values).T, chunks=True, compression="gzip")
            place.attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + b"\x00\x02IM")


@pytest.fixture
def psf():
    """Return an array (row, column, plane) in which no axis can be taken for another."""
    return np.random.default_rng(3).random((11, 13, 5)).astype(np.float32)


@pytest.mark.parametrize("packed", [False, True])
def test_a_psf_opens_alike_from_both_kinds_of_matlab_files(psf, packed, tmp_path):
    scipy.io.savemat(tmp_path / "old.mat", {"FLFPSF": psf, "note": "microtubule", "dz": 0.065}, do_compression=packed)
    save_new(tmp_path / "new.mat", FLFPSF=psf)
    for name in ("old.mat", "new.mat"):
        stack = open_stack(tmp_path / name, kind="beads")
        assert stack.counts_tyx[0].shape == (5, 11, 13)
        for plane in range(5):
            np.testing.assert_array_equal(stack.counts_tyx[0][plane], psf[:, :, plane])
        np.testing.assert_array_equal(stack.counts_tyx[0][1:3, 4:6, 2], psf[4:6, 2, 1:3].T)
        # the name says what it is, where nobody else does
        assert open_stack(tmp_path / name).kind == "beads"
        assert open_stack(tmp_path / name, kind="frames").kind == "frames"
        # a folder of raw frames may have it lying in it
        assert not sniff_stack(tmp_path / name)


def test_matlab_files_without_molecules_are_told_from_tables_and_from_files_of_others(psf, tmp_path):
    scipy.io.savemat(tmp_path / "psf.mat", {"FLFPSF": psf})
    save_new(tmp_path / "mask.mat", mask=psf[:, :, 0])
    scipy.io.savemat(tmp_path / "molecules_sml.mat", {"saveloc": {"loc": {"xnm": [1.0], "ynm": [2.0], "frame": [1]}}})
    (tmp_path / "text.mat").write_text("rows of text")
    (tmp_path / "psf.tif").write_bytes((tmp_path / "psf.mat").read_bytes())
    verdicts = {path.name: sniff_matlab(path) for path in [*tmp_path.iterdir(), tmp_path / "missing.mat"]}
    assert {name for name, is_one in verdicts.items() if is_one} == {"psf.mat", "mask.mat"}


def test_an_array_whose_name_may_mean_anything_is_not_guessed_to_be_a_psf(psf, tmp_path):
    scipy.io.savemat(tmp_path / "operator.mat", {"H": psf})
    assert open_stack(tmp_path / "operator.mat").kind is None


def test_of_several_arrays_the_one_of_the_usual_name_is_taken_and_else_all_are_listed(psf, tmp_path):
    scipy.io.savemat(tmp_path / "two.mat", {"other": psf * 2, "FLFPSF": psf})
    np.testing.assert_array_equal(open_stack(tmp_path / "two.mat").counts_tyx[0][0], psf[:, :, 0])
    scipy.io.savemat(tmp_path / "unnamed.mat", {"one": psf, "two": psf, "flat": psf[:, :, 0]})
    with pytest.raises(StackError, match=r"2 arrays \(rows, columns, planes\).*one 11 x 13 x 5.*flat 11 x 13"):
        open_stack(tmp_path / "unnamed.mat")
    save_new(tmp_path / "flat.mat", mask=psf[:, :, 0])
    with pytest.raises(StackError, match=r"0 arrays \(rows, columns, planes\).*mask 11 x 13; one image alone, such as a phase mask"):
        open_stack(tmp_path / "flat.mat")


@pytest.mark.parametrize("kind", ["old", "new"])
def test_a_matlab_file_that_is_cut_off_is_words(psf, kind, tmp_path):
    path = tmp_path / "cut.mat"
    if kind == "old":
        scipy.io.savemat(path, {"FLFPSF": psf})
    else:
        save_new(path, FLFPSF=psf)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StackError, match="damaged or cut off"):
        open_stack(path)


@pytest.fixture
def archive(tmp_path):
    """Write frames 1 to 11 in a folder of an archive, with what macOS puts beside them."""
    frames = np.arange(11 * 8 * 9, dtype=np.uint16).reshape(11, 8, 9)
    with zipfile.ZipFile(tmp_path / "movie.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for k in np.random.default_rng(0).permutation(11):
            tifffile.imwrite(tmp_path / "frame.tif", frames[k])
            opened.write(tmp_path / "frame.tif", f"movie/frame_{k + 1}.tif")
            opened.writestr(f"__MACOSX/movie/._frame_{k + 1}.tif", b"resource")
        opened.writestr("movie/readme.txt", "frames")
    return tmp_path / "movie.zip", frames


def test_an_archive_of_images_is_a_stack_in_natural_order(archive):
    path, frames = archive
    stack = open_stack(path, kind="light_field")
    assert stack.counts_tyx[0].dtype == np.uint16
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames)
    assert sniff_stack(path)


def test_an_archive_that_is_none_or_holds_other_things_is_words(archive, tmp_path):
    path, frames = archive
    (tmp_path / "broken.zip").write_bytes(path.read_bytes()[:200])
    with pytest.raises(StackError, match="damaged or no ZIP archive"):
        open_stack(tmp_path / "broken.zip")
    with zipfile.ZipFile(tmp_path / "words.zip", "w") as opened:
        opened.writestr("readme.txt", "no frames")
    assert not sniff_stack(tmp_path / "words.zip")
    assert not sniff_stack(tmp_path / "broken.zip")
    with pytest.raises(StackError, match=r"no TIFF images in the archive; found readme\.txt"):
        open_stack(tmp_path / "words.zip")
    tifffile.imwrite(tmp_path / "stack.tif", frames, photometric="minisblack")
    with zipfile.ZipFile(tmp_path / "stack.zip", "w") as opened:
        opened.write(tmp_path / "stack.tif", "stack.tif")
    with pytest.raises(StackError, match=r"holds 11 images.*unpack the archive"):
        open_stack(tmp_path / "stack.zip")


def test_a_row_and_a_column_more_than_the_array_expects_are_left_out_with_a_word():
    instrument = load_example("light_field_3")
    larger = RawStack(counts_tyx=(np.arange(1025 * 1025).reshape(1, 1025, 1025),), kind="light_field")
    trimmed = without_extra_line(larger, instrument)
    np.testing.assert_array_equal(trimmed.counts_tyx[0][0], larger.counts_tyx[0][0, 1:, 1:])
    assert "the first row and column are left out" in trimmed.warnings[-1]
    fitting = RawStack(counts_tyx=(np.zeros((1, 1024, 1024), np.uint16),), kind="light_field")
    assert without_extra_line(fitting, instrument) is fitting
