"""Whether the sample moved between orientations."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine.structured.motion import largest_shift_px


def test_a_shift_of_one_orientation_is_measured(record):
    frames = record().frames.clone()
    assert largest_shift_px(frames) < 0.5
    frames[2] = torch.roll(frames[2], (-3, 1), (-2, -1))
    assert largest_shift_px(frames) == pytest.approx(math.hypot(3, 1), abs=0.3)
