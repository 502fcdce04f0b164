import json

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.images import RawStack, StackNote
from napari_volumetric_smlm.errors import OutputError, StackError
from napari_volumetric_smlm.io.stacks import full_hash, note_path, open_stack, read_note, write_note
from napari_volumetric_smlm.io.stacks.fingerprint import fingerprint_files


@pytest.fixture
def path(frames_tyx, tmp_path):
    place = tmp_path / "beads.tif"
    tifffile.imwrite(place, frames_tyx, imagej=True, resolution=(10, 10), metadata={"unit": "um", "axes": "ZYX", "spacing": 0.05})
    return place


def test_a_stack_is_of_unknown_kind_until_someone_says(path):
    assert open_stack(path).kind is None
    assert open_stack(path, kind="beads").kind == "beads"
    write_note(path, StackNote(kind="beads"))
    assert open_stack(path).kind == "beads"


def test_the_note_stands_beside_the_stack_under_its_full_name_and_comes_back(path):
    note = StackNote(kind="frames", pixel_nm=105.5, z_step_nm=-50, offset_counts=99.5, instrument="../scope.json")
    place = write_note(path, note)
    assert place == note_path(path)
    assert place.name == "beads.tif.vsmlm.json"
    assert read_note(path) == note
    assert read_note(path.with_name("other.tif")) is None


def test_the_note_wins_over_the_file_and_contradictions_are_told(path):
    write_note(path, StackNote(pixel_nm=130, z_step_nm=-50, camera_name="left", gain_e_per_count=0.24))
    stack = open_stack(path)
    assert (stack.pixel_nm, stack.z_step_nm) == (130, -50)
    assert stack.metadata["camera"] == {"name": "left", "gain_e_per_count": 0.24}
    assert [w for w in stack.warnings if "contradicts" in w] == [
        "pixel_nm contradicts itself: the note says 130, a file says 100; the first is used"
    ]


def test_the_caller_wins_over_the_note_and_is_told(path):
    write_note(path, StackNote(kind="beads"))
    stack = open_stack(path, kind="frames")
    assert stack.kind == "frames"
    assert "opened as frames, but beads.tif.vsmlm.json says beads" in stack.warnings


def test_light_field_frames_are_frames_too(path):
    write_note(path, StackNote(kind="frames"))
    stack = open_stack(path, kind="light_field")
    assert stack.kind == "light_field"
    assert not any("opened as" in words for words in stack.warnings)


def test_the_instrument_is_found_from_the_note(path):
    write_note(path, StackNote(instrument="scope.json"))
    assert open_stack(path).metadata["instrument"] == str(path.parent.resolve() / "scope.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"schema_version": "vsmlm-stack-1", "kind": "bead"}, "kind: found 'bead', expected 'frames', 'beads'"),
        ({"schema_version": "vsmlm-stack-1", "pixel_um": 0.1}, "pixel_um: unknown key"),
        ({"schema_version": "vsmlm-instrument-1"}, "schema_version is 'vsmlm-instrument-1', expected 'vsmlm-stack-1'"),
    ],
)
def test_a_wrong_note_stops_the_opening_with_words(path, content, words):
    note_path(path).write_text(json.dumps(content))
    with pytest.raises(StackError, match=words):
        open_stack(path)


def test_a_note_that_cannot_be_written_changes_nothing(path):
    with pytest.raises(OutputError, match="does not exist"):
        write_note(path.parent / "missing" / "a.tif", StackNote())
    assert [item.name for item in path.parent.iterdir()] == ["beads.tif"]


def test_the_fingerprint_follows_content_and_time_and_the_hash_content_alone(path, tmp_path):
    first, whole = open_stack(path).fingerprint, full_hash([path])
    assert open_stack(path).fingerprint == first
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert open_stack(path).fingerprint != first
    assert full_hash([path]) != whole
    data[-1] ^= 1
    path.write_bytes(data)
    assert full_hash([path]) == whole


def test_the_fingerprint_samples_the_middle_of_large_files(tmp_path):
    path = tmp_path / "large.raw"
    with path.open("wb") as stream:
        stream.truncate(64 * 2**20)
    state = path.stat()
    before = fingerprint_files([path])
    with path.open("r+b") as stream:
        stream.seek(32 * 2**20)
        stream.write(b"x")
    import os

    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint_files([path]) != before


def test_stacks_in_memory_are_equal_only_when_their_arrays_are_the_same():
    counts = np.ones((2, 3, 4))
    assert RawStack(counts_tyx=(counts,)) == RawStack(counts_tyx=(counts,))
    assert RawStack(counts_tyx=(counts,)) != RawStack(counts_tyx=(counts.copy(),))
