"""Views are registered by the beads that both show."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.engine.retrieve.register import apply_affine, fit_affine, match_beads, rows_of

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
TURNED = np.array([[0.999, -0.03, 450.0], [0.03, 0.999, -700.0]])
PLACES = np.random.default_rng(0).uniform(2000, 20000, (8, 2))


def test_pairs_are_found_under_an_unknown_shift_with_strangers_in_both_views():
    other = np.vstack([apply_affine(TURNED, PLACES)[::-1], [[500.0, 500.0], [19000, 300]]])
    one, two = match_beads(np.vstack([PLACES, [[30000.0, 30000.0]]]), other, IDENTITY, 900.0, free_shift=True)
    assert len(one) >= 5
    assert (one + two == 7).all()


def test_views_on_one_camera_pair_only_where_they_are_expected():
    affine = np.array([[1.0, 0, 30000.0], [0, 1, 0]])
    other = np.vstack([PLACES, apply_affine(affine, PLACES)])
    one, two = match_beads(PLACES, other, affine, 500.0, free_shift=False)
    assert (two == one + 8).all()
    assert len(match_beads(PLACES, PLACES, affine, 500.0, free_shift=False)[0]) == 0


def test_many_beads_give_the_whole_affine():
    assert fit_affine(PLACES, apply_affine(TURNED, PLACES), IDENTITY) == pytest.approx(TURNED, abs=1e-6)


def test_one_bead_gives_the_shift_and_keeps_the_rest():
    known = TURNED.copy()
    known[:, 2] = 0
    found = fit_affine(PLACES[:1], apply_affine(TURNED, PLACES[:1]), known)
    assert found == pytest.approx(TURNED, abs=1e-6)


def test_beads_on_a_line_give_the_shift_only():
    line = np.array([[0.0, 0], [1000, 1000], [2000, 2000]])
    found = fit_affine(line, line + np.array([5.0, -7.0]), IDENTITY)
    assert found == pytest.approx(np.array([[1, 0, 5.0], [0, 1, -7.0]]), abs=1e-9)
    assert rows_of(found)[0] == pytest.approx((1.0, 0.0, 5.0))
