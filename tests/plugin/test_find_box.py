"""The button for molecules and blobs of a file of volumes."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from napari.layers import Points

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.io.results import write_image
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.plugin.layers import noun_of

VOXEL, SHAPE = (125.0, 145.0, 145.0), (17, 40, 44)
PLACES = np.array([[900.0, 2000.0, 2300.0], [1100.0, 4000.0, 4200.0]])


@pytest.fixture
def box(viewer, qtbot):
    from napari_volumetric_smlm.plugin.session import session_of
    from napari_volumetric_smlm.plugin.widgets.find_box import FindBox

    made = FindBox(session_of(viewer))
    qtbot.addWidget(made)
    yield made
    made.panel.close_job()


@pytest.fixture
def volume(tmp_path):
    """Write two balls of 700 nm."""
    at = np.stack(np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL, strict=True)), indexing="ij"), -1)
    inside = sum(np.linalg.norm(at - place, axis=-1) < 350 for place in PLACES)
    values = 20.0 * inside + np.random.default_rng(0).normal(3, 0.5, SHAPE)
    return write_image(values.astype(np.float32), tmp_path / "v.tif", VOXEL)


def ended(box, qtbot):
    with qtbot.wait_signal(box.panel.ended, timeout=60000) as heard:
        pass
    return heard.args[0]


def test_blobs_are_written_beside_the_volumes_and_shown_and_the_logged_command_does_the_same(box, viewer, volume, qtbot, capsys):
    box.form.set_value("diameter_nm", (400, 1000))
    box.find(volume)
    assert ended(box, qtbot).kind == "done"
    written = volume.with_name("v.blobs.csv")
    table = read_table(written)
    assert len(table) == 2
    assert np.linalg.norm(table.position_zyx_nm[:, None] - PLACES, axis=2).min(0).max() < 60
    assert "2 found: v.blobs.csv" in box.panel.message.text()
    [points] = viewer.layers
    assert isinstance(points, Points)
    assert np.median(points.size) == pytest.approx(np.median(table["diameter_nm"]), abs=0.1)
    np.testing.assert_allclose(noun_of(points, "table").position_zyx_nm, table.position_zyx_nm, atol=0.1)
    command = next(line for line in box.session.log.lines if "vsmlm find" in line)
    first = written.read_bytes()
    written.unlink()
    assert main([*shlex.split(command[command.index("vsmlm find") :])[1:], "--quiet"]) == 0
    assert written.read_bytes() == first


def test_what_cannot_be_done_is_told_under_the_button(box, tmp_path, qtbot):
    import tifffile

    tifffile.imwrite(tmp_path / "plain.tif", np.zeros(SHAPE, np.float32), photometric="minisblack")
    box.find(tmp_path / "plain.tif")
    assert ended(box, qtbot).kind == "failed"
    assert "state voxel_zyx_nm" in box.panel.message.text()
    box.form.set_value("diameter_nm", (1000, 400))
    assert "smallest and then the largest" in box.form.problem
    assert not box.panel.button.isEnabled()
