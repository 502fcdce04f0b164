"""A scan over beads shows each of them as a point with the focal plane there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.simulate.beads import scan_beads
from napari_volumetric_smlm.io.examples import load_example


def test_a_bead_in_a_slice_is_the_image_of_a_point_with_the_focal_plane_there(toy_instrument):
    focus, position = torch.tensor([0.0, 400.0]), torch.tensor([[50.0, 30 * 110.0 + 20, 33 * 110.0]])
    stack = scan_beads(toy_instrument, position, focus, (64, 64))[:, 0]
    point = torch.tensor([[50.0, 20.0, 0.0]]).expand(2, 3)
    expected = camera_images(view_pupil(toy_instrument), point, (21, 110.0, True), 0.0, focus)
    assert torch.allclose(stack[:, 20:41, 23:44], expected, atol=1e-5)
    # the faint rings outside the window are left out, nothing is added
    assert ((stack.sum((1, 2)) > 0.96) & (stack.sum((1, 2)) <= 1)).all()


def test_a_bead_at_the_edge_loses_the_light_outside(toy_instrument):
    inside = scan_beads(toy_instrument, torch.tensor([[0.0, 3300.0, 3300.0]]), torch.tensor([500.0]), (60, 60)).sum()
    at_edge = scan_beads(toy_instrument, torch.tensor([[0.0, 3300.0, -55.0]]), torch.tensor([500.0]), (60, 60)).sum()
    assert float(at_edge / inside) == pytest.approx(0.5, abs=0.1)


def test_each_camera_sees_the_beads_where_its_affine_puts_them():
    instrument = load_example("two_camera")
    stack = scan_beads(instrument, torch.tensor([[0.0, 80 * 110.0, 80 * 110.0]]), torch.tensor([2300.0]), (160, 160))
    assert stack.shape == (1, 2, 160, 160)
    grid = torch.arange(160.0)
    for camera, view in enumerate(instrument.views):
        (a, b, s), (c, d, t) = view.affine_yx
        expected = np.array([a * 8800 + b * 8800 + s, c * 8800 + d * 8800 + t]) / 110
        image = stack[0, camera]
        centre = [float((image.sum(1) * grid).sum() / image.sum()), float((image.sum(0) * grid).sum() / image.sum())]
        assert centre == pytest.approx(expected, abs=1.0)
