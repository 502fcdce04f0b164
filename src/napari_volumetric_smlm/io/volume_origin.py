"""Where a written volume lies, in words that stay with the TIFF when the record beside it is lost."""

from __future__ import annotations

import re

Origin = tuple[float, float, float]
# positions of planes are not used: elsewhere they are those of a stage, and a long series has an element for each plane
WORDS = "Volume by napari-volumetric-smlm; centre of its first voxel (z, y, x) in nm: "
_NUMBER = r"(-?\d+(?:\.\d*)?(?:e[+-]?\d+)?)"


def origin_words(origin_zyx_nm: Origin) -> str:
    """Say where the first voxel of a volume lies."""
    return WORDS + ", ".join(repr(float(side)) for side in origin_zyx_nm)


def origin_in(words: str) -> Origin | None:
    """Read it again, or None where the words do not say it."""
    found = re.search(re.escape(WORDS) + ", ".join([_NUMBER] * 3), words)
    return (float(found[1]), float(found[2]), float(found[3])) if found else None
