"""What every format's reader returns: the cameras' frames, and the metadata in our units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.images import StackKind
from ...errors import StackError
from .frames import FrameArray, PickedFrames


@dataclasses.dataclass
class OpenedFile:
    """Frames and metadata of one file or folder.

    cameras : one array (t, y, x) per camera (channel) of the file.
    files : every file that the frames come from.
    kind : what the file itself says that it is.
    metadata : numbers, text, lists and dicts only; `camera` holds what is known under the names of `Camera`'s fields.
    """

    cameras: list[FrameArray]
    files: list[Path]
    format: str
    pixel_nm: float | None = None
    z_step_nm: float | None = None
    frame_interval_ms: float | None = None
    kind: StackKind | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)


def split_axes(frames: FrameArray, axes: str, lengths: tuple[int, ...], opened: OpenedFile) -> None:
    """Turn pages with named axes (all but y and x, first axis slowest) into one array of frames per camera.

    The channel axis C becomes cameras; of the other axes one may be longer than 1, else they are laid out in the file's order and
    a warning says so. `opened.metadata` keeps names and lengths of the axes.
    """
    found = {axis: length for axis, length in zip(axes, lengths, strict=True) if length > 1}
    opened.metadata["axes"] = dict(zip(axes, lengths, strict=True))
    order = np.arange(len(frames), dtype=np.int64).reshape(lengths)
    channels = found.pop("C", 1)
    if channels > 1 and not found:
        opened.warnings.append(f"the file calls its {channels} images channels; they are read as frames in that order")
        channels = 1
    if len(found) > 1:
        layout = " x ".join(f"{axis} {length}" for axis, length in found.items())
        opened.warnings.append(
            f"the file has the axes {layout}; its images are read as {len(frames) // channels} frames in the order of the file"
        )
    if channels == 1:
        opened.cameras = [frames]
        return
    opened.warnings.append(f"the file has {channels} channels; they are read as {channels} cameras")
    per_channel = np.moveaxis(order, axes.index("C"), 0).reshape(channels, -1)
    opened.cameras = [PickedFrames(frames, indices) for indices in per_channel]


def require_camera_type(dtype: Any, source: str) -> np.dtype[Any]:
    """Return the type if a camera could have written it.

    Raises
    ------
    StackError
        If the values are complex, single bits, text or records.
    """
    kind = np.dtype(dtype)
    if kind.kind == "c":
        raise StackError(f"{source}: the values are complex (a Fourier transform or an OTF?); camera frames are real numbers")
    if kind.kind == "b":
        raise StackError(f"{source}: the images have single bits (a mask?); camera frames with counts were expected")
    if kind.kind not in "iuf":
        raise StackError(f"{source}: the values have type {kind}; camera frames are whole or real numbers")
    return kind
