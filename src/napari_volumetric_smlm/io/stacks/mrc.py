"""MRC (MRC2014, IMOD) and Priism/DeltaVision files: our own header reader, both byte orders; frames stay on disk.

Rows are kept in the order of the file (MRC draws the first row at the bottom; nothing is flipped here).
Header layouts: MRC2014 format (ccpem.ac.uk), Priism IVE header (the DeltaVision documentation).
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import StackError
from ..content import recognise_content
from .frames import ContiguousFrames
from .opened import OpenedFile, require_camera_type, split_axes
from .tiff_metadata import square_pixel_nm

HEADER_BYTES = 1024
DV_MARK = -16224
IMOD_MARK = 1146047817
MODES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 5: "i2", 6: "u2", 7: "i4", 12: "f2"}
# slowest axis first; C = wavelength
DV_ORDERS = {0: "CTZ", 1: "TZC", 2: "TCZ"}


@dataclasses.dataclass(frozen=True)
class MrcHeader:
    """The part of the header that says where the numbers are and what they mean.

    dtype : as stored, with byte order. data_offset : byte of the first section. axis_map : column, row, section -> 1 x, 2 y, 3 z.
    voxel_xyz_nm : 0 where the file does not say. axes, lengths : of the sections, slowest first.
    """

    columns: int
    rows: int
    sections: int
    dtype: np.dtype[Any]
    data_offset: int
    axis_map: tuple[int, int, int]
    voxel_xyz_nm: tuple[float, float, float]
    axes: str
    lengths: tuple[int, ...]
    deltavision: bool


def read_mrc_header(path: Path) -> MrcHeader:
    """Read and check the header.

    Raises
    ------
    StackError
        If this is no MRC or Priism/DV header, or its mode is one that holds no camera frames.
    """
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        found = recognise_content(path)
        raise StackError(f"{path}: {len(head)} bytes ({found or 'unknown'}); an MRC header alone has 1024; the copy failed, copy it again")
    order = _byte_order(head)
    if order is None:
        raise StackError(
            f"{path}: this is {recognise_content(path) or 'no MRC or DeltaVision file'}; an MRC or Priism/DV header was expected"
        )
    columns, rows, sections, mode = struct.unpack(order + "4i", head[:16])
    axis_map = struct.unpack(order + "3i", head[64:76])
    if sorted(axis_map) != [1, 2, 3]:
        axis_map = (1, 2, 3)  # zeros in files of old programs
    extended = struct.unpack(order + "i", head[92:96])[0]
    deltavision = struct.unpack(order + "h", head[96:98])[0] == DV_MARK
    if mode not in MODES:
        raise StackError(f"{path}: data mode {mode}; modes {', '.join(map(str, MODES))} are read; convert the file to 16-bit integers")
    code = MODES[mode]
    if mode == 0 and _has_unsigned_bytes(head, order, deltavision):
        code = "u1"
    voxel: tuple[float, float, float]
    axes, lengths = "Z", (sections,)
    if deltavision:
        x_um, y_um, z_um = struct.unpack(order + "3f", head[40:52])
        voxel = (_tidy(x_um * 1e3), _tidy(y_um * 1e3), _tidy(z_um * 1e3))
        times, sequence = struct.unpack(order + "2h", head[180:184])
        waves = struct.unpack(order + "h", head[196:198])[0]
        times, waves = max(times, 1), max(waves, 1)
        if times * waves > 1 and sections % (times * waves) == 0 and sequence in DV_ORDERS:
            axes = DV_ORDERS[sequence]
            known = {"T": times, "C": waves, "Z": sections // (times * waves)}
            lengths = tuple(known[axis] for axis in axes)
    else:
        grid, cell_angstrom = struct.unpack(order + "3i", head[28:40]), struct.unpack(order + "3f", head[40:52])
        sizes = [_tidy(length / count / 10) if count > 0 else 0.0 for length, count in zip(cell_angstrom, grid, strict=True)]
        voxel = (sizes[0], sizes[1], sizes[2])
    return MrcHeader(
        columns, rows, sections, np.dtype(order + code), HEADER_BYTES + max(extended, 0), axis_map, voxel, axes, lengths, deltavision
    )


def open_mrc(path: Path) -> OpenedFile:
    """Open an MRC or Priism/DV file without reading its frames.

    Raises
    ------
    StackError
        If the header is none, the file is shorter than it says, or its sections are not images of x and y.
    """
    header = read_mrc_header(path)
    require_camera_type(header.dtype, str(path))
    column, row, section = header.axis_map
    if section != 3:
        raise StackError(
            f"{path}: its sections lie across {'xy'[section - 1]} (axis order {header.axis_map}); "
            "frames are sections across z; reslice the volume"
        )
    shape_yx = (header.rows, header.columns)
    step = header.rows * header.columns * header.dtype.itemsize
    offsets = header.data_offset + step * np.arange(header.sections, dtype=np.int64)
    frames = ContiguousFrames(path, offsets, header.dtype, shape_yx, transposed=(column, row) == (2, 1))
    opened = OpenedFile([], [path], "Priism/DV" if header.deltavision else "MRC")
    x_nm, y_nm, z_nm = header.voxel_xyz_nm
    opened.pixel_nm = square_pixel_nm(x_nm or None, y_nm or None, opened, "the header")
    opened.z_step_nm = z_nm or None
    surplus = path.stat().st_size - int(offsets[-1]) - step
    if surplus:
        opened.warnings.append(f"{surplus:,} bytes follow the last frame that the header knows of; they are not read")
    split_axes(frames, header.axes, header.lengths, opened)
    return opened


def _tidy(value: float) -> float:
    # the header has single precision: 62.6, not 62.60000169
    return float(f"{value:.6g}") if np.isfinite(value) and value > 0 else 0.0


def _byte_order(head: bytes) -> str | None:
    for order in "<>":
        columns, rows, sections, mode = struct.unpack(order + "4i", head[:16])
        extended = struct.unpack(order + "i", head[92:96])[0]
        sizes_fit = all(0 < n < 10**7 for n in (columns, rows, sections)) and 0 <= mode <= 200 and 0 <= extended < 2**31 - 1
        marked = struct.unpack(order + "h", head[96:98])[0] == DV_MARK or head[208:211] == b"MAP"
        # files of before 1996 have no mark; their axis map and 8-byte numbers at least are what they must be
        old = sorted(struct.unpack(order + "3i", head[64:76])) in ([1, 2, 3], [0, 0, 0]) and mode in MODES
        if sizes_fit and (marked or old):
            return order
    return None


def _has_unsigned_bytes(head: bytes, order: str, deltavision: bool) -> bool:
    if deltavision:
        return True
    mark, flags = struct.unpack(order + "2i", head[152:160])
    return mark == IMOD_MARK and not flags & 1
