"""Phantoms have the sizes that they claim."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.engine.simulate.molecules import blink
from napari_volumetric_smlm.engine.simulate.phantoms import (
    KINDS,
    WALLS,
    crossing_filaments,
    hollow_sphere,
    hollow_tube,
    phantom,
    place_on_walls,
    walls_in,
)
from napari_volumetric_smlm.engine.simulate.structures import Box
from napari_volumetric_smlm.errors import PlanError

BOX = Box(torch.tensor([-1500.0, 0.0, 0.0]), torch.tensor([1500.0, 12000.0, 12000.0]))


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_wall_of_a_tube_has_its_diameter_and_nothing_is_inside():
    path = torch.tensor([[100.0, 0.0, 0.0], [100.0, 0.0, 2000.0]])
    tube = hollow_tube(path, 55.0, 4000, random())
    away = tube.position_n3 - torch.tensor([100.0, 0.0, 0.0])
    assert torch.hypot(away[:, 0], away[:, 1]) == pytest.approx(27.5, abs=0.01)
    # spread evenly along it and around it
    assert away[:, 2].mean() == pytest.approx(1000, abs=30)
    assert away[:, 2].var() == pytest.approx(2000**2 / 12, rel=0.05)
    assert torch.atan2(away[:, 0], away[:, 1]).histc(8, -math.pi, math.pi).min() > 400


def test_a_longer_piece_of_a_path_carries_more_points():
    path = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 100.0], [0.0, 0.0, 400.0]])
    tube = hollow_tube(path, 20.0, 4000, random())
    assert (tube.position_n3[:, 2] > 100).float().mean() == pytest.approx(0.75, abs=0.03)


def test_a_sphere_is_hollow_and_round():
    centre = torch.tensor([10.0, 20.0, 30.0])
    away = hollow_sphere(centre, 100.0, 5000, random()).position_n3 - centre
    assert away.norm(dim=1) == pytest.approx(50.0, abs=0.01)
    assert away.mean(0).abs().max() < 2
    # on a sphere each coordinate has the variance r^2 / 3
    assert away.var(0) == pytest.approx(torch.full((3,), 50.0**2 / 3), rel=0.08)


def test_filaments_have_the_asked_distance_and_angle():
    centre = torch.tensor([0.0, 5000.0, 5000.0])
    first, second = crossing_filaments(centre, (135.0, 0.0, 0.0), 3000.0, 0.5)
    assert second.mean(0) - first.mean(0) == pytest.approx(torch.tensor([135.0, 0.0, 0.0]), abs=0.01)
    one, other = ((path[1] - path[0]) / 3000 for path in (first, second))
    assert math.acos(float(one @ other)) == pytest.approx(0.5, abs=1e-3)
    first, second = crossing_filaments(centre, (0.0, 85.0, 0.0), 3000.0, 0.0)
    assert second - first == pytest.approx(torch.tensor([[0.0, 85.0, 0.0]] * 2), abs=0.01)


@pytest.mark.parametrize("kind", [*KINDS, "pits+microtubules"])
def test_a_phantom_stays_in_its_box_and_comes_again_with_its_seed(kind):
    one, again, other = phantom(kind, BOX, 3), phantom(kind, BOX, 3), phantom(kind, BOX, 4)
    assert torch.equal(one.position_n3, again.position_n3)
    assert one.position_n3.shape != other.position_n3.shape or not torch.equal(one.position_n3, other.position_n3)
    low, high = BOX.low_nm.clone(), BOX.high_nm.clone()
    low[0], high[0] = low[0] - 163, high[0] + 163  # half a mitochondrion
    assert ((one.position_n3 >= low) & (one.position_n3 <= high)).all()
    assert len(one.weight_n) == len(one.position_n3) > 5
    assert one.scaled(1000.0).weight_n.sum() == pytest.approx(1000, rel=1e-4)


def test_an_unknown_phantom_is_told():
    with pytest.raises(PlanError, match=r"no phantom 'cheese': microtubules, pits"):
        phantom("pits+cheese", BOX, 0)


def to_paths_nm(points_n3, box, kind, seed):
    """Distance of each point from the nearest path, (n, walls), computed piece by piece, and the radii of the walls."""
    walls = walls_in(box, kind, seed)
    away = []
    for wall in walls:
        start = wall.path_n3[:-1] if len(wall.path_n3) > 1 else wall.path_n3
        step = wall.path_n3[1:] - start if len(wall.path_n3) > 1 else torch.zeros_like(start)
        off = points_n3[:, None] - start
        along = ((off * step).sum(2) / step.square().sum(1).clamp(min=1e-9)).clamp(0, 1)
        away.append((off - along[..., None] * step).norm(dim=2).amin(1))
    return torch.stack(away, 1), torch.tensor([wall.diameter_nm / 2 for wall in walls])


@pytest.mark.parametrize("kind", WALLS)
def test_molecules_sit_on_the_walls_of_structures_and_not_inside(kind):
    points = place_on_walls(1500, kind, BOX, 3, random())
    assert points.shape == (1500, 3)
    assert ((points >= BOX.low_nm) & (points <= BOX.high_nm)).all()
    away, radius = to_paths_nm(points, BOX, kind, 3)
    # where a path bends, the wall of one piece comes closer to the next one by a few per cent of the radius
    assert ((away / radius - 1).abs().amin(1) < 0.06).float().mean() > 0.99
    # hollow tubes and spheres of many sizes are labelled alike, so most of the walls carry some
    assert len((away / radius - 1).abs().argmin(1).unique()) > 0.7 * len(radius)
    assert place_on_walls(0, kind, BOX, 3, random()).shape == (0, 3)


@pytest.mark.parametrize("kind", WALLS)
def test_molecules_that_blink_later_sit_on_the_same_structures(kind):
    plan = SimulatePlan(structure=kind, frame_count=40, density_per_um2=0.1, seed=5)
    emissions = blink(plan, BOX, torch.Generator().manual_seed(plan.seed))
    longer = plan.model_copy(update={"frame_count": 120})
    more = blink(longer, BOX, torch.Generator().manual_seed(plan.seed))
    for found, first, last in ((emissions, 0, 20), (emissions, 20, 40), (more, 80, 120)):
        points = found.in_frames(first, last).position_n3
        assert len(points) > 200
        away, radius = to_paths_nm(points, BOX, kind, plan.seed)
        assert ((away / radius - 1).abs().amin(1) < 0.06).float().mean() > 0.99
    # the structures of another seed lie elsewhere
    away, radius = to_paths_nm(emissions.position_n3, BOX, kind, 6)
    assert ((away / radius - 1).abs().amin(1) < 0.06).float().mean() < 0.2


@pytest.mark.parametrize("kind", WALLS)
def test_a_box_thinner_than_the_structure_still_holds_its_molecules(kind):
    thin = Box(torch.tensor([100.0, 0.0, 0.0]), torch.tensor([130.0, 9000.0, 9000.0]))
    points = place_on_walls(500, kind, thin, 1, random())
    assert points.shape == (500, 3)
    assert ((points >= thin.low_nm) & (points <= thin.high_nm)).all()


def test_a_phantom_and_the_movies_of_other_structures_are_those_of_their_seed():
    # numbers of the version before molecules could sit on phantoms: trainings and benchmarks name seeds
    expected = {
        "microtubules": (1626, [303.56, 4433.89, 5929.37]),
        "pits": (1194, [-30.1, 6374.84, 6767.87]),
        "mitochondria": (2359, [-763.58, 5520.46, 4888.2]),
    }
    for kind, (count, mean) in expected.items():
        points = phantom(kind, BOX, 3).position_n3
        assert len(points) == count
        assert points.double().mean(0).tolist() == pytest.approx(mean, abs=0.01)
