import pickle
import threading

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.images import LazyArray
from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.io.stacks import open_stack

KEYS = {
    "all": np.s_[:],
    "one_frame": np.s_[3],
    "last_frame": np.s_[-1],
    "some_frames": np.s_[2:9:3],
    "backwards": np.s_[::-2],
    "list": np.s_[[5, 1, 1]],
    "region": np.s_[1:4, 2:7, 3:5],
    "row": np.s_[4, 6],
    "pixel": np.s_[4, -1, 2],
    "rows_backwards": np.s_[0, ::-1],
    "columns_with_steps": np.s_[:, 8:1:-3, ::4],
    "ellipsis": np.s_[..., 5],
    "nothing": np.s_[3:3],
    "no_rows": np.s_[:, 4:4],
}


@pytest.fixture(params=["contiguous", "compressed", "chained", "single_images"])
def stored(request, frames_tyx, tmp_path):
    if request.param == "contiguous":
        tifffile.imwrite(tmp_path / "stack.tif", frames_tyx, photometric="minisblack")
        return open_stack(tmp_path / "stack.tif").counts_tyx[0]
    if request.param == "compressed":
        tifffile.imwrite(tmp_path / "stack.tif", frames_tyx, photometric="minisblack", compression="zlib")
        return open_stack(tmp_path / "stack.tif").counts_tyx[0]
    step = 5 if request.param == "chained" else 1
    for start in range(0, len(frames_tyx), step):
        tifffile.imwrite(tmp_path / f"part{start}.tif", frames_tyx[start : start + step], photometric="minisblack")
    return open_stack(tmp_path).counts_tyx[0]


@pytest.mark.parametrize("key", KEYS)
def test_a_lazy_array_is_indexed_like_the_array_in_memory(stored, frames_tyx, key):
    np.testing.assert_array_equal(stored[KEYS[key]], frames_tyx[KEYS[key]])
    assert stored[KEYS[key]].dtype == np.uint16


def test_booleans_choose_frames(stored, frames_tyx):
    odd = np.arange(len(frames_tyx)) % 2 == 1
    np.testing.assert_array_equal(stored[odd], frames_tyx[odd])


def test_a_lazy_array_offers_what_viewers_ask_for(stored, frames_tyx):
    assert isinstance(stored, LazyArray)
    assert (stored.shape, stored.ndim, stored.size, stored.nbytes, len(stored)) == (frames_tyx.shape, 3, 1680, 3360, 12)
    np.testing.assert_array_equal(np.asarray(stored), frames_tyx)


@pytest.mark.parametrize("key", [12, -13, (0, 10), (0, 0, 0, 0), (0, None)])
def test_an_index_outside_is_an_index_error(stored, key):
    with pytest.raises(IndexError):
        stored[key]


def test_what_is_read_may_be_changed_without_changing_the_file(stored, frames_tyx):
    stored[0][:] = 0
    np.testing.assert_array_equal(stored[0], frames_tyx[0])


def test_several_threads_read_the_right_frames(stored, frames_tyx):
    wrong = []

    def read(seed):
        for frame in np.random.default_rng(seed).integers(0, 12, 40):
            if not np.array_equal(stored[frame], frames_tyx[frame]):
                wrong.append(frame)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_big_endian_files_arrive_in_native_order(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "big.tif", frames_tyx, byteorder=">", imagej=True)
    counts = open_stack(tmp_path / "big.tif").counts_tyx[0]
    assert counts.dtype.isnative
    assert counts[0].dtype.isnative
    np.testing.assert_array_equal(counts[:], frames_tyx)


def test_contiguous_frames_travel_to_another_process(frames_tyx, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", frames_tyx, photometric="minisblack")
    counts = open_stack(tmp_path / "stack.tif").counts_tyx[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(counts))[4], frames_tyx[4])  # noqa: S301


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_shortened_after_it_was_opened_is_told_on_reading(frames_tyx, tmp_path, compression):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, frames_tyx, photometric="minisblack", compression=compression)
    counts = open_stack(path).counts_tyx[0]
    with path.open("r+b") as stream:
        stream.truncate(600)
    with pytest.raises(StackError, match="frame 11"):
        counts[11]
