"""How much a packed file may expand: a table is never worth filling the memory with one repeated byte."""

from __future__ import annotations

from pathlib import Path

from ...errors import TableError

# below this size nobody is hurt, whatever the ratio (an empty column packs a thousandfold)
HARMLESS_BYTES = 256 * 2**20
# float tables pack 1.2 to 10-fold, integer and constant columns more; DEFLATE ends at 1032
LARGEST_RATIO = 200


def refuse_bomb(path: Path, expanded_bytes: int, packed_bytes: int) -> None:
    """Raise when unpacking would give far more than any real table does.

    Raises
    ------
    TableError
        If `expanded_bytes` is more than `HARMLESS_BYTES` and more than `LARGEST_RATIO` times `packed_bytes`.
    """
    if expanded_bytes > HARMLESS_BYTES and expanded_bytes > LARGEST_RATIO * max(packed_bytes, 1):
        raise TableError(
            f"{path}: {packed_bytes} bytes on disk would expand to {expanded_bytes / 2**30:.1f} GiB; a real table expands less than "
            f"{LARGEST_RATIO}-fold, so this is a damaged or hostile file and was not unpacked; ask for a fresh copy"
        )
