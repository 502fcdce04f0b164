"""Render: a table becomes a picture or a volume."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.images import DepthPicture, Volume
from ..domain.molecules import Localizations
from ..domain.plans import RenderPlan
from ..engine.assemble.colors import depth_color, depth_limits, to_screen
from ..engine.assemble.render import canvas_of, draw


def render(localizations: Localizations, plan: RenderPlan) -> Volume:
    """Draw the molecules; a projection is a volume of one plane.

    Raises
    ------
    TableError
        If there is nothing to draw and no field of view.
    PlanError
        If the picture would not fit into memory.
    """
    canvas = canvas_of(localizations, plan)
    return Volume(
        values_zyx=draw(localizations, plan, canvas)[0].numpy(),
        voxel_zyx_nm=canvas.voxel_zyx_nm,
        origin_zyx_nm=canvas.origin_zyx_nm,
        quantity="molecules per voxel",
    )


def render_by_depth(localizations: Localizations, plan: RenderPlan) -> DepthPicture:
    """Draw a projection in which colour says the depth and brightness the number of molecules; raises as `render` does."""
    flat = plan.model_copy(update={"dimensions": "2d"})
    canvas = canvas_of(localizations, flat)
    limits = depth_limits(localizations["z_nm"])
    colors = depth_color(localizations["z_nm"], limits)
    return DepthPicture(
        rgb_yxc=to_screen(draw(localizations, flat, canvas, colors)[:, 0]),
        pixel_nm=plan.pixel_nm,
        origin_yx_nm=canvas.origin_zyx_nm[1:],
        depth_range_nm=limits,
    )


def shades(volume: Volume) -> NDArray[np.uint8]:
    """Compress the brightness of a volume's projection for a screen, (y, x)."""
    flat = torch.tensor(np.asarray(volume.values_zyx, np.float32)).sum(0)
    return to_screen(flat[None])[..., 0]
