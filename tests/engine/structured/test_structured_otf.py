"""Optical transfer functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.illumination import RadialOTF
from napari_volumetric_smlm.engine.structured.otf import ideal_transfer, transfer_from, transfer_of


def test_a_flat_pupil_has_the_transfer_function_of_an_ideal_lens(lens):
    transfer = transfer_of(lens.model_copy(update={"pixel_model": "point"}))
    assert transfer.cutoff_per_um == pytest.approx(2 * 1.3 / 0.525)
    q = torch.linspace(0, 5.5, 100)
    # overlap of two discs of radius NA / wavelength, by counting points
    grid = torch.linspace(-1, 1, 801)
    y, x = grid[:, None], grid[None, :]
    disc = (y**2 + x**2) < 1
    for frequency in (0.5, 1.7, 3.1, 4.5):
        shift = 2 * frequency / transfer.cutoff_per_um
        counted = (disc & ((x - shift) ** 2 + y**2 < 1)).sum() / disc.sum()
        assert float(transfer(torch.tensor([frequency]))[0]) == pytest.approx(float(counted), abs=5e-3)
    assert torch.allclose(transfer(q), ideal_transfer(q, transfer.cutoff_per_um), atol=5e-3)


def test_there_is_nothing_beyond_the_cut_off(lens):
    transfer = transfer_of(lens)
    beyond = transfer.cutoff_per_um * torch.tensor([1.0001, 1.2, 3.0])
    assert torch.equal(transfer(beyond), torch.zeros(3))


def test_pixels_lower_the_contrast_by_their_sinc(lens):
    point, area = (transfer_of(lens.model_copy(update={"pixel_model": model})) for model in ("point", "integrated"))
    q = torch.tensor([1.0, 2.0, 3.0])
    # mean over all directions of sinc(q_x p) sinc(q_y p)
    angle = torch.linspace(0, 2 * torch.pi, 721)[:-1]
    sinc = (torch.sinc(0.065 * q[:, None] * torch.cos(angle)) * torch.sinc(0.065 * q[:, None] * torch.sin(angle))).mean(1)
    assert torch.allclose(area(q) / point(q), sinc, atol=2e-3)


def test_damping_is_what_it_says_at_the_cut_off(optics):
    damped = optics.transfer.damped(0.3)
    q = torch.tensor([0.0, optics.transfer.cutoff_per_um / 2])
    assert torch.allclose(damped(q) / optics.transfer(q), torch.tensor([1.0, 0.3**0.5]), atol=1e-4)


def test_a_measured_table_ends_where_its_values_do_and_negative_ones_count_as_none():
    transfer = transfer_from(RadialOTF(values=np.array([1.0, 0.5, 0.2, -0.01, 0.0]), step_per_um=1.0))
    assert transfer.cutoff_per_um == 3.0
    assert torch.allclose(transfer(torch.tensor([0.0, 0.5, 2.0, 3.5])), torch.tensor([1.0, 0.75, 0.2, 0.0]))


@pytest.mark.parametrize("values", [np.array([0.5, 0.4, 0.3, 0.1]), np.array([1.0, 1.5, 0.3, 0.1]), np.ones((4, 4))])
def test_a_table_that_is_no_transfer_function_is_refused(values):
    with pytest.raises(ValueError, match="OTF"):
        RadialOTF(values=values, step_per_um=1.0)
