"""The localizer's loss: against sums written out, and lowest where it should be."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.engine.networks.localizer import Prediction
from napari_volumetric_smlm.engine.training.losses import Targets, localizer_loss, position_loss

SIDE = 9


def predict(seed: int = 0, frames: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Prediction(
        draw(frames, SIDE, SIDE) - 2,
        torch.tanh(draw(frames, 4, SIDE, SIDE)),
        0.2 + draw(frames, 4, SIDE, SIDE).abs(),
        draw(frames, SIDE, SIDE),
    )


def targets(place=((0.2, 4.2, 4.9, 1.0), (-0.5, 0.3, 7.6, 0.7), (0.8, 3.0, 3.0, 1.5)), frame=(0, 1, 1)) -> Targets:
    return Targets(torch.tensor(frame), torch.tensor(place, dtype=torch.float64), torch.zeros((2, SIDE, SIDE), dtype=torch.float64))


def test_the_position_loss_is_the_mixture_written_out():
    predicted, wanted = predict(), targets()
    found = position_loss(predicted, wanted)
    for n, (frame, place) in enumerate(zip(wanted.frame_n.tolist(), wanted.place_n4, strict=True)):
        p = torch.sigmoid(predicted.logit_tyx[frame])
        total = 0.0
        for i in range(SIDE):
            for j in range(SIDE):
                if max(abs(i - round(float(place[1]))), abs(j - round(float(place[2])))) > 2:
                    continue
                mean = predicted.mean_tpyx[frame, :, i, j] + torch.tensor([0.0, i, j, 0.0])
                sigma = predicted.sigma_tpyx[frame, :, i, j]
                density = torch.exp(-0.5 * ((place - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
                total += float(p[i, j] / p.sum() * density.prod())
        assert float(found[n]) == pytest.approx(-math.log(total), rel=1e-6)


def test_the_count_loss_is_lowest_at_the_true_number():
    def count(logit: float) -> float:
        predicted = predict()
        predicted.logit_tyx.fill_(-20.0)
        predicted.logit_tyx[0, 4, 4] = logit
        predicted.logit_tyx[1, 4, 4] = predicted.logit_tyx[1, 2, 2] = logit
        return float(localizer_loss(predicted, targets())["count"])

    assert count(6.0) < count(0.0) < count(-6.0)


def test_the_truth_costs_less_than_anything_near_it():
    def at(shift: float) -> float:
        predicted = predict(frames=2)
        wanted = targets(place=((0.2, 4.2, 4.9, 1.0),), frame=(0,))
        predicted.logit_tyx.fill_(-15.0)
        predicted.logit_tyx[0, 4, 5] = 8.0
        predicted.mean_tpyx[0, :, 4, 5] = torch.tensor([0.2 + shift, 0.2, -0.1, 1.0])
        predicted.sigma_tpyx[0, :, 4, 5] = 0.1
        return float(localizer_loss(predicted, wanted)["position"])

    assert at(0.0) < min(at(-0.05), at(0.05)) < at(0.2)


def test_frames_without_molecules_have_a_loss_that_is_finite():
    wanted = targets(place=((0.0, 0.0, 0.0, 0.0),), frame=(0,))
    empty = Targets(wanted.frame_n[:0], wanted.place_n4[:0], wanted.background_tyx)
    parts = localizer_loss(predict(), empty)
    assert all(bool(torch.isfinite(value)) for value in parts.values())
    assert float(parts["position"]) == 0


def test_molecules_outside_the_frame_are_nobodys_pixel():
    wanted = targets(place=((0.0, -0.7, 4.0, 1.0),), frame=(0,))
    inside = targets(place=((0.0, 0.0, 4.0, 1.0),), frame=(0,))
    empty = Targets(wanted.frame_n[:0], wanted.place_n4[:0], wanted.background_tyx)
    assert localizer_loss(predict(), wanted)["presence"] == localizer_loss(predict(), empty)["presence"]
    assert localizer_loss(predict(), inside)["presence"] != localizer_loss(predict(), empty)["presence"]
