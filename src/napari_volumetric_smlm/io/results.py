"""Pictures and volumes that we made, with their pixel size, and a record of how they came about beside them."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..domain.illumination import StructuredImages
from ..errors import InputError, OutputError
from .atomic import replacing
from .json_files import read_json
from .volume_origin import Origin, origin_words

LARGEST_RECORD_MIB = 64


def provenance_path(result: str | os.PathLike[str]) -> Path:
    """Where the record of a result stands: the result's full name with .json behind it, as tables have it (sr.ome.tif.json)."""
    path = Path(result)
    return path.with_name(path.name + ".json")


def write_provenance(record: Mapping[str, Any], result: str | os.PathLike[str]) -> Path:
    """Write how a picture or another result came about (plan, versions, source, seed) beside it; tables write their own.

    Raises
    ------
    OutputError
        If it cannot be written, or holds something that JSON cannot.
    """
    target = provenance_path(result)
    try:
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OutputError(
            f"cannot write {target}: the record cannot be JSON ({error}); use finite numbers, text, lists and dicts"
        ) from error
    with replacing(target) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return target


def read_provenance(result: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the record beside a result, or None where there is none.

    Raises
    ------
    InputError
        If there is one and it is damaged.
    """
    place = provenance_path(result)
    return read_json(place, InputError, LARGEST_RECORD_MIB) if place.is_file() else None


def write_image(
    array: NDArray[Any],
    path: str | os.PathLike[str],
    pixel_zyx_nm: tuple[float, float, float],
    axes: str = "",
    origin_zyx_nm: Origin | None = None,
) -> Path:
    """Write a picture, a volume or a stack as OME-TIFF with its pixel size.

    Parameters
    ----------
    array
        (y, x), (z, y, x), or in colour (y, x, 3) and (z, y, x, 3) as uint8. float64 is written as float32.
    pixel_zyx_nm
        Pixel sizes; z counts only where there is a z axis.
    axes
        YX, ZYX, TYX, TZYX, YXS or ZYXS; empty = colour where the last axis has 3 values of uint8, else z, y, x.
    origin_zyx_nm
        Of a volume the centre of its first voxel, where that is known.

    Raises
    ------
    OutputError
        If the array has no such axes or the file cannot be written; an older file is then untouched.
    """
    target = Path(path)
    values = _as_written(np.asarray(array))
    colour = values.dtype == np.uint8 and values.ndim in (3, 4) and values.shape[-1] == 3
    axes = axes or {2: "YX", 3: "YXS" if colour else "ZYX", 4: "ZYXS" if colour else ""}.get(values.ndim, "")
    if axes not in {"YX", "ZYX", "TYX", "TZYX", "YXS", "ZYXS"} or len(axes) != values.ndim or not values.size:
        raise OutputError(f"cannot write {target}: an array of shape {values.shape} with axes {axes or 'unknown'} is no picture or volume")
    depth, height, width = pixel_zyx_nm
    metadata: dict[str, Any] = {
        "axes": axes,
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": "nm",
    }
    if "Z" in axes:
        metadata |= {"PhysicalSizeZ": depth, "PhysicalSizeZUnit": "nm"}
    if origin_zyx_nm is not None:
        metadata["Description"] = origin_words(origin_zyx_nm)
    with replacing(target) as part:
        tifffile.imwrite(
            part,
            values,
            ome=True,
            photometric="rgb" if axes.endswith("S") else "minisblack",
            metadata=metadata,
            # programs that do not know OME read the size from here
            resolution=(1e7 / width, 1e7 / height),
            resolutionunit="CENTIMETER",
        )
    return target


def write_structured(values_tyx: NDArray[Any], images: StructuredImages, path: str | os.PathLike[str]) -> Path:
    """Write one kind of a reconstruction's images as OME-TIFF: a series of images, a volume, or a series of volumes.

    Raises
    ------
    OutputError
        If the file cannot be written; an older file is then untouched.
    """
    pixel = images.pixel_nm
    if images.plane_nm is None:
        return write_image(values_tyx, path, (1.0, pixel, pixel), axes="TYX")
    volumes = images.by_volume(values_tyx)
    voxel = (images.plane_nm, pixel, pixel)
    return write_image(volumes, path, voxel, axes="TZYX") if len(volumes) > 1 else write_image(volumes[0], path, voxel, axes="ZYX")


def write_png(picture: NDArray[np.uint8], path: str | os.PathLike[str]) -> Path:
    """Write a picture (y, x) in grey, (y, x, 3) in colour or (y, x, 4) with transparency as PNG.

    Raises
    ------
    OutputError
        If the array is no uint8 picture or the file cannot be written; an older file is then untouched.
    """
    target = Path(path)
    values = np.ascontiguousarray(picture)
    channels = 1 if values.ndim == 2 else values.shape[-1] if values.ndim == 3 else 0
    kind = {1: 0, 3: 2, 4: 6}.get(channels)
    if values.dtype != np.uint8 or kind is None or not values.size:
        raise OutputError(
            f"cannot write {target}: shape {values.shape}, type {values.dtype}; a uint8 picture (y, x), (y, x, 3) or (y, x, 4) was expected"
        )
    rows, columns = values.shape[:2]
    lines = np.zeros((rows, 1 + columns * channels), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = values.reshape(rows, -1)
    header = struct.pack(">2I5B", columns, rows, 8, kind, 0, 0, 0)
    with replacing(target) as part, part.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")):
            stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
    return target


def _as_written(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype == np.float64:
        return values.astype(np.float32)
    if values.dtype in (np.int64, np.uint64):  # hardly any program reads 64-bit integers
        return (
            values.astype(np.uint32 if values.size and values.min() >= 0 else np.int32)
            if _fits_32_bits(values)
            else values.astype(np.float32)
        )
    return values


def _fits_32_bits(values: NDArray[Any]) -> bool:
    return bool(not values.size or (values.max() < 2**31 and values.min() >= -(2**31)))
