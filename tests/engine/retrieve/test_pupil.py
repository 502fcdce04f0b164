"""The retrieved pupil, its gauge and its twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.engine.optics.aberrations import zernike
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.retrieve.counts import estimate_counts
from napari_volumetric_smlm.engine.retrieve.fit import fit, loss, roughness, zernike_stage
from napari_volumetric_smlm.engine.retrieve.gauge import reversed_z, settle, weight_yx, zernike_coefficients
from napari_volumetric_smlm.engine.retrieve.model import NM, BeadImages, PupilModel, sharpest_slice
from napari_volumetric_smlm.engine.retrieve.score import correlations, neighbour_correlations, tells_apart
from napari_volumetric_smlm.engine.retrieve.starts import known_phase, retrieval_pupil, starting_models

FOCUS = tuple(np.arange(-700.0, 701, 100))


@pytest.fixture(scope="module")
def images(toy_instrument, bead_scan) -> BeadImages:
    stack = bead_scan(toy_instrument, [(1600.0, 1700.0)], (31, 31), FOCUS)
    counts = stack.counts_tyx[0].astype(np.float32)
    seen = np.ones(len(FOCUS), bool)
    return BeadImages(torch.from_numpy(counts)[None], estimate_counts(counts), seen, 100.0, 7.0, (0.0, 0.0), (31, 110.0, True))


@pytest.fixture
def model(toy_instrument, images) -> PupilModel:
    """Return a model with all kinds of parameters away from zero."""
    model = PupilModel(retrieval_pupil(toy_instrument, 0, 31), images)
    model.phase_terms_rad[2:6] = torch.tensor([0.8, -0.5, 0.4, 0.3])
    model.log_amplitude_terms[0], model.log_amplitude_terms[5] = 0.1, -0.05
    model.phase_rad_yx = 0.4 * torch.sin(7 * model.pupil.na_n[:, None] + 3 * model.pupil.na_n) * model.inside_yx
    model.focus_b += 0.7
    return model


def test_images_do_not_change_when_the_gauge_is_settled(model):
    tilted = model.copy()
    tilted.phase_rad_yx = (
        model.phase_rad_yx + (2 * model.pupil.na_n[:, None] + 300 * (model.pupil.kz_immersion_yx - 0.012)) * model.inside_yx
    )
    before, after = tilted.fitted_counts(), settle(tilted).fitted_counts()
    assert float((before - after).abs().max()) < 2e-3 * float(before.max())


def test_the_settled_phase_has_neither_tilt_nor_defocus(model):
    settled = settle(model)
    again = settle(settled)
    assert float((again.shift_bk2 - settled.shift_bk2).abs().max()) * NM < 1
    assert float((again.focus_b - settled.focus_b).abs().max()) * NM < 5


def test_a_known_focus_slice_is_kept(model):
    settled = settle(model, bead_slice=9.0)
    assert float(settled.focus_bk_nm()[0, 9]) == pytest.approx(0.0, abs=0.1)
    assert float((model.fitted_counts() - settled.fitted_counts()).abs().max()) < 2e-3 * float(model.fitted_counts().max())


@pytest.mark.parametrize("height_nm", [0.0, 150.0])
def test_a_scan_in_the_other_direction_has_a_twin_pupil_with_the_same_images(model, height_nm):
    there = model.copy(replace(model.images, bead_nm=(height_nm, 0.0)))
    back = reversed_z(there, replace(there.images, step_nm=-100.0))
    assert np.diff(back.focus_bk_nm()[0].numpy()) == pytest.approx(-np.diff(there.focus_bk_nm()[0].numpy()))
    assert float((there.fitted_counts() - back.fitted_counts()).abs().max()) < 1e-3 * float(there.fitted_counts().max())


def test_the_zernike_content_of_a_wrapped_phase_is_found():
    s = torch.linspace(-1.4, 1.4, 81)
    y, x = s[:, None] / 1.4, s[None, :] / 1.4
    phase = 4.0 * zernike(6, y, x) - 1.5 * zernike(8, y, x) + 0.7 * zernike(11, y, x)
    wrapped = torch.remainder(phase + np.pi, 2 * np.pi) - np.pi
    content = zernike_coefficients(wrapped, ((y * y + x * x) <= 1).float(), s)
    assert {j: content[j] for j in (6, 8, 11)} == pytest.approx({6: 4.0, 8: -1.5, 11: 0.7}, abs=0.05)
    assert max(abs(v) for j, v in content.items() if j not in (6, 8, 11)) < 0.05


def test_wraps_and_tilts_are_not_rough(model):
    smooth = model.copy()
    smooth.phase_terms_rad *= 0
    smooth.phase_rad_yx = 9.0 * model.pupil.na_n[:, None] * model.inside_yx
    assert float(roughness(smooth)) == pytest.approx(0, abs=1e-2)
    assert float(roughness(model)) > 1


def test_every_parameter_has_the_gradient_of_the_loss(toy_instrument, images):
    pupil = view_pupil(toy_instrument.model_copy(update={"views": (View(),)}), dtype=torch.float64, samples=33)
    small = images.counts_bkyx[:, :, 5:26, 5:26].double()
    exact = PupilModel(pupil, replace(images, counts_bkyx=small, camera=(21, 110.0, True)))
    for name, value in exact.parameters().items():
        setattr(
            exact, name, value.double() + 0.05 * torch.rand(value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        )
    items = torch.tensor([2, 7, 11])
    for name, value in exact.parameters().items():
        value.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(exact, items, 0.05), value)
        value.requires_grad_(False)
        direction = torch.rand(value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 0.3
        ahead, behind = exact.copy(), exact.copy()
        setattr(ahead, name, value + 1e-5 * direction)
        setattr(behind, name, value - 1e-5 * direction)
        slope = float(loss(ahead, items, 0.05) - loss(behind, items, 0.05)) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_the_fit_starts_in_the_sharpest_slice(images, toy_instrument):
    assert sharpest_slice(images) == pytest.approx(7, abs=2)
    start = starting_models(toy_instrument.model_copy(update={"views": (View(),)}), 0, retrieval_pupil(toy_instrument, 0, 31), images)[0]
    assert float(start.focus_bk_nm()[0, round(sharpest_slice(images))]) == pytest.approx(0, abs=1e-3)


def test_a_phase_that_the_instrument_states_is_a_start(images, toy_instrument):
    pupil = retrieval_pupil(toy_instrument, 0, 31)
    known = known_phase(toy_instrument, 0, pupil)
    unit = pupil.na_n / 1.4
    expected = zernike(6, unit[:, None], unit[None, :])
    inside = weight_yx(PupilModel(pupil, images)) > 0
    assert float((known - expected)[inside].abs().max()) < 0.05
    assert len(starting_models(toy_instrument, 0, pupil, images)) == 3


def test_the_same_seed_gives_the_same_losses(images, toy_instrument):
    def losses(seed: int) -> list[float]:
        model = PupilModel(retrieval_pupil(toy_instrument, 0, 31), images)
        return [step.loss for step in fit(model, zernike_stage(6), seed)]

    assert losses(3) == losses(3)
    assert losses(3) != losses(4)


def test_a_fit_that_is_closed_half_way_leaves_plain_tensors(images, toy_instrument):
    model = PupilModel(retrieval_pupil(toy_instrument, 0, 31), images)
    steps = fit(model, zernike_stage(50))
    next(steps)
    assert model.blur.requires_grad
    steps.close()
    assert not any(value.requires_grad or value.grad is not None for value in model.parameters().values())


def test_vectorial_and_scalar_pupils_share_a_grid(toy_instrument: Instrument):
    vectorial = toy_instrument.model_copy(update={"wave_model": "vectorial"})
    one, six = retrieval_pupil(vectorial, 0, 31, "scalar"), retrieval_pupil(vectorial, 0, 31)
    assert torch.equal(one.na_n, six.na_n)
    assert (len(one.amplitude_pyx), len(six.amplitude_pyx)) == (1, 6)


def test_correlation_sees_shape_and_not_scale_or_background():
    random = np.random.default_rng(0)
    images = random.random((5, 9, 9))
    assert correlations(images, 3 * images + 7) == pytest.approx(np.ones(5))
    assert correlations(images, -images) == pytest.approx(-np.ones(5))
    assert correlations(np.ones((2, 4, 4)), random.random((2, 4, 4))) == pytest.approx(np.zeros(2))


def test_neighbours_predict_a_slice_that_lies_between_them():
    ramp = np.arange(5)[:, None, None] * np.ones((1, 6, 6)) * np.arange(6) + np.arange(6)[:, None] ** 2
    assert neighbour_correlations(ramp)[1:4] == pytest.approx(np.ones(3))


def test_scores_that_differ_within_their_scatter_do_not_tell_apart():
    random = np.random.default_rng(1)
    base = 0.98 + 0.005 * random.standard_normal(20)
    assert not tells_apart(base, base + 0.0005 * random.standard_normal(20))
    assert tells_apart(base, base - 0.01)
