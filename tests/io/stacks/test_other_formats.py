import json
import struct
import sys

import numpy as np
import pytest
import yaml
import zarr

from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.stacks import open_stack, sniff_stack


def mrc_header(shape_tyx, mode, order="<", axis_map=(1, 2, 3), cell_angstrom=(0.0, 0.0, 0.0), extended=0, mark=b"MAP "):
    sections, rows, columns = shape_tyx
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, columns, rows, sections, mode)
    struct.pack_into(order + "3i", head, 28, columns, rows, sections)
    struct.pack_into(order + "3f", head, 40, *cell_angstrom)
    struct.pack_into(order + "3i", head, 64, *axis_map)
    struct.pack_into(order + "i", head, 92, extended)
    head[208:212] = mark
    head[212:214] = b"DA" if order == "<" else b"\x11\x11"
    return head


MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 7: "i4", 12: "f2"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", MODES)
def test_mrc_modes_and_byte_orders(frames_tyx, tmp_path, mode, order):
    values = (frames_tyx % 120).astype(order + MODES[mode])
    path = tmp_path / "stack.mrc"
    path.write_bytes(mrc_header(values.shape, mode, order, extended=96) + bytes(96) + values.tobytes())
    assert sniff_stack(path)
    counts = open_stack(path).counts_tyx[0]
    assert counts.dtype == np.dtype(MODES[mode])
    np.testing.assert_array_equal(counts[:], values)


def test_mrc_axis_order_exchanges_rows_and_columns(frames_tyx, tmp_path):
    path = tmp_path / "stack.mrc"
    path.write_bytes(mrc_header(frames_tyx.shape, 6, axis_map=(2, 1, 3)) + frames_tyx.tobytes())
    counts = open_stack(path).counts_tyx[0]
    np.testing.assert_array_equal(counts[:], frames_tyx.transpose(0, 2, 1))
    np.testing.assert_array_equal(counts[3, 2:5, 1:4], frames_tyx.transpose(0, 2, 1)[3, 2:5, 1:4])


def test_mrc_sections_across_x_are_refused(frames_tyx, tmp_path):
    path = tmp_path / "stack.mrc"
    path.write_bytes(mrc_header(frames_tyx.shape, 6, axis_map=(3, 2, 1)) + frames_tyx.tobytes())
    with pytest.raises(StackError, match="sections lie across x"):
        open_stack(path)


def test_mrc_pixel_comes_from_the_cell_in_angstrom(frames_tyx, tmp_path):
    path = tmp_path / "stack.mrc"
    path.write_bytes(mrc_header(frames_tyx.shape, 6, cell_angstrom=(14 * 1100.0, 10 * 1100.0, 12 * 500.0)) + frames_tyx.tobytes())
    stack = open_stack(path)
    assert (stack.pixel_nm, stack.z_step_nm) == (110.0, 50.0)


def test_complex_mrc_files_are_refused_in_words(frames_tyx, tmp_path):
    path = tmp_path / "otf.mrc"
    path.write_bytes(mrc_header(frames_tyx.shape, 4) + frames_tyx.astype("c8").tobytes())
    with pytest.raises(StackError, match="values are complex"):
        open_stack(path)


@pytest.mark.parametrize(("sequence", "order"), [(0, "CTZ"), (1, "TZC"), (2, "TCZ")])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_deltavision_wavelengths_become_cameras(frames_tyx, tmp_path, sequence, order, endian):
    head = mrc_header(frames_tyx.shape, 6, endian, mark=bytes(4))
    struct.pack_into(endian + "3f", head, 40, 0.08, 0.08, 0.125)
    struct.pack_into(endian + "h", head, 96, -16224)
    struct.pack_into(endian + "2h", head, 180, 3, sequence)
    struct.pack_into(endian + "h", head, 196, 2)
    path = tmp_path / "cell.dv"
    path.write_bytes(head + frames_tyx.astype(endian + "u2").tobytes())
    stack = open_stack(path)
    lengths = {"C": 2, "T": 3, "Z": 2}
    known = np.moveaxis(frames_tyx.reshape([lengths[axis] for axis in order] + [10, 14]), order.index("C"), 0)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], known[0].reshape(6, 10, 14))
    np.testing.assert_array_equal(stack.counts_tyx[1][:], known[1].reshape(6, 10, 14))
    assert (stack.pixel_nm, stack.z_step_nm) == (80.0, 125.0)
    assert stack.metadata["format"] == "Priism/DV"


def test_a_real_priism_file(shared_data):
    stack = open_stack(shared_data / "structured/rdl_microtubules/MT.mrc")
    counts = stack.counts_tyx[0]
    assert counts.shape == (9, 256, 256)
    assert counts.dtype == np.uint16
    assert (stack.pixel_nm, stack.z_step_nm) == (62.6, 160.0)
    means = counts[:].mean(axis=(1, 2)).reshape(3, 3).mean(axis=1)
    np.testing.assert_allclose(means, [27.5e3, 35.4e3, 30.8e3], rtol=0.01)  # as measured in the notes on structured illumination


def test_truncated_mrc_is_told(frames_tyx, tmp_path):
    path = tmp_path / "stack.mrc"
    path.write_bytes(mrc_header(frames_tyx.shape, 6) + frames_tyx.tobytes()[:-300])
    with pytest.raises(StackError, match=r"truncated: its header promises 12 frames .* enough for 10 whole frames"):
        open_stack(path)


@pytest.mark.parametrize("chunks", [(1, 10, 14), (5, 10, 14), (5, 4, 6)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays(frames_tyx, tmp_path, chunks, zarr_format):
    path = tmp_path / "stack.zarr"
    array = zarr.create_array(str(path), shape=frames_tyx.shape, chunks=chunks, dtype="uint16", zarr_format=zarr_format)
    array[:] = frames_tyx
    assert sniff_stack(path)
    counts = open_stack(path).counts_tyx[0]
    np.testing.assert_array_equal(counts[:], frames_tyx)
    np.testing.assert_array_equal(counts[[7, 2], 3:8, ::2], frames_tyx[[7, 2], 3:8, ::2])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_level_0_with_scales_and_channels(frames_tyx, tmp_path, version):
    path = tmp_path / "image.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    values = frames_tyx.reshape(3, 2, 2, 10, 14)
    for level in range(2):
        array = group.create_array(str(level), shape=values[..., :: level + 1].shape, dtype="uint16")
        array[:] = values[..., :: level + 1]
    axes = [
        {"name": "t", "type": "time", "unit": "millisecond"},
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "nanometer"},
        {"name": "x", "type": "space", "unit": "nanometer"},
    ]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [20, 1, 0.2, 110, 110]}]} for level in range(2)
    ]
    multiscales = [{"axes": axes, "datasets": datasets}]
    group.attrs.update({"multiscales": multiscales} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": multiscales}})
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], values[:, 0].reshape(6, 10, 14))
    np.testing.assert_array_equal(stack.counts_tyx[1][:], values[:, 1].reshape(6, 10, 14))
    assert (stack.pixel_nm, stack.z_step_nm, stack.frame_interval_ms) == (110, 200, 20)


def test_a_zarr_group_with_several_arrays_lists_them(tmp_path):
    group = zarr.open_group(str(tmp_path / "many.zarr"), mode="w")
    group.create_array("beads", shape=(5, 8, 8), dtype="uint16")
    group.create_array("frames", shape=(7, 8, 8), dtype="uint16")
    with pytest.raises(StackError, match=r"2 arrays \((beads|frames) \(\d, 8, 8\), (beads|frames) \(\d, 8, 8\)\)"):
        open_stack(tmp_path / "many.zarr")


def test_a_damaged_zarr_is_told(frames_tyx, tmp_path):
    path = tmp_path / "stack.zarr"
    zarr.create_array(str(path), shape=frames_tyx.shape, dtype="uint16")[:] = frames_tyx
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type":')
    with pytest.raises(StackError, match="not a readable Zarr folder"):
        open_stack(path)


RAW_NOTE = {
    "Height": 10,
    "Width": 14,
    "Frames": 12,
    "Data Type": "uint16",
    "Byte Order": ">",
    "Baseline": 100,
    "Sensitivity": 0.5,
    "Pixelsize": 130,
}


def write_raw(folder, frames, **changes):
    path = folder / "movie.raw"
    path.write_bytes(frames.astype(">u2").tobytes())
    values = {key: value for key, value in {**RAW_NOTE, **changes}.items() if value is not None}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("suffix", [".raw", ".yaml"])
def test_raw_frames_with_a_yaml_beside_them(frames_tyx, tmp_path, suffix):
    stack = open_stack(write_raw(tmp_path, frames_tyx).with_suffix(suffix))
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert stack.metadata["camera"] == {"offset_counts": 100.0, "gain_e_per_count": 0.5}
    assert stack.pixel_nm == 130


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Height": None}, "missing Height"),
        ({"Frames": 13}, r"header promises 13 frames .* enough for 12 whole frames"),
        ({"Frames": 10**15}, "1,000,000,000,000,000 frames of 280 bytes promised"),
        ({"Frames": "many"}, "cannot be understood"),
        ({"Data Type": "object"}, "camera frames are whole or real numbers"),
        ({"Data Type": ["uint16"]}, "must be short words"),
        ({"Width": 0}, "all must be at least 1"),
    ],
)
def test_a_wrong_yaml_is_told(frames_tyx, tmp_path, changes, words):
    path = write_raw(tmp_path, frames_tyx, **changes)
    with pytest.raises(StackError, match=words):
        open_stack(path)


def test_yaml_that_would_build_objects_or_gigabytes_is_refused(frames_tyx, tmp_path):
    path = write_raw(tmp_path, frames_tyx)
    note = path.with_suffix(".yaml")
    note.write_text("Height: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(StackError, match="no plain yaml"):
        open_stack(path)
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 10)}]" for n in range(1, 12)]
    note.write_text("\n".join([*lines, "Height: 10", "Width: 14", "Frames: 12", "Data Type: *a11"]))
    with pytest.raises(StackError, match="must be short words"):
        open_stack(path)


def test_raw_without_yaml_is_told(frames_tyx, tmp_path):
    path = write_raw(tmp_path, frames_tyx)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(StackError, match=r"movie\.yaml with their size and type is not there"):
        open_stack(path)
    assert not sniff_stack(path)


def lite_variant(name, value):
    """Encode one value as ND2 files keep metadata: type, name in UTF-16, value; a dict is a level of values."""

    def head(code):
        return bytes([code, len(name) + 1]) + (name + "\0").encode("utf-16-le")

    if isinstance(value, bool):
        return head(1) + struct.pack("<B", value)
    if isinstance(value, int):
        return head(3) + struct.pack("<I", value)
    if isinstance(value, float):
        return head(6) + struct.pack("<d", value)
    if isinstance(value, str):
        return head(8) + (value + "\0").encode("utf-16-le")
    body = b"".join(lite_variant(key, item) for key, item in value.items())
    return head(11) + struct.pack("<IQ", len(value), len(head(11)) + 12 + len(body)) + body + bytes(8 * len(value))


def write_nd2(path, frames, planned, calibrated=True):
    """Write a small ND2 file (version 3) of one channel over time, chunk by chunk."""
    count, rows, columns = frames.shape
    attributes = {
        "uiWidth": columns,
        "uiWidthBytes": columns * 2,
        "uiHeight": rows,
        "uiComp": 1,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 16,
    }
    attributes |= {"uiSequenceCount": count, "eCompression": 2}

    def spectrum(nm):
        return {"uiCount": 1, "pPoint": {"Point0": {"eType": 1, "dWavelength": nm}}}

    probe = {"m_uiColor": 1, "m_ExcitationSpectrum": spectrum(640.0), "m_EmissionSpectrum": spectrum(670.0)}
    planes = {"uiCount": 1, "sPlaneNew": {"a0": {"uiCompCount": 1, "sDescription": "red", "uiColor": 255, "pFluorescentProbe": probe}}}
    meta = {"dCalibration": 0.11, "bCalibrated": calibrated, "dObjectiveNA": 1.49, "dObjectiveMag": 100.0, "sPicturePlanes": planes}
    loop = {
        "eType": 1,
        "uiLoopSize": planned,
        "uLoopPars": {"uiCount": planned, "dPeriod": 50.0, "dStart": 0.0, "dDuration": 0.0},
        "ppNextLevelEx": {},
    }
    chunks = [
        (b"ImageAttributesLV!", lite_variant("SLxImageAttributes", attributes)),
        (b"ImageMetadataSeqLV|0!", lite_variant("SLxPictureMetadata", meta)),
        (b"ImageMetadataLV!", lite_variant("SLxExperiment", loop)),
    ]
    chunks += [(f"ImageDataSeq|{n}!".encode(), struct.pack("<d", 50.0 * n) + frame.tobytes()) for n, frame in enumerate(frames)]
    magic = 0x0ABECEDA
    out = struct.pack("<IIQ", magic, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!" + b"Ver3.0".ljust(64, b"\0")
    table = b""
    for name, data in chunks:
        table += name + struct.pack("<QQ", len(out), len(data))
        out += struct.pack("<IIQ", magic, 4072, len(data)) + name.ljust(4072, b"\0") + data
    table += b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(out))
    path.write_bytes(out + struct.pack("<IIQ", magic, 32, len(table)) + b"ND2 FILEMAP SIGNATURE NAME 0001!" + table)


def test_nd2_frames_and_metadata(frames_tyx, tmp_path):
    pytest.importorskip("nd2", reason="the optional package nd2 is not installed")
    path = tmp_path / "movie.nd2"
    write_nd2(path, frames_tyx, 12)
    assert sniff_stack(path)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.counts_tyx[0][:], frames_tyx)
    assert stack.pixel_nm == pytest.approx(110)
    assert stack.frame_interval_ms == 50
    assert stack.metadata["optics"] == {"numerical_aperture": 1.49, "magnification": 100.0, "emission_nm": 670.0}
    assert stack.warnings == ()


def test_an_nd2_recording_that_ended_early_and_was_not_calibrated(frames_tyx, tmp_path):
    pytest.importorskip("nd2", reason="the optional package nd2 is not installed")
    write_nd2(tmp_path / "movie.nd2", frames_tyx, 40, calibrated=False)
    stack = open_stack(tmp_path / "movie.nd2")
    assert stack.frame_count == 12
    assert stack.pixel_nm is None
    assert any("12 of 40 planned frames" in warning for warning in stack.warnings)


def test_a_truncated_nd2_file_is_told(frames_tyx, tmp_path):
    pytest.importorskip("nd2", reason="the optional package nd2 is not installed")
    path = tmp_path / "movie.nd2"
    write_nd2(path, frames_tyx, 12)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(StackError, match="not a readable ND2 file"):
        open_stack(path)


def test_without_the_nd2_package_the_words_say_how_to_get_it(frames_tyx, tmp_path, monkeypatch):
    write_nd2(tmp_path / "movie.nd2", frames_tyx, 12)
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(StackError, match=r"pip install 'napari-volumetric-smlm\[formats\]'"):
        open_stack(tmp_path / "movie.nd2")


def test_metadata_of_every_format_are_ready_for_json(frames_tyx, tmp_path):
    write_raw(tmp_path, frames_tyx)
    json.dumps(open_stack(tmp_path / "movie.raw").metadata)
    open_stack(tmp_path / "movie.raw").model_dump_json()
