"""ND2 files of Nikon's program, through the optional package `nd2`."""

from __future__ import annotations

import contextlib
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StackError
from ..content import recognise_content
from .frames import FrameArray
from .opened import OpenedFile, require_camera_type, split_axes
from .tiff_metadata import square_pixel_nm


class Nd2Frames(FrameArray):
    """Frames of an ND2 file; the channel runs fastest, as one exposure of the file holds all channels."""

    def __init__(self, file: Any, count: int, shape_yx: tuple[int, int], channels: int) -> None:
        super().__init__((count * channels, *shape_yx), file.dtype, str(file.path))
        self._file, self._channels = file, channels
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        exposure, channel = divmod(frame, self._channels)
        with self._lock:
            image = np.asarray(self._file.read_frame(exposure))
        return (image if image.ndim == 2 else image[channel])[low:high]


def open_nd2(path: Path) -> OpenedFile:
    """Open an ND2 file without reading its frames.

    Raises
    ------
    StackError
        If the package is not installed (with the command that installs it), or the file is damaged or in colour.
    """
    try:
        import nd2
    except ImportError as error:
        raise StackError(
            f"{path}: reading ND2 needs the package nd2; install it with: pip install 'napari-volumetric-smlm[formats]'"
        ) from error
    file = None
    try:
        file = nd2.ND2File(path)
        sizes = {str(axis): int(length) for axis, length in file.sizes.items()}
    except Exception as error:  # the package raises many types on damaged files
        if file is not None:
            file.close()
        content = recognise_content(path) or "of unknown content"
        raise StackError(f"{path}: not a readable ND2 file ({error}); the file is {content}; copy it again") from error
    try:
        if "S" in sizes:
            raise StackError(f"{path}: colour pictures (axes {sizes}); camera frames have one value a pixel")
        require_camera_type(file.dtype, str(path))
        channels = sizes.get("C", 1)
        loops = {axis: length for axis, length in sizes.items() if axis not in "CYX"}
        planned, recorded = int(np.prod(list(loops.values()), dtype=np.int64)), int(file.attributes.sequenceCount)
        if recorded < 1:
            raise StackError(f"{path}: no frame was recorded ({planned:,} planned); record again")
        frames = Nd2Frames(file, min(planned, recorded), (sizes["Y"], sizes["X"]), channels)
    except BaseException:
        file.close()
        raise
    opened = OpenedFile([], [path], "ND2")
    axes, lengths = "".join(loops), tuple(loops.values())
    if recorded < planned:
        opened.warnings.append(f"the recording ended early: {recorded:,} of {planned:,} planned frames are in the file; these are read")
        axes, lengths = "T", (recorded,)
    with contextlib.suppress(Exception):  # frames without metadata are better than no frames
        _read_metadata(file, "Z" in loops, opened)
    split_axes(frames, axes + "C", (*lengths, channels), opened)
    return opened


def _read_metadata(file: Any, has_z: bool, opened: OpenedFile) -> None:
    for loop in file.experiment or []:
        period = getattr(loop.parameters, "periodDiff", None)
        # the period that was asked for is 0 when the camera ran free; the mean that was reached is then beside it
        measured = getattr(period, "avg", 0) or getattr(loop.parameters, "periodMs", 0)
        if measured and measured > 0:
            opened.frame_interval_ms = float(measured)
    channels = getattr(file.metadata, "channels", None) or []
    if not channels:
        return
    volume, microscope, channel = channels[0].volume, channels[0].microscope, channels[0].channel
    sizes_um, calibrated = volume.axesCalibration, volume.axesCalibrated
    if calibrated[0] and calibrated[1]:  # else the package says 1 um
        opened.pixel_nm = square_pixel_nm(sizes_um[0] * 1e3, sizes_um[1] * 1e3, opened, "ND2 metadata")
    if has_z and calibrated[2]:
        opened.z_step_nm = sizes_um[2] * 1e3
    optics = {
        "numerical_aperture": microscope.objectiveNumericalAperture,
        "magnification": microscope.objectiveMagnification,
        "immersion_index": microscope.immersionRefractiveIndex,
        "emission_nm": channel.emissionLambdaNm,
    }
    opened.metadata["optics"] = {name: float(value) for name, value in optics.items() if value}
