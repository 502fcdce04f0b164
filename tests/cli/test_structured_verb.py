"""vsmlm structured: its tasks one after the other, and what goes wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import tifffile

from napari_volumetric_smlm.cli import main

LENS = ["--numerical-aperture", "1.3", "--emission-nm", "525", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "raw.tif"
    assert main(["structured", "simulate", "--output", str(path), "--pixel-nm", "65", "--shape-yx-px", "96", "96", *LENS]) == 0
    return path


def test_simulated_frames_are_estimated_and_reconstructed_with_the_saved_patterns(raw, tmp_path, capsys):
    patterns, picture = tmp_path / "p.json", tmp_path / "sr.tif"
    assert main(["structured", "estimate", str(raw), "--output", str(patterns), "--picture", str(tmp_path / "p.png"), *LENS]) == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "All 3 orientations were found" in said
    assert "Order of the frames: apz" in said
    words = ["structured", "reconstruct", str(raw), "--output", str(picture), "--patterns", str(patterns), "--wide-field", *LENS]
    assert main(words) == 0
    with tifffile.TiffFile(picture) as file:
        assert file.asarray().shape == (192, 192)
        assert 'PhysicalSizeX="32.5"' in file.ome_metadata
    assert (tmp_path / "sr_wide_field.tif").is_file()
    assert json.loads((tmp_path / "sr.tif.json").read_text(encoding="utf-8"))["verb"] == "structured reconstruct"


def test_a_stack_of_planes_becomes_a_volume_with_its_step(tmp_path, capsys):
    deep, volume = tmp_path / "deep.tif", tmp_path / "volume.tif"
    kind = ["--geometry", "3d-3x5"]
    size = ["--shape-yx-px", "64", "64", "--planes", "7", "--z-step-nm", "150", "--structure", "shells", "--pixel-nm", "65"]
    assert main(["structured", "simulate", "--output", str(deep), *kind, *size, *LENS]) == 0
    assert tifffile.imread(tmp_path / "deep_sample.tif").shape == (7, 192, 192)
    # pixel and step come from the files
    assert main(["structured", "estimate", str(deep), *kind, *LENS]) == 0
    assert "period along z nm" in capsys.readouterr().out
    words = ["structured", "reconstruct", str(deep), "--output", str(volume), "--order", "apz", "--wide-field", *kind, *LENS]
    assert main(words) == 0
    assert "7 planes each 150 nm" in capsys.readouterr().out
    for path in (volume, tmp_path / "volume_wide_field.tif"):
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "ZYX"
            assert file.asarray().shape == (7, 128, 128)
            assert 'PhysicalSizeZ="150.0"' in file.ome_metadata


def test_a_bad_file_among_several_is_told_and_the_others_are_done(raw, tmp_path, capsys):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no image")
    folder = tmp_path / "out"
    folder.mkdir()
    assert main(["structured", "reconstruct", str(bad), str(raw), "--output", str(folder), "--order", "apz", *LENS]) == 1
    said = capsys.readouterr().out
    assert "left out" in said
    assert "1 of 2 stacks reconstructed" in said
    assert (folder / "raw_structured.tif").is_file()


def test_a_folder_stands_for_its_stacks_but_not_for_earlier_results(raw, tmp_path, capsys):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("a.tif", "b.tif", "a_structured.tif"):
        shutil.copy(raw, folder / name)
    (folder / "notes.txt").write_text("bright", encoding="utf-8")
    assert main(["structured", "reconstruct", str(folder), "--output", str(folder), "--order", "apz", "--pixel-nm", "65", *LENS]) == 0
    assert "2 of 2 stacks reconstructed" in capsys.readouterr().out
    assert (folder / "b_structured.tif").is_file()


def test_a_missing_number_is_named(raw, tmp_path, capsys):
    assert main(["structured", "estimate", str(raw), "--quiet", "--emission-nm", "525"]) == 2
    assert "--numerical-aperture: needed" in capsys.readouterr().err


def test_an_impossible_lens_is_told_in_words(capsys):
    code = main(["structured", "simulate", "--numerical-aperture", "1.6", "--emission-nm", "525", "--pixel-nm", "65", "--output", "x.tif"])
    assert code != 0
    assert "numerical aperture 1.6 is more than the index of the immersion, 1.518" in capsys.readouterr().err


def test_a_missing_pixel_is_asked_for_by_its_option(raw, tmp_path, capsys):
    bare = tmp_path / "bare.tif"
    tifffile.imwrite(bare, tifffile.imread(raw))
    assert main(["structured", "estimate", str(bare), *LENS]) != 0
    assert "--pixel-nm: needed to know which frequencies the lens passes" in capsys.readouterr().err
