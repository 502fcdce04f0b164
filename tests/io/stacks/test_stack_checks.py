import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.images import RawStack, StackNote
from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.stacks import check_frames, compare_with_instrument, open_stack, write_note


def test_values_that_are_not_finite_are_told_with_frame_and_number(frames_tyx):
    block = frames_tyx.astype(np.float32)
    block[2, 3, 4] = np.nan
    block[2, 3, 5] = np.inf
    block[7, 0, 0] = -np.inf
    with pytest.raises(StackError, match=r"3 values that are not finite .* in frames 102, 107, the first in frame 102 \(2 of 140 pixels\)"):
        check_frames(block, first_frame=100)


def test_good_frames_pass_in_silence(frames_tyx):
    assert check_frames(frames_tyx) == ()
    assert check_frames(frames_tyx.astype(np.float64)) == ()


def test_frames_of_zeros_are_told(frames_tyx):
    frames_tyx[[1, 4]] = 0
    assert check_frames(frames_tyx, first_frame=10) == ("frames 11, 14 of zeros only",)


def test_saturation_counts_from_the_camera_or_the_type(frames_tyx):
    frames_tyx[5, :2, :3] = 4095
    assert check_frames(frames_tyx) == ()
    assert check_frames(frames_tyx, saturation_counts=4095)[0].startswith("6 saturated pixels (at least 4095 counts) in frame 5")
    frames_tyx[5, :2, :3] = 65535
    assert check_frames(frames_tyx)[0].startswith("6 saturated pixels (at least 65535 counts) in frame 5")


@pytest.mark.parametrize("shape", [(4, 5), (0, 4, 5), (1, 2, 3, 4)])
def test_blocks_of_another_shape_are_refused(shape):
    with pytest.raises(StackError, match="axes"):
        check_frames(np.ones(shape))


def warnings_of(frames, path, **options):
    tifffile.imwrite(path, frames, photometric="minisblack", **options)
    return open_stack(path).warnings


def test_opening_looks_at_a_few_frames_and_says_what_is_suspicious(frames_tyx, tmp_path):
    path = tmp_path / "stack.tif"
    assert warnings_of(frames_tyx, path) == ()
    assert "8-bit images" in warnings_of((frames_tyx // 16).astype(np.uint8), path)[0]
    assert "every pixel of the frames looked at (frames 0, 6, 11) is 0" in warnings_of(np.zeros_like(frames_tyx), path)[0]
    clipped = np.where(frames_tyx < 2000, 0, frames_tyx).astype(np.uint16)
    assert "exactly 0: background was subtracted" in warnings_of(clipped, path)[0]
    saturated = np.where(frames_tyx > 3800, 65535, frames_tyx).astype(np.uint16)
    assert "saturated (at least 65535 counts)" in warnings_of(saturated, path)[0]
    twelve_bit = np.minimum(frames_tyx.astype(int) * 2, 4095).astype(np.uint16)
    assert "saturated (at least 4095 counts)" in warnings_of(twelve_bit, path)[0]
    with_nan = frames_tyx.astype(np.float32)
    with_nan[0, 0, :3] = np.nan
    assert "3 values that are not finite" in warnings_of(with_nan, path)[0]


def test_the_notes_saturation_is_used_on_opening(frames_tyx, tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, frames_tyx, photometric="minisblack")
    write_note(path, StackNote(saturation_counts=3500))
    assert "saturated (at least 3500 counts)" in open_stack(path).warnings[0]


def test_only_a_few_frames_are_read_on_opening(tmp_path, frames_tyx, monkeypatch):
    from napari_volumetric_smlm.io.stacks.frames import ContiguousFrames

    tifffile.imwrite(tmp_path / "stack.tif", np.tile(frames_tyx, (20, 1, 1)), photometric="minisblack")
    read = []
    original = ContiguousFrames._read_frame
    monkeypatch.setattr(
        ContiguousFrames, "_read_frame", lambda self, frame, low, high: (read.append(frame), original(self, frame, low, high))[1]
    )
    open_stack(tmp_path / "stack.tif")
    assert sorted(read) == [0, 120, 239]


def test_an_implausible_pixel_size_is_dropped_and_told(frames_tyx, tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, frames_tyx, imagej=True, resolution=(0.2, 0.2), metadata={"unit": "um", "axes": "TYX"})
    stack = open_stack(path)
    assert stack.pixel_nm is None
    assert "a pixel is 5000 nm wide, which no microscope of this kind has (10 to 1000 nm)" in stack.warnings[0]
    write_note(path, StackNote(pixel_nm=5000))
    assert open_stack(path).pixel_nm == 5000


def test_a_pixel_size_that_contradicts_the_instrument_is_told(toy_instrument):
    counts = np.ones((1, 8, 8))
    assert compare_with_instrument(RawStack(counts_tyx=(counts,), pixel_nm=110.5), toy_instrument) == ()
    assert compare_with_instrument(RawStack(counts_tyx=(counts,)), toy_instrument) == ()
    words = compare_with_instrument(RawStack(counts_tyx=(counts, counts), pixel_nm=160), toy_instrument)
    assert "the stack has 2 cameras, the instrument's views use 1" in words[0]
    assert "the stack's metadata say 160 nm a pixel, the instrument 110 nm" in words[1]
