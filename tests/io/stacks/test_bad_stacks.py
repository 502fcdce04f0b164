import importlib.util
import struct
import zlib

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.stacks import open_stack, sniff_stack


def expect(path, words):
    with pytest.raises(StackError, match=words) as told:
        open_stack(path)
    assert str(path) in str(told.value)
    assert "Traceback" not in str(told.value)


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "layout", ["one_page", "imagej", "imagej_one_page", "pages_at_end", "ome", "page_after_page", "big", "compressed", "compressed_pages"]
)
@pytest.mark.parametrize("share", [0.35, 0.93])
def test_a_truncated_tiff_is_told_whatever_its_layout(tmp_path, unchanged, layout, share):
    frames = np.random.default_rng(1).integers(0, 4000, (30, 40, 50)).astype(np.uint16)
    path = tmp_path / "cut.tif"
    if layout in {"page_after_page", "big", "compressed_pages"}:
        with tifffile.TiffWriter(path, bigtiff=layout == "big") as writer:
            for frame in frames:
                writer.write(
                    frame,
                    contiguous=False,
                    metadata=None,
                    photometric="minisblack",
                    compression="zlib" if layout == "compressed_pages" else None,
                )
    else:
        options = {
            "one_page": {"metadata": {"axes": "TYX"}, "truncate": True},
            "imagej": {"imagej": True},
            "imagej_one_page": {"imagej": True, "truncate": True},
            "pages_at_end": {"metadata": None},
            "ome": {"ome": True},
            "compressed": {"compression": "zlib"},
        }[layout]
        tifffile.imwrite(path, frames, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_stack(path).counts_tyx[0][:], frames)
    cut(path, share)
    unchanged.start()
    expect(path, "truncated|cut short|damaged")
    assert unchanged.holds()


def test_a_truncated_imagej_stack_says_how_much_is_there(tmp_path):
    frames = np.ones((30, 40, 50), np.uint16)
    path = tmp_path / "cut.tif"
    # ImageJ keeps large stacks as one page with all frames behind it
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"}, truncate=True)
    assert open_stack(path).frame_count == 30
    cut(path, 0.5)
    expect(path, r"promises 30 frames .* enough for 14 whole frames")


def png_bytes():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(6)))
        + chunk(b"IEND", b"")
    )


OTHERS = {
    "png": (png_bytes(), "a PNG picture with the ending .tif"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100), "a JPEG picture with the ending .tif"),
    "nothing": (b"", r"empty \(0 bytes\)"),
    "zeros": (bytes(4096), "zeros only"),
    "web_page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file"),
    "noise": (b"\x07\x13" * 300, "not a readable TIFF file"),
    "header_alone": (b"II*\x00\x08\x00\x00\x00", "TIFF"),
    "loop": (b"II*\x00\x08\x00\x00\x00\xff\xff\xff\xff", "TIFF|damaged"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_file_with_the_ending_tif_is_told_for_what_it_is(tmp_path, unchanged, kind):
    content, words = OTHERS[kind]
    path = tmp_path / "stack.tif"
    path.write_bytes(content)
    unchanged.start()
    expect(path, words)
    assert unchanged.holds()


def test_a_chain_of_pages_that_bites_its_tail_ends_in_words(tmp_path):
    path = tmp_path / "circle.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(3):
            writer.write(np.ones((8, 8), np.uint16), contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages.next_page_offset
    with path.open("r+b") as stream:
        stream.seek(last)
        stream.write(struct.pack("<I", first))
    expect(path, "truncated or damaged")


def test_colour_stacks_are_refused_with_words(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((5, 8, 9, 3), np.uint8), photometric="rgb")
    expect(tmp_path / "rgb.tif", r"colour pictures .*; camera frames have one value a pixel")
    tifffile.imwrite(tmp_path / "planes.tif", np.zeros((3, 8, 9), np.uint16), photometric="rgb", planarconfig="separate")
    expect(tmp_path / "planes.tif", r"colour pictures .*3 camera frames that a script wrote as .* photometric=\"minisblack\"")


def test_complex_and_single_bit_images_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "complex.tif", np.ones((2, 8, 9), np.complex64))
    expect(tmp_path / "complex.tif", "values are complex")
    tifffile.imwrite(tmp_path / "bits.tif", np.ones((8, 16), bool))
    expect(tmp_path / "bits.tif", "single bits")


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs is installed")
def test_compression_that_needs_another_package_says_which(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.ones((3, 8, 9), np.uint16), photometric="minisblack", compression="zlib", metadata=None)
    data = bytearray((tmp_path / "stack.tif").read_bytes())
    for place in range(len(data) - 12):
        # tag 259 (compression), type SHORT, count 1, value 8 (zlib) -> 34925 (LZMA), 50002 (JPEG XL)
        if data[place : place + 10] == struct.pack("<HHIH", 259, 3, 1, 8):
            data[place + 8 : place + 10] = struct.pack("<H", 50002)
    (tmp_path / "stack.tif").write_bytes(data)
    expect(tmp_path / "stack.tif", r"needs the package imagecodecs; install it with: pip install imagecodecs")


def test_a_frame_larger_than_any_camera_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((4, 8, 9), np.uint16), photometric="minisblack", compression="zlib", metadata=None)
    data = bytearray(path.read_bytes())
    for code, old in ((256, 9), (257, 8)):
        for kind in (3, 4):
            entry = struct.pack("<HHII", code, kind, 1, old)
            data = data.replace(entry, struct.pack("<HHII", code, 4, 1, 2_000_000))
    path.write_bytes(data)
    expect(path, "2,000,000 x 2,000,000 pixels|damaged")


def test_empty_stacks_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(tmp_path / "empty.tif", shape=(0, 8, 9), dtype="uint16", photometric="minisblack")
    expect(tmp_path / "empty.tif", "empty")
    (tmp_path / "folder").mkdir()
    expect(tmp_path / "folder", "no TIFF images there")
    with pytest.raises(StackError, match="no file was given"):
        open_stack([])


def test_missing_files_and_unknown_endings_are_told(tmp_path):
    expect(tmp_path / "none.tif", "no such file or folder")
    expect(tmp_path / "img_*.tif", "no TIFF images there")
    (tmp_path / "movie.avi").write_bytes(b"RIFF....")
    expect(tmp_path / "movie.avi", r"endings .*\.nd2.*\.tif")


def test_sniffing_never_raises(tmp_path):
    for kind, (content, _) in OTHERS.items():
        for suffix in (".tif", ".mrc", ".nd2", ".raw", ".yaml", ".csv"):
            path = tmp_path / f"{kind}{suffix}"
            path.write_bytes(content)
            assert sniff_stack(path) is (kind in {"header_alone", "loop"} and suffix == ".tif")
    assert sniff_stack(tmp_path / "none.tif") is False
    assert sniff_stack([]) is False
    assert sniff_stack("\0") is False
    tifffile.imwrite(tmp_path / "good.tif", np.ones((3, 8, 9), np.uint16), photometric="minisblack")
    assert sniff_stack([tmp_path / "good.tif", str(tmp_path / "good.tif")]) is True
    assert sniff_stack([tmp_path / "good.tif", tmp_path / "none.tif"]) is False


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_ends_in_words_or_in_frames(tmp_path, seed):
    """Whatever byte is hit: either a StackError, or an array that can be read or refuses in words."""
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged.tif"
    frames = rng.integers(0, 4000, (6, 12, 10)).astype(np.uint16)
    options = [{}, {"imagej": True}, {"ome": True}, {"compression": "zlib"}, {"metadata": None}][seed % 5]
    tifffile.imwrite(path, frames, photometric="minisblack", **options)
    data = bytearray(path.read_bytes())
    for _ in range(6):
        data[rng.integers(0, min(len(data), 500))] = rng.integers(0, 256)
    path.write_bytes(data)
    told = ""
    try:
        counts = open_stack(path).counts_tyx[0]
        last = counts[len(counts) - 1]
    except StackError as error:
        told = str(error)
    assert str(path) in told or last.shape == counts.shape[1:]
