"""A quick walk along the pages of plain, uncompressed TIFF files.

Stacks of 40,000 pages without a dialect's index are common (camera programs append page after page). tifffile makes an
object of each page, which takes seconds; here only the bytes of the page headers are read and compared in one go.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...errors import StackError

# tags that say how pixels lie in the file; they must be the same on every page
LAYOUT_TAGS = (256, 257, 258, 259, 262, 266, 277, 278, 279, 284, 317, 339)
STRIP_OFFSETS = 273
OFFSET_TYPES = {3: "u2", 4: "u4", 16: "u8"}
MOST_HEADER_BYTES = 4096
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
    # writers put descriptions on the first page only, so it may have other tags than the rest
    parts = [_parse(tiff, headers[:1]), _parse(tiff, headers[1:])] if len(headers) > 1 else [_parse(tiff, headers)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or any(part.layout != known[0].layout for part in known):
        return None
    return np.concatenate([part.offsets for part in known])


@dataclasses.dataclass(frozen=True)
class _Pages:
    layout: dict[int, bytes]
    offsets: NDArray[np.int64]


def _parse(tiff: tifffile.TiffFile, headers: list[bytes]) -> _Pages | None:
    """Understand pages whose headers have the same tags, or return None where they differ in more than the place of the pixels."""
    if len({len(header) for header in headers}) > 1:
        return None
    count_bytes, tag_bytes, pointer_bytes = tiff.tiff.tagnosize, tiff.tiff.tagsize, tiff.tiff.offsetsize
    order, big = tiff.byteorder, tag_bytes == 20
    entry = np.dtype(
        [("code", order + "u2"), ("type", order + "u2"), ("count", order + ("u8" if big else "u4")), ("value", f"V{8 if big else 4}")]
    )
    rows = np.frombuffer(b"".join(headers), np.uint8).reshape(len(headers), -1)
    tags = np.ascontiguousarray(rows[:, count_bytes:-pointer_bytes]).view(entry)
    if np.any(tags["code"] != tags["code"][:1]):
        return None
    codes = [int(code) for code in tags["code"][0]]
    if STRIP_OFFSETS not in codes:
        return None
    layout = {}
    for code in LAYOUT_TAGS:
        if code in codes:
            column = np.ascontiguousarray(tags[:, codes.index(code)])
            if np.any(column != column[0]):
                return None
            layout[code] = column[0].tobytes()
    strips = tags[:, codes.index(STRIP_OFFSETS)]
    kinds = np.unique(strips["type"])
    if len(kinds) != 1 or int(kinds[0]) not in OFFSET_TYPES or np.any(strips["count"] != 1):
        return None
    width = OFFSET_TYPES[int(kinds[0])]
    values = np.frombuffer(np.ascontiguousarray(strips["value"]).tobytes(), np.uint8).reshape(len(strips), -1)
    offsets = np.ascontiguousarray(values[:, : int(width[1])]).view(order + width)[:, 0]
    return _Pages(layout, np.asarray(offsets).astype(np.int64))


def _read_chain(tiff: tifffile.TiffFile, path: Path) -> list[bytes] | None:
    """Page headers one by one, or None where one is not what a camera program writes."""
    size, place = tiff.filehandle.size, int(tiff.pages.first.offset)
    count_bytes, tag_bytes, pointer_bytes = tiff.tiff.tagnosize, tiff.tiff.tagsize, tiff.tiff.offsetsize
    endian: Literal["little", "big"] = "little" if tiff.byteorder == "<" else "big"
    headers: list[bytes] = []
    guess = count_bytes + 16 * tag_bytes + pointer_bytes
    with path.open("rb", buffering=0) as stream:
        while place:
            if place + count_bytes + pointer_bytes > size or len(headers) > size // (count_bytes + tag_bytes):
                raise StackError(
                    f"{path}: the file is truncated or damaged: after {len(headers):,} frames the next one should stand at byte {place:,} "
                    f"of {size:,}; the copy or the recording was cut short; copy it again"
                )
            stream.seek(place)
            header = stream.read(guess)
            length = count_bytes + int.from_bytes(header[:count_bytes], endian) * tag_bytes + pointer_bytes
            if length > MOST_HEADER_BYTES:
                return None
            if length > len(header):
                stream.seek(place)
                header, guess = stream.read(length), length
            if len(header) < length:
                return None
            headers.append(header[:length])
            place = int.from_bytes(header[length - pointer_bytes : length], endian)
    return headers
