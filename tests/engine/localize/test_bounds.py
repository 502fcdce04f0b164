"""The Cramér-Rao bound against a second implementation: numeric derivatives of the pupil's own images, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.engine.localize.bounds import fisher_information, isolated_bound, standard_errors
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.io.examples import load_example


def bound_by_differences(instrument, window: int, molecule, background_v, read_variance: float, blur=None) -> np.ndarray:
    """Standard errors of z, y, x, photons and backgrounds from the images themselves, for one molecule (z, y, x, photons)."""
    fraction = np.array([view.photon_fraction for view in instrument.views])
    fraction = fraction / fraction.sum()
    steps = np.array([2.0, 1.0, 1.0])
    # the molecule itself, then one step ahead and one behind along z, y and x
    places = np.array(molecule[:3]) + np.concatenate([np.zeros((1, 3)), np.diag(steps), -np.diag(steps)])
    images = []
    for v, view in enumerate(instrument.views):
        yx = places[:, 1:] @ np.array(view.affine_yx)[:, :2].T
        position = torch.tensor(np.column_stack([places[:, 0], yx]))
        camera = (window, instrument.pixel_nm(v), True)
        pupil = view_pupil(instrument, v, dtype=torch.float64)
        images.append(fraction[v] * camera_images(pupil, position, camera, view.blur_nm if blur is None else blur).numpy())
    here, ahead, behind = np.split(np.stack(images, 1), [1, 4])
    photons, background = molecule[3], np.array(background_v)[:, None, None]
    slopes = photons * (ahead - behind) / (2 * steps[:, None, None, None])
    shares = np.eye(len(background_v))[:, :, None, None] * np.ones(here.shape[1:])
    jacobian = np.concatenate([slopes, here, shares]).reshape(4 + len(background_v), -1)
    fisher = (jacobian / (photons * here[0] + background + read_variance).ravel()) @ jacobian.T
    return np.sqrt(np.linalg.inv(fisher).diagonal())


@pytest.mark.parametrize(("name", "window"), [("astigmatic", 21), ("tetrapod", 61)])
def test_the_bound_of_one_view_is_that_of_numeric_derivatives(name, window):
    instrument = load_example(name)
    low, high = instrument.depth_range_nm
    molecules = np.array([[low + share * (high - low), dy, dx, n] for share, dy, dx, n in
                          [(0.1, 20, -30, 1500), (0.35, 0, 0, 30000), (0.6, -45, 12, 6000), (0.9, 31, 40, 10000)]])  # fmt: skip
    position, photons = torch.tensor(molecules[:, :3]).float(), torch.tensor(molecules[:, 3]).float()
    found = isolated_bound(PsfTable(instrument, window), position, photons, torch.tensor([25.0]), 9.0).numpy()
    for row, molecule in zip(found, molecules, strict=True):
        expected = bound_by_differences(instrument, window, molecule, [25.0], 9.0)
        assert row == pytest.approx(expected, rel=0.015)


def test_the_bound_of_two_views_is_that_of_numeric_derivatives(two_views):
    background = [18.0, 40.0]
    molecule = [420.0, 25.0, -31.0, 5000.0]
    found = isolated_bound(PsfTable(two_views, 21), torch.tensor([molecule[:3]]), torch.tensor([5000.0]), torch.tensor(background), 4.0)
    assert found[0].numpy() == pytest.approx(bound_by_differences(two_views, 21, molecule, background, 4.0), rel=0.015)


def test_a_known_blur_widens_the_bound_by_the_right_amount(toy_instrument):
    table = PsfTable(toy_instrument, 21, blur_nm=(40.0, 160.0))
    molecule = [300.0, 10.0, 20.0, 4000.0]
    for blur in (60.0, 140.0):
        found = isolated_bound(table, torch.tensor([molecule[:3]]), torch.tensor([4000.0]), torch.tensor([20.0]), 0.0, torch.tensor([blur]))
        assert found[0].numpy() == pytest.approx(bound_by_differences(toy_instrument, 21, molecule, [20.0], 0.0, blur), rel=0.02)


def test_more_photons_lower_the_bound_and_more_background_or_read_noise_raise_it(toy_instrument):
    table = PsfTable(toy_instrument, 21)
    place = torch.tensor([[500.0, 0.0, 0.0]])

    def at(photons, background, read_variance):
        return isolated_bound(table, place, torch.tensor([photons]), torch.tensor([background]), read_variance)[0, :3]

    usual = at(3000.0, 20.0, 4.0)
    assert (at(6000.0, 20.0, 4.0) < usual / 1.4).all()
    assert (at(3000.0, 60.0, 4.0) > 1.1 * usual).all()
    assert (at(3000.0, 20.0, 40.0) > 1.1 * usual).all()


def test_the_bound_falls_with_the_root_of_the_photons_when_nothing_else_makes_noise(toy_instrument):
    place = torch.tensor([[400.0, 0.0, 0.0]]).expand(2, -1)
    photons, ground = torch.tensor([1000.0, 16000.0]), torch.tensor([[5.0], [80.0]])
    bound = isolated_bound(PsfTable(toy_instrument, 31), place, photons, ground)
    np.testing.assert_allclose((bound[0, :3] / bound[1, :3]).numpy(), 4.0, rtol=1e-3)


@pytest.fixture(scope="module")
def three_lenses() -> PsfTable:
    return PsfTable(load_example("light_field_3"), 29, depth_step_nm=100.0)


@pytest.mark.parametrize(("z_nm", "lateral_nm", "axial_nm"), [(0, 6.8, 12.0), (1000, 8.2, 15.0), (2000, 14.4, 28.3)])
def test_the_bound_behind_three_lenses_is_that_of_separate_computations(three_lenses, z_nm, lateral_nm, axial_nm):
    # 3000 photons counted inside the window, 10 of background, known; finite differences and analytic derivatives gave these figures
    place = torch.tensor([[float(z_nm), 0.0, 0.0]])
    inside = three_lenses.images(place[:, None].expand(-1, 3, -1), derivatives=False).value.sum()
    fisher = fisher_information(three_lenses, place, 3000 / inside[None], torch.tensor([10.0]), 1.6**2)
    known, unknown = standard_errors(fisher[:, :3, :3])[0], standard_errors(fisher)[0]
    assert float(known[1:].square().mean().sqrt()) == pytest.approx(lateral_nm, rel=0.06)
    assert float(known[0]) == pytest.approx(axial_nm, rel=0.06)
    # brightness and background are nearly free at focus, and cost depth where the views are blurred
    assert 1 <= float(unknown[0] / known[0]) < 1.13
