"""Between nouns and layers, the only place: scale, units, names, and the mark in the metadata that says "this layer is ours".

All overlays stand in the world of the frames that they belong to: a table's nanometres are turned by the layer's own
transform, so that circles sit on their molecules even where somebody opened the frames without a pixel size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..domain.images import DepthPicture, RawStack, StackKind, Volume
from ..domain.molecules import Localizations
from ..engine.assemble.colors import depth_color, depth_limits
from ..errors import StackError
from .live import quick_picture
from .world import contrast_of, picture_contrast, place_grid, place_over, place_pixels

if TYPE_CHECKING:  # opening a file waits for no more than it needs
    from ..domain.runs import Calibration, FrameExplanation

KEY = "napari-volumetric-smlm"
LayerData = tuple[Any, dict[str, Any], str]
# what a layer of ours is for
FRAMES, MOLECULES, TABLE, PICTURE, FOUND, RESIDUAL, BEADS, MEASURED, FITTED = (
    "frames", "molecules", "table", "picture", "found", "residual", "beads", "measured", "fitted",
)  # fmt: skip
STACK_NAMES: dict[str | None, str] = {
    "frames": "Frames", "beads": "Beads", "light_field": "Light field", "structured": "Structured", None: "Stack",
}  # fmt: skip


def mark(role: str, **nouns: Any) -> dict[str, Any]:
    """Return the metadata of a layer of ours: its role and the nouns that it shows."""
    return {KEY: {"role": role, **nouns}}


def role_of(layer: Any) -> str | None:
    """Return what a layer of ours is for, or None for a layer of somebody else."""
    return (layer.metadata.get(KEY) or {}).get("role")


def noun_of(layer: Any, name: str) -> Any:
    """Return a noun kept with the layer ("stack", "table", "volume", ...), or None."""
    return (layer.metadata.get(KEY) or {}).get(name)


def lay_stack(stack: RawStack, instrument: Any = None) -> list[LayerData]:
    """Show a raw stack: one image layer per camera, (time or slice, y, x), a pixel as large as the file says (else 1 pixel).

    A point-spread function has its depth in nm, too, where its step is known; beads keep counting slices, so that the slider goes on
    counting frames where both are shown.

    `instrument` (an Instrument) travels with the layers when the file's note or the sample names one.
    """
    first_axis = "slice" if stack.kind == "beads" else "t"
    if stack.pixel_nm is None:
        grid: dict[str, Any] = {"axis_labels": (first_axis, "y", "x")}
    else:
        grid = {
            "scale": (1.0, stack.pixel_nm, stack.pixel_nm), "units": ("pixel", "nm", "nm"), "axis_labels": (first_axis, "y", "x"),
        }  # fmt: skip
        if "array" in stack.metadata and stack.kind == "beads" and stack.z_step_nm:
            voxel = (abs(stack.z_step_nm), stack.pixel_nm, stack.pixel_nm)
            grid = {"scale": voxel, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
    shown = []
    for camera, counts in enumerate(stack.counts_tyx):
        camera_name = f" · camera {camera + 1}" if len(stack.counts_tyx) > 1 else ""
        source = Path(stack.source[min(camera, len(stack.source) - 1)]).name if stack.source else ""
        options = {
            "name": f"{STACK_NAMES[stack.kind]}{camera_name}" + (f" · {source}" if source else ""),
            "metadata": mark(FRAMES, stack=stack, camera=camera, instrument=instrument),
            "contrast_limits": contrast_of(counts),
            "colormap": "gray",
            **grid,
        }
        if camera:
            # beside the first camera, not over it
            options["translate"] = (0.0, 0.0, camera * (counts.shape[2] + 10) * (stack.pixel_nm or 1.0))
        shown.append((counts, options, "image"))
    return shown


def stack_of(layers: list[Any], kind: StackKind) -> RawStack:
    """Return the raw stack that layers show, one layer a camera, in the order of the cameras.

    Parameters
    ----------
    kind
        What the user took the layers for; it is written into the stack.

    Raises
    ------
    StackError
        If a layer is a picture in colour or has more axes than (t, y, x).
    """
    counts = []
    source: list[str] = []
    nouns = []
    for layer in layers:
        noun: RawStack | None = noun_of(layer, "stack")
        nouns.append(noun)
        if noun is not None:
            camera = int(noun_of(layer, "camera") or 0)
            counts.append(noun.counts_tyx[camera])
            source += noun.source[camera : camera + 1]
            continue
        data = layer.data
        if getattr(layer, "rgb", False) or getattr(layer, "multiscale", False) or data.ndim not in (2, 3):
            raise StackError(
                f"the layer {layer.name!r} has the shape {tuple(np.shape(data))}: frames with the axes (t, y, x) in grey are expected; "
                "split the channels or take one position (right click on the layer: Split Stack)"
            )
        counts.append(data if data.ndim == 3 else data[None])
        path = getattr(layer.source, "path", None)
        source += [str(path)] if path else []
    first = nouns[0]
    cameras = [noun_of(layer, "camera") for layer in layers]
    if first is not None and all(noun is first for noun in nouns) and cameras == list(range(len(first.counts_tyx))):
        return first if first.kind == kind else first.model_copy(update={"kind": kind})
    known = [noun for noun in nouns if noun is not None]
    return RawStack(
        counts_tyx=tuple(counts),
        kind=kind,
        source=tuple(source) if len(source) == len(layers) else (),
        fingerprint="+".join(noun.fingerprint for noun in known),
        pixel_nm=next((noun.pixel_nm for noun in known if noun.pixel_nm), None),
        z_step_nm=next((noun.z_step_nm for noun in known if noun.z_step_nm), None),
        metadata=known[0].metadata if known else {},
        warnings=tuple(word for noun in known for word in noun.warnings),
    )


def lay_molecules(frames: Any | None, pixel_nm: float, name: str = "Molecules of this frame") -> LayerData:
    """Return an empty layer of circles, six camera pixels wide, that `fill_molecules` fills frame by frame."""
    options = {
        "name": name,
        "ndim": 2,
        "size": 6 * pixel_nm,
        "symbol": "disc",
        "face_color": "transparent",
        "border_color": "cyan",
        "border_width": 0.12,
        "metadata": mark(MOLECULES),
        **place_over(frames, pixel_nm),
    }
    return np.zeros((0, 2)), options, "points"


def fill_molecules(layer: Any, shown: Localizations, table: Localizations | None, depth_range_nm: tuple[float, float]) -> None:
    """Show some molecules as circles coloured by depth; the full `table` travels with the layer and is what gets saved."""
    layer.selected_data = set()
    fill_points(layer, shown.position_zyx_nm[:, 1:], depth_color(shown["z_nm"], depth_range_nm))
    layer.features = dict(shown.columns)
    layer.metadata = {**layer.metadata, **mark(MOLECULES, table=table if table is not None else shown)}


def fill_points(layer: Any, places_nm: NDArray[np.float64], colors: Any, part: str = "border_color") -> None:
    """Put points into a layer, be it shown or hidden, and colour their borders (or another `part`), each or all alike."""
    visible = layer.visible
    # napari slices a layer only while it shows, and colouring fewer points than the last slice had is an IndexError
    layer.visible = True
    layer.data = places_nm
    if len(places_nm):
        setattr(layer, part, colors)
    layer.visible = visible


def lay_table(table: Localizations, name: str, point_limit: int) -> list[LayerData]:
    """Show a table that was opened as a file: a quick picture, and as points at most `point_limit` molecules, spread evenly."""
    shown = table if len(table) <= point_limit else table.select(np.linspace(0, len(table) - 1, point_limit).astype(np.int64))
    more = "" if len(shown) == len(table) else f" ({len(shown):,} of {len(table):,} shown)"
    points = {
        "name": f"{name}{more}",
        "size": 40.0,
        "border_width": 0.0,
        "features": dict(shown.columns),
        "metadata": mark(TABLE, table=table),
        **place_over(None, 1.0),
    }
    if len(shown):
        points["face_color"] = depth_color(shown["z_nm"], depth_limits(table["z_nm"]))
    data = np.stack([shown["y_nm"], shown["x_nm"]], axis=1)
    layers: list[LayerData] = [(data, points, "points")]
    if len(table):
        layers.insert(0, lay_picture(quick_picture(table), f"Picture · {name}", None, 1.0, table))
    return layers


def lay_picture(
    picture: Volume | DepthPicture, name: str, frames: Any | None = None, pixel_nm: float = 1.0, table: Localizations | None = None
) -> LayerData:
    """Show a rendered picture: brightness (y, x), colour for depth (y, x, 3), or a volume (z, y, x) for a viewer of its own."""
    options: dict[str, Any] = {"name": name, "metadata": mark(PICTURE, volume=picture, table=table), "blending": "translucent_no_depth"}
    if isinstance(picture, DepthPicture):
        placed = place_grid(frames, pixel_nm, (picture.pixel_nm,) * 2, picture.origin_yx_nm)
        return picture.rgb_yxc, {**options, **placed, "rgb": True}, "image"
    values = picture.values_zyx
    options |= {"colormap": "inferno", "contrast_limits": picture_contrast(values)}
    if values.shape[0] > 1:
        grid = {
            "scale": picture.voxel_zyx_nm, "translate": picture.origin_zyx_nm, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x"),
        }  # fmt: skip
        return values, {**options, **grid, "rendering": "mip"}, "image"
    return values[0], {**options, **place_grid(frames, pixel_nm, picture.voxel_zyx_nm[1:], picture.origin_zyx_nm[1:])}, "image"


def lay_explanation(explanation: FrameExplanation, frames: list[Any], pixel_nm: float) -> list[LayerData]:
    """Show one frame's model mean ("what was found") and its residual in sigmas, each view where its camera's layer shows it."""
    shown = []
    for view, (model, residual) in enumerate(zip(explanation.model_vyx, explanation.residual_vyx, strict=True)):
        camera = explanation.camera_v[view]
        layer = frames[min(camera, len(frames) - 1)] if frames else None
        more = f" · view {view + 1}" if len(explanation.model_vyx) > 1 else ""
        placed = place_pixels(layer, pixel_nm, explanation.corner_vyx_px[view])
        limits = contrast_of(explanation.photons_vyx[view : view + 1])
        looks: dict[str, dict[str, Any]] = {
            FOUND: {
                "name": f"Found in this frame{more}",
                "colormap": "gray",
                "contrast_limits": limits,
            },
            RESIDUAL: {"name": f"Residual (sigmas){more}", "colormap": "PiYG", "contrast_limits": (-5.0, 5.0)},
        }
        for role, data in ((FOUND, model), (RESIDUAL, residual)):
            shown.append((data, {**looks[role], **placed, "visible": False, "metadata": mark(role, view=view)}, "image"))
    return shown


def lay_beads(positions_yx_px: NDArray[Any], stack_layer: Any | None) -> LayerData:
    """Show beads as points (row, column) over their stack."""
    options = {
        "name": "Beads to use",
        "size": 16.0,
        "symbol": "disc",
        "face_color": "transparent",
        "border_color": "yellow",
        "border_width": 0.08,
        "metadata": mark(BEADS),
        **place_pixels(stack_layer, 1.0),
    }
    return np.asarray(positions_yx_px, float).reshape(-1, 2), options, "points"


def lay_calibration(calibration: Calibration, stack_layer: Any | None) -> list[LayerData]:
    """Show measured and fitted images of the first bead, slice by slice, beside each other under the stack."""
    shown = []
    pixel = float(stack_layer.scale[-1]) if stack_layer is not None else 1.0
    units = tuple(str(unit) for unit in stack_layer.units[-3:]) if stack_layer is not None else ("pixel",) * 3
    step, axis = (float(stack_layer.scale[-3]), stack_layer.axis_labels[-3]) if stack_layer is not None else (1.0, "slice")
    rows, columns = calibration.measured_vzyx.shape[-2:]
    below = float(stack_layer.data.shape[-2] + 5) * pixel if stack_layer is not None else 0.0
    for view, (measured, fitted) in enumerate(zip(calibration.measured_vzyx, calibration.fitted_vzyx, strict=True)):
        limits = contrast_of(measured)
        for place, (role, name, data) in enumerate(((MEASURED, "Measured", measured), (FITTED, "Fitted", fitted))):
            options = {
                "name": name + (f" · view {view + 1}" if len(calibration.measured_vzyx) > 1 else ""),
                "contrast_limits": limits,
                "colormap": "gray",
                "scale": (step, pixel, pixel),
                "translate": (0.0, below + view * (rows + 5) * pixel, place * (columns + 5) * pixel),
                "units": units,
                "axis_labels": (axis, "y", "x"),
                "metadata": mark(role, view=view),
            }
            shown.append((data, options, "image"))
    return shown
