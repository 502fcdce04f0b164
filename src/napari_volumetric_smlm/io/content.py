"""What a file really is, told from its first bytes and never from its ending."""

from __future__ import annotations

import os
import pickletools
from pathlib import Path

# longest first where one is the beginning of another
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF file"),
    (b"MM\x00*", "a TIFF file"),
    (b"II+\x00", "a BigTIFF file"),
    (b"MM\x00+", "a BigTIFF file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\xda\xce\xbe\n", "an ND2 file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 or old ND2 file"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"MATLAB 7.3", "a MATLAB 7.3 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"PAR1", "a Parquet table"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
    (b"{", "a JSON or text file"),
)


def recognise_content(path: str | os.PathLike[str]) -> str | None:
    """Name what the file holds ("a PNG picture", "a Python pickle", "empty"), or None when its first bytes tell nothing.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        head = stream.read(4096)
    if not head:
        return "empty (0 bytes)"
    for magic, words in MAGIC:
        if head[: len(magic)].lower() == magic.lower():
            return words
    if _is_pickle(head):
        return "a Python pickle"
    if not any(head):
        return "zeros only"
    return None


def _is_pickle(head: bytes) -> bool:
    # the parser of pickletools only reads opcodes; it runs nothing
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return True
    try:
        opcodes = [opcode.name for _, (opcode, _, _) in zip(range(8), pickletools.genops(head), strict=False)]
    except Exception:  # anything that is no pickle ends in one of many errors
        return False
    # protocols 0 and 1 have no header; a text that begins with a valid opcode or two proves nothing
    return len(opcodes) >= 4 or opcodes[-1:] == ["STOP"]
