"""Structures of cells whose true shape is known, as points with weights: tubes, hollow spheres, crossing filaments, beads.

Sizes are those that super-resolved pictures of these structures are compared with: microtubules as labelled (hollow, 55 nm), clathrin
pits (hollow, 50 to 120 nm), mitochondria (hollow, 240 to 325 nm). Molecules that blink sit on the same walls (`place_on_walls`); those
anywhere, on thin filaments or on shells are in `structures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import PlanError
from .structures import Box

MICROTUBULE_NM = 55.0
PIT_NM = (50.0, 120.0)
MITOCHONDRION_NM = (240.0, 325.0)
MITOCHONDRION_LENGTH_NM = (1500.0, 6000.0)
# areas for each of them, and points along a tube or on a surface
MICROTUBULE_UM2, PIT_UM2, MITOCHONDRION_UM2, BEAD_UM2 = 12.0, 2.0, 12.0, 5.0
POINT_STEP_NM = 40.0
POINTS_PER_UM2 = 150.0
POINTS_A_PIT = 30
NODES = 64  # of a curve
KINDS = ("microtubules", "pits", "mitochondria", "beads")


@dataclass(frozen=True)
class Phantom:
    """Points that shine: z, y, x in nm (n, 3), and weights (n,)."""

    position_n3: Tensor
    weight_n: Tensor

    def __add__(self, other: Phantom) -> Phantom:
        return Phantom(torch.cat([self.position_n3, other.position_n3]), torch.cat([self.weight_n, other.weight_n]))

    def scaled(self, total: float) -> Phantom:
        """The same with weights of this sum."""
        return Phantom(self.position_n3, self.weight_n * (total / self.weight_n.sum().clamp(min=1e-12)))


@dataclass(frozen=True)
class Wall:
    """Where labels sit: the wall of a tube along a path (n, 3), or of a sphere around a path of one point.

    points : how many it carries in a phantom; of several walls, each has its share of the molecules.
    """

    path_n3: Tensor
    diameter_nm: float
    points: int

    def spread(self, points: int, generator: torch.Generator) -> Phantom:
        """Points at random places of the wall."""
        if len(self.path_n3) == 1:
            return hollow_sphere(self.path_n3[0], self.diameter_nm, points, generator)
        return hollow_tube(self.path_n3, self.diameter_nm, points, generator)


def phantom(kind: str, box: Box, seed: int) -> Phantom:
    """Structures of one kind at random places of a box, or of several kinds ("pits+microtubules"), each point of weight one.

    Raises
    ------
    PlanError
        If there is no such kind.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name in kind.split("+"):
        if name not in KINDS:
            raise PlanError(f"there is no phantom {name!r}: {', '.join(KINDS)} are known, also together (pits+microtubules)")
        if name == "beads":
            parts.append(_beads(box, generator))
        else:
            # points are drawn as soon as their wall is: seeds mean what they always did
            parts.append(_within(box, [wall.spread(wall.points, generator) for wall in WALLS[name](box, generator)]))
    return sum(parts[1:], parts[0])


def place_on_walls(count: int, kind: str, box: Box, seed: int, generator: torch.Generator) -> Tensor:
    """Positions (count, 3) of molecules as z, y, x in nm, on structures of one kind inside the box.

    Parameters
    ----------
    kind : "microtubules", "pits" or "mitochondria".
    seed : of the structures, which are the same for any number of molecules; `generator` places molecules on them.
    """
    walls = walls_in(box, kind, seed)
    share = torch.tensor([float(wall.points) for wall in walls])
    found, missing = [torch.zeros((0, 3))], count
    while missing > 0:
        chosen = torch.multinomial(share, missing, replacement=True, generator=generator).bincount(minlength=len(walls)).tolist()
        drawn = _within(box, [wall.spread(number, generator) for wall, number in zip(walls, chosen, strict=True) if number])
        found.append(drawn.position_n3)
        missing -= len(drawn.position_n3)
    return torch.minimum(torch.maximum(torch.cat(found), box.low_nm), box.high_nm)


def walls_in(box: Box, kind: str, seed: int) -> list[Wall]:
    """Return the walls that `place_on_walls` uses: whole between floor and ceiling of the box, unless it is thinner than they are."""
    deep = float(box.high_nm[0] - box.low_nm[0])
    room = torch.tensor([min(LARGEST_NM[kind] / 2, THINNEST * deep / 2), 0.0, 0.0])
    return list(WALLS[kind](Box(box.low_nm + room, box.high_nm - room), torch.Generator().manual_seed(seed)))


def hollow_tube(path_n3: Tensor, diameter_nm: float, points: int, generator: torch.Generator) -> Phantom:
    """Points spread evenly along a path (n, 3) and around it, on the wall of a tube."""
    step = path_n3[1:] - path_n3[:-1]
    length = torch.linalg.norm(step, dim=1)
    chosen = torch.multinomial(length.clamp(min=1e-9), points, replacement=True, generator=generator)
    along = torch.rand((points, 1), generator=generator)
    direction = step[chosen] / length[chosen, None].clamp(min=1e-9)
    outward = torch.linalg.cross(direction, torch.randn((points, 3), generator=generator))
    outward = outward / torch.linalg.norm(outward, dim=1, keepdim=True).clamp(min=1e-6)
    return Phantom(path_n3[:-1][chosen] + along * step[chosen] + diameter_nm / 2 * outward, torch.ones(points))


def hollow_sphere(centre_3: Tensor, diameter_nm: float, points: int, generator: torch.Generator) -> Phantom:
    """Points spread evenly on the surface of a sphere."""
    outward = torch.randn((points, 3), generator=generator)
    outward = outward / torch.linalg.norm(outward, dim=1, keepdim=True).clamp(min=1e-6)
    return Phantom(centre_3 + diameter_nm / 2 * outward, torch.ones(points))


def crossing_filaments(centre_3: Tensor, distance_zyx_nm: tuple[float, float, float], length_nm: float, angle_rad: float) -> list[Tensor]:
    """Paths of two straight filaments, turned against each other by an angle, whose middles are a given distance apart.

    With angle 0 they are parallel (along x): two filaments to be told apart. The middle between them is `centre_3`.
    """
    paths = []
    for side in (-0.5, 0.5):
        heading = torch.tensor([0.0, math.sin(side * angle_rad), math.cos(side * angle_rad)])
        middle = centre_3 + side * torch.tensor(distance_zyx_nm)
        paths.append(torch.stack([middle - heading * length_nm / 2, middle + heading * length_nm / 2]))
    return paths


def _microtubules(box: Box, generator: torch.Generator) -> Iterator[Wall]:
    side = box.high_nm - box.low_nm
    for _ in range(_number(MICROTUBULE_UM2, box, generator)):
        path = _curve(box, float(side[1:].norm()), 0.4, generator)
        yield Wall(path, MICROTUBULE_NM, round(float(side[1:].norm()) / POINT_STEP_NM))


def _mitochondria(box: Box, generator: torch.Generator) -> Iterator[Wall]:
    for _ in range(_number(MITOCHONDRION_UM2, box, generator)):
        length, diameter = _between(MITOCHONDRION_LENGTH_NM, generator), _between(MITOCHONDRION_NM, generator)
        yield Wall(_curve(box, length, 1.0, generator), diameter, round(math.pi * diameter * length * 1e-6 * POINTS_PER_UM2))


def _pits(box: Box, generator: torch.Generator) -> Iterator[Wall]:
    side = box.high_nm - box.low_nm
    # pits sit on membranes: gently sloped sheets
    slope, height = torch.randn(2, generator=generator) * 0.05, 0.15 + 0.7 * torch.rand(1, generator=generator)
    for _ in range(_number(PIT_UM2, box, generator)):
        share = torch.rand(3, generator=generator)
        share[0] = (height + (slope * side[1:] / side[0] * (share[1:] - 0.5)).sum() + 0.02 * torch.randn(1, generator=generator)).clamp(
            0, 1
        )
        yield Wall((box.low_nm + share * side)[None], _between(PIT_NM, generator), POINTS_A_PIT)


WALLS = {"microtubules": _microtubules, "pits": _pits, "mitochondria": _mitochondria}
LARGEST_NM = {"microtubules": MICROTUBULE_NM, "pits": PIT_NM[1], "mitochondria": MITOCHONDRION_NM[1]}
THINNEST = 0.9  # share of a thin box that keeping away from floor and ceiling may take


def _beads(box: Box, generator: torch.Generator) -> Phantom:
    """Beads in a cell-shaped cloud: exp(-(x / s)^6 / 8) along each axis; as bright as a half to a whole pit."""
    count = 4 * _number(BEAD_UM2, box, generator) + 8
    half = (box.high_nm - box.low_nm) / 2
    width = half * (0.4 + 0.4 * torch.rand(3, generator=generator))
    away = (2 * torch.rand((count, 3), generator=generator) - 1) * half
    inside = torch.exp(-((away / width) ** 6).sum(1) / 8) > torch.rand(count, generator=generator)
    place = (box.low_nm + half + away)[inside]
    return Phantom(place, POINTS_A_PIT * (0.5 + 0.5 * torch.rand(len(place), generator=generator)))


def _curve(box: Box, length_nm: float, bend_rad: float, generator: torch.Generator) -> Tensor:
    """A smooth path (n, 3) through a random point; it turns by about `bend_rad` over its length and stays within the box's depths."""
    start = box.low_nm + torch.rand(3, generator=generator) * (box.high_nm - box.low_nm)
    heading = 2 * math.pi * torch.rand(1, generator=generator)
    rise = 0.15 * torch.randn(1, generator=generator)
    where = torch.linspace(-0.5, 0.5, NODES)
    # turns and climbs as slow waves of random phase
    phase = 2 * math.pi * torch.rand((2, 3), generator=generator)
    size = torch.randn((2, 3), generator=generator) / torch.arange(1, 4)
    waves = (size[:, :, None] * torch.sin(math.pi * torch.arange(1, 4)[:, None] * where + phase[:, :, None])).sum(1)
    angle, climb = heading + bend_rad * waves[0], rise + 0.3 * bend_rad * waves[1]
    step = torch.stack([climb, torch.sin(angle), torch.cos(angle)], 1)
    step = step / step.norm(dim=1, keepdim=True) * (length_nm / (NODES - 1))
    path = step.cumsum(0)
    path = start + path - path[NODES // 2]
    # depth is folded back at floor and ceiling, so that nothing ends inside the box without reason
    deep = float(box.high_nm[0] - box.low_nm[0])
    depth = torch.remainder(path[:, 0] - box.low_nm[0], 2 * deep)
    return torch.cat([(box.low_nm[0] + torch.minimum(depth, 2 * deep - depth))[:, None], path[:, 1:]], 1)


def _within(box: Box, parts: list[Phantom]) -> Phantom:
    whole = sum(parts[1:], parts[0])
    # a wall may stick out of the box's depths by its radius; along rows and columns nothing lies outside
    inside = ((whole.position_n3[:, 1:] >= box.low_nm[1:]) & (whole.position_n3[:, 1:] <= box.high_nm[1:])).all(1)
    return Phantom(whole.position_n3[inside], whole.weight_n[inside])


def _number(area_um2: float, box: Box, generator: torch.Generator) -> int:
    """How many of a structure there are: a half to one and a half of the usual density."""
    return max(1, round(box.area_um2 / area_um2 * _between((0.5, 1.5), generator)))


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    return limits[0] + float(torch.rand(1, generator=generator)) * (limits[1] - limits[0])
