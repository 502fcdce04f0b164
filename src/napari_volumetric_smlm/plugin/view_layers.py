"""Between the views of an instrument and layers: lens centres, views laid over each other, and molecules as each view shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from .layers import LayerData, mark
from .world import contrast_of, place_grid, place_over, place_pixels

LENSES, VIEW, IN_VIEWS = "lens_centres", "view", "molecules_in_views"
# added up, three views that show the same make white
COLORMAPS = ("red", "green", "blue", "cyan", "magenta", "yellow", "gray")


def lay_lens_centres(centres_yx_px: NDArray[np.float64], frames: Any | None) -> LayerData:
    """Show lens centres as points (row, column) over the raw frames, to be dragged."""
    options = {
        "name": "Lens centres",
        "size": 12.0,
        "symbol": "cross",
        "face_color": "yellow",
        "border_width": 0.0,
        "features": {"lens": np.arange(1, len(centres_yx_px) + 1)},
        "text": {"string": "{lens:.0f}", "color": "yellow", "translation": (-8.0, 8.0)},
        "metadata": mark(LENSES),
        **place_pixels(frames, 1.0),
    }
    return np.asarray(centres_yx_px, float).reshape(-1, 2), options, "points"


def lay_views(stack: RawStack, cut: Instrument, raw: Instrument, frames: Any | None) -> list[LayerData]:
    """Show cut views over each other, each moved to where the first one shows the same, in colours that add up.

    The first view stays where the raw frames have it. Nothing is resampled; of an affine only the shift is shown.
    """
    corner = np.array(raw.views[0].region_yx_px or (0, 0, 0, 0))[:2] * raw.pixel_nm()
    shown = []
    for v, (counts, view) in enumerate(zip(stack.counts_tyx, cut.views, strict=True)):
        shift = np.array([row[2] for row in view.affine_yx])
        pixel = cut.pixel_nm(v)
        grid = place_grid(frames, raw.pixel_nm(), (pixel, pixel), tuple(corner - shift))
        options = {
            "name": f"{view.name} · {Path(stack.source[v]).name}" if len(stack.source) == len(cut.views) else view.name,
            "colormap": COLORMAPS[v % len(COLORMAPS)],
            "blending": "additive",
            "contrast_limits": contrast_of(counts),
            "metadata": mark(VIEW, view=v),
            **_with_time(grid),
        }
        shown.append((counts, options, "image"))
    return shown


def lay_molecules_in_views(frames: Any | None, pixel_nm: float, camera: int, several: bool) -> LayerData:
    """Return an empty layer of squares, eight camera pixels wide, for the images of the molecules on one camera."""
    options = {
        "name": f"Molecules in the views{f' · camera {camera + 1}' if several else ''}",
        "ndim": 2,
        "size": 8 * pixel_nm,
        "symbol": "square",
        "face_color": "transparent",
        "border_color": "white",
        "border_width": 0.06,
        "metadata": mark(IN_VIEWS, camera=camera),
        **place_over(frames, pixel_nm),
    }
    return np.zeros((0, 2)), options, "points"


def places_in_view(table: Localizations, instrument: Instrument, view: int, shift_dyx_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where molecules show in a view, (n, 2) as (y, x) nm on its camera, given the shift of an image depth by depth."""
    z, depth = table["z_nm"], np.linspace(*instrument.depth_range_nm, len(shift_dyx_nm))
    parallax = np.stack([np.interp(z, depth, shift) for shift in shift_dyx_nm.T], 1)
    affine = np.array(instrument.views[view].affine_yx)
    return np.asarray(table.position_zyx_nm[:, 1:] @ affine[:, :2].T + affine[:, 2] + parallax)


def _with_time(grid: dict[str, Any]) -> dict[str, Any]:
    """Return the place of a picture for a movie: time first, one frame a step."""
    placed = {**grid, "axis_labels": ("t", *grid["axis_labels"]), "units": ("pixel", *grid["units"])}
    if "affine" in grid:
        placed["affine"] = np.eye(4)
        placed["affine"][1:, 1:] = grid["affine"]
    else:
        placed |= {"scale": (1.0, *grid["scale"]), "translate": (0.0, *grid.get("translate", (0.0, 0.0)))}
    return placed
