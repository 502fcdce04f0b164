"""Molecules by way of a volume of the views."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.engine.assemble.score import match
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes import finish, volume_start
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate

GATES = EvaluatePlan(gate="cylinder", gate_lateral_nm=250, gate_axial_nm=500)


@pytest.fixture(scope="module")
def small():
    """Return the shipped light field with views of 70 x 80 pixels."""
    shipped = load_example("light_field_3")
    return light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (70, 80)}), shipped)


@pytest.fixture(scope="module")
def movie(small):
    plan = SimulatePlan(
        frame_count=3, shape_yx_px=(1024, 1024), density_per_um2=0.12, border_px=14, photons=(6000, 6000), mean_on_frames=0,
        background_photons=(5, 5), seed=3, device="cpu",
    )  # fmt: skip
    return finish(simulate(small, plan))


def found(movie, small, **choices):
    return finish(reconstruct(movie.stack, small, ReconstructPlan(device="cpu", processes=1, **choices))).localizations


def test_both_starts_end_at_the_same_molecules(movie, small):
    direct, volume = found(movie, small), found(movie, small, start="volume")
    left, right = match(direct, volume, GATES)
    assert len(left) == len(direct) == len(volume)
    # the fit ends in the same maximum of the likelihood, far below an error bar
    distance = (volume.position_zyx_nm[right] - direct.position_zyx_nm[left]) / direct.sigma_zyx_nm[left]
    assert np.abs(distance).max() < 0.2


def test_the_volume_alone_places_molecules_between_its_voxels(movie, small):
    alone = found(movie, small, start="volume", refine=False)
    assert set(alone.columns) == {"frame", "z_nm", "y_nm", "x_nm", "confidence"}
    left, right = match(movie.truth, alone, GATES)
    assert len(left) >= 0.9 * len(movie.truth)
    error = np.sqrt(((alone.position_zyx_nm[right] - movie.truth.position_zyx_nm[left]) ** 2).mean(0))
    # voxels of 125 x 145 x 145 nm: places on their grid would be wrong by 36 and 42 nm
    assert error[0] < 36
    assert error[1:].max() < 25


def test_empty_frames_make_no_volume(small, movie, monkeypatch):
    dark = np.random.default_rng(0).poisson(8.2 / 0.46, (2, 1024, 1024)) + 100

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a volume was made of an empty frame")

    monkeypatch.setattr(volume_start, "Deconvolution", refuse)
    stack = RawStack(counts_tyx=(dark.astype(np.uint16),), kind="frames")
    assert len(finish(reconstruct(stack, small, ReconstructPlan(device="cpu", start="volume", refine=False))).localizations) == 0
    with pytest.raises(AssertionError, match="a volume was made"):
        found(movie, small, start="volume", refine=False)


def test_one_view_has_no_volume(toy_instrument):
    stack = RawStack(counts_tyx=(np.full((1, 40, 40), 110, np.uint16),), kind="frames")
    with pytest.raises(PlanError, match="'toy' has one view: volumes need the parallax"):
        finish(reconstruct(stack, toy_instrument, ReconstructPlan(device="cpu", start="volume")))


def test_pursuit_takes_no_volume():
    with pytest.raises(ValueError, match=r"pursuit.*start is 'volume'"):
        ReconstructPlan(method="pursuit", start="volume")
