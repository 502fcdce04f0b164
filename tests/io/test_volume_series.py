"""Volumes written one after the other: axes and voxels are told, and what was not finished says so."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.errors import OutputError
from napari_volumetric_smlm.io.volume_series import incomplete_path, volume_series

VOXEL = (125.0, 145.0, 145.5)
RAMP = np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5)


def test_a_series_comes_back_with_its_axes_and_voxels(tmp_path):
    place = tmp_path / "v.tif"
    with volume_series(place, 3) as series:
        for t in range(3):
            series.add(RAMP + t, VOXEL)
    with tifffile.TiffFile(place) as file:
        assert file.series[0].axes == "TZYX"
        assert np.array_equal(file.asarray(), np.stack([RAMP, RAMP + 1, RAMP + 2]))
        for words in ('PhysicalSizeZ="125.0"', 'PhysicalSizeY="145.0"', 'PhysicalSizeX="145.5"', 'PhysicalSizeXUnit="nm"', 'SizeT="3"'):
            assert words in file.ome_metadata
    assert [part.name for part in tmp_path.iterdir()] == ["v.tif"]


def write(place, volumes, expected=None, then=None):
    with volume_series(place, expected or len(volumes)) as series:
        for volume in volumes:
            series.add(volume, VOXEL)
        if then is not None:
            raise then


@pytest.mark.parametrize("reason", [GeneratorExit(), ValueError("diverged")])
def test_what_was_stopped_or_failed_is_kept_beside_the_older_result(tmp_path, reason):
    place = tmp_path / "v.tif"
    place.write_bytes(b"older")
    with pytest.raises(type(reason)):
        write(place, [RAMP, RAMP + 1], 3, reason)
    assert place.read_bytes() == b"older"
    with tifffile.TiffFile(incomplete_path(place)) as file:
        assert file.series[0].axes == "TZYX"
        assert np.array_equal(file.asarray(), np.stack([RAMP, RAMP + 1]))


def test_without_a_volume_nothing_is_written(tmp_path):
    with pytest.raises(KeyError):
        write(tmp_path / "v.tif", [], 2, KeyError("no frame"))
    assert list(tmp_path.iterdir()) == []


def test_volumes_of_two_shapes_and_folders_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"volume 1 has the shape \(2, 6, 5\)"):
        write(tmp_path / "v.tif", [RAMP, RAMP[:2]])
    with pytest.raises(OutputError, match="does not exist"):
        write(tmp_path / "nowhere" / "v.tif", [RAMP])
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"):
        write(tmp_path / "folder.tif", [RAMP])
