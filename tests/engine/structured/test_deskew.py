"""Stacks of a stage that moves at an angle to the planes."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine.structured.deskew import deskewed, shear_of


def blob(x, y=20.0, width=70):
    rows, columns = torch.arange(40.0), torch.arange(float(width))
    return torch.exp(-0.5 * ((rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2) / 9)


@pytest.mark.parametrize("shift", [2.0, 1.37, -0.61])
@pytest.mark.parametrize("columns", [True, False])
def test_what_stands_still_in_the_sample_stands_still_in_the_result(shift, columns):
    # the sample moves against the planes
    stack = torch.stack([blob(35 - n * shift) for n in range(9)])
    result = deskewed(stack if columns else stack.movedim(-1, -2), shift, columns)
    result = result if columns else result.movedim(-1, -2)
    assert result.shape == (9, 40, 70 + math.ceil(8 * abs(shift)))
    x = torch.arange(float(result.shape[-1]))
    centres = (result.sum(1) * x).sum(1) / result.sum((1, 2))
    assert torch.allclose(centres, centres[0].expand(9), atol=0.01)
    assert torch.allclose(result.sum((1, 2)), stack.sum((1, 2)), rtol=1e-4)


def test_the_shear_is_that_of_a_tilted_plane():
    shift, distance = shear_of(400.0, math.radians(31.8))
    assert math.hypot(shift, distance) == pytest.approx(400)
    assert distance / shift == pytest.approx(math.tan(math.radians(31.8)))
