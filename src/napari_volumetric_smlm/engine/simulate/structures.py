"""Where molecules sit: anywhere in a box, on filaments, or on the surface of shells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.instrument import Instrument
from ...domain.plans import SimulatePlan
from ...errors import PlanError

FILAMENT_RADIUS_NM = 12.5  # a microtubule
FILAMENT_STEP_NM = 100.0
FILAMENT_AREA_UM2 = 15.0  # area for each filament
BEND_RAD, SLOPE_CHANGE = 0.05, 0.03  # per step: a persistence length of some 40 um
SHELL_AREA_UM2 = 12.0
SHELL_RADIUS_NM = (300.0, 1200.0)


@dataclass(frozen=True)
class Box:
    """The volume that may hold molecules: lowest and highest (z, y, x) in nm, (3,) each."""

    low_nm: Tensor
    high_nm: Tensor

    @property
    def area_um2(self) -> float:
        """Area along rows and columns."""
        side = self.high_nm - self.low_nm
        return float(side[1] * side[2]) * 1e-6


def plan_box(instrument: Instrument, plan: SimulatePlan) -> Box:
    """Return the volume over the first view's field without its border, from the lowest to the highest depth of the instrument.

    Raises
    ------
    PlanError
        If a view's part of the frame lies outside it, or the border leaves nothing of the field.
    """
    rows, columns = plan.shape_yx_px
    array = instrument.microlenses
    size = "" if array is None else f", {array.frame_yx_px[0]} {array.frame_yx_px[1]}"
    for view in instrument.views:
        field = view.region_yx_px or (0, 0, 0, 0)
        if field[2] > rows or field[3] > columns:
            raise PlanError(
                f"view {view.name!r} reaches to row {field[2]} and column {field[3]}, the frame has {rows} x {columns} pixels: "
                f"set shape_yx_px to the size of the instrument's raw frames{size}"
            )
    top, left, bottom, right = instrument.views[0].region_yx_px or (0, 0, rows, columns)
    if 2 * plan.border_px >= min(bottom - top, right - left):
        raise PlanError(
            f"a border of {plan.border_px} pixels leaves nothing of a frame of {bottom - top} x {right - left} pixels: "
            "make border_px smaller or the frame larger"
        )
    pixel = instrument.pixel_nm()
    # pixel 0 reaches from -0.5 to 0.5
    first = [(n + plan.border_px - 0.5) * pixel for n in (top, left)]
    last = [(n - plan.border_px - 0.5) * pixel for n in (bottom, right)]
    low, high = instrument.depth_range_nm
    return Box(torch.tensor([low, *first]), torch.tensor([high, *last]))


def place_molecules(count: int, box: Box, structure: str, generator: torch.Generator) -> Tensor:
    """Positions (count, 3) as z, y, x in nm, inside the box.

    Parameters
    ----------
    structure : "uniform", "filaments" (curved tubes of 25 nm that run through the box) or "shells" (hollow ellipsoids).
    """
    if structure == "filaments":
        points = _on_filaments(count, box, generator)
    elif structure == "shells":
        points = _on_shells(count, box, generator)
    else:
        points = box.low_nm + torch.rand((count, 3), generator=generator) * (box.high_nm - box.low_nm)
    return torch.minimum(torch.maximum(points, box.low_nm), box.high_nm)


def _on_filaments(count: int, box: Box, generator: torch.Generator) -> Tensor:
    filaments = max(2, round(box.area_um2 / FILAMENT_AREA_UM2))
    side = box.high_nm - box.low_nm
    # long enough to leave the box on both sides of its start
    steps = math.ceil(2 * float(torch.linalg.norm(side[1:])) / FILAMENT_STEP_NM)
    start = box.low_nm + torch.rand((filaments, 1, 3), generator=generator) * side
    heading = torch.rand((filaments, 1), generator=generator) * 2 * math.pi
    bend = torch.randn((filaments, steps), generator=generator) * BEND_RAD
    slope = torch.randn((filaments, steps), generator=generator) * SLOPE_CHANGE
    middle = steps // 2
    angle = heading + bend.cumsum(1) - bend[:, :middle].sum(1, keepdim=True)
    rise = torch.tanh(slope.cumsum(1) - slope[:, :middle].sum(1, keepdim=True)) * 0.3
    step = torch.stack([rise, torch.sin(angle), torch.cos(angle)], -1) * FILAMENT_STEP_NM
    path = step.cumsum(1)
    path = start + path - path[:, middle : middle + 1]
    # depth is folded back at the floor and at the ceiling, so that a filament never stops inside
    depth = torch.remainder(path[..., 0] - box.low_nm[0], 2 * side[0])
    path = torch.cat([(box.low_nm[0] + torch.minimum(depth, 2 * side[0] - depth))[..., None], path[..., 1:]], -1)
    nodes, step = path.flatten(0, 1), step.flatten(0, 1)
    inside = ((nodes[:, 1:] >= box.low_nm[1:]) & (nodes[:, 1:] <= box.high_nm[1:])).all(1)
    nodes, step = nodes[inside], step[inside]
    chosen = torch.randint(len(nodes), (count,), generator=generator)
    along = torch.rand((count, 1), generator=generator) - 0.5
    direction = step[chosen] / torch.linalg.norm(step[chosen], dim=1, keepdim=True)
    outward = torch.linalg.cross(direction, torch.randn((count, 3), generator=generator))
    outward = outward / torch.linalg.norm(outward, dim=1, keepdim=True).clamp(min=1e-6)
    return nodes[chosen] + along * step[chosen] + FILAMENT_RADIUS_NM * outward


def _on_shells(count: int, box: Box, generator: torch.Generator) -> Tensor:
    shells = max(1, round(box.area_um2 / SHELL_AREA_UM2))
    side = box.high_nm - box.low_nm
    low, high = SHELL_RADIUS_NM
    lateral = low + torch.rand((shells, 1), generator=generator) * (high - low)
    lateral = lateral.clamp(max=float(side[1:].min()) / 2)
    # round where the depth allows it
    radius = torch.cat([lateral.clamp(max=float(side[0]) / 2), lateral, lateral], 1)
    centre = box.low_nm + radius + torch.rand((shells, 3), generator=generator) * (side - 2 * radius)
    # larger shells carry more molecules
    chosen = (
        torch.multinomial(lateral[:, 0] ** 2, count, replacement=True, generator=generator) if count else torch.zeros(0, dtype=torch.long)
    )
    direction = torch.randn((count, 3), generator=generator)
    direction = direction / torch.linalg.norm(direction, dim=1, keepdim=True)
    return centre[chosen] + radius[chosen] * direction
