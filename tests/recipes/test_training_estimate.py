"""What a training takes is told by steps that were measured, not by a table."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.recipes import finish, train_lean, training_estimate
from napari_volumetric_smlm.recipes.train_lean import LeanFamily, Preset
from napari_volumetric_smlm.recipes.training_estimate import estimate_training

pytestmark = pytest.mark.usefixtures("tiny_training")
PLAN = TrainPlan(frame_px=32, photons=(3000, 6000), density_per_um2=(0.1, 0.3), window_px=13, device="cpu")
SECONDS_A_FRAME = 0.01
SPARE_MIB = 200


@pytest.fixture
def slow(monkeypatch):
    """Let a frame take a known time, and the full preset a known memory; return the widths of the networks, step by step."""
    right, widths = LeanFamily.loss, []

    def loss(self, network, batch):
        widths.append(self.architecture["width"])
        time.sleep(SECONDS_A_FRAME * batch.frames)
        if self.architecture["width"] == 12:
            torch.ones(SPARE_MIB * 2**18)
        return right(self, network, batch)

    monkeypatch.setattr(LeanFamily, "loss", loss)
    monkeypatch.setattr(training_estimate, "LEAST_SECONDS", 0.15)
    monkeypatch.setitem(train_lean.PRESETS, "quick", Preset(1_000, 4, 5, 8, (1, 2)))
    monkeypatch.setitem(train_lean.PRESETS, "standard", Preset(20_000, 4, 5, 8, (1, 2)))
    monkeypatch.setitem(train_lean.PRESETS, "full", Preset(50_000, 8, 5, 12, (1, 2)))
    return widths


def test_time_and_memory_of_each_preset_follow_from_its_frames_and_network(toy_instrument, slow):
    quick, standard, full = finish(estimate_training(toy_instrument, PLAN))
    assert [cost.preset for cost in (quick, standard, full)] == ["quick", "standard", "full"]
    assert [cost.frames for cost in (quick, standard, full)] == [1_000, 20_000, 50_000]
    assert {cost.device for cost in (quick, standard, full)} == {"cpu"}
    for cost in (quick, standard):
        slept = cost.frames * SECONDS_A_FRAME
        assert slept < cost.seconds < 3 * slept + 5
    assert full.seconds > full.frames * SECONDS_A_FRAME
    if sys.platform == "linux":
        assert full.peak_mib - quick.peak_mib == pytest.approx(SPARE_MIB, rel=0.4)
    # quick and standard differ in their frames only: measured once, with a step before that does not count
    assert slow[:2] == [8, 8]
    assert slow.count(8) < 10
    assert slow == sorted(slow)


def test_other_settings_of_the_plan_count_and_a_start_model_does_not(toy_instrument, slow):
    plan = PLAN.model_copy(update={"frame_count": 400, "start_model": "nowhere.safetensors"})
    assert [cost.frames for cost in finish(estimate_training(toy_instrument, plan))] == [400, 400, 400]


def test_time_that_the_caller_takes_between_steps_does_not_count(toy_instrument, slow):
    quick = finish(estimate_training(toy_instrument, PLAN), lambda progress: time.sleep(0.1))[0]
    assert quick.seconds < 3 * quick.frames * SECONDS_A_FRAME + 5


def test_it_can_be_stopped_between_two_steps(toy_instrument, slow):
    work = estimate_training(toy_instrument, PLAN)
    told = [next(work) for _ in range(3)]
    assert {progress.message for progress in told} == {"Measuring a few steps of quick"}
    work.close()
    assert len(slow) == 2
