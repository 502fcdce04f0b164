"""Lens centres from text files, on the camera's grid or a binned one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.lens_centres import read_lens_centres

PUBLISHED = "148\t384\n364\t254\n150\t132\n"  # on 512 x 512 pixels of 290 nm


@pytest.fixture(scope="module")
def array():
    return load_example("light_field_3").microlenses


def test_the_published_centres_are_brought_from_their_grid_to_the_cameras_pixels(array, tmp_path):
    path = tmp_path / "lenslet_centers_python.txt"
    path.write_text(PUBLISHED)
    assert read_lens_centres(path, array, 6.5) == ((296.5, 768.5), (728.5, 508.5), (300.5, 264.5))


def test_centres_in_camera_pixels_are_taken_as_they_are_whatever_separates_them(array, tmp_path):
    path = tmp_path / "centres.csv"
    expected = array.centres_on_sensor(6.5)
    path.write_text("\n".join(f"{y:.3f}, {x:.3f}" for y, x in expected) + "\n\n")
    assert np.array(read_lens_centres(path, array, 6.5)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("148\t384\n364\t254\n", "2 lens centres, the layout 'triangle' has 3 lenses"),
        ("148\t384\n364\n150\t132\n", "line 2: '364'; a row and a column in pixels were expected"),
        ("148\t384\n364\tnan\n150\t132\n", "line 2: .*finite numbers"),
        ("48\t84\n64\t54\n50\t32\n", r"\d\d pixels apart in the mean, the array expects 500 camera pixels \(or over 2 or 4\)"),
    ],
)
def test_centres_that_cannot_be_the_arrays_are_words(array, tmp_path, text, words):
    path = tmp_path / "centres.txt"
    path.write_text(text)
    with pytest.raises(InstrumentError, match=words):
        read_lens_centres(path, array, 6.5)


def test_a_file_that_is_no_text_is_words(array, tmp_path):
    path = tmp_path / "centres.txt"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InstrumentError, match="cannot be read"):
        read_lens_centres(path, array, 6.5)
