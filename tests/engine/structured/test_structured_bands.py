"""Separation of bands, windows and means."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.structured.bands import equalized, field_window, nominal_steps, separate, separation


@pytest.mark.parametrize(("phases", "waves"), [(3, (1,)), (5, (1, 2)), (5, (1,)), (7, (1, 2, -3))])
def test_bands_that_are_mixed_into_frames_come_back(phases, waves):
    generator = torch.Generator().manual_seed(1)
    bands = torch.randn((1 + len(waves), 6, 7), generator=generator, dtype=torch.complex64)
    bands[0] = bands[0].real
    # any steps will do, as long as they differ
    steps = nominal_steps(phases, torch.zeros(1)) + 0.2 * torch.randn(phases, generator=generator)
    frames = bands[0].real + sum(
        2 * (torch.exp(1j * step * steps)[:, None, None] * band).real for step, band in zip(waves, bands[1:], strict=True)
    )
    assert torch.allclose(separate(frames, separation(steps, waves)), bands, atol=1e-4)


def test_bleaching_and_a_flickering_lamp_are_taken_out_and_the_mean_of_all_is_kept():
    generator = torch.Generator().manual_seed(0)
    true = 50 + torch.rand((3, 3, 20, 20), generator=generator)
    lamp = torch.linspace(1.3, 0.7, 9).reshape(3, 3, 1, 1)
    found = equalized(true * lamp)
    assert torch.allclose(found.mean((-2, -1)), found.mean().expand(3, 3), rtol=1e-5)
    assert float(found.mean()) == pytest.approx(float((true * lamp).mean()), rel=1e-5)


def test_a_dark_frame_is_not_blown_up():
    frames = torch.ones((1, 3, 8, 8))
    frames[0, 1] = 0
    assert float(equalized(frames).max()) < 1.0


def test_the_product_of_two_windows_is_half_a_sine():
    window = field_window((40, 30), torch.zeros(1))
    row = window[20] ** 2
    expected = torch.sin(torch.pi * (torch.arange(30) + 0.5) / 30)
    assert torch.allclose(row / row.max(), expected / expected.max(), atol=1e-5)
