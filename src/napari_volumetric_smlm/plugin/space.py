"""Molecules in three dimensions, in a window of their own: there the axes are (z, y, x) in nm, and no time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from ..domain.images import Volume
from ..domain.molecules import Localizations
from ..domain.plans import RenderPlan
from ..domain.runs import Progress
from ..engine.assemble.colors import depth_color, depth_limits
from .jobs import draw_job
from .layers import TABLE, lay_picture, mark
from .settings import preferences
from .workers import Job, Outcome

# a software renderer needs seconds for larger volumes
LARGEST_VOXELS = 16e6


def show_in_space(table: Localizations, drawing: RenderPlan, job: Job, tell: Callable[[BaseException], None]) -> None:
    """Draw a volume in a thread, then open a viewer with it and with points coloured by depth."""
    plan = volume_plan(table, drawing)

    def begin() -> Generator[Progress, None, Any]:
        return draw_job(table, plan)

    def show(outcome: Outcome) -> None:
        job.ended.disconnect(show)
        if outcome.kind == "failed" and outcome.error is not None:
            tell(outcome.error)
        elif isinstance(outcome.value, Volume):
            open_space(table, outcome.value)

    if not job.busy:
        job.ended.connect(show)
        job.start(begin, quiet=True)


def volume_plan(table: Localizations, drawing: RenderPlan) -> RenderPlan:
    """Return the plan of a volume that can be drawn quickly: voxels as wished, larger where there would be too many."""
    extents = [float(np.ptp(table[name])) if len(table) else 0.0 for name in ("z_nm", "y_nm", "x_nm")]
    if table.shape_yx_px is not None and table.pixel_nm is not None:
        extents[1:] = [side * table.pixel_nm for side in table.shape_yx_px]
    pixel_nm, step_nm = drawing.pixel_nm, drawing.depth_step_nm
    while (extents[0] / step_nm + 1) * (extents[1] / pixel_nm + 1) * (extents[2] / pixel_nm + 1) > LARGEST_VOXELS:
        pixel_nm, step_nm = pixel_nm * 1.25, step_nm * 1.25
    update = {"dimensions": "3d", "color_by_depth": False, "pixel_nm": pixel_nm, "depth_step_nm": step_nm}
    return drawing.model_copy(update=update)


def open_space(table: Localizations, volume: Volume) -> Any:
    """Open a viewer in three dimensions: volume, points coloured by depth, axes, scale bar, and what the colours mean."""
    import napari
    from napari.layers import Layer

    viewer = napari.Viewer(title="Molecules in 3D", ndisplay=3)
    viewer.layers.append(Layer.create(*lay_picture(volume, "Volume", table=table)))
    limit = preferences().point_limit
    shown = table if len(table) <= limit else table.select(np.linspace(0, len(table) - 1, limit).astype(np.int64))
    low, high = depth_limits(table["z_nm"])
    options: dict[str, Any] = {
        "name": "Molecules", "size": 60.0, "border_width": 0.0, "features": dict(shown.columns), "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"), "metadata": mark(TABLE, table=table), "opacity": 0.8,
    }  # fmt: skip
    if len(shown):
        options["face_color"] = depth_color(shown["z_nm"], (low, high))
    viewer.layers.append(Layer.create(shown.position_zyx_nm, options, "points"))
    viewer.reset_view()
    viewer.scene.camera.angles = (0, 35, 60)
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.scene.overlays.axes.visible = True
    viewer.canvas.overlays.text.text = f"depth {low:.0f} to {high:.0f} nm, blue to orange ({table.z_reference})"
    viewer.canvas.overlays.text.visible = True
    return viewer
