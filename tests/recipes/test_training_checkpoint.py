"""A training survives stops, kills, full disks and little memory, and goes on to the same model; what cannot go on says why."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.engine.training.average import Batch
from napari_volumetric_smlm.errors import EngineError, ModelError, OutputError
from napari_volumetric_smlm.io.instruments import save_instrument
from napari_volumetric_smlm.io.models import card_path, read_model_weights, write_model_weights
from napari_volumetric_smlm.recipes import finish, training_checkpoint
from napari_volumetric_smlm.recipes import train as recipe
from napari_volumetric_smlm.recipes.train import train
from napari_volumetric_smlm.recipes.train_lean import LeanFamily

pytestmark = pytest.mark.usefixtures("tiny_training")
PLAN = TrainPlan(frame_count=24, frame_px=32, photons=(3000, 6000), density_per_um2=(0.1, 0.3), window_px=13, seed=4)


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "toy.checkpoint.safetensors"


@pytest.fixture
def every_step(monkeypatch):
    """Keep the state after every step, and tell about every step."""
    monkeypatch.setattr(training_checkpoint, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(recipe, "TELL_S", 0.0)


def stop_after(work, steps):
    """Close a recipe after some step, as a cancel does."""
    for progress in work:
        if progress.stage == "train" and progress.done >= steps:
            break
    work.close()


def same(one, other):
    """Whether two trainings came to the same end, to the bit."""
    assert one.curve.keys() == other.curve.keys()
    assert one.weights.keys() == other.weights.keys()
    for name, values in one.curve.items():
        np.testing.assert_array_equal(values, other.curve[name])
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, other.weights[name])
    assert one.card == other.card
    return True


def steps_kept(checkpoint):
    return read_model_weights(checkpoint)[1]["steps_done"]


def patched_loss(monkeypatch, change):
    """Let `change(batch, parts)` have the last word about every loss."""
    right = LeanFamily.loss
    monkeypatch.setattr(LeanFamily, "loss", lambda self, network, batch: change(batch, right(self, network, batch)))


def little_memory(monkeypatch):
    """Let no more than two frames at once fit from step 3 on."""

    def change(batch, parts):
        if not batch.held_out and batch.frames > 2 and batch.number >= 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return parts

    patched_loss(monkeypatch, change)


def full_disk(monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)


def test_stopped_and_begun_again_it_ends_with_the_same_model(toy_instrument, checkpoint, monkeypatch):
    monkeypatch.setattr(recipe, "TELL_S", 0.0)
    whole = finish(train(toy_instrument, PLAN))
    stop_after(train(toy_instrument, PLAN, checkpoint), 3)
    assert steps_kept(checkpoint) == 3
    assert same(finish(train(toy_instrument, PLAN, checkpoint)), whole)


def test_a_stop_while_it_is_tested_keeps_the_finished_training(toy_instrument, checkpoint):
    work = train(toy_instrument, PLAN, checkpoint)
    next(progress for progress in work if progress.stage == "test")
    work.close()
    assert same(finish(train(toy_instrument, PLAN, checkpoint)), finish(train(toy_instrument, PLAN)))


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.io.instruments import load_instrument
from napari_volumetric_smlm.recipes import train as recipe, train_lean, training_checkpoint
train_lean.PRESETS["quick"] = train_lean.Preset(40, 4, 5, 8, (1, 2))
average.HELD_OUT_FRAMES = 2
recipe.TELL_S = training_checkpoint.CHECKPOINT_S = 0.0
for progress in recipe.train(load_instrument(sys.argv[1]), TrainPlan.model_validate_json(sys.argv[2]), Path(sys.argv[3])):
    print(progress.done, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_killed_in_the_middle_and_begun_again_in_another_process_it_ends_with_the_same_model(toy_instrument, checkpoint, tmp_path):
    plan = PLAN.model_copy(update={"frame_count": 160})
    place = save_instrument(toy_instrument, tmp_path / "toy.json")
    words = [sys.executable, "-c", KILLED, str(place), plan.model_dump_json(), str(checkpoint)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        for line in other.stdout:
            if int(line) >= 12:
                break
        other.send_signal(signal.SIGKILL)
    assert other.returncode == -signal.SIGKILL
    assert 12 <= steps_kept(checkpoint) < 40
    rest = finish(train(toy_instrument, plan, checkpoint))
    assert same(rest, finish(train(toy_instrument, plan)))
    assert len(rest.curve["position"]) == 40


def test_a_kill_between_the_two_files_of_a_checkpoint_goes_back_to_the_one_before(toy_instrument, checkpoint, monkeypatch, every_step):
    class Killed(BaseException):
        pass

    right = Path.replace

    def killed(self, target):
        if target == checkpoint:
            raise Killed
        return right(self, target)

    work = train(toy_instrument, PLAN, checkpoint)
    while next(work).done != 2:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            next(work)
    card = json.loads(card_path(checkpoint).read_text())
    assert card["steps_done"] == 3
    assert same(finish(train(toy_instrument, PLAN, checkpoint)), finish(train(toy_instrument, PLAN)))


def test_the_checkpoint_of_another_training_is_refused(toy_instrument, checkpoint, monkeypatch):
    monkeypatch.setattr(recipe, "TELL_S", 0.0)
    stop_after(train(toy_instrument, PLAN, checkpoint), 2)
    before = checkpoint.read_bytes()
    with pytest.raises(ModelError, match=r"another training \(plan differ\).*delete the checkpoint to begin anew"):
        finish(train(toy_instrument, PLAN.model_copy(update={"learning_rate": 5e-4}), checkpoint))
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_from_before_the_plan_knew_a_setting_is_gone_on_with(toy_instrument, checkpoint, monkeypatch):
    monkeypatch.setattr(recipe, "TELL_S", 0.0)
    stop_after(train(toy_instrument, PLAN, checkpoint), 3)
    arrays, note = read_model_weights(checkpoint)
    for name in ("context_frames", "mean_on_frames"):
        del note["checkpoint_of"]["plan"][name]
    write_model_weights(arrays, note, checkpoint)
    assert same(finish(train(toy_instrument, PLAN, checkpoint)), finish(train(toy_instrument, PLAN)))
    assert steps_kept(checkpoint) == 3


def test_a_checkpoint_that_was_cut_off_or_renamed_or_is_of_another_version_is_told(toy_instrument, checkpoint, monkeypatch):
    monkeypatch.setattr(recipe, "TELL_S", 0.0)
    stop_after(train(toy_instrument, PLAN, checkpoint), 2)
    whole, (arrays, card) = checkpoint.read_bytes(), read_model_weights(checkpoint)
    checkpoint.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="these are not the weights that the card"):
        finish(train(toy_instrument, PLAN, checkpoint))
    write_model_weights({f"old.{name}": array for name, array in arrays.items()}, card, checkpoint)
    with pytest.raises(ModelError, match=r"is no checkpoint that this version can go on from .*: delete it to begin anew"):
        finish(train(toy_instrument, PLAN, checkpoint))
    write_model_weights(arrays, {name: value for name, value in card.items() if name != "together"}, checkpoint)
    with pytest.raises(ModelError, match=r"is no checkpoint that this version can go on from .*together"):
        finish(train(toy_instrument, PLAN, checkpoint))


def test_a_full_disk_costs_checkpoints_but_not_the_training(toy_instrument, checkpoint, monkeypatch, every_step):
    told, before = {}, {}
    with monkeypatch.context() as patch:
        work = train(toy_instrument, PLAN, checkpoint)
        while not told.get(3):
            told[next(work).done] = "fine"
        before = {place: place.read_bytes() for place in checkpoint.parent.iterdir()}
        full_disk(patch)
        result = finish(work, lambda progress: told.update({progress.done: progress.message}) if progress.stage == "train" else None)
    words = (
        r"The state could not be kept \(cannot write .*: the disk is full; .*\); what was learned until step 3 is kept in .*toy.checkpoint"
    )
    assert all(re.match(words, told[step]) for step in (4, 5, 6))
    assert {place: place.read_bytes() for place in checkpoint.parent.iterdir()} == before
    assert steps_kept(checkpoint) == 3
    assert same(result, finish(train(toy_instrument, PLAN)))


def test_a_disk_with_space_again_is_used_again_and_nothing_more_is_told(toy_instrument, checkpoint, monkeypatch, every_step):
    work = train(toy_instrument, PLAN, checkpoint)
    with monkeypatch.context() as patch:
        full_disk(patch)
        while (troubled := next(work)).done != 2:
            pass
    assert "could not be kept" in troubled.message
    assert "what was learned" not in troubled.message
    assert next(work).message == ""
    assert steps_kept(checkpoint) == 3
    work.close()


def test_a_stop_on_a_full_disk_says_what_is_kept(toy_instrument, checkpoint, monkeypatch, every_step):
    work = train(toy_instrument, PLAN, checkpoint)
    while next(work).done != 2:
        pass
    monkeypatch.setattr(training_checkpoint, "CHECKPOINT_S", 1e9)
    while next(work).done != 4:
        pass
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises(OutputError, match=r"the disk is full.*what was learned until step 2 is kept in"):
            work.close()
    assert steps_kept(checkpoint) == 2


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(toy_instrument, checkpoint, monkeypatch, every_step):
    patched_loss(monkeypatch, lambda batch, parts: {**parts, "count": parts["count"] * (float("nan") if batch.number == 3 else 1)})
    with pytest.raises(EngineError, match=r"loss of step 4 is not finite.*lower learning_rate.*; what was learned until step 3 is kept in"):
        finish(train(toy_instrument, PLAN, checkpoint))
    assert steps_kept(checkpoint) == 3


def test_little_memory_is_told_and_gives_a_model_that_can_be_made_again_and_gone_on_with(toy_instrument, checkpoint, monkeypatch):
    monkeypatch.setattr(recipe, "TELL_S", 0.0)
    little_memory(monkeypatch)
    told = {}
    whole = finish(train(toy_instrument, PLAN), lambda progress: told.update({progress.done: progress.message}))
    assert told[2] == ""
    assert told[3] == told[6] == "Out of memory: batch 4 -> 2"
    assert whole.card.frames_seen == 24
    assert same(finish(train(toy_instrument, PLAN)), whole)
    stop_after(train(toy_instrument, PLAN, checkpoint), 4)
    assert same(finish(train(toy_instrument, PLAN, checkpoint)), whole)


def test_no_memory_at_all_is_told_in_words_wherever_it_is_missing(toy_instrument, monkeypatch):
    def none(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for place, words in (("loss", "not even one training frame"), ("__init__", "not enough memory for training frames of 32 x 32 pixels")):
        with monkeypatch.context() as patch:
            patch.setattr(LeanFamily, place, none)
            with pytest.raises(EngineError, match=f"{words}.*lower frame_px"):
                finish(train(toy_instrument, PLAN))


def test_the_weights_that_did_best_on_held_out_frames_are_the_model(toy_instrument, monkeypatch):
    asked = []

    def change(batch, parts):
        if not batch.held_out:
            return parts
        asked.append(batch)
        step = (len(asked) - 1) // 2 + 1
        return {"count": torch.tensor(abs(step - 4.0))}

    patched_loss(monkeypatch, change)
    result = finish(train(toy_instrument, PLAN))
    assert result.card.kept_step == 4
    _, _, trainer = recipe.begin(toy_instrument, PLAN)
    list(trainer.run(until=4))
    for name, value in trainer.averages.mean.state_dict().items():
        np.testing.assert_array_equal(result.weights[name], value)


def test_frames_for_choosing_are_neither_those_of_the_training_nor_those_of_the_test(toy_instrument):
    frames = LeanFamily(toy_instrument, PLAN).frames
    drawn = [frames.drawn(Batch(2, n, held_out))[0] for n in range(4) for held_out in (False, True)]
    drawn += [frames.batch(2, n, test=True)[0] for n in range(4)]
    assert len({float(channels.sum()) for channels in drawn}) == 12
    np.testing.assert_array_equal(frames.drawn(Batch(2, 1, held_out=True))[0], drawn[3])
