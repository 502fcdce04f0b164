"""Zarr arrays and OME-Zarr images (level 0), read chunk by chunk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StackError
from .frames import FrameArray
from .opened import OpenedFile, require_camera_type, split_axes
from .tiff_metadata import MS_PER_UNIT, NM_PER_UNIT, square_pixel_nm

MARKERS = ("zarr.json", ".zarray", ".zgroup")
LARGEST_KEPT_CHUNK_BYTES = 256 * 2**20


class ZarrFrames(FrameArray):
    """Frames of a Zarr array with any axes before y and x.

    Chunks often hold many frames: the last decoded run of frames is kept (at most 256 MiB), or each frame would decode all of them again.
    """

    def __init__(self, array: Any, source: str) -> None:
        self._lengths = tuple(int(n) for n in array.shape[:-2]) or (1,)
        super().__init__((int(np.prod(self._lengths, dtype=np.int64)), *array.shape[-2:]), array.dtype, source)
        self._array = array
        chunk = int(array.chunks[-3]) if len(array.shape) > 2 else 1
        run_bytes = chunk * self.shape[1] * self.shape[2] * self.dtype.itemsize
        self._run = chunk if run_bytes <= LARGEST_KEPT_CHUNK_BYTES else 1
        self._kept: tuple[tuple[int, ...], NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        if len(self._array.shape) == 2:
            return np.asarray(self._array[low:high])
        *outer, inner = (int(n) for n in np.unravel_index(frame, self._lengths))
        if self._run == 1:
            return np.asarray(self._array[(*outer, inner, slice(low, high))])
        start = inner - inner % self._run
        key = (*outer, start)
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                self._kept = None  # two runs are never held at once
                self._kept = key, np.asarray(self._array[(*outer, slice(start, start + self._run))])
            return np.asarray(self._kept[1][inner - start, low:high])


def open_zarr(path: Path) -> OpenedFile:
    """Open a Zarr array, a group with one array, or an OME-Zarr image.

    Raises
    ------
    StackError
        If the folder is no Zarr, holds several arrays and is no OME-Zarr, or its axes are not those of frames.
    """
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
        array, axes, multiscale = _choose_array(node, path)
    except StackError:
        raise
    except Exception as error:  # zarr raises many types on damaged metadata
        raise StackError(f"{path}: not a readable Zarr folder ({error}); copy the whole folder again, hidden files too") from error
    if 0 in array.shape:
        raise StackError(f"{path}: the array is empty (shape {tuple(array.shape)}); frames were expected")
    require_camera_type(array.dtype, str(path))
    frames = ZarrFrames(array, str(path))
    opened = OpenedFile([], [path], "OME-Zarr" if multiscale else "Zarr")
    if multiscale:
        _read_scales(multiscale, axes, opened)
    names = "".join(str(axis["name"])[:1].upper() for axis in axes[:-2]) or "T"
    split_axes(frames, names, tuple(array.shape[:-2]) or (1,), opened)
    return opened


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr node."""
    return path.is_dir() and any((path / marker).is_file() for marker in MARKERS)


def _choose_array(node: Any, path: Path) -> tuple[Any, list[dict[str, Any]], dict[str, Any] | None]:
    attributes = dict(node.attrs)
    multiscales = attributes.get("multiscales") or (attributes.get("ome") or {}).get("multiscales")
    if multiscales and not hasattr(node, "shape"):
        multiscale = dict(multiscales[0])
        array = node[multiscale["datasets"][0]["path"]]
        named = multiscale.get("axes") or list("tczyx")[-len(array.shape) :]
        axes = [dict(axis) if isinstance(axis, dict) else {"name": axis} for axis in named]
    elif hasattr(node, "shape"):
        array, axes, multiscale = node, _default_axes(node, path), {}
    else:
        found = {name: item for name, item in node.members() if hasattr(item, "shape")}
        if len(found) != 1:
            listed = ", ".join(f"{name} {tuple(item.shape)}" for name, item in found.items()) or "none"
            raise StackError(f"{path}: a Zarr group with {len(found)} arrays ({listed}); open the folder of the one that holds the frames")
        array = next(iter(found.values()))
        axes, multiscale = _default_axes(array, path), {}
    names = [str(axis["name"]).lower() for axis in axes]
    if len(names) != len(array.shape) or names[-2:] != ["y", "x"]:
        raise StackError(f"{path}: shape {tuple(array.shape)} with axes {names}; the last two axes of frames are y and x")
    return array, axes, multiscale or None


def _default_axes(array: Any, path: Path) -> list[dict[str, Any]]:
    count = len(array.shape)
    names = getattr(getattr(array, "metadata", None), "dimension_names", None)
    if names and all(names):
        return [{"name": name} for name in names]
    if count not in (2, 3):
        raise StackError(f"{path}: an array of shape {tuple(array.shape)} without names of its axes; frames have the axes (t, y, x)")
    return [{"name": name} for name in "tyx"[-count:]]


def _read_scales(multiscale: dict[str, Any], axes: list[dict[str, Any]], opened: OpenedFile) -> None:
    transforms = [*multiscale["datasets"][0].get("coordinateTransformations", []), *multiscale.get("coordinateTransformations", [])]
    scale = np.ones(len(axes))
    stated = False
    for transform in transforms:
        if transform.get("type") == "scale" and len(transform.get("scale", ())) == len(axes):
            scale, stated = scale * np.asarray(transform["scale"], float), True
    if not stated:
        return
    sizes: dict[str, float] = {}
    for axis, value in zip(axes, scale, strict=True):
        unit, name = str(axis.get("unit", "")).lower(), str(axis["name"]).lower()
        per_unit = MS_PER_UNIT.get(unit) if name == "t" else NM_PER_UNIT.get(unit)
        if per_unit is not None and value > 0:
            sizes[name] = float(value) * per_unit
    opened.pixel_nm = square_pixel_nm(sizes.get("x"), sizes.get("y"), opened, "OME-Zarr metadata")
    opened.z_step_nm, opened.frame_interval_ms = sizes.get("z"), sizes.get("t")
