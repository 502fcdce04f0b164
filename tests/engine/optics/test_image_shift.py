"""Images that were measured elsewhere than the pupil puts them: shifted depth by depth, in every use of the optics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.instrument import View
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument

ROWS = np.array([(0.0, 100.0, -50.0), (400.0, 0.0, 0.0), (800.0, -30.0, 220.0)])
# linear between the rows, and as at the ends beyond them
EXPECTED = {-50.0: (100, -50), 200.0: (50, -25), 400.0: (0, 0), 600.0: (-15, 110), 900.0: (-30, 220)}


@pytest.fixture(scope="module")
def plain(toy_instrument):
    return toy_instrument.model_copy(update={"views": (View(),)})


@pytest.fixture(scope="module")
def moved(plain):
    return plain.model_copy(update={"views": (View(image_shift_zyx_nm=ROWS),)})


def images(instrument, position, focus=None):
    return camera_images(view_pupil(instrument, dtype=torch.float64), position, (31, 110.0, True), 0.0, focus)


@pytest.mark.parametrize("z", EXPECTED)
def test_a_molecule_is_imaged_where_one_that_lies_so_much_aside_would_be(plain, moved, z):
    y, x = EXPECTED[z]
    here, aside = torch.tensor([[z, 20.0, 30.0]]).double(), torch.tensor([[z, 20.0 + y, 30.0 + x]]).double()
    assert torch.allclose(images(moved, here), images(plain, aside), atol=1e-9)


def test_a_scan_shows_a_bead_where_a_molecule_at_that_depth_is_shown(moved, plain):
    bead = torch.zeros((1, 3)).double()
    # the focal plane 200 nm lower shows the bead as one 200 nm higher
    focus = torch.tensor([plain.focal_plane_nm - 200.0]).double()
    y, x = EXPECTED[200.0]
    assert torch.allclose(images(moved, bead, focus), images(plain, torch.tensor([[0.0, y, x]]).double(), focus), atol=1e-9)


def test_molecules_are_fitted_with_the_shifted_images(plain, moved):
    position = torch.tensor([[[600.0, 10.0, -20.0]]])
    y, x = EXPECTED[600.0]
    shifted = position + torch.tensor([0.0, y, x])
    found, expected = (PsfTable(i, 21, 50.0).images(p, derivatives=False).value for i, p in ((moved, position), (plain, shifted)))
    assert torch.allclose(found, expected, atol=2e-3 * float(expected.max()))


def test_the_shift_shapes_the_fingerprint_and_survives_a_file(plain, moved, tmp_path):
    assert plain.fingerprint != moved.fingerprint
    again = load_instrument(save_instrument(moved, tmp_path / "i.json"))
    assert again.fingerprint == moved.fingerprint
    np.testing.assert_array_equal(again.views[0].image_shift_zyx_nm, ROWS)


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[::-1], ROWS[:, :2]])
def test_rows_that_say_no_shift_are_refused(rows):
    with pytest.raises(ValidationError, match=r"two or more rows \(z, y, x\) of rising z"):
        View(image_shift_zyx_nm=rows)
