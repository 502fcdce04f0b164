"""Frames that are pages of a TIFF file: compressed, scattered over files, or planned and never recorded."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...errors import StackError
from .frames import FrameArray, PickedFrames, truncated
from .opened import OpenedFile

# dialects that may spread one recording over several files
SETS = {"ome", "mmstack", "ndtiff"}


class PagedFrames(FrameArray):
    """Frames that are pages of a TIFF file, compressed or scattered; each is decoded when it is asked for."""

    def __init__(self, tiff: tifffile.TiffFile, series: Any, page_count: int) -> None:
        super().__init__((page_count, *series.shape[-2:]), series.dtype, str(tiff.filehandle.path))
        self._pages = series.pages
        self._lock = threading.Lock()
        weakref.finalize(self, tiff.close)

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        # tifffile's pages are not safe to use from several threads, and share one file position
        with self._lock:
            page = self._pages[frame]
            if is_missing(page):
                raise StackError(
                    f"{self.source}: frame {frame} is missing in the file (was the recording aborted?); choose frames before it"
                )
            handle = page.parent.filehandle
            if handle.closed:
                handle.open()
            ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if max(ends) > handle.size:
                raise StackError(
                    f"{self.source}: the file ends inside frame {frame}; the copy or the recording was cut short; copy it again"
                )
            try:
                return np.asarray(page.asarray())[low:high]
            except (ValueError, KeyError) as error:
                if "imagecodecs" not in str(error):
                    raise
                name = getattr(page.compression, "name", page.compression)
                raise StackError(
                    f"{self.source}: compressed with {name}, which needs the package imagecodecs; "
                    "install it with: pip install imagecodecs, or save the stack without compression"
                ) from error


def is_missing(page: Any) -> bool:
    """Tell whether a page of a series was planned but never recorded."""
    return page is None or not any(page.databytecounts)


def check_last_page(series: Any, count: int, path: Path) -> None:
    """Tell a file that ends before its last page does, without looking at every page.

    Raises
    ------
    StackError
        With the number of frames that are whole.
    """
    page = series.pages[count - 1]
    if is_missing(page):
        return
    end = max(offset + length for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True))
    handle = page.parent.filehandle
    if end > handle.size:
        low, high = 0, count - 1
        while low < high:  # frames stand in the order of time in every writer that can be cut short
            middle = (low + high) // 2
            probe = series.pages[middle]
            if not is_missing(probe) and max(probe.dataoffsets) + max(probe.databytecounts) > handle.size:
                high = middle
            else:
                low = middle + 1
        raise truncated(path, count, low, end, handle.size)


def without_missing_end(
    series: Any, axes: str, lengths: tuple[int, ...], frames: FrameArray, opened: OpenedFile
) -> tuple[str, tuple[int, ...], FrameArray]:
    """Drop frames at the end that were planned but never recorded: the user pressed stop.

    Raises
    ------
    StackError
        If frames are missing between others: a file of the set is not there.
    """
    count = len(frames)
    if series.kind in SETS:
        gaps = np.flatnonzero([is_missing(page) for page in series.pages])
        inside = gaps[gaps < count - len(gaps)]
        if len(inside):
            raise StackError(
                f"{frames.source}: {len(gaps):,} of {count:,} frames are missing, the first is frame {int(gaps[0]):,}; "
                "put all files of the recording into one folder, under the names that they were written with"
            )
    if not is_missing(series.pages[count - 1]):
        return axes, lengths, frames
    present = count
    while present and is_missing(series.pages[present - 1]):
        present -= 1
    block = int(np.prod(lengths[1:], dtype=np.int64))
    whole = present // block
    if not whole:
        raise StackError(f"{frames.source}: none of the {count:,} planned frames was recorded; record again")
    opened.warnings.append(f"the recording ended early: {whole * block:,} of {count:,} planned frames are in the file; these are read")
    return axes, (whole, *lengths[1:]), PickedFrames(frames, np.arange(whole * block, dtype=np.int64))


def files_of(series: Any, path: Path) -> list[Path]:
    """List the files that the pages of a series lie in."""
    if series.kind not in SETS:
        return [path]
    found = {Path(page.parent.filehandle.path) for page in series.pages if page is not None}
    return sorted(found) or [path]
