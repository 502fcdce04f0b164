"""Gradient and Fisher matrix are those of the likelihood, and refinement climbs to its top."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.linearize import log_likelihood
from napari_volumetric_smlm.engine.localize.refine import Refiner
from napari_volumetric_smlm.engine.localize.scene import SMALLEST_VARIANCE, State

TABLES = ["one_view_table", "two_view_table", "blurred_table"]


@pytest.fixture(params=TABLES)
def table(request):
    return request.getfixturevalue(request.param)


def moved(state: State, parameter: int, step: float, refiner: Refiner) -> State:
    """State of one patch with one parameter changed, in the order of the Fisher matrix: molecules, then background by view."""
    new = State(state.patch_m, state.position_m3.clone(), state.photons_m.clone(), state.blur_m.clone(),
                state.coefficients_tvn.clone(), state.strength_tv)  # fmt: skip
    molecules = len(state.photons_m) * refiner.parameters
    if parameter >= molecules:
        new.coefficients_tvn.view(-1)[parameter - molecules] += step
        return new
    molecule, kind = divmod(parameter, refiner.parameters)
    if kind < 3:
        new.position_m3[molecule, kind] += step
    else:
        (new.photons_m if kind == 3 else new.blur_m)[molecule] += step
    return new


def step_size(parameter: int, count: int, refiner: Refiner) -> float:
    if parameter >= count * refiner.parameters:
        return 0.5
    return (6.0, 4.0, 4.0, 40.0, 4.0)[parameter % refiner.parameters]


def dense_jacobian(refiner: Refiner, patches, state: State) -> torch.Tensor:
    """Derivatives of the mean by every parameter, central differences, (parameters, pixels) in double precision."""
    count = len(state.photons_m) * refiner.parameters + state.coefficients_tvn.numel()
    rows = []
    for k in range(count):
        step = step_size(k, len(state.photons_m), refiner)
        ahead, behind = (refiner.mean(patches, moved(state, k, sign * step, refiner))[0].double() for sign in (1, -1))
        rows.append(((ahead - behind) / (2 * step)).flatten())
    return torch.stack(rows)


@pytest.fixture
def world(table, make_state, make_patches):
    """Return refiner, patches and a state that is off the truth by a little."""
    truth, background = make_state(table, 1)
    refiner = Refiner(table, background, fit_blur=table.blur2_knots is not None)
    patches = make_patches(table, truth, background)
    state, _ = make_state(table, 1)
    state.position_m3 += torch.tensor([20.0, -12.0, 9.0])
    state.photons_m *= 1.05
    return refiner, patches, state


def test_gradient_and_fisher_matrix_are_the_dense_sums_over_all_pixels(world):
    refiner, patches, state = world
    here = refiner.linearize(patches, state)
    jacobian = dense_jacobian(refiner, patches, state)
    mean = refiner.mean(patches, state)[0].double()
    weight = patches.seen_tvyx.double() / (mean + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
    stiffness = (state.strength_tv[..., None] * refiner.background.roughness).flatten().double()
    prior = torch.cat([torch.zeros(len(jacobian) - len(stiffness), dtype=torch.float64), stiffness])
    fisher = (jacobian * weight.flatten()) @ jacobian.T + torch.diag(prior)
    ground = torch.cat([torch.zeros(len(prior) - len(stiffness)), state.coefficients_tvn.flatten()])
    gradient = jacobian @ ((patches.photons_tvyx - mean) * weight).flatten() - prior * ground
    scale = fisher.diagonal().rsqrt()
    # in standard errors of each parameter: molecules with molecules, with the background, background with itself
    torch.testing.assert_close(here.fisher_t[0].double() * scale[:, None] * scale, fisher * scale[:, None] * scale, atol=0.01, rtol=0)
    torch.testing.assert_close(here.gradient_t[0].double() * scale, gradient * scale, atol=0.05, rtol=0.01)
    p = refiner.parameters
    between = (fisher * scale[:, None] * scale)[:p, p : 2 * p]
    assert between.abs().max() > 0.05, "the windows of these molecules are meant to overlap"


def test_the_gradient_is_the_slope_of_the_likelihood_with_its_prior(world):
    refiner, patches, state = world

    def height(at: State) -> float:
        mean = refiner.mean(patches, at)[0].double()
        variance = (mean + patches.read_variance_tvyx).clamp(min=SMALLEST_VARIANCE)
        counts = patches.photons_tvyx + patches.read_variance_tvyx
        # the likelihood of the module's head, written out
        likelihood = ((counts * torch.log(variance) - variance) * patches.seen_tvyx).sum()
        prior = (at.strength_tv[..., None] * refiner.background.roughness * at.coefficients_tvn**2).sum() / 2
        return float(likelihood - prior)

    here = refiner.linearize(patches, state)
    sigma = here.fisher_t[0].diagonal().rsqrt()
    for k in range(len(sigma)):
        step = 0.2 * float(sigma[k])
        slope = height(moved(state, k, step, refiner)) - height(moved(state, k, -step, refiner))
        # per standard error of the parameter
        assert slope / 0.4 == pytest.approx(float(here.gradient_t[0][k] * sigma[k]), abs=0.1, rel=0.03), k


def test_the_likelihood_of_a_perfect_model_is_zero_and_of_any_other_below(world):
    refiner, patches, state = world
    mean = refiner.mean(patches, state)[0]
    assert (log_likelihood(patches, mean) < -100).all()
    perfect = type(patches)(mean, *[getattr(patches, n) for n in ("read_variance_tvyx", "seen_tvyx", "shift_tv2", "pixel_v", "pad")])
    assert log_likelihood(perfect, mean).abs().max() < 0.05


def test_pixels_that_do_not_count_change_nothing(world):
    refiner, patches, state = world
    before = refiner.linearize(patches, state)
    patches.photons_tvyx[patches.seen_tvyx == 0] = 60000.0
    after = refiner.linearize(patches, state)
    torch.testing.assert_close(after.likelihood_t, before.likelihood_t)
    torch.testing.assert_close(after.gradient_t[0], before.gradient_t[0])


def test_refinement_raises_the_likelihood_to_a_flat_top_near_the_truth(world, table, make_state):
    refiner, patches, state = world
    before = refiner.linearize(patches, state)
    here, converged = refiner.refine(patches, state, 30)
    assert converged.all()
    assert (here.likelihood_t > before.likelihood_t + 20).all()
    covariance = torch.linalg.inv(here.fisher_t[0].double())
    step = covariance @ here.gradient_t[0].double()
    assert (step.abs() / covariance.diagonal().sqrt()).max() < 0.05
    truth, _ = make_state(table, 1)
    p = refiner.parameters
    sigma = covariance.diagonal().sqrt()[: len(truth.photons_m) * p].reshape(-1, p)
    error = torch.cat([state.position_m3 - truth.position_m3, (state.photons_m - truth.photons_m)[:, None]], 1)
    assert (error.abs() < 4 * sigma[:, :4]).all()


def test_a_batch_is_a_loop_over_its_patches(table, make_state, make_patches):
    state, background = make_state(table, 3)
    refiner = Refiner(table, background, fit_blur=table.blur2_knots is not None)
    patches = make_patches(table, state, background)
    state.position_m3 += torch.tensor([25.0, 8.0, -10.0])
    singles = [state.of_patch(t) for t in range(3)]
    together, converged = refiner.refine(patches, state, 25)
    assert converged.all()
    for t, one in enumerate(singles):
        alone, _ = refiner.refine(patches.select(torch.tensor([t])), one, 25)
        rows = state.patch_m == t
        # both end near the top, where overlapping images leave it flat
        ground = one.coefficients_tvn[0].numel()
        sigma = torch.linalg.inv(alone.fisher_t[0].double()).diagonal()[:-ground].sqrt().reshape(len(one.photons_m), -1)
        assert float(((state.position_m3[rows] - one.position_m3) / sigma[:, :3]).abs().max()) < 0.25
        assert float(((state.photons_m[rows] - one.photons_m) / sigma[:, 3]).abs().max()) < 0.25
        torch.testing.assert_close(together.likelihood_t[t : t + 1], alone.likelihood_t, atol=0.05, rtol=0)


def test_a_patch_without_molecules_fits_its_background(one_view_table, make_state, make_patches):
    state, background = make_state(one_view_table, 2)
    state.keep(state.patch_m == 1)
    patches = make_patches(one_view_table, state, background)
    truth = state.coefficients_tvn.clone()
    state.coefficients_tvn = torch.zeros_like(truth)
    state.coefficients_tvn[..., 0] = 5.0
    _, converged = Refiner(one_view_table, background).refine(patches, state, 30)
    assert converged.all()
    assert (state.coefficients_tvn[..., 0] - truth[..., 0]).abs().max() < 1.0


def test_steps_stay_inside_the_depths_of_the_table(one_view_table, make_state, make_patches):
    state, background = make_state(one_view_table, 1)
    patches = make_patches(one_view_table, state, background)
    state.position_m3[0, 0], state.position_m3[1, 0] = -90.0, 1090.0
    Refiner(one_view_table, background).refine(patches, state, 3)
    low, high = one_view_table.z_nm[0], one_view_table.z_nm[-1]
    assert ((state.position_m3[:, 0] > low) & (state.position_m3[:, 0] < high)).all()
    assert (state.photons_m >= 1).all()
