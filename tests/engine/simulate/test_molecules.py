"""Where molecules are and when they shine."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.engine.simulate.molecules import Emissions, blink, draw_photons
from napari_volumetric_smlm.engine.simulate.structures import FILAMENT_RADIUS_NM, Box, place_molecules, plan_box
from napari_volumetric_smlm.errors import PlanError

BOX = Box(torch.tensor([0.0, 1000.0, 2000.0]), torch.tensor([800.0, 13000.0, 17000.0]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plan(**changes) -> SimulatePlan:
    return SimulatePlan(**{"photons": (1000, 3000), "frame_count": 400, "density_per_um2": 0.1, **changes})


def test_the_box_is_the_frame_without_its_border(toy_instrument):
    box = plan_box(toy_instrument, SimulatePlan(shape_yx_px=(100, 60), border_px=10))
    assert box.low_nm.tolist() == [0, 9.5 * 110, 9.5 * 110]
    assert box.high_nm.tolist() == [1000, 89.5 * 110, 49.5 * 110]
    assert box.area_um2 == pytest.approx(80 * 40 * 0.0121)


def test_a_border_that_leaves_nothing_is_explained(toy_instrument):
    with pytest.raises(PlanError, match="border of 32 pixels leaves nothing of a frame of 64 x 128"):
        plan_box(toy_instrument, SimulatePlan(shape_yx_px=(64, 128), border_px=32))


@pytest.mark.parametrize("structure", ["uniform", "filaments", "shells"])
def test_molecules_stay_inside_the_box_and_none_is_lost(structure):
    points = place_molecules(5000, BOX, structure, seeded())
    assert points.shape == (5000, 3)
    assert (points >= BOX.low_nm).all()
    assert (points <= BOX.high_nm).all()
    assert place_molecules(0, BOX, structure, seeded()).shape == (0, 3)


def test_uniform_molecules_fill_the_box_evenly():
    points = (place_molecules(20000, BOX, "uniform", seeded()) - BOX.low_nm) / (BOX.high_nm - BOX.low_nm)
    for axis in range(3):
        counts = torch.histc(points[:, axis], 10, 0, 1)
        assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # chi-square of 9 degrees of freedom, p = 0.001


def test_filaments_are_thin_tubes():
    points = place_molecules(20000, BOX, "filaments", seeded()).double()
    # the cloud around any molecule is long along one direction and as thin as the tube across the two others
    across = []
    for centre in points[:40]:
        near = points[torch.linalg.norm(points - centre, dim=1) < 100]
        if len(near) > 8:
            across.append(float(torch.linalg.svdvals(near - near.mean(0))[1] / math.sqrt(len(near))))
    assert len(across) > 10
    # a thin ring of radius r has a standard deviation of r / sqrt(2) along each of its axes
    assert np.median(across) == pytest.approx(FILAMENT_RADIUS_NM / math.sqrt(2), rel=0.3)


def test_shells_are_hollow():
    box = Box(torch.tensor([0.0, 0, 0]), torch.tensor([3000.0, 3000, 3000]))  # room for one
    points = place_molecules(3000, box, "shells", seeded(1)).double()
    centre = (points.amax(0) + points.amin(0)) / 2
    radius = torch.linalg.norm(points - centre, dim=1)
    assert float(radius.std() / radius.mean()) < 0.02


@pytest.mark.parametrize("mean_on", [0.0, 0.7, 3.0])
def test_the_number_of_molecules_that_are_on_is_the_density_times_the_area_in_every_frame(mean_on):
    emissions = blink(plan(mean_on_frames=mean_on, density_per_um2=0.5), BOX, seeded())
    on = torch.zeros(400).index_add_(0, emissions.frame_n, emissions.on_fraction_n)
    expected = 0.5 * 12 * 15
    # neighbouring frames share molecules when they stay on for long
    tolerance = 4 * math.sqrt(expected / 400 * (1 + 2 * mean_on)) / expected
    assert float(on.mean()) == pytest.approx(expected, rel=tolerance)
    assert float(on[:20].mean()) == pytest.approx(expected, rel=0.2)
    assert float(on[-20:].mean()) == pytest.approx(expected, rel=0.2)


def test_with_on_time_zero_every_molecule_is_on_for_one_whole_frame():
    emissions = blink(plan(mean_on_frames=0), BOX, seeded())
    assert (emissions.on_fraction_n == 1).all()
    assert len(emissions.molecule_n.unique()) == len(emissions)


def test_on_times_are_exponential_with_the_mean_that_was_asked():
    emissions = blink(plan(mean_on_frames=2.5, density_per_um2=1.0), BOX, seeded())
    total = torch.zeros(int(emissions.molecule_n.max()) + 1).index_add_(0, emissions.molecule_n, emissions.on_fraction_n)
    # rows are ordered by frame: the first of a molecule is the frame in which it appeared
    numbers, row = np.unique(emissions.molecule_n.numpy(), return_index=True)
    appeared = emissions.frame_n.numpy()[row]
    # those that appeared in the movie, but not so late that its end cut them
    whole = total[numbers[(appeared > 0) & (appeared < 370)]].double()
    assert len(whole) > 10000
    assert float(whole.mean()) == pytest.approx(2.5, rel=0.03)
    assert float(whole.std()) == pytest.approx(2.5, rel=0.05)
    assert float((whole > 5).double().mean()) == pytest.approx(math.exp(-2), rel=0.06)


def test_molecules_are_on_without_gaps_and_only_their_first_and_last_frames_are_partial():
    emissions = blink(plan(mean_on_frames=4, density_per_um2=0.05), BOX, seeded())
    longer = 0
    for molecule in emissions.molecule_n.unique().tolist():
        rows = emissions.molecule_n == molecule
        frames, on = emissions.frame_n[rows], emissions.on_fraction_n[rows]
        order = frames.argsort()
        assert (frames[order].diff() == 1).all()
        assert torch.allclose(on[order][1:-1], torch.ones(max(0, len(on) - 2)), atol=1e-5)
        assert len(emissions.position_n3[rows].unique(dim=0)) == 1
        longer += len(on) > 2
    assert longer > 50


def test_photons_in_a_frame_are_in_proportion_to_the_time_on():
    emissions = blink(plan(mean_on_frames=3, photons=(2000, 2000)), BOX, seeded())
    assert torch.allclose(emissions.photons_n, 2000 * emissions.on_fraction_n)
    assert emissions.on_fraction_n.min() < 0.2


def test_photon_distributions_have_the_mean_and_the_spread_of_their_names():
    uniform, gamma, exponential = (
        draw_photons(100_000, plan(photon_distribution=name), seeded()) for name in ("uniform", "gamma", "exponential")
    )
    for photons in (uniform, gamma, exponential):
        assert float(photons.mean()) == pytest.approx(2000, rel=0.01)
    assert 1000 <= uniform.min() < uniform.max() <= 3000
    assert float(uniform.std()) == pytest.approx(2000 / math.sqrt(12), rel=0.02)
    assert float(gamma.std()) == pytest.approx(2000 / math.sqrt(3), rel=0.02)
    assert float(exponential.std()) == pytest.approx(2000, rel=0.02)


def test_frames_can_be_taken_out_and_count_from_zero_then():
    emissions = blink(plan(mean_on_frames=2), BOX, seeded())
    part = emissions.in_frames(100, 110)
    whole = (emissions.frame_n >= 100) & (emissions.frame_n < 110)
    assert len(part) == int(whole.sum()) > 0
    assert torch.equal(part.frame_n, emissions.frame_n[whole] - 100)
    assert torch.equal(part.photons_n, emissions.photons_n[whole])


def test_blur_is_drawn_between_its_limits_once_a_molecule():
    emissions = blink(plan(mean_on_frames=3, blur_nm=(40, 90)), BOX, seeded())
    assert emissions.blur_n.min() >= 40
    assert emissions.blur_n.max() <= 90
    assert len(torch.stack([emissions.molecule_n.float(), emissions.blur_n]).unique(dim=1).T) == len(emissions.molecule_n.unique())


def test_the_same_seed_gives_the_same_molecules():
    one, other, third = (blink(plan(), BOX, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(vars(one)[name], vars(other)[name]) for name in vars(one))
    assert len(one) != len(third) or not torch.equal(one.position_n3, third.position_n3)


def test_movies_one_after_the_other_keep_their_molecules_apart_and_single_frames_of_them_can_be_taken():
    movies = [blink(plan(frame_count=3, mean_on_frames=2), BOX, seeded(k)) for k in range(3)]
    whole = Emissions.joined(movies, 3)
    assert len(whole) == sum(map(len, movies))
    assert (whole.frame_n.diff() >= 0).all()
    assert len(whole.molecule_n.unique()) == sum(len(movie.molecule_n.unique()) for movie in movies)
    torch.testing.assert_close(whole.in_frames(3, 6).position_n3, movies[1].position_n3)
    middles = whole.every(3, 1)
    assert set(middles.frame_n.tolist()) == {0, 1, 2}
    torch.testing.assert_close(middles.in_frames(2, 3).photons_n, movies[2].in_frames(1, 2).photons_n)


def test_a_movie_in_which_nothing_shines_can_be_joined():
    dark = blink(plan(frame_count=3, mean_on_frames=2), BOX, seeded()).in_frames(0, 0)
    lit = blink(plan(frame_count=3, mean_on_frames=2), BOX, seeded())
    torch.testing.assert_close(Emissions.joined([dark, lit], 3).frame_n, lit.frame_n + 3)
