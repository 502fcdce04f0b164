"""The engine's bound, from its spline table, against one that differentiates the pupil's images numerically in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, View
from napari_volumetric_smlm.engine.localize.bounds import isolated_bound
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable

WINDOW, PIXEL_NM, READ_VARIANCE = 31, 110.0, 4.0
TURNED = ((0.94, -0.33, 0.0), (0.36, 0.95, 0.0))


@pytest.fixture(scope="module")
def two_views(toy_instrument: Instrument) -> Instrument:
    """The toy microscope with a second camera, 400 nm deeper, turned and scaled, that sees 0.7 of the first one's photons."""
    second = View(camera=1, zernike_noll_rad={6: -0.8}, focus_shift_nm=400.0, affine_yx=TURNED, photon_fraction=0.7)
    cameras = (*toy_instrument.cameras, Camera(pixel_um=11.0))
    return toy_instrument.model_copy(update={"cameras": cameras, "views": (*toy_instrument.views, second)})


def numeric_bound(instrument: Instrument, parameters: np.ndarray, read_variance: float, blur_nm: float = 0.0) -> np.ndarray:
    """Standard errors of z, y, x, photons and one background a view; every derivative is a central difference of the mean image."""
    views = instrument.views
    shares = np.array([view.photon_fraction for view in views]) / sum(view.photon_fraction for view in views)

    def mean_photons(values: np.ndarray) -> np.ndarray:
        images = []
        for v, view in enumerate(views):
            yx = np.array(view.affine_yx)[:, :2] @ values[1:3]
            place = torch.tensor([[values[0], *yx]], dtype=torch.float64)
            camera = (WINDOW, instrument.pixel_nm(v), instrument.pixel_model == "integrated")
            shape = camera_images(view_pupil(instrument, v, dtype=torch.float64), place, camera, blur_nm)[0].numpy()
            images.append(values[3] * shares[v] * shape + values[4 + v])
        return np.stack(images).ravel()

    steps = np.array([1.0, 1.0, 1.0, 1.0, *[0.01] * len(views)])
    slopes = np.stack(
        [(mean_photons(parameters + h) - mean_photons(parameters - h)) / (2 * s) for h, s in zip(np.diag(steps), steps, strict=True)]
    )
    fisher = (slopes / (mean_photons(parameters) + read_variance)) @ slopes.T
    return np.sqrt(np.diag(np.linalg.inv(fisher)))


# z, y, x in nm (y and x within half a pixel of the window's centre), photons, background
MOLECULES = [(120.0, 20.0, -35.0, 5000.0, 10.0), (500.0, -50.0, 4.0, 900.0, 2.0), (870.0, 0.0, 51.0, 30000.0, 80.0)]


@pytest.mark.parametrize("molecule", MOLECULES)
def test_the_bound_of_one_view_agrees_with_numeric_derivatives(toy_instrument, molecule):
    expected = numeric_bound(toy_instrument, np.array(molecule), READ_VARIANCE)
    z, y, x, photons, background = (torch.tensor([value]) for value in molecule)
    table = PsfTable(toy_instrument, WINDOW)
    found = isolated_bound(table, torch.stack([z, y, x], 1), photons, background[:, None], READ_VARIANCE)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0.01)


@pytest.mark.parametrize("molecule", MOLECULES)
def test_the_bound_of_two_turned_views_agrees_with_numeric_derivatives(two_views, molecule):
    other_background = 25.0
    expected = numeric_bound(two_views, np.array([*molecule, other_background]), READ_VARIANCE)
    z, y, x, photons, background = (torch.tensor([value]) for value in molecule)
    table = PsfTable(two_views, WINDOW)
    backgrounds = torch.cat([background, torch.tensor([other_background])])[None]
    found = isolated_bound(table, torch.stack([z, y, x], 1), photons, backgrounds, READ_VARIANCE)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_the_bound_of_a_blurred_molecule_agrees_with_numeric_derivatives(toy_instrument):
    molecule, blur = np.array([300.0, 10.0, -20.0, 4000.0, 15.0]), 90.0
    expected = numeric_bound(toy_instrument, molecule, 0.0, blur)
    table = PsfTable(toy_instrument, WINDOW, blur_nm=(50.0, 130.0))
    numbers = torch.tensor(molecule[None], dtype=torch.float32)
    found = isolated_bound(table, numbers[:, :3], numbers[:, 3], numbers[:, 4:], 0.0, torch.tensor([blur]))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0.01)
    # without the blur the image is sharper, so the bound must be another one
    assert np.all(numeric_bound(toy_instrument, molecule, 0.0)[:3] < 0.95 * expected[:3])


def test_the_bound_falls_with_the_root_of_the_photons_when_nothing_else_makes_noise(toy_instrument):
    table = PsfTable(toy_instrument, WINDOW)
    place = torch.tensor([[400.0, 0.0, 0.0]]).expand(2, -1)
    photons, ground = torch.tensor([1000.0, 16000.0]), torch.tensor([[5.0], [80.0]])
    bound = isolated_bound(table, place, photons, ground)
    np.testing.assert_allclose((bound[0, :3] / bound[1, :3]).numpy(), 4.0, rtol=1e-3)
