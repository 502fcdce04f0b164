"""TIFF in the dialects of microscopes: plain, BigTIFF, OME, ImageJ, Micro-Manager; frames stay on disk."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from ...errors import StackError
from ..content import recognise_content
from .frames import ContiguousFrames, FrameArray, truncated
from .opened import OpenedFile, require_camera_type, split_axes
from .tiff_metadata import read_tiff_metadata
from .tiff_pages import PagedFrames, check_last_page, files_of, without_missing_end
from .tiff_scan import scan_plain_pages

RGB_PHOTOMETRICS = {2, 5, 6, 8}
WHITE_IS_ZERO = 0


def open_tiff(path: Path) -> OpenedFile:
    """Open a TIFF file (or the set of files that belongs to it) without reading its frames.

    Raises
    ------
    StackError
        If the file is no TIFF, truncated, in colour, or of more dimensions than frames have.
    """
    with _collected_messages() as messages:
        try:
            tiff = tifffile.TiffFile(path)
        except Exception as error:  # struct.error, ValueError and others on damaged headers
            raise StackError(f"{path}: {_why_no_tiff(path, error)}") from error
        try:
            opened = _open(tiff, path)
        except StackError:
            tiff.close()
            raise
        except Exception as error:
            tiff.close()
            raise StackError(f"{path}: the TIFF structure is damaged ({error}); copy the file again or take an undamaged one") from error
    if messages:
        opened.metadata["reader_log"] = messages
    return opened


def _open(tiff: tifffile.TiffFile, path: Path) -> OpenedFile:
    first = tiff.pages.first
    if not first.shape or 0 in first.shape or first.dtype is None:
        raise StackError(f"{path}: the first image is empty (shape {first.shape}); frames with rows and columns were expected")
    if first.photometric in RGB_PHOTOMETRICS or first.samplesperpixel > 1:
        # three or four frames, written by tifffile without a word about colours, become the colours of one picture
        written = f"{first.samplesperpixel} camera frames that a script wrote as the colours of one picture are written again by "
        instead = f'; {written}tifffile.imwrite(..., photometric="minisblack")' if first.axes.startswith("S") else ""
        raise StackError(
            f"{path}: colour pictures (shape {first.shape}, axes {first.axes}); camera frames have one value a pixel; "
            f"save the recording from the camera's program as 16-bit grey, or convert it in ImageJ (Image > Type > 16-bit){instead}"
        )
    require_camera_type(first.dtype, str(path))
    opened = OpenedFile([], [path], "TIFF")
    if first.photometric == WHITE_IS_ZERO:
        opened.warnings.append("the file says that white is zero; its numbers are taken as counts as they are")
    offsets = scan_plain_pages(tiff, path)
    if offsets is not None:
        read_tiff_metadata(tiff, opened)
        frames: FrameArray = ContiguousFrames(path, offsets, tiff.byteorder + first.dtype.char, first.shape)
        tiff.close()
        split_axes(frames, "T", (len(frames),), opened)
        return opened
    _check_promises(tiff, path)
    series = tiff.series[0]
    if len(first.shape) != 2 or series.axes[-2:] != "YX" or tuple(series.shape[-2:]) != tuple(first.shape):
        raise StackError(f"{path}: pages of shape {first.shape} with axes {series.axes}; plain images (rows, columns) were expected")
    opened.format = f"TIFF ({series.kind})"
    if len(tiff.series) > 1:
        shapes = ", ".join(str(item.shape) for item in tiff.series[:5])
        opened.warnings.append(f"the file holds {len(tiff.series)} image series (shapes {shapes}); the first one is read")
    read_tiff_metadata(tiff, opened)
    axes, lengths = series.axes[:-2], tuple(int(n) for n in series.shape[:-2])
    count = int(np.prod(lengths, dtype=np.int64))
    if series.dataoffset is not None:
        offsets = series.dataoffset + int(first.nbytes) * np.arange(count, dtype=np.int64)
        frames = ContiguousFrames(Path(series.pages[0].parent.filehandle.path), offsets, tiff.byteorder + first.dtype.char, first.shape)
        tiff.close()
    elif len(series.pages) != count:
        raise StackError(f"{path}: {len(series.pages):,} pages for {count:,} frames; save the stack with one page a frame")
    else:
        frames = PagedFrames(tiff, series, count)
        opened.files = files_of(series, path)
        axes, lengths, frames = without_missing_end(series, axes, lengths, frames, opened)
        check_last_page(series, len(frames), path)
    split_axes(frames, axes, lengths, opened)
    return opened


def _check_promises(tiff: tifffile.TiffFile, path: Path) -> None:
    """Compare what the headers promise with the file's size; tifffile itself would quietly return fewer frames."""
    first, size = tiff.pages.first, tiff.filehandle.size
    promised = 0
    # ImageJ and tifffile keep large stacks as one page with all frames behind it
    if tiff.is_imagej:
        promised = int((tiff.imagej_metadata or {}).get("images", 0))
    elif tiff.is_shaped and tiff.shaped_metadata:
        shape = tiff.shaped_metadata[0].get("shape", ())
        promised = int(np.prod(shape[:-2], dtype=np.int64)) if len(shape) > 2 else 0
    if promised > 1 and first.is_contiguous and len(tiff.pages) < promised:
        needed = first.dataoffsets[0] + promised * first.nbytes
        if needed > size:
            raise truncated(path, promised, max(0, (size - first.dataoffsets[0]) // first.nbytes), needed, size)
    if tiff.is_mmstack:
        return  # found by its own index of frames
    pages = len(tiff.pages)
    place = tiff.pages.next_page_offset
    if place is None:
        return
    tiff.filehandle.seek(place)
    pointer = tiff.filehandle.read(tiff.tiff.offsetsize)
    if len(pointer) < tiff.tiff.offsetsize or any(pointer):
        following = int.from_bytes(pointer, "little" if tiff.byteorder == "<" else "big")
        where = f"byte {following:,} of {size:,}" if pointer else "the end of the file"
        raise StackError(
            f"{path}: the file is truncated or damaged: after {pages:,} frames the next one should stand at {where}; "
            "the copy or the recording was cut short; copy it again"
        )


def _why_no_tiff(path: Path, error: Exception) -> str:
    content = recognise_content(path)
    if content is None or "TIFF" in content:
        return f"not a readable TIFF file ({error}); copy it again or take an undamaged one"
    if content == "zeros only" or content.startswith("empty"):
        return f"the file is {content}; the copy or the recording failed; copy it again"
    return f"this is {content} with the ending {path.suffix}; a TIFF stack from the camera was expected; choose that file"


@contextlib.contextmanager
def _collected_messages() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, for the stack's metadata instead of the terminal."""
    messages: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and len(messages) < 5:
                messages.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
