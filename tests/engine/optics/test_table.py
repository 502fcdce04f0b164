"""The table gives the pupil's images, and derivatives that are those of its own values."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.domain.instrument import View
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.io.examples import load_example


def positions(instrument, count: int, views: int = 1) -> torch.Tensor:
    """Random (m, V, 3) positions over the depth range and up to half a pixel from the window's centre."""
    generator = torch.Generator().manual_seed(2)
    low, high = instrument.depth_range_nm
    z = low + torch.rand((count, 1, 1), generator=generator) * (high - low)
    yx = (torch.rand((count, views, 2), generator=generator) - 0.5) * instrument.pixel_nm()
    return torch.cat([z.expand(count, views, 1), yx], -1)


@pytest.mark.parametrize(("name", "window", "tolerance"), [("astigmatic", 21, 0.005), ("double_helix", 31, 0.006), ("tetrapod", 61, 0.006)])
def test_the_table_shows_what_the_pupil_shows(name, window, tolerance):
    instrument = load_example(name)
    position = positions(instrument, 24)
    found = PsfTable(instrument, window).images(position, derivatives=False).value[:, 0]
    expected = camera_images(view_pupil(instrument), position[:, 0], (window, instrument.pixel_nm(), True))
    error = (found - expected).abs().amax((1, 2)) / expected.amax((1, 2))
    assert error.max() < tolerance


def test_derivatives_are_those_of_the_values():
    instrument = load_example("tetrapod")
    table = PsfTable(instrument, 41, blur_nm=(40.0, 120.0))
    position, blur = positions(instrument, 6), torch.full((6,), 80.0)
    images = table.images(position, blur)
    steps = {"by_z": (0, 8.0), "by_y": (1, 4.0), "by_x": (2, 4.0)}
    for name, (axis, step) in steps.items():
        move = torch.zeros(3)
        move[axis] = step
        ahead, behind = (table.images(position + sign * move, blur, derivatives=False).value for sign in (1, -1))
        slope = (ahead - behind) / (2 * step)
        assert (getattr(images, name) - slope).abs().max() < 0.02 * slope.abs().max(), name
    ahead, behind = (table.images(position, blur + sign * 4, derivatives=False).value for sign in (1, -1))
    slope = (ahead - behind) / 8
    assert (images.by_blur - slope).abs().max() < 0.02 * slope.abs().max()


def test_tabulated_blur_is_the_pupils_blur(toy_instrument):
    table = PsfTable(toy_instrument, 31, blur_nm=(30.0, 150.0))
    position = positions(toy_instrument, 5)
    blur = torch.tensor([30.0, 55.0, 90.0, 120.0, 150.0])
    expected = camera_images(view_pupil(toy_instrument), position[:, 0], (31, 110.0, True), blur)
    found = table.images(position, blur, derivatives=False).value[:, 0]
    assert ((found - expected).abs().amax((1, 2)) / expected.amax((1, 2))).max() < 0.01


def test_views_get_their_share_and_their_own_place_in_the_window(toy_instrument):
    views = (View(photon_fraction=1.0), View(photon_fraction=3.0, camera=0, focus_shift_nm=300.0))
    instrument = type(toy_instrument).model_validate({**dict(toy_instrument), "views": views})
    position = positions(instrument, 3, views=2)
    images = PsfTable(instrument, 31).images(position, derivatives=False).value
    for v, share in ((0, 0.25), (1, 0.75)):
        expected = share * camera_images(view_pupil(instrument, v), position[:, v], (31, 110.0, True))
        assert (images[:, v] - expected).abs().max() < 0.006 * expected.max()


def test_an_even_window_has_no_centre(toy_instrument):
    with pytest.raises(ValueError, match=r"must be odd.*found 30"):
        PsfTable(toy_instrument, 30)


def test_a_table_with_blur_asks_for_it(toy_instrument):
    with pytest.raises(ValueError, match="give each molecule's blur_nm"):
        PsfTable(toy_instrument, 15, blur_nm=(0.0, 50.0)).images(positions(toy_instrument, 1))
