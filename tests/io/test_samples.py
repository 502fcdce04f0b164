"""The samples in the package are what they say, and open without torch."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_volumetric_smlm.engine.optics.views import light_field_numbers
from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.samples import SAMPLES, open_sample, sample_instrument, sample_paths, sample_truth

SOURCE = Path(__file__).resolve().parents[2] / "src"
MOVIES = [name for name, sample in SAMPLES.items() if sample.truth]


def test_the_samples_are_small_and_each_has_a_sentence():
    folder = sample_paths("tetrapod")[0].parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4 * 2**20
    listed = {file for sample in SAMPLES.values() for file in sample.files}
    assert listed == {path.name for path in folder.glob("*.tif")}
    assert all(len(sample.sentence) > 30 for sample in SAMPLES.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_opens_with_its_kind_and_without_a_warning(name):
    stack, instrument = open_sample(name), sample_instrument(name)
    assert stack.kind == {"tetrapod_beads": "beads", "structured": "structured"}.get(name, "frames")
    assert stack.warnings == ()
    assert stack.pixel_nm == pytest.approx(instrument.pixel_nm())
    assert len(stack.counts_tyx) == len(instrument.cameras) == len(sample_paths(name))
    # the note leads to the same instrument
    assert Path(stack.metadata["instrument"]).is_file()
    for counts, camera in zip(stack.counts_tyx, instrument.cameras, strict=True):
        frames = np.asarray(counts[:])
        assert frames.dtype == np.uint16
        assert abs(np.median(frames) - camera.offset_counts) < 400
        assert frames.max() < camera.saturation_counts


def test_the_bead_stack_moves_its_focal_plane_into_the_sample():
    stack = open_sample("tetrapod_beads")
    assert stack.counts_tyx[0].shape == (41, 81, 81)
    assert stack.z_step_nm == 100


@pytest.mark.parametrize("name", MOVIES)
def test_light_lies_where_the_truth_says(name):
    stack, truth, instrument = open_sample(name), sample_truth(name), sample_instrument(name)
    assert stack.frame_count == truth.frame_count == 20
    assert truth.z_reference == instrument.z_reference
    frames = np.asarray(stack.counts_tyx[0][:]).astype(float)
    excess = frames - np.median(frames, axis=(1, 2), keepdims=True)
    places = truth.position_zyx_nm[:, 1:]
    if instrument.microlenses is not None:
        # through a lens beside the axis, depth moves the image
        places = places + truth["z_nm"][:, None] * np.array(light_field_numbers(instrument).slope_yx_v[0])
    rows, columns = np.rint(places / stack.pixel_nm).astype(int).T
    bright = truth["photons"] > 3000
    assert bright.sum() > 40
    around = [
        excess[frame, row - 3 : row + 4, column - 3 : column + 4].sum()
        for frame, row, column in zip(truth["frame"][bright], rows[bright], columns[bright], strict=True)
    ]
    elsewhere = [
        excess[frame, row - 3 : row + 4, column - 3 : column + 4].sum()
        for frame, row, column in zip((truth["frame"][bright] + 10) % 20, rows[bright], columns[bright], strict=True)
    ]
    assert np.median(around) > 3 * max(np.median(elsewhere), 1)


def test_the_tetrapod_microscope_is_its_design_with_aberrations():
    real, design = sample_instrument("tetrapod"), sample_instrument("tetrapod_beads")
    assert real.objective == design.objective
    assert real.cameras == design.cameras
    difference = {
        j: value - design.views[0].zernike_noll_rad.get(j, 0.0)
        for j, value in real.views[0].zernike_noll_rad.items()
        if value != design.views[0].zernike_noll_rad.get(j, 0.0)
    }
    assert 0.3 < sum(value**2 for value in difference.values()) ** 0.5 < 0.8


def test_the_committed_script_makes_the_shipped_microscope():
    script = runpy.run_path(str(SOURCE.parent / "docs" / "make_samples.py"))
    assert script["real_tetrapod"]() == sample_instrument("tetrapod")


def test_the_committed_script_describes_the_shipped_stack_of_structured_illumination():
    script = runpy.run_path(str(SOURCE.parent / "docs" / "make_samples.py"))
    assert script["structured_microscope"]() == sample_instrument("structured")
    stack = open_sample("structured")
    assert stack.counts_tyx[0].shape == (9, *script["structured_plan"]().shape_yx_px)


def test_the_committed_script_makes_the_shipped_light_field():
    script = runpy.run_path(str(SOURCE.parent / "docs" / "make_samples.py"))
    assert script["light_field_microscope"]() == sample_instrument("light_field")


def test_an_unknown_sample_is_explained():
    with pytest.raises(StackError, match="no sample is called 'tetrapot'; there are tetrapod_beads, tetrapod"):
        sample_paths("tetrapot")


def test_opening_a_sample_needs_no_torch():
    look = (
        "import sys; from napari_volumetric_smlm.io.samples import open_sample; "
        "open_sample('tetrapod').counts_tyx[0][0]; print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": str(SOURCE), "PATH": ""}
    )
    assert run.stdout.strip() == "False"
