"""Where a layer lies in the world of the viewer, and how bright it is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StackError

NM_PER_UNIT = {"nanometer": 1.0, "nm": 1.0, "micrometer": 1e3, "um": 1e3, "µm": 1e3}


def contrast_of(counts: Any) -> tuple[float, float]:
    """Return contrast limits from three frames, so that a stack of 50 GB is shown at once."""
    frames = sorted({0, counts.shape[0] // 2, counts.shape[0] - 1})
    values = np.concatenate([np.asarray(counts[t])[::2, ::2].ravel() for t in frames]).astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (1.0, 99.8)) if values.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1.0))


def pixel_of_layer(layer: Any) -> float | None:
    """Return the size of a layer's pixels in nm where its units say it, else None."""
    size = NM_PER_UNIT.get(str(layer.units[-1]))
    return float(abs(layer.scale[-1])) * size if size is not None else None


def picture_contrast(values: NDArray[Any]) -> tuple[float, float]:
    """Return contrast limits that show single molecules of a picture that is mostly empty."""
    bright = values[values > 0]
    return 0.0, float(np.percentile(bright, 99.5)) if bright.size else 1.0


def place_over(frames: Any | None, pixel_nm: float) -> dict[str, Any]:
    """Return scale, translate, units (and affine) for a layer whose data are (y, x) in nm, so that it lies on the frames.

    Without a frames layer the world is nm. The transform is taken from the layer, whatever scale, shift or rotation it has.
    """
    labels = {"axis_labels": ("y", "x")}
    if frames is None:
        return {"scale": (1.0, 1.0), "units": ("nm", "nm"), **labels}
    corner = np.zeros(frames.ndim)
    origin = np.asarray(frames.data_to_world(corner))[-2:]
    steps = []
    for axis in (-2, -1):
        ahead = corner.copy()
        ahead[axis] = 1.0
        steps.append((np.asarray(frames.data_to_world(ahead))[-2:] - origin) / pixel_nm)
    linear = np.stack(steps, axis=1)
    units = tuple(str(unit) for unit in frames.units[-2:])
    if np.allclose(linear, np.diag(np.diag(linear)), atol=1e-12):
        return {"scale": tuple(np.diag(linear)), "translate": tuple(origin), "units": units, **labels}
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = linear, origin
    return {"affine": affine, "units": units, **labels}


def place_pixels(frames: Any | None, pixel_nm: float, corner_yx_px: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Return the same for an image whose pixels are those of the camera; its first pixel is the frames' pixel `corner_yx_px`."""
    return place_grid(frames, pixel_nm, (pixel_nm, pixel_nm), (corner_yx_px[0] * pixel_nm, corner_yx_px[1] * pixel_nm))


def place_grid(frames: Any | None, pixel_nm: float, size_yx_nm: tuple[float, ...], origin_yx_nm: tuple[float, ...]) -> dict[str, Any]:
    """Return the same for an image with pixels of `size_yx_nm`, the centre of the first one at `origin_yx_nm`."""
    placed = place_over(frames, pixel_nm)
    size, origin = np.array(size_yx_nm), np.array(origin_yx_nm)
    if "affine" in placed:
        placed["affine"][:2, 2] += placed["affine"][:2, :2] @ origin
        placed["affine"][:2, :2] = placed["affine"][:2, :2] * size
    else:
        scale = np.array(placed["scale"])
        placed["translate"] = tuple(np.array(placed.get("translate", (0.0, 0.0))) + scale * origin)
        placed["scale"] = tuple(scale * size)
    return placed


def region_of(shapes: Any, frames: Any) -> tuple[int, int, int, int]:
    """Return the part of the frame under the last drawn shape: (first row, first column, row after last, column after last).

    Raises
    ------
    StackError
        If nothing is drawn, or it lies outside the frames.
    """
    if not len(shapes.data):
        raise StackError(f"the layer {shapes.name!r} holds no shape: draw a rectangle over the frames first")
    chosen = max(shapes.selected_data) if len(shapes.selected_data) else len(shapes.data) - 1
    corners = np.asarray([shapes.data_to_world(corner) for corner in shapes.data[chosen]])[:, -2:]
    lead = np.asarray(frames.data_to_world(np.zeros(frames.ndim)))[:-2]
    pixels = np.asarray([frames.world_to_data((*lead, *corner)) for corner in corners])[:, -2:]
    # a pixel reaches from -0.5 to +0.5 around its number
    low = np.floor(pixels.min(axis=0) + 0.5).astype(int)
    high = np.ceil(pixels.max(axis=0) - 0.5).astype(int) + 1
    rows, columns = frames.data.shape[-2:]
    top, left = max(0, int(low[0])), max(0, int(low[1]))
    bottom, right = min(rows, int(high[0])), min(columns, int(high[1]))
    if top >= bottom or left >= right:
        raise StackError(f"the rectangle lies outside the frames ({rows} x {columns} pixels): draw it over them")
    return top, left, bottom, right
