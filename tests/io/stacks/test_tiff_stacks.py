import json
import struct

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.stacks import open_stack, sniff_stack


def write_pages(path, frames, **options):
    """Write as camera programs do: page after page, each with its own header before or after its pixels."""
    with tifffile.TiffWriter(path, **{k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, metadata=None, photometric="minisblack", **options)


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "zlib"}, {"rowsperstrip": 3}, {"tile": (16, 16)}]
)
def test_pages_come_back_as_frames(frames_tyx, tmp_path, options):
    path = tmp_path / "pages.tif"
    write_pages(path, frames_tyx, **options)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert stack.frame_count == 12
    assert stack.kind is None
    assert sniff_stack(path)


def test_a_single_image_is_one_frame(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", frames_tyx[0])
    assert open_stack(tmp_path / "one.tif").counts_tyx[0].shape == (1, 10, 14)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint32", "float32", "float64"])
def test_types_of_counts_are_kept(frames_tyx, tmp_path, kind):
    tifffile.imwrite(tmp_path / "typed.tif", (frames_tyx // 16).astype(kind), photometric="minisblack")
    counts = open_stack(tmp_path / "typed.tif").counts_tyx[0]
    assert counts.dtype == np.dtype(kind)
    np.testing.assert_array_equal(counts[:], (frames_tyx // 16).astype(kind))


def test_imagej_metadata_are_read(frames_tyx, tmp_path):
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(
        path, frames_tyx, imagej=True, resolution=(1 / 0.11, 1 / 0.11), metadata={"unit": "um", "axes": "ZYX", "spacing": 0.05}
    )
    stack = open_stack(path)
    assert stack.pixel_nm == pytest.approx(110, rel=1e-6)
    assert stack.z_step_nm == pytest.approx(50)
    tifffile.imwrite(path, frames_tyx, imagej=True, metadata={"axes": "TYX", "finterval": 0.02})
    stack = open_stack(path)
    assert (stack.pixel_nm, stack.frame_interval_ms) == (None, 20)


def test_ome_metadata_are_read(frames_tyx, tmp_path):
    path = tmp_path / "frames.ome.tif"
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeY": 0.1,
        "PhysicalSizeZ": 250.0,
        "PhysicalSizeZUnit": "nm",
        "TimeIncrement": 30.0,
        "TimeIncrementUnit": "ms",
        "Plane": {"ExposureTime": [0.02] * 12},
    }
    tifffile.imwrite(path, frames_tyx, metadata=metadata, photometric="minisblack")
    stack = open_stack(path)
    assert stack.pixel_nm == pytest.approx(100)
    assert stack.z_step_nm == pytest.approx(250)
    assert stack.frame_interval_ms == pytest.approx(30)
    assert stack.metadata["camera"]["exposure_ms"] == pytest.approx(20)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)


def test_a_resolution_tag_for_printers_is_not_taken_for_a_pixel_size(frames_tyx, tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, frames_tyx, resolution=(72, 72), resolutionunit="INCH", photometric="minisblack")
    assert open_stack(path).pixel_nm is None
    tifffile.imwrite(path, frames_tyx, resolution=(1e7 / 110, 1e7 / 110), resolutionunit="CENTIMETER", photometric="minisblack")
    assert open_stack(path).pixel_nm == pytest.approx(110, rel=1e-5)


def test_pixels_that_are_not_square_are_told(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", frames_tyx, imagej=True, resolution=(10.0, 8.0), metadata={"unit": "um", "axes": "TYX"})
    stack = open_stack(tmp_path / "a.tif")
    assert "not square: 100 nm along x, 125 nm along y" in stack.warnings[0]


def test_channels_become_cameras(frames_tyx, tmp_path):
    path = tmp_path / "two.ome.tif"
    tifffile.imwrite(path, frames_tyx.reshape(6, 2, 10, 14), metadata={"axes": "TCYX"}, photometric="minisblack")
    stack = open_stack(path)
    assert len(stack.counts_tyx) == 2
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx[0::2])
    np.testing.assert_array_equal(stack.counts_tyx[1][:], frames_tyx[1::2])
    assert any("2 channels; they are read as 2 cameras" in warning for warning in stack.warnings)


def test_times_and_depths_are_laid_out_in_the_files_order_and_told(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "tz.tif", frames_tyx.reshape(3, 4, 10, 14), imagej=True, metadata={"axes": "TZYX"})
    stack = open_stack(tmp_path / "tz.tif")
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert any("axes T 3 x Z 4" in warning for warning in stack.warnings)
    assert stack.metadata["axes"] == {"T": 3, "Z": 4}


def test_two_files_are_two_cameras(frames_tyx, tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", frames_tyx + ord(name), photometric="minisblack")
    stack = open_stack([tmp_path / "b.tif", tmp_path / "a.tif"])
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx + ord("b"))
    np.testing.assert_array_equal(stack.counts_tyx[1][:], frames_tyx + ord("a"))
    assert stack.source == (str(tmp_path / "b.tif"), str(tmp_path / "a.tif"))


def test_cameras_of_different_length_are_refused(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", frames_tyx, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", frames_tyx[:7], photometric="minisblack")
    with pytest.raises(StackError, match=r"the cameras' stacks differ in length: \[7, 12\] frames"):
        open_stack([tmp_path / "a.tif", tmp_path / "b.tif"])


def test_a_folder_is_a_sequence_in_natural_order(frames_tyx, tmp_path):
    for index, frame in enumerate(frames_tyx):
        tifffile.imwrite(tmp_path / f"img_{index}.tif", frame)
    (tmp_path / ".hidden.tif").write_bytes(b"none")
    (tmp_path / "notes.txt").write_text("none")
    np.testing.assert_array_equal(open_stack(tmp_path).counts_tyx[0][:], frames_tyx)
    np.testing.assert_array_equal(open_stack(tmp_path / "img_?.tif").counts_tyx[0][:], frames_tyx[:10])
    assert sniff_stack(tmp_path)


def test_a_sequence_with_an_image_of_another_size_names_it_when_read(frames_tyx, tmp_path):
    for index in range(5):
        tifffile.imwrite(tmp_path / f"img_{index}.tif", frames_tyx[index][: 9 if index == 3 else 10])
    counts = open_stack(tmp_path).counts_tyx[0]
    np.testing.assert_array_equal(counts[4], frames_tyx[4])
    with pytest.raises(StackError, match=r"img_3\.tif: frame 3 has shape \(9, 14\)"):
        counts[3]


def micromanager_file(path, frames, planned):
    """Write the layout of a Micro-Manager stack file by hand: header, pages with JSON, index at the end."""
    count, rows, columns = frames.shape
    summary = json.dumps(
        {"MicroManagerVersion": "2.0", "Frames": planned, "Slices": 1, "Channels": 1, "Positions": 1, "Interval_ms": 0, "z-step_um": 0.05}
    ).encode()
    pages, index, place = b"", [], 40 + len(summary)
    for number, frame in enumerate(frames):
        meta = {"PixelSizeUm": 0.108, "Exposure-ms": 20, "Core-Camera": "Andor", "Andor-Gain": 150, "ElapsedTime-ms": 25.0 * number}
        text = json.dumps(meta).encode() + b"\0"
        data_at, text_at = place + 162, place + 162 + frame.nbytes
        following = text_at + len(text)
        entries = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, data_at),
            (277, 3, 1, 1),
            (278, 4, 1, rows),
            (279, 4, 1, frame.nbytes),
            (282, 5, 1, 8),
            (283, 5, 1, 8),
            (296, 3, 1, 1),
            (51123, 2, len(text), text_at),
        ]
        header = struct.pack("<H", 13) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        pages += header + struct.pack("<I", following if number < count - 1 else 0) + frame.astype("<u2").tobytes() + text
        index.append((0, 0, number, 0, place))
        place = following
    table = struct.pack("<II", 3453623, count) + b"".join(struct.pack("<5I", *row) for row in index)
    head = struct.pack("<HHI8I", 0x4949, 42, 40 + len(summary), 54773648, place, 483765892, 0, 99384722, 0, 2355492, len(summary))
    path.write_bytes(head + summary + pages + table)


def test_micromanager_stacks_bring_their_camera_and_times(frames_tyx, tmp_path):
    path = tmp_path / "run_MMStack_Pos0.tif"
    micromanager_file(path, frames_tyx, 12)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert stack.pixel_nm == pytest.approx(108)
    assert stack.z_step_nm == pytest.approx(50)
    assert stack.frame_interval_ms == pytest.approx(25)
    assert stack.metadata["camera"] == {"name": "Andor", "exposure_ms": 20.0, "em_gain": 150.0, "gain_setting": 150.0}


def test_a_micromanager_recording_that_was_stopped_early_gives_the_frames_that_are_there(frames_tyx, tmp_path):
    path = tmp_path / "run_MMStack_Pos0.tif"
    micromanager_file(path, frames_tyx, 30)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert any("12 of 30 planned frames" in warning for warning in stack.warnings)


def write_ome_set(folder, parts, compression):
    """Write one OME image whose times lie in several files, each naming all of them."""
    total, names = sum(len(part) for part in parts), [f"run_{number}.ome.tif" for number in range(len(parts))]
    rows, columns = parts[0].shape[1:]
    places = [(number, plane) for number, part in enumerate(parts) for plane in range(len(part))]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstC="0" FirstZ="0" IFD="{plane}" PlaneCount="1">'
        f'<UUID FileName="{names[number]}">urn:uuid:{number}</UUID></TiffData>'
        for t, (number, plane) in enumerate(places)
    )
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    sizes = f'SizeX="{columns}" SizeY="{rows}" SizeZ="1" SizeC="1" SizeT="{total}" PhysicalSizeX="0.1" PhysicalSizeY="0.1"'
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{space}" UUID="urn:uuid:{number}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" {sizes}>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, part, description=xml.encode(), metadata=None, photometric="minisblack", compression=compression)
    return [folder / name for name in names]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_ome_image_over_several_files_is_one_stack(frames_tyx, tmp_path, compression):
    paths = write_ome_set(tmp_path, [frames_tyx[:5], frames_tyx[5:]], compression)
    for path in (paths[0], tmp_path):
        stack = open_stack(path)
        np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
        assert stack.pixel_nm == 100
    before = stack.fingerprint
    paths[1].write_bytes(paths[1].read_bytes() + b"x")
    assert open_stack(paths[0]).fingerprint != before


@pytest.mark.parametrize(("missing", "first"), [(1, 5), (0, 0)])
def test_a_missing_file_of_a_set_is_told(frames_tyx, tmp_path, missing, first):
    paths = write_ome_set(tmp_path, [frames_tyx[:5], frames_tyx[5:8], frames_tyx[8:]], None)
    paths[missing].unlink()
    with pytest.raises(StackError, match=rf"\d of 12 frames are missing, the first is frame {first}; put all files"):
        open_stack(paths[2])


def test_a_set_that_ends_early_gives_what_is_there(frames_tyx, tmp_path):
    paths = write_ome_set(tmp_path, [frames_tyx[:5], frames_tyx[5:]], None)
    paths[1].unlink()
    stack = open_stack(paths[0])
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx[:5])
    assert any("5 of 12 planned frames" in warning for warning in stack.warnings)


def test_real_bead_stacks_open(shared_data):
    stack = open_stack(shared_data / "engineered_psf/telomeres_psf_pairs/beads/tetrapod.tif")
    assert stack.counts_tyx[0].shape == (54, 121, 121)
    assert stack.counts_tyx[0][27].max() > 1000
    assert any("exactly 0: background was subtracted" in warning for warning in stack.warnings)
    stack = open_stack(shared_data / "engineered_psf/tetrapod_storm/frames.tif")
    assert stack.counts_tyx[0].shape == (50, 332, 492)
    np.testing.assert_array_equal(stack.counts_tyx[0][7], tifffile.imread(stack.source[0], key=7))
