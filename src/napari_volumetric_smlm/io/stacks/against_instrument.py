"""Where a stack and an instrument contradict each other, in words: cameras, pixels, and views that are dark or saturated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...domain.images import RawStack
from ...domain.instrument import Instrument
from .checks import WORRYING_SATURATED_SHARE, full_counts

PIXEL_TOLERANCE = 0.03
SAMPLED_FRAMES = 5
WIDE_PX = 12.0  # structure wider than this is illumination
CLEAR = 5.0  # standard deviations of the noise from which on a pixel shows light
# of the light of the other views: a covered or displaced view keeps stray light
DARK_SHARE = 0.1
FEWEST_CLEAR_PIXELS = 20


def compare_with_instrument(stack: RawStack, instrument: Instrument) -> tuple[str, ...]:
    """Say where stack and instrument contradict each other: number of cameras, pixel size, light of the views."""
    words = []
    cameras = {view.camera for view in instrument.views}
    if len(stack.counts_tyx) != len(cameras):
        words.append(
            f"the stack has {len(stack.counts_tyx)} cameras, the instrument's views use {len(cameras)}; "
            "give one file a camera, in the instrument's order"
        )
    expected = instrument.pixel_nm()
    if stack.pixel_nm is not None and abs(stack.pixel_nm / expected - 1) > PIXEL_TOLERANCE:
        words.append(
            f"the stack's metadata say {stack.pixel_nm:g} nm a pixel, the instrument {expected:g} nm "
            f"(camera pixel / magnification); one of them is wrong (binning? another objective?)"
        )
    return (*words, *judge_views(stack, instrument))


def judge_views(stack: RawStack, instrument: Instrument) -> tuple[str, ...]:
    """Say which views are dark or saturated in a few frames from the whole stack; instruments without microlenses are not judged."""
    views = instrument.views
    if len(views) < 2 or any(view.aperture is None or view.camera >= len(stack.counts_tyx) for view in views):
        return ()
    frames = np.unique(np.linspace(0, stack.frame_count - 1, min(SAMPLED_FRAMES, stack.frame_count)).astype(int))
    light, clear, words = np.zeros(len(views)), np.zeros(len(views)), []
    for v, view in enumerate(views):
        camera = instrument.cameras[view.camera]
        limit = full_counts(camera, stack.counts_tyx[view.camera].dtype)
        saturated = pixels = 0
        for frame in frames:
            counts = _part(np.asarray(stack.counts_tyx[view.camera][int(frame)]), view.region_yx_px)
            if not counts.size:
                continue
            full = counts >= limit
            saturated, pixels = saturated + int(full.sum()), pixels + counts.size
            fine, sure = _light(np.where(full, np.median(counts), counts))
            light[v] += fine * float(np.mean(np.asarray(camera.gain_e_per_count))) / camera.em_gain / view.photon_fraction
            clear[v] += sure
        if pixels and saturated > WORRYING_SATURATED_SHARE * pixels:
            share = "all" if saturated == pixels else f"{saturated / pixels:.2%}"
            words.append(
                f"view {v + 1} ({view.name}): {share} of the sampled pixels are saturated (at least {limit:g} counts); they are left "
                "out, and depths lean on the other views alone; use less light or gain"
            )
            # what is left of it says nothing about its light
            clear[v] = np.inf
    for v, view in enumerate(views):
        others = np.delete(np.arange(len(views)), v)
        rival = float(np.median(light[others]))
        told = np.isinf(clear[v]) or np.median(clear[others]) < FEWEST_CLEAR_PIXELS
        if not told and light[v] < DARK_SHARE * rival:
            words.append(
                f"view {v + 1} ({view.name}) is dark: {light[v] / rival:.1%} of the light that the other views show; it is covered, or "
                "not where the instrument has it. Depths will be wrong: find the lens centres again (vsmlm views), or describe the "
                "lenses that are used"
            )
    return tuple(words)


def _part(frame_yx: NDArray[Any], region_yx_px: tuple[int, int, int, int] | None) -> NDArray[np.float64]:
    if region_yx_px is None:
        return frame_yx.astype(np.float64)
    top, left, bottom, right = (max(0, n) for n in region_yx_px)
    return frame_yx[top:bottom, left:right].astype(np.float64)


def _light(counts_yx: NDArray[np.float64]) -> tuple[float, int]:
    """Counts of fine structure that clearly stands out of the noise, and in how many pixels."""
    from scipy import ndimage  # a third of a second, which opening a stack for the first look must not take

    fine = ndimage.uniform_filter(counts_yx, 3) - ndimage.gaussian_filter(counts_yx, WIDE_PX)
    middle = float(np.median(fine))
    sd = 1.4826 * float(np.median(abs(fine - middle)))
    sure = fine - middle > CLEAR * max(sd, 1e-12)
    return float(fine[sure].sum()), int(sure.sum())
