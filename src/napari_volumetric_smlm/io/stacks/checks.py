"""Whether frames are what a camera writes: hard errors for values that no fit can use, words for what looks wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...domain.instrument import Camera
from ...errors import StackError

PLAUSIBLE_PIXEL_NM = (10.0, 1000.0)
SAMPLED_FRAMES = 3
WORRYING_SATURATED_SHARE = 1e-4
WORRYING_ZERO_SHARE = 0.05
# largest counts of converters narrower than the 16 bits that they are stored in
CONVERTER_LIMITS = (1023, 4095, 16383)


def check_frames(block: NDArray[Any], first_frame: int = 0, saturation_counts: float | None = None) -> tuple[str, ...]:
    """Check frames (t, y, x) as they were read.

    Parameters
    ----------
    first_frame
        Number of the block's first frame in the stack, for the words.
    saturation_counts
        Counts at which the camera saturates; empty = the largest value of the type, for whole numbers.

    Returns
    -------
    tuple of str
        What looks wrong but can be computed: frames of zeros only, saturated pixels.

    Raises
    ------
    StackError
        If the block is not (t, y, x), or holds values that are not finite: which frames, how many values.
    """
    if block.ndim != 3 or block.size == 0:
        raise StackError(f"frames have the axes (t, y, x) and at least one pixel; found shape {block.shape}")
    if block.dtype.kind == "f":
        bad = np.count_nonzero(~np.isfinite(block), axis=(1, 2))
        if bad.any():
            frames = np.flatnonzero(bad)
            listed = _list_frames(frames + first_frame)
            first = int(frames[0])
            raise StackError(
                f"{int(bad.sum())} values that are not finite (NaN or infinity) in {listed}, the first in frame {first_frame + first} "
                f"({int(bad[first])} of {block[0].size} pixels); replace them, or leave these frames out"
            )
    words = []
    blank = np.flatnonzero(~block.any(axis=(1, 2)))
    if len(blank):
        words.append(f"{_list_frames(blank + first_frame)} of zeros only")
    limit = saturation_counts if saturation_counts is not None else np.iinfo(block.dtype).max if block.dtype.kind in "iu" else None
    if limit is not None:
        saturated = np.count_nonzero(block >= limit, axis=(1, 2))
        if saturated.any():
            frames = np.flatnonzero(saturated)
            words.append(
                f"{int(saturated.sum())} saturated pixels (at least {limit:g} counts) in {_list_frames(frames + first_frame)}; "
                "photons and depth of these molecules will be wrong; use less light or gain"
            )
    return tuple(words)


def look_at_samples(counts: Any, saturation_counts: float | None = None) -> list[str]:
    """Look at the first, middle and last frame and say what is suspicious.

    Raises
    ------
    StackError
        If one of these frames cannot be read.
    """
    length = counts.shape[0]
    sampled = sorted({0, length // 2, length - 1})
    block = np.stack([np.asarray(counts[frame]) for frame in sampled])
    words: list[str] = []
    if block.dtype == np.uint8 or block.dtype == np.int8:
        words.append(
            "8-bit images: cameras write 10 to 16 bits, so these were scaled or converted and counts are no longer photons times gain"
        )
    where = f"the frames looked at ({_list_frames(np.array(sampled))})" if length > len(sampled) else "the stack"
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        words.append(f"{int((~np.isfinite(block)).sum())} values that are not finite (NaN or infinity) in {where}")
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    lowest, highest = block.min(), block.max()
    if lowest == highest:
        words.append(f"every pixel of {where} is {lowest:g}: nothing to see there")
        return words
    zeros = float(np.mean(block == 0))
    if zeros > WORRYING_ZERO_SHARE:
        words.append(f"{zeros:.0%} of the pixels of {where} are exactly 0: background was subtracted and clipped, or the image was masked")
    limit = _saturation_limit(block, saturation_counts)
    share = float(np.mean(block >= limit)) if limit is not None else 0.0
    if share > WORRYING_SATURATED_SHARE:
        words.append(f"{share:.2%} of the pixels of {where} are saturated (at least {limit:g} counts): their photons are unknown")
    return words


def judge_pixel_nm(pixel_nm: float | None, stated_by: str) -> tuple[float | None, list[str]]:
    """Keep a pixel size from a file's metadata if a microscope can have it; else drop it and say so."""
    if pixel_nm is None:
        return None, []
    low, high = PLAUSIBLE_PIXEL_NM
    if low <= pixel_nm <= high:
        return pixel_nm, []
    words = f"{stated_by} says that a pixel is {pixel_nm:g} nm wide, which no microscope of this kind has ({low:g} to {high:g} nm)"
    return None, [f"{words}; it is not used: state the right one"]


def full_counts(camera: Camera, dtype: Any) -> float:
    """Counts from which a pixel is saturated and says nothing; infinite where nobody knows."""
    if camera.saturation_counts is not None:
        return camera.saturation_counts
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind in "iu" else np.inf


def _saturation_limit(block: NDArray[Any], saturation_counts: float | None) -> float | None:
    if saturation_counts is not None:
        return saturation_counts
    if block.dtype.kind not in "iu":
        return None
    highest = int(block.max())
    # a 12-bit camera piles up at 4095 of a 16-bit number; a single pixel there proves nothing
    return float(highest) if highest in CONVERTER_LIMITS else float(np.iinfo(block.dtype).max)


def _list_frames(frames: NDArray[np.int64]) -> str:
    listed = ", ".join(f"{int(frame):,}" for frame in frames[:5])
    more = f" and {len(frames) - 5} more" if len(frames) > 5 else ""
    return f"frame{'s' if len(frames) > 1 else ''} {listed}{more}"
