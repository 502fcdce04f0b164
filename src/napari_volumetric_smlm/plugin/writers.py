"""Writer hooks: the full table kept with a layer in any writable format, a rendered picture with its pixel size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..domain.images import DepthPicture, Volume
from ..domain.molecules import Localizations
from ..errors import OutputError, SmlmError
from ..io.results import write_image
from ..io.tables import write_table
from .layers import KEY
from .world import NM_PER_UNIT

Writer = Callable[[str, Any, dict[str, Any]], list[str]]


def _table_writer(format: str) -> Writer:
    def write(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
        return _in_words(lambda: [str(place) for place in write_table(kept_table(meta), path, format)])

    write.__doc__ = f"Write the full table kept with a points layer as {format}."
    return write


write_own_csv = _table_writer("vsmlm-csv")
write_parquet = _table_writer("parquet")
write_thunderstorm = _table_writer("thunderstorm")
write_challenge = _table_writer("challenge")
write_picasso = _table_writer("picasso")
write_smap_csv = _table_writer("smap-csv")
write_decode = _table_writer("decode")
write_smlm = _table_writer("smlm")


def write_picture(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer as OME-TIFF with the size of its pixels."""
    return _in_words(lambda: [str(save_picture(path, data, meta))])


def kept_table(meta: dict[str, Any]) -> Localizations:
    """Return the table kept with a layer.

    Raises
    ------
    OutputError
        If the layer was not made from a table of molecules.
    """
    table = ((meta.get("metadata") or {}).get(KEY) or {}).get("table")
    if not isinstance(table, Localizations):
        raise OutputError(
            f"the layer {meta.get('name', '')!r} was not made from a table of molecules: there are no frames, photons and errors to write; "
            "choose a layer of this plugin, or save these points with napari's own CSV"
        )
    return table


def save_picture(path: str, data: Any, meta: dict[str, Any]) -> Any:
    """Write a picture of ours, or any grey image layer whose scale is in nm or um.

    Raises
    ------
    OutputError
        If the file cannot be written, or the layer does not say how large its pixels are.
    """
    picture = ((meta.get("metadata") or {}).get(KEY) or {}).get("volume")
    if isinstance(picture, DepthPicture):
        return write_image(picture.rgb_yxc, path, (1.0, picture.pixel_nm, picture.pixel_nm))
    if isinstance(picture, Volume):
        values = picture.values_zyx
        if values.shape[0] == 1:
            return write_image(values[0], path, picture.voxel_zyx_nm)
        return write_image(values, path, picture.voxel_zyx_nm, origin_zyx_nm=picture.origin_zyx_nm)
    values = np.asarray(data)
    sizes = _pixel_nm(meta, values.ndim)
    series = tuple(meta.get("axis_labels") or ())[:1] == ("t",)
    axes = {3: "TYX", 4: "TZYX"}.get(values.ndim, "") if series else ""
    return write_image(values, path, (sizes[-3] if len(sizes) > 2 else 1.0, sizes[-2], sizes[-1]), axes=axes)


def _pixel_nm(meta: dict[str, Any], ndim: int) -> list[float]:
    scale = list(meta.get("scale", ()))[-ndim:]
    units = [str(unit) for unit in (meta.get("units") or ())][-ndim:]
    if len(scale) < 2 or len(units) < 2 or any(unit not in NM_PER_UNIT for unit in units[-2:]):
        raise OutputError(
            f"the layer {meta.get('name', '')!r} does not say how large its pixels are (units {', '.join(units) or 'none'}): "
            "set its units to nm or um, or save it with napari's own TIFF"
        )
    return [size * NM_PER_UNIT.get(unit, 1.0) for size, unit in zip(scale, units, strict=True)]


def _in_words(write: Callable[[], list[str]]) -> list[str]:
    from napari.utils.notifications import show_error

    try:
        return write()
    except SmlmError as error:
        show_error(str(error))
        return []
