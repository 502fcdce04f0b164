"""Pairs and scores against cases worked out by hand and against brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan
from napari_volumetric_smlm.engine.assemble.score import efficiency, match, score


def table(positions_zyx, frame=0, **columns):
    positions = np.asarray(positions_zyx, float).reshape(-1, 3)
    z, y, x = positions.T
    frames = np.broadcast_to(frame, len(positions))
    return Localizations(columns={"frame": frames, "z_nm": z, "y_nm": y, "x_nm": x, **columns})


def best_by_trying_all(truth, found, gate_nm):
    """Most pairs, then smallest sum of distances, over every injection of the shorter into the longer list."""
    distance = np.linalg.norm(truth[:, None] - found[None], axis=-1)
    if len(truth) > len(found):
        distance = distance.T
    best = (0, 0.0)
    for choice in permutations(range(distance.shape[1]), distance.shape[0]):
        d = distance[np.arange(distance.shape[0]), choice]
        kept = d[d <= gate_nm]
        best = min(best, (-len(kept), kept.sum()))
    return -best[0], best[1]


@pytest.mark.parametrize("seed", range(25))
def test_pairs_are_those_that_trying_every_assignment_finds(seed):
    rng = np.random.default_rng(seed)
    truth, found = (rng.uniform(0, 400, (rng.integers(1, 7), 3)) for _ in range(2))
    left, right = match(table(truth), table(found), EvaluatePlan(gate_nm=150))
    distances = np.linalg.norm(truth[left] - found[right], axis=1)
    pairs, total = best_by_trying_all(truth, found, 150)
    assert len(left) == pairs
    assert distances.sum() == pytest.approx(total)
    assert len(set(left)) == len(left) == len(set(right))


def test_the_gate_comes_before_the_assignment():
    # without a gate 0 <-> 90 and 100 <-> 200 is shorter in all (190 nm) than 100 <-> 90 and 0 <-> 200 (210 nm); both would then be cut
    truth, found = table([[0, 0, 0], [0, 0, 100]]), table([[0, 0, 90], [0, 0, 200]])
    left, right = match(truth, found, EvaluatePlan(gate_nm=50))
    assert (left.tolist(), right.tolist()) == ([1], [0])


def test_more_pairs_win_over_shorter_ones():
    # 0 <-> 60 and 70 <-> 140 (130 nm in all) instead of the single short pair 60 <-> 70
    left, _ = match(table([[0, 0, 0], [0, 0, 70]]), table([[0, 0, 60], [0, 0, 140]]), EvaluatePlan(gate_nm=75))
    assert len(left) == 2


def test_molecules_of_different_frames_are_never_a_pair():
    assert score(table([[0, 0, 0]], frame=3), table([[0, 0, 0]], frame=4), EvaluatePlan()).true_positives == 0


def test_a_pair_exactly_on_the_gate_counts():
    assert len(match(table([[0, 0, 0]]), table([[0, 0, 150]]), EvaluatePlan(gate_nm=150))[0]) == 1
    assert len(match(table([[0, 0, 0]]), table([[0, 0, 150.001]]), EvaluatePlan(gate_nm=150))[0]) == 0


def test_the_cylinder_has_a_lateral_and_an_axial_limit():
    plan = EvaluatePlan(gate="cylinder", gate_lateral_nm=250, gate_axial_nm=500)
    truth = table([[0, 0, 0]])
    assert len(match(truth, table([[499, 0, 249]]), plan)[0]) == 1
    assert len(match(truth, table([[501, 0, 0]]), plan)[0]) == 0
    assert len(match(truth, table([[0, 180, 180]]), plan)[0]) == 0


def test_scores_of_a_case_worked_out_by_hand():
    # two pairs with errors (z, y, x) = (10, 3, 4) and (-20, 0, 5), one missed, one false
    truth = table([[0, 0, 0], [0, 0, 1000], [0, 5000, 0]])
    found = table([[10, 3, 4], [-20, 0, 1005], [0, 9000, 0]])
    result = score(truth, found, EvaluatePlan())
    assert (result.true_positives, result.false_positives, result.false_negatives) == (2, 1, 1)
    assert result.jaccard == pytest.approx(0.5)
    assert result.precision == result.recall == pytest.approx(2 / 3)
    assert result.rmse_lateral_nm == pytest.approx(5.0)
    assert result.rmse_axial_nm == pytest.approx(np.sqrt(250))
    assert result.bias_zyx_nm == pytest.approx((-5, 1.5, 4.5))
    assert result.efficiency_lateral == pytest.approx(100 - np.sqrt(50**2 + 5**2))
    assert result.efficiency_axial == pytest.approx(100 - np.sqrt(50**2 + 0.25 * 250))
    assert result.efficiency_3d == pytest.approx((result.efficiency_lateral + result.efficiency_axial) / 2)
    assert result.ratio_to_bound_zyx is None


def test_dim_molecules_are_neither_missed_nor_false():
    truth = table([[0, 0, 0], [0, 0, 1000], [0, 0, 2000]], photons=[5000, 100, 100])
    found = table([[0, 0, 0], [0, 0, 1000]])
    plain = score(truth, found, EvaluatePlan())
    assert (plain.true_positives, plain.false_positives, plain.false_negatives) == (2, 0, 1)
    result = score(truth, found, EvaluatePlan(dim_below_photons=1000))
    assert (result.true_positives, result.false_positives, result.false_negatives) == (1, 0, 0)
    assert result.jaccard == 1.0


def test_a_dim_molecule_does_not_take_the_partner_of_a_bright_one():
    truth = table([[0, 0, 0], [0, 0, 60]], photons=[5000, 100])
    result = score(truth, table([[0, 0, 50]]), EvaluatePlan(dim_below_photons=1000))
    assert (result.true_positives, result.false_positives, result.false_negatives) == (1, 0, 0)


def test_honest_sigmas_give_a_ratio_of_one():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 1e6, (20000, 3))
    sigma = rng.uniform(5, 15, (20000, 3))
    names = {f"sigma_{axis}_nm": sigma[:, i] for i, axis in enumerate("zyx")}
    result = score(table(truth), table(truth + sigma * rng.normal(size=truth.shape), **names), EvaluatePlan())
    assert result.ratio_to_bound_zyx == pytest.approx((1, 1, 1), abs=0.02)
    assert result.median_ratio_to_bound_zyx == pytest.approx((1, 1, 1), abs=0.03)
    assert result.within_one_sigma_zyx == pytest.approx((0.6827,) * 3, abs=0.015)
    halved = {name: values / 2 for name, values in names.items()}
    result = score(table(truth), table(truth + sigma * rng.normal(size=truth.shape), **halved), EvaluatePlan())
    assert result.ratio_to_bound_zyx == pytest.approx((2, 2, 2), abs=0.05)


def test_no_truth_or_nothing_found_still_has_scores():
    nothing = Localizations.empty()
    assert score(nothing, nothing, EvaluatePlan()).jaccard == 1.0
    missed = score(table([[0, 0, 0]]), nothing, EvaluatePlan())
    assert (missed.jaccard, missed.precision, missed.recall, missed.rmse_lateral_nm) == (0.0, None, 0.0, None)
    false = score(nothing, table([[0, 0, 0]]), EvaluatePlan())
    assert (false.jaccard, false.precision, false.recall) == (0.0, 0.0, None)


def test_a_flat_table_has_no_axial_score():
    flat = table([[0, 0, 0]]).model_copy(update={"z_reference": "none"})
    result = score(flat, flat, EvaluatePlan())
    assert result.rmse_axial_nm is None
    assert result.efficiency_3d is None
    assert result.efficiency_lateral == 100.0


def test_efficiency_is_the_published_formula():
    assert efficiency(1.0, 0.0, 1.0) == 100.0
    assert efficiency(0.7, 40.0, 1.0) == pytest.approx(50.0)


def test_a_crowded_frame_is_paired_in_reasonable_time():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0, 50_000, (20_000, 3))
    left, right = match(table(truth), table(truth[::-1] + rng.normal(0, 5, truth.shape)), EvaluatePlan())
    assert len(left) > 19_900
    assert (left + right == 19_999).mean() > 0.99


def test_a_constant_offset_is_found_and_taken_off_on_request():
    rng = np.random.default_rng(5)
    truth = rng.uniform(0, 20_000, (300, 3))
    found = truth + np.array([-100, 60, -50]) + rng.normal(0, 5, truth.shape)
    found = np.concatenate([found, rng.uniform(0, 20_000, (30, 3))])
    plain = score(table(truth), table(found), EvaluatePlan(gate_nm=100))
    assert plain.jaccard < 0.2
    assert plain.offset_zyx_nm is None
    result = score(table(truth), table(found), EvaluatePlan(gate_nm=100, remove_offset=True))
    assert result.offset_zyx_nm == pytest.approx((-100, 60, -50), abs=1.5)
    assert result.true_positives == 300
    assert result.bias_zyx_nm == pytest.approx((0, 0, 0), abs=1.5)
    assert result.rmse_axial_nm == pytest.approx(5, abs=0.7)


def test_without_any_pair_no_offset_is_made_up():
    result = score(table([[0, 0, 0]]), table([[0, 0, 5000]]), EvaluatePlan(remove_offset=True))
    assert (result.true_positives, result.offset_zyx_nm) == (0, (0, 0, 0))
