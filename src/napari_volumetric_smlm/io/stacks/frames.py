"""Frames on disk that are read when they are indexed, and never kept: memory stays bounded by what is asked for."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StackError

# the largest scientific cameras have 150 megapixels; more is a damaged header or a picture that unpacks without end
LARGEST_FRAME_BYTES = 2**30


class FrameArray(ABC):
    """An array (t, y, x) on disk, in native byte order; `array[t, y, x]` reads what is asked for and returns a new array.

    t is a number, a slice, or a list of frames (numbers or booleans); y and x are numbers or slices. Safe to index from several threads.
    Subclasses read single frames in `_read_frame`.

    Raises
    ------
    StackError
        On indexing, if a frame cannot be read; it names file and frame.
    """

    ndim = 3

    def __init__(self, shape: Sequence[int], dtype: Any, source: str) -> None:
        frames, rows, columns = (int(n) for n in shape)
        self.shape = (frames, rows, columns)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.source = source
        if rows * columns * self.dtype.itemsize > LARGEST_FRAME_BYTES:
            raise StackError(
                f"{source}: frames of {rows:,} x {columns:,} pixels of type {self.dtype}, more than any camera has; the header is damaged"
            )

    @property
    def size(self) -> int:
        """Number of pixels of all frames."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that all frames take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, source={self.source!r})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("frames on disk cannot be an array without reading (copying) them")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        t_key, y_key, x_key = _three_keys(key)
        frames, one_frame = _frames_of(t_key, self.shape[0])
        rows, one_row = _span_of(y_key, self.shape[1], "row")
        columns, one_column = _span_of(x_key, self.shape[2], "column")
        low, high = (min(rows), max(rows) + 1) if len(rows) else (0, 0)
        out = np.empty((len(frames), len(rows), len(columns)), self.dtype)
        if out.size:
            for index, frame in enumerate(frames):
                block = self._read_checked(frame, low, high)
                out[index] = block[_as_slice(rows, low), _as_slice(columns, 0)]
        return out[0 if one_frame else slice(None), 0 if one_row else slice(None), 0 if one_column else slice(None)]

    def _read_checked(self, frame: int, low: int, high: int) -> NDArray[Any]:
        try:
            block = self._read_frame(frame, low, high)
        except StackError:
            raise
        except Exception as error:  # readers raise anything from KeyError to zlib.error on damaged files
            raise StackError(
                f"{self.source}: frame {frame} cannot be read ({error}); copy the file again or take an undamaged one"
            ) from error
        if block.shape != (high - low, self.shape[2]):
            expected = (high - low, self.shape[2])
            raise StackError(
                f"{self.source}: frame {frame} has shape {block.shape}, expected {expected} as the first frame; split the stack"
            )
        return block

    @abstractmethod
    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        """Read rows low to high (excluded) of one frame, whole width."""


class ContiguousFrames(FrameArray):
    """Uncompressed frames at known places of one file.

    Read with plain file access rather than a memory map: mapped pages count as memory of the process, and a file that is
    shortened while it is mapped ends the process.

    Parameters
    ----------
    offsets
        Byte at which each frame begins.
    file_dtype
        Type and byte order as stored.
    shape_yx
        Rows and columns as stored.
    transposed
        Whether rows and columns are exchanged on reading (MRC files may say so).
    """

    def __init__(
        self, path: Path, offsets: NDArray[np.int64], file_dtype: Any, shape_yx: tuple[int, int], transposed: bool = False
    ) -> None:
        self._path, self._offsets, self._transposed = path, offsets, transposed
        self._file_dtype, self._stored_yx = np.dtype(file_dtype), shape_yx
        super().__init__((len(offsets), *(shape_yx[::-1] if transposed else shape_yx)), file_dtype, str(path))
        if int(offsets.min()) < 0:
            raise StackError(f"{path}: the header places frames outside the file; it is damaged; copy the file again")
        last = int(offsets.max()) + int(np.prod(shape_yx, dtype=np.int64)) * self._file_dtype.itemsize
        size = path.stat().st_size
        if last > size:
            bytes_per_frame = int(np.prod(shape_yx, dtype=np.int64)) * self._file_dtype.itemsize
            whole = int(np.count_nonzero(offsets + bytes_per_frame <= size))
            raise truncated(path, len(offsets), whole, last, size)

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        rows, columns = self._stored_yx
        first, count = (0, rows) if self._transposed else (low, high - low)
        buffer = np.empty((count, columns), self._file_dtype)
        with self._path.open("rb", buffering=0) as stream:
            stream.seek(int(self._offsets[frame]) + first * columns * self._file_dtype.itemsize)
            flat: Any = buffer.reshape(-1).view(np.uint8)
            view, done = memoryview(flat), 0
            while done < len(view):
                got = stream.readinto(view[done:])
                if not got:
                    raise StackError(
                        f"{self.source}: the file ends inside frame {frame}; it was shortened after it was opened; copy it again"
                    )
                done += got
        return buffer.T[low:high] if self._transposed else buffer


class PickedFrames(FrameArray):
    """Some frames of another array, in another order (one channel of an interleaved file)."""

    def __init__(self, frames: FrameArray, indices: NDArray[np.int64]) -> None:
        super().__init__((len(indices), *frames.shape[1:]), frames.dtype, frames.source)
        self._frames, self._indices = frames, indices

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        return self._frames._read_checked(int(self._indices[frame]), low, high)


class ChainedFrames(FrameArray):
    """Frames of several files, one after the other."""

    def __init__(self, parts: Sequence[FrameArray], source: str) -> None:
        shapes = {part.shape[1:] for part in parts}
        kinds = {part.dtype for part in parts}
        if len(shapes) > 1 or len(kinds) > 1:
            found = "; ".join(f"{Path(part.source).name} {part.shape[1:]} {part.dtype}" for part in parts[:6])
            raise StackError(
                f"{source}: the files differ in frame size or type ({found}); one stack has frames of one size; move the others away"
            )
        starts = np.cumsum([0, *(len(part) for part in parts)])
        super().__init__((int(starts[-1]), *parts[0].shape[1:]), parts[0].dtype, source)
        self._parts, self._starts = list(parts), starts

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        part = int(np.searchsorted(self._starts, frame, side="right")) - 1
        return self._parts[part]._read_checked(frame - int(self._starts[part]), low, high)


def truncated(path: Path, promised: int, whole: int, needed_bytes: int, size: int) -> StackError:
    """Word the error of a file that ends before its header says."""
    return StackError(
        f"{path}: the file is truncated: its header promises {promised:,} frames ({needed_bytes / 2**20:,.2f} MiB), the file has "
        f"{size / 2**20:,.2f} MiB, enough for {whole:,} whole frames; the copy or the recording was cut short; copy it again"
    )


def _three_keys(key: Any) -> tuple[Any, Any, Any]:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(item is Ellipsis for item in keys):
        place = next(index for index, item in enumerate(keys) if item is Ellipsis)
        keys[place : place + 1] = [slice(None)] * (3 - len(keys) + 1)
    keys += [slice(None)] * (3 - len(keys))
    if len(keys) != 3 or any(item is None or item is Ellipsis for item in keys):
        raise IndexError(f"frames have three axes (t, y, x); found the index {key!r}")
    return keys[0], keys[1], keys[2]


def _frames_of(key: Any, length: int) -> tuple[Sequence[int], bool]:
    if isinstance(key, slice):
        return range(*key.indices(length)), False
    if isinstance(key, (list, tuple, np.ndarray)) and np.ndim(key) == 1:
        chosen = np.asarray(key)
        if chosen.dtype == bool:
            if len(chosen) != length:
                raise IndexError(f"{len(chosen)} booleans for {length} frames")
            chosen = np.flatnonzero(chosen)
        return [_checked(int(index), length, "frame") for index in chosen], False
    return [_checked(operator.index(key), length, "frame")], True


def _span_of(key: Any, length: int, what: str) -> tuple[range, bool]:
    if isinstance(key, slice):
        return range(*key.indices(length)), False
    index = _checked(operator.index(key), length, what)
    return range(index, index + 1), True


def _checked(index: int, length: int, what: str) -> int:
    if not -length <= index < length:
        raise IndexError(f"{what} {index} is outside 0 to {length - 1}")
    return index % length


def _as_slice(span: range, start: int) -> slice:
    stop = span.stop - start
    # a slice that runs backwards past the first element has no number for its end
    return slice(span.start - start, None if stop < 0 else stop, span.step)
