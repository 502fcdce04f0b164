"""From counts to photons: the cameras' frames as the fit needs them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..engine.localize.tiles import ViewImages
from ..errors import PlanError, StackError
from ..io.stacks import check_frames, full_counts

SAMPLED_FRAMES = 6


def check_cameras(stack: RawStack, instrument: Instrument) -> None:
    """Check that every camera of the instrument has its stack, and that its maps fit the frames.

    Raises
    ------
    PlanError
        With the numbers or sizes that differ.
    """
    needed = len(instrument.cameras)
    if len(stack.counts_tyx) != needed:
        raise PlanError(
            f"the instrument has {needed} camera{'s' * (needed > 1)}, but {len(stack.counts_tyx)} stack(s) were given; "
            "open one stack per camera, in order"
        )
    for c, camera in enumerate(instrument.cameras):
        shape = tuple(stack.counts_tyx[c].shape[1:])
        for name in ("offset_counts", "gain_e_per_count", "read_noise_e"):
            map_shape = getattr(getattr(camera, name), "shape", shape)
            if tuple(map_shape) != shape:
                raise PlanError(f"the map {name} of camera {c} has shape {tuple(map_shape)}, its frames {shape}; crop both alike")


def read_photons(stack: RawStack, instrument: Instrument, frames: range, noise_floor_c: list[float]) -> list[ViewImages]:
    """Read frames and turn counts into photons, view by view.

    An EMCCD's multiplication doubles the variance; its photons are halved here (and doubled in the results), so that
    variance equals mean for every camera. Saturated pixels and blank frames are marked as not seen.

    Parameters
    ----------
    noise_floor_c : read noise variance (photons^2) of each camera for which the instrument states none.

    Raises
    ------
    StackError
        If a value is not finite.
    """
    images = []
    for c, camera in enumerate(instrument.cameras):
        counts = np.asarray(stack.counts_tyx[c][frames.start : frames.stop])
        check_frames(counts, frames.start, camera.saturation_counts)
        scale = np.asarray(camera.gain_e_per_count, dtype=np.float32) / np.float32(camera.em_gain * camera.excess_noise)
        photons = (counts.astype(np.float32) - np.asarray(camera.offset_counts, dtype=np.float32)) * scale
        seen = (counts < full_counts(camera, counts.dtype)).astype(np.float32)
        # a frame whose counts are all alike was never exposed: it says nothing, not even darkness
        seen[counts.max((1, 2)) == counts.min((1, 2))] = 0
        noise = np.asarray(camera.read_noise_e, dtype=np.float32) / np.float32(camera.em_gain * camera.excess_noise)
        variance = torch.as_tensor(np.maximum(noise**2, np.float32(noise_floor_c[c])))
        images.append(ViewImages(torch.from_numpy(photons), variance, torch.from_numpy(seen)))
    return [_within(images[view.camera], view.region_yx_px) for view in instrument.views]


def read_run(stack: RawStack, instrument: Instrument, frames: range, noise_floor_c: list[float], context_frames: int) -> list[ViewImages]:
    """Read frames as `read_photons` does, with as many on each side as a network wants to see.

    In place of neighbours that the stack does not have, or that hold values that are not finite, stand frames in which no pixel counts.

    Raises
    ------
    StackError
        If a value of `frames` is not finite.
    """
    if not context_frames:
        return read_photons(stack, instrument, frames, noise_floor_c)
    first, after = frames.start - context_frames, frames.stop + context_frames
    here, there = max(0, first), min(stack.frame_count, after)
    # a plan may have left out the frame beside because of what is wrong with it
    for some in (range(here, there), range(here, frames.stop), range(frames.start, there)):
        with contextlib.suppress(StackError):
            images = read_photons(stack, instrument, some, noise_floor_c)
            break
    else:
        some, images = frames, read_photons(stack, instrument, frames, noise_floor_c)
    missing = (0, 0, 0, 0, some.start - first, after - some.stop)
    return [replace(view, photons_tyx=pad(view.photons_tyx, missing), seen_tyx=pad(view.seen_tyx, missing)) for view in images]


def _within(images: ViewImages, region_yx_px: tuple[int, int, int, int] | None) -> ViewImages:
    """A view's images, blind outside its part of the frame: what lies there belongs to another view."""
    if region_yx_px is None:
        return images
    inside = torch.zeros_like(images.seen_tyx[0])
    # a region may reach beyond the frame; negative numbers would count from the other side
    top, left, bottom, right = (max(0, n) for n in region_yx_px)
    inside[top:bottom, left:right] = 1
    return replace(images, seen_tyx=images.seen_tyx * inside)


def noise_floors(stack: RawStack, instrument: Instrument, frames: range) -> list[float]:
    """Read noise variance (photons^2) of every camera whose instrument file says zero, from the darkest parts of a few frames.

    Where photons are few, the variance beyond the mean is the camera's; without it dark pixels would weigh too much.
    """
    floors = []
    picked = sorted({frames[int(k)] for k in np.linspace(0, len(frames) - 1, SAMPLED_FRAMES)})
    for c, camera in enumerate(instrument.cameras):
        known = np.max(np.asarray(camera.read_noise_e)) > 0
        if known:
            floors.append(0.0)
            continue
        scale = np.asarray(camera.gain_e_per_count, dtype=np.float32) / np.float32(camera.em_gain * camera.excess_noise)
        frames_yx = [np.asarray(stack.counts_tyx[c][t], dtype=np.float32) for t in picked]
        offset = np.asarray(camera.offset_counts, dtype=np.float32)
        excess = [_dark_excess((frame - offset) * scale) for frame in frames_yx if frame.max() > frame.min()]
        floors.append(max(0.0, float(np.median(excess))) if excess else 0.0)
    return floors


def _dark_excess(photons_yx: NDArray[np.float32]) -> float:
    """Variance minus mean where the frame is darkest (its lowest quarter, in blocks of 8 x 8 pixels)."""
    height, width = (n // 8 * 8 for n in photons_yx.shape)
    if not height or not width:
        return 0.0
    blocks = photons_yx[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    mean = blocks.mean((2, 3))
    # neighbours' differences are blind to slow structure; half their variance is the noise
    noise = (
        np.concatenate([np.diff(blocks, axis=2).reshape(*mean.shape, -1), np.diff(blocks, axis=3).reshape(*mean.shape, -1)], -1).var(-1) / 2
    )
    dark = mean <= np.quantile(mean, 0.25)
    return float(np.median(noise[dark]) - np.median(mean[dark]))


def asked_range(first: int, last: int | None, count: int, names: tuple[str, str] = ("frame", "the stack")) -> range:
    """Return the numbers from `first` to `last` (None = to the end) of `count`; `names` are those of one and of what holds them.

    Raises
    ------
    PlanError
        If there are none of these numbers.
    """
    end = count - 1 if last is None else last
    if not first <= end < count:
        one, all_of_them = names
        asked = f"{one}s from {first} on" if last is None else f"{one}s {first} to {last}"
        found = f"{count} {one}s, numbered 0 to {count - 1}" if count > 1 else f"1 {one}, number 0"
        raise PlanError(f"{asked} were asked for; {all_of_them} has {found}")
    return range(first, end + 1)


def frames_and_region(stack: RawStack, plan: Any, instrument: Instrument) -> tuple[range, tuple[int, int, int, int]]:
    """Frames and region (first view) that a plan asks for, checked against the stack."""
    frames = asked_range(plan.first_frame, plan.last_frame, stack.frame_count)
    height, width = stack.counts_tyx[instrument.views[0].camera].shape[1:]
    field = instrument.views[0].region_yx_px or (0, 0, height, width)
    region = plan.region_yx_px or (max(0, field[0]), max(0, field[1]), min(height, field[2]), min(width, field[3]))
    if region[2] > height or region[3] > width:
        raise PlanError(f"region_yx_px {region} reaches beyond the frame of {height} x {width} pixels")
    if min(region[2] - region[0], region[3] - region[1]) < 5:
        raise StackError(
            f"a field of {region[2] - region[0]} x {region[3] - region[1]} pixels is too small to fit a molecule in; 5 x 5 is the least"
        )
    return frames, region


def to_device(view: ViewImages, device: torch.device) -> ViewImages:
    """Move a view's images to a device."""
    return ViewImages(*(t.to(device) for t in (view.photons_tyx, view.read_variance_yx, view.seen_tyx)))


@dataclass(frozen=True)
class Shares:
    """How fitted photons, which are those of a camera whose variance equals its mean, relate to detected ones.

    instrument : the views' shares as the cameras' frames show them: photon_fraction * quantum_efficiency / excess_noise.
    photons, background : factors from fitted to detected (all views; first view).
    """

    instrument: Instrument
    photons: float
    background: float


def detected_shares(instrument: Instrument) -> Shares:
    """Shares of an instrument's views in what its cameras detect."""
    cameras = [instrument.cameras[view.camera] for view in instrument.views]
    detected = [view.photon_fraction * camera.quantum_efficiency for view, camera in zip(instrument.views, cameras, strict=True)]
    fitted = [share / camera.excess_noise for share, camera in zip(detected, cameras, strict=True)]
    views = tuple(view.model_copy(update={"photon_fraction": share}) for view, share in zip(instrument.views, fitted, strict=True))
    return Shares(instrument.model_copy(update={"views": views}), sum(detected) / sum(fitted), cameras[0].excess_noise)
