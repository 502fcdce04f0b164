"""Volumes that are there already, one after the other: written by us or by other programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.images import RawStack, Volume
from ..domain.molecules import ZReference
from ..errors import InputError, StackError
from .results import read_provenance
from .stacks import check_frames, open_stack
from .volume_origin import Origin, origin_in

Voxel = tuple[float, float, float]


@dataclass(frozen=True)
class VolumeFile:
    """A series of volumes that are read one at a time.

    count : volumes. first_frame : frame of the movie that the first one shows. record : how they came about, where that is known.
    """

    stack: RawStack
    count: int
    planes: int
    voxel_zyx_nm: Voxel
    first_frame: int
    record: dict[str, Any]

    @property
    def z_reference(self) -> ZReference:
        """From where depths are measured."""
        known: dict[Any, ZReference] = {"coverslip": "coverslip", "focus": "focus"}
        return known.get(self.record.get("z_reference"), "unknown")

    @property
    def origin_zyx_nm(self) -> Origin:
        """Where the centre of the first voxel lies: as the record says, else as the file itself does, else at zero."""
        z, y, x = self.record.get("origin_zyx_nm") or origin_in(self.stack.metadata.get("ome_description", "")) or (0.0, 0.0, 0.0)
        return z, y, x

    def volume(self, index: int) -> Volume:
        """Read one volume.

        Raises
        ------
        StackError
            If it holds values that are not finite, or cannot be read.
        """
        first = index * self.planes
        values = np.asarray(self.stack.counts_tyx[0][first : first + self.planes], np.float32)
        check_frames(values, first)
        quantity = str(self.record.get("quantity", "unknown"))
        return Volume(values_zyx=values, voxel_zyx_nm=self.voxel_zyx_nm, origin_zyx_nm=self.origin_zyx_nm, quantity=quantity)


class SeriesArray:
    """A series of volumes as one array (t, z, y, x) that reads the planes that are asked for."""

    def __init__(self, file: VolumeFile) -> None:
        self._planes_zyx = file.stack.counts_tyx[0]
        self._number_tz = np.arange(file.count * file.planes).reshape(file.count, file.planes)
        self.shape = (file.count, file.planes, *(int(n) for n in self._planes_zyx.shape[1:]))
        self.dtype, self.ndim = self._planes_zyx.dtype, 4

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read planes: numbers, slices or lists of times and planes, then rows and columns."""
        times_planes, rows_columns = (index[:2], index[2:]) if isinstance(index, tuple) else (index, ())
        chosen = self._number_tz[times_planes]
        planes = np.stack([np.asarray(self._planes_zyx[int(k)])[rows_columns] for k in np.ravel(chosen)])
        return planes.reshape(*np.shape(chosen), *planes.shape[1:])


def is_volume_of_ours(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a volume, or a series of them, that this program wrote: the record beside it tells."""
    try:
        return "voxel_zyx_nm" in (read_provenance(path) or {})
    except InputError:
        return False


def open_volumes(path: str | os.PathLike[str], voxel_zyx_nm: Voxel | None = None) -> VolumeFile:
    """Open a file with one volume (z, y, x) or a series of them (t, z, y, x) without reading it.

    Parameters
    ----------
    voxel_zyx_nm
        Size of a voxel; empty = what the file says.

    Raises
    ------
    StackError
        If the file is no such thing, or nobody says how large its voxels are.
    """
    stack = open_stack(path)
    axes: dict[str, int] = {name: length for name, length in stack.metadata.get("axes", {}).items() if length > 1}
    if len(stack.counts_tyx) > 1 or (set(axes) - {"T", "Z"} and len(axes) > 1):
        found = " x ".join(f"{name} {length}" for name, length in axes.items())
        raise StackError(f"{path}: the axes {found}, y, x; a volume (z, y, x) or a series of volumes (t, z, y, x) was expected")
    if list(axes) == ["Z", "T"]:
        raise StackError(f"{path}: the axes z, t, y, x; in a series time is the first axis: save it as t, z, y, x")
    # one axis alone is depth, whatever the file calls it: times without depths are no volumes
    planes = axes.get("Z", stack.frame_count)
    if planes < 2:
        raise StackError(f"{path}: one image of {stack.counts_tyx[0].shape[1:]} pixels; a volume with several planes was expected")
    record = read_provenance(path) or {}
    frames = record.get("frames") or [record.get("plan", {}).get("first_frame", 0)]
    return VolumeFile(stack, stack.frame_count // planes, planes, voxel_zyx_nm or _voxel_of(stack, record, path), int(frames[0]), record)


def _voxel_of(stack: RawStack, record: dict[str, Any], path: str | os.PathLike[str]) -> Voxel:
    if "voxel_zyx_nm" in record:
        depth, height, width = record["voxel_zyx_nm"]
        return float(depth), float(height), float(width)
    if stack.pixel_nm is None or not stack.z_step_nm:
        told = f"a pixel of {stack.pixel_nm:g} nm" if stack.pixel_nm is not None else "no pixel size"
        raise StackError(f"{path}: the file says {told} and {'no' if not stack.z_step_nm else 'a'} distance of planes; state voxel_zyx_nm")
    return abs(stack.z_step_nm), stack.pixel_nm, stack.pixel_nm
