"""A quick walk along the pages of plain, uncompressed TIFF files.

Stacks of 40,000 pages without a dialect's index are common (camera programs append page after page). tifffile makes an
object of each page, which takes seconds; here only the bytes of the page headers are read and compared in one go.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...errors import StackError

# tags that say how pixels lie in the file; they must be the same on every page
LAYOUT_TAGS = (256, 257, 258, 259, 262, 266, 277, 278, 279, 284, 317, 339)
STRIP_OFFSETS = 273
OFFSET_TYPES = {3: "u2", 4: "u4", 16: "u8"}
# what tifffile calls pages whose place in the stack needs no dialect to be understood
PLAIN_FLAGS = {"frame", "multipage", "andor", "metaseries", "nuvu", "streak"}


def scan_plain_pages(tiff: tifffile.TiffFile, path: Path) -> NDArray[np.int64] | None:
    """Return the byte at which each frame begins, or None if the pages need tifffile (compressed, in pieces, of a dialect).

    Raises
    ------
    StackError
        If the chain of pages leaves the file or runs in a circle.
    """
    first = tiff.pages.first
    if first.flags - PLAIN_FLAGS or not first.is_contiguous or not first.is_final or first.is_tiled or len(first.dataoffsets) != 1:
        return None
    headers = _read_chain(tiff, path)
    if headers is None:
        return None
    count_bytes, tag_bytes = tiff.tiff.tagnosize, tiff.tiff.tagsize
    order, big = tiff.byteorder, tag_bytes == 20
    entry = np.dtype(
        [("code", order + "u2"), ("type", order + "u2"), ("count", order + ("u8" if big else "u4")), ("value", f"V{8 if big else 4}")]
    )
    tags = np.ascontiguousarray(headers[:, count_bytes : -tiff.tiff.offsetsize]).view(entry)
    if np.any(tags["code"] != tags["code"][:1]):
        return None
    codes = [int(code) for code in tags["code"][0]]
    if STRIP_OFFSETS not in codes:
        return None
    for code in LAYOUT_TAGS:
        if code in codes:
            column = np.ascontiguousarray(tags[:, codes.index(code)])
            if np.any(column != column[0]):
                return None
    strips = tags[:, codes.index(STRIP_OFFSETS)]
    kinds = np.unique(strips["type"])
    if len(kinds) != 1 or int(kinds[0]) not in OFFSET_TYPES or np.any(strips["count"] != 1):
        return None
    width = OFFSET_TYPES[int(kinds[0])]
    values = np.frombuffer(np.ascontiguousarray(strips["value"]).tobytes(), np.uint8).reshape(len(strips), -1)
    offsets = np.ascontiguousarray(values[:, : int(width[1])]).view(order + width)[:, 0]
    return np.asarray(offsets, np.int64)


def _read_chain(tiff: tifffile.TiffFile, path: Path) -> NDArray[np.uint8] | None:
    """Page headers, one row a page, or None where a page has another number of tags than the first."""
    size, place = tiff.filehandle.size, int(tiff.pages.first.offset)
    count_bytes, pointer_bytes = tiff.tiff.tagnosize, tiff.tiff.offsetsize
    endian = "little" if tiff.byteorder == "<" else "big"
    headers: list[bytes] = []
    with path.open("rb", buffering=0) as stream:
        stream.seek(place)
        tag_count = stream.read(count_bytes)
        length = count_bytes + int.from_bytes(tag_count, endian) * tiff.tiff.tagsize + pointer_bytes  # type: ignore[arg-type]
        while place:
            if place + length > size or len(headers) > size // length:
                if 0 < place < size and len(headers) <= size // length:
                    return None  # the last page may have fewer tags
                raise StackError(
                    f"{path}: the file is truncated or damaged: after {len(headers):,} frames the next one should stand at byte {place:,} "
                    f"of {size:,}; the copy or the recording was cut short; copy it again"
                )
            stream.seek(place)
            header = stream.read(length)
            if len(header) != length or header[:count_bytes] != tag_count:
                return None
            headers.append(header)
            place = int.from_bytes(header[-pointer_bytes:], endian)  # type: ignore[arg-type]
    return np.frombuffer(b"".join(headers), np.uint8).reshape(len(headers), length)
