"""Volumes of single frames as layers in three dimensions, with their molecules and what lies underneath; all in nm (z, y, x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.images import Volume
from ..io.volume_files import SeriesArray, VolumeFile
from .layers import LayerData, lay_picture, mark

FRAME_VOLUME, FRAME_MOLECULES, UNDERNEATH = "frame_volume", "frame_molecules", "underneath"
PARITIES = ("even frames", "odd frames")
# added up they make white, and nobody who is blind to red or green takes one for the other
INTERLEAVED_MAPS = ("green", "magenta")
INTERLEAVED_COLORS = ("#60ff60", "#ff60ff")
# share of the voxels that are shown dark, and of those not yet saturated
DARK, BRIGHT = 0.6, 0.9997
GAP_PX = 10
SPOT_PX = 2.5


@dataclass(frozen=True)
class Slot:
    """Where a volume is shown. method : what made it. parity : 0 and 1 for even and odd frames in two colours, None for one colour."""

    method: str
    parity: int | None = None

    @property
    def name(self) -> str:
        """Name of its layer."""
        return self.method if self.parity is None else f"{self.method} · {PARITIES[self.parity]}"


def lay_frame_volume(volume: Volume, slot: Slot, panel: int) -> LayerData:
    """Show a volume; panel 1 stands beside panel 0."""
    options = {
        "name": slot.name,
        "colormap": "inferno" if slot.parity is None else INTERLEAVED_MAPS[slot.parity],
        "contrast_limits": volume_contrast(volume.values_zyx),
        "blending": "additive",
        "rendering": "mip",
        "metadata": mark(FRAME_VOLUME, slot=slot),
        **volume_grid(volume, panel),
    }
    return volume.values_zyx, options, "image"


def volume_grid(volume: Volume, panel: int) -> dict[str, Any]:
    """Scale and place of a volume."""
    z, y, x = volume.origin_zyx_nm
    return {
        "scale": volume.voxel_zyx_nm,
        "translate": (z, y, x + panel * panel_step_nm(volume)),
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
    }


def lay_volume_file(file: VolumeFile, name: str) -> LayerData:
    """Show a volume (z, y, x), or a series (t, z, y, x) that is read volume by volume, for a viewer of its own."""
    values, options, kind = lay_picture(file.volume(0), f"Volume · {name}")
    if file.count == 1:
        return values, options, kind
    # a picture is saved whole: of a series the layer holds no volume
    series = {
        "name": f"Volumes · {name}",
        "metadata": {},
        "scale": (1.0, *options["scale"]),
        "translate": (float(file.first_frame), *options["translate"]),
        "units": ("pixel", *options["units"]),
        "axis_labels": ("t", *options["axis_labels"]),
    }
    return SeriesArray(file), {**options, **series}, kind


def panel_step_nm(volume: Volume) -> float:
    """From a volume to the one beside it."""
    return (volume.values_zyx.shape[2] + GAP_PX) * volume.voxel_zyx_nm[2]


def volume_contrast(values_zyx: NDArray[Any]) -> tuple[float, float]:
    """Contrast limits of a volume that is dark for the most part."""
    low, high = np.quantile(values_zyx[::2, ::2, ::2], (DARK, BRIGHT))
    return float(low), float(max(high, low + 1e-6))


def lay_frame_molecules(parity: int | None, size_nm: float) -> LayerData:
    """Return an empty layer of molecules in a volume."""
    options = {
        "name": "Molecules" if parity is None else f"Molecules · {PARITIES[parity]}",
        "ndim": 3,
        "size": size_nm,
        "border_width": 0.0,
        "opacity": 0.9,
        "shading": "spherical",
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "metadata": mark(FRAME_MOLECULES, parity=parity),
    }
    return np.zeros((0, 3)), options, "points"


def lay_underneath(image_yx: NDArray[Any], place_yx: NDArray[np.float64], z_nm: float, like: Any) -> LayerData:
    """Show an image below a volume.

    Parameters
    ----------
    place_yx
        From its pixels (row, column, 1) to (y, x) nm, 2 x 3.
    z_nm
        Depth at which it lies.
    like
        The layer that it comes from: colours and contrast are the same.
    """
    affine = np.eye(4)
    affine[1:3, 1:] = place_yx
    affine[0, 3] = z_nm
    options = {
        "name": f"Underneath · {like.name}",
        "colormap": like.colormap,
        "contrast_limits": like.contrast_limits,
        "blending": "translucent_no_depth",
        "opacity": 0.7,
        "affine": affine,
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "metadata": mark(UNDERNEATH),
    }
    return image_yx[None], options, "image"


def pixels_to_nm(layer: Any, frames: Any, pixel_nm: float) -> NDArray[np.float64]:
    """From the pixels (row, column, 1) of an image to (y, x) nm on the frames over which it lies in the viewer, 2 x 3."""
    places = []
    for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        world = np.asarray(layer.data_to_world((*np.zeros(layer.ndim - 2), *corner)))[-2:]
        lead = np.asarray(frames.data_to_world(np.zeros(frames.ndim)))[:-2]
        places.append(np.asarray(frames.world_to_data((*lead, *world)))[-2:] * pixel_nm)
    origin, down, right = places
    return np.stack([down - origin, right - origin, origin], 1)
