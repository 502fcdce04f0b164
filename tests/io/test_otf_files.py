"""Files of structured illumination: DeltaVision stacks in both byte orders, OTFs, patterns."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Illumination, Orientation, Wave
from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.otf_files import load_illumination, load_otf, save_illumination
from napari_volumetric_smlm.io.stacks import open_stack


def write_priism(path, values, order, mode, step=(0.0626, 0.0626, 0.16)):
    sections, rows, columns = values.shape
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, columns, rows, sections, mode)
    struct.pack_into(order + "3i", head, 28, 1, 1, 1)
    struct.pack_into(order + "3f", head, 40, *step)
    struct.pack_into(order + "3i", head, 64, 1, 2, 3)
    struct.pack_into(order + "i", head, 92, 128)
    struct.pack_into(order + "h", head, 96, -16224)
    struct.pack_into(order + "2h", head, 180, 1, 0)
    struct.pack_into(order + "2h", head, 196, 1, 525)
    path.write_bytes(bytes(head) + bytes(128) + values.astype(values.dtype.newbyteorder(order)).tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_frames_of_both_byte_orders_with_a_second_header(tmp_path, order):
    counts = np.arange(9 * 6 * 8, dtype=np.uint16).reshape(9, 6, 8)
    write_priism(tmp_path / "raw.dv", counts, order, 6)
    stack = open_stack(tmp_path / "raw.dv", kind="structured")
    assert np.array_equal(np.asarray(stack.counts_tyx[0][:]), counts)
    assert stack.pixel_nm == pytest.approx(62.6)
    assert stack.z_step_nm == pytest.approx(160)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_otf_of_both_byte_orders_has_its_step_in_the_header(tmp_path, order):
    values = np.linspace(2, 0, 41).astype(np.complex64).reshape(1, 1, 41)
    write_priism(tmp_path / "a.otf", values, order, 4, step=(0.25, 0.25, 0.05))
    otf = load_otf(tmp_path / "a.otf")
    assert otf.step_per_um == pytest.approx(0.25)
    assert np.allclose(otf.values, np.linspace(1, 0, 41))


def test_an_otf_as_tiff_needs_its_step(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(1, 0, 20, dtype=np.float32)[None])
    with pytest.raises(InstrumentError, match="does not say how far apart"):
        load_otf(tmp_path / "a.tif")
    assert load_otf(tmp_path / "a.tif", 0.1).cutoff_per_um == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((3, 4, 5), np.float32), "one row"),
        (np.zeros((1, 20), np.float32), "first value"),
        (np.linspace(1, 9, 20)[None], "nowhere larger"),
    ],
)
def test_what_is_no_otf_is_refused_in_words(tmp_path, values, words):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    with pytest.raises(InstrumentError, match=words):
        load_otf(tmp_path / "a.tif", 0.1)


def test_a_stack_of_images_is_no_otf(tmp_path):
    write_priism(tmp_path / "raw.dv", np.ones((9, 300, 300), np.uint16), "<", 6)
    with pytest.raises(InstrumentError, match="one row was expected"):
        load_otf(tmp_path / "raw.dv")


def test_the_measured_otf_of_the_reference_stack(shared_data):
    path = shared_data / "structured" / "rdl_microtubules" / "TIRF488_cam1_0_z30_OTF2d.mrc"
    if not path.is_file():
        pytest.skip("the measured OTF is not there")
    otf = load_otf(path)
    assert otf.step_per_um == pytest.approx(0.0312, rel=1e-3)
    frequency = np.arange(len(otf.values)) * otf.step_per_um
    assert np.interp([1, 2, 3], frequency, otf.values) == pytest.approx([0.556, 0.314, 0.149], abs=2e-3)


def test_patterns_come_back_as_they_were_written(tmp_path):
    wave = Wave(frequency_yx_per_um=(1.0, 4.0), modulation=0.5, phase_rad=0.3)
    steps = (0.0, 2 * math.pi / 3, 4 * math.pi / 3)
    made = Illumination(geometry=GEOMETRIES["lattice-1x3"], orientations=(Orientation(waves=(wave,), steps_rad=steps),))
    assert load_illumination(save_illumination(made, tmp_path / "p.json")) == made


def test_another_json_file_is_no_pattern(tmp_path):
    (tmp_path / "p.json").write_text('{"schema_version": "vsmlm-instrument-1"}')
    with pytest.raises(InstrumentError, match="vsmlm-illumination-1"):
        load_illumination(tmp_path / "p.json")
