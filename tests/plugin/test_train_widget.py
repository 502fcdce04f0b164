"""The Train widget, the model picker, and what happens to a training that is stopped; with a recipe that takes milliseconds."""

from __future__ import annotations

import shlex
import sys
import threading
import types

import numpy as np
import pytest

from napari_volumetric_smlm.cli import parser
from napari_volumetric_smlm.cli.options import plan_from
from napari_volumetric_smlm.domain.plans import ReconstructPlan, TrainPlan
from napari_volumetric_smlm.domain.runs import ModelCard, Progress, TrainedModel, TrainingCost
from napari_volumetric_smlm.errors import EngineError, OutputError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument
from napari_volumetric_smlm.io.models import card_path, checkpoint_path, read_model_card, read_model_weights, write_model_weights
from napari_volumetric_smlm.plugin import training
from napari_volumetric_smlm.plugin.actions import TRAIN, open_widget
from napari_volumetric_smlm.plugin.settings import preferences
from napari_volumetric_smlm.plugin.widgets.models import NO_MODEL, ModelPicker, card_words

STEPS = 6
WEIGHTS = {"w": np.ones(3, np.float32)}


def card_for(microscope, plan=None, **more):
    low, high = microscope.depth_range_nm
    facts = {
        "architecture": {"channels": 4},
        "units": {"low_nm": low, "high_nm": high, "pixel_nm": microscope.pixel_nm(), "photons": 5000.0},
        "window_px": 13,
        "ground_px": 120.0,
        "instrument": microscope.name,
        "instrument_fingerprint": microscope.fingerprint,
        "plan": plan or TrainPlan(),
        "frames_seen": 48,
        "tested_frames": 32,
        "accuracy": {"jaccard": 0.91, "rmse_lateral_nm": 20.2, "rmse_axial_nm": 31.7},
    }
    return ModelCard(**{**facts, **more})


def keep_model(microscope, place, **more):
    place.parent.mkdir(parents=True, exist_ok=True)
    return write_model_weights(WEIGHTS, card_for(microscope, **more).model_dump(mode="json"), place)


class FakeTrain:
    """Stands for recipes.train: six steps; a stop writes a checkpoint, and the next call goes on from it."""

    def __init__(self):
        self.calls = []
        self.began_at = []
        self.permits = threading.Semaphore(1_000_000)
        self.error = None
        self.notice = ""

    def hold(self, after):
        self.permits = threading.Semaphore(after)

    def allow(self):
        for _ in range(100):
            self.permits.release()

    def train(self, instrument, plan, checkpoint=None, command=""):
        self.calls.append((instrument, plan, checkpoint, command))
        kept = training.kept_training(checkpoint.with_name(checkpoint.name.replace(".checkpoint", "")))
        done = kept.steps if kept else 0
        self.began_at.append(done)
        curve = list(kept.curve) if kept else []
        try:
            yield Progress(stage="prepare", message="Computing the point-spread function")
            while done < STEPS:
                while not self.permits.acquire(timeout=0.02):
                    yield Progress(stage="prepare")
                if self.error is not None:
                    raise self.error
                done += 1
                curve.append({"count": 5.0 / done, "position": 30.0 / done})
                yield Progress(stage="train", done=done, total=STEPS, numbers={**curve[-1], "loss": 35.0 / done},
                               message=self.notice)  # fmt: skip
        except GeneratorExit:
            if done:
                write_model_weights(WEIGHTS, {"checkpoint_of": {}, "steps_done": done, "curve": curve}, checkpoint)
            raise
        return TrainedModel(weights=WEIGHTS, card=card_for(instrument, plan, command=command), curve={}, complete=True, seconds=1.0)


@pytest.fixture
def fake(monkeypatch):
    from napari_volumetric_smlm.plugin import workers

    fake = FakeTrain()
    module = types.ModuleType("napari_volumetric_smlm.recipes.train")
    module.train = fake.train
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(workers, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(training, "prepare_engine", lambda chosen: None)
    return fake


@pytest.fixture
def trainer(viewer, fake, movie, qtbot):
    opened = open_widget(viewer, TRAIN)
    opened.instrument.load(movie.parent / "toy.json")
    yield opened
    fake.allow()
    opened.leave()
    qtbot.wait_until(lambda: not training._UNDER_WAY, timeout=5000)


def run(trainer, qtbot):
    with qtbot.wait_signal(trainer.panel.ended, timeout=20000) as ended:
        trainer.panel.button.click()
    return ended.args[0]


def stop_after(trainer, fake, qtbot, steps):
    fake.hold(steps)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: trainer.curve.steps[-1:] == [steps], timeout=10000)
    with qtbot.wait_signal(trainer.panel.ended, timeout=10000) as ended:
        trainer.panel.button.click()
    return ended.args[0]


def models_folder():
    return training.models_folder(preferences())


def test_one_click_trains_a_model_that_is_written_with_its_card_and_chosen(trainer, qtbot, fake, toy_instrument):
    trainer.first.editors["photons"].setText("3000, 9000")
    trainer.others.editors["seed"].setText("7")
    assert run(trainer, qtbot).kind == "done"
    instrument, plan, _, command = fake.calls[0]
    assert instrument == toy_instrument
    assert plan == TrainPlan(photons=(3000, 9000), seed=7)
    place = models_folder() / "toy.safetensors"
    assert trainer.session.model == place
    assert read_model_card(place).plan == plan
    assert command.startswith("vsmlm train --instrument ")
    assert plan_from(parser().parse_args(shlex.split(command)[1:]), TrainPlan) == plan
    assert "--photons 3000 9000 --seed 7" in command
    assert not checkpoint_path(place).exists()
    assert "Jaccard 0.91, 20 nm lateral, 32 nm axial" in trainer.verdict.text()
    assert "✓" in trainer.steps.train.text()


def test_the_button_says_what_is_missing(viewer, fake):
    trainer = open_widget(viewer, TRAIN)
    assert not trainer.panel.button.isEnabled()
    assert "Choose an instrument" in trainer.panel.button.toolTip()
    trainer.leave()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "Give the model a name"),
        ("  ", "Give the model a name"),
        ("a/b", "neither a plain name"),
        ("a.checkpoint", "stopped trainings"),
    ],
)
def test_what_is_no_name_is_refused_in_words(trainer, name, words):
    trainer.name.setText(name)
    assert not trainer.panel.button.isEnabled()
    assert words in trainer.panel.button.toolTip()


def test_settings_of_both_halves_are_checked_together(trainer):
    trainer.first.editors["photons"].setText("100, 500")
    trainer.others.editors["least_photons"].setText("800")
    assert not trainer.panel.button.isEnabled()
    assert "least_photons 800 is not below the highest photons 500" in trainer.panel.button.toolTip()
    trainer.first.editors["photons"].setText("100, 5000")
    assert trainer.panel.button.isEnabled()


def test_the_loss_is_drawn_while_it_trains(trainer, qtbot, fake):
    assert not trainer.curve.isVisibleTo(trainer)
    fake.hold(3)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: trainer.curve.steps == [1, 2, 3], timeout=10000)
    assert trainer.curve.isVisibleTo(trainer)
    assert trainer.curve.lines["loss"] == [35.0, 17.5, 35.0 / 3]
    assert "loss 11.67 · 3 of 6" in trainer.panel.message.text() or "prepare" in trainer.panel.message.text()
    assert trainer.panel.button.text() == "Stop"


def test_stop_keeps_what_was_learned_and_train_goes_on_from_there(trainer, qtbot, fake):
    assert stop_after(trainer, fake, qtbot, 4).kind == "stopped"
    place = models_folder() / "toy.safetensors"
    assert checkpoint_path(place).is_file()
    assert not place.exists()
    assert trainer.session.model is None
    assert "step 4 is kept, Train goes on from it" in trainer.panel.message.text()
    assert "A stopped training of this name is kept (step 4)" in trainer.name_words.text()
    fake.allow()
    assert run(trainer, qtbot).kind == "done"
    assert fake.began_at == [0, 4]
    assert trainer.curve.steps == [1, 2, 3, 4, 5, 6]
    assert place.is_file()
    assert not checkpoint_path(place).exists()
    assert not card_path(checkpoint_path(place)).exists()


def test_a_stop_before_the_first_step_keeps_nothing_and_says_so(trainer, qtbot, fake):
    fake.hold(0)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: bool(fake.calls), timeout=10000)
    with qtbot.wait_signal(trainer.panel.ended, timeout=10000):
        trainer.panel.button.click()
    assert "nothing was kept yet" in trainer.panel.message.text()


def test_a_training_stopped_in_an_earlier_session_is_taken_up_with_its_name_and_settings(trainer, viewer, qtbot, fake, movie):
    from napari_volumetric_smlm.plugin import session

    trainer.name.setText("crowded")
    trainer.first.editors["preset"].setCurrentText("standard")
    stop_after(trainer, fake, qtbot, 2)
    viewer.window.remove_dock_widget(trainer)
    session._SESSIONS.pop(viewer)
    again = open_widget(viewer, TRAIN)
    again.instrument.load(movie.parent / "toy.json")
    assert again.name.text() == "crowded"
    assert again.others.plan().preset == again.first.plan().preset == "standard"
    fake.allow()
    assert run(again, qtbot).kind == "done"
    assert fake.began_at == [0, 2]


def test_begin_anew_forgets_the_stopped_training(trainer, qtbot, fake):
    stop_after(trainer, fake, qtbot, 2)
    assert trainer.anew_button.isVisibleTo(trainer)
    trainer.anew_button.click()
    assert not trainer.anew_button.isVisibleTo(trainer)
    fake.allow()
    run(trainer, qtbot)
    assert fake.began_at == [0, 0]


def test_a_finished_model_keeps_its_name_and_replacing_it_is_told(trainer, qtbot, fake, toy_instrument):
    run(trainer, qtbot)
    assert "this training is finished already" in trainer.name_words.text()
    assert not trainer.panel.button.isEnabled()
    assert "'Replace it', or give the model another name" in trainer.panel.button.toolTip()
    trainer.others.set_value("seed", 3)
    assert "there is a finished model of this name, for 'toy'" in trainer.name_words.text()
    trainer.replace_box.setChecked(True)
    run(trainer, qtbot)
    assert len(fake.calls) == 2
    # each time anew
    assert not trainer.panel.button.isEnabled()
    trainer.name.setText("other")
    assert trainer.panel.button.isEnabled()
    assert not trainer.replace_box.isVisibleTo(trainer)
    trainer.name.setText("toy")
    assert training.suggested_name(toy_instrument, models_folder()) == "toy-2"


def test_closing_the_dock_keeps_the_training(trainer, viewer, qtbot, fake):
    fake.hold(3)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: trainer.curve.steps[-1:] == [3], timeout=10000)
    viewer.window.remove_dock_widget(trainer)
    qtbot.wait_until(lambda: not training._UNDER_WAY, timeout=5000)
    assert training.kept_training(models_folder() / "toy.safetensors").steps == 3


def test_one_name_is_not_trained_twice_at_a_time(trainer, qtbot, fake):
    training._UNDER_WAY.add(models_folder() / "toy.safetensors")
    try:
        assert run(trainer, qtbot).kind == "failed"
    finally:
        training._UNDER_WAY.clear()
    assert "toy.safetensors is being trained already" in trainer.panel.message.text()
    assert not fake.calls


def test_what_the_training_has_to_tell_stands_before_its_loss(trainer, qtbot, fake):
    fake.notice = "Out of memory: batch 8 -> 4"
    fake.hold(3)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: trainer.curve.steps == [1, 2, 3], timeout=10000)
    fake.allow()
    told = []
    trainer.panel.ticked.connect(lambda tick: told.append(trainer.panel.message.text()))
    with qtbot.wait_signal(trainer.panel.ended, timeout=20000):
        pass
    assert any(text.startswith("⚠ Out of memory: batch 8 -> 4 · Training, loss") for text in told)


def test_a_training_that_fails_says_why_and_keeps_what_it_has_learned(trainer, qtbot, fake):
    stop_after(trainer, fake, qtbot, 2)
    fake.allow()
    fake.error = EngineError("the loss of step 3 is not finite")
    assert run(trainer, qtbot).kind == "failed"
    assert "the loss of step 3 is not finite" in trainer.panel.message.text()
    assert "A stopped training of this name is kept (step 2)" in trainer.name_words.text()


def test_a_card_whose_weights_are_not_there_is_no_kept_training(tmp_path):
    place = tmp_path / "toy.safetensors"
    write_model_weights(WEIGHTS, {"steps_done": 3, "curve": []}, checkpoint_path(place))
    assert training.kept_training(place).steps == 3
    checkpoint_path(place).unlink()
    assert training.kept_training(place) is None


def test_a_model_that_cannot_be_saved_is_words_and_the_training_is_kept(trainer, qtbot, fake, monkeypatch):
    stop_after(trainer, fake, qtbot, 2)
    fake.allow()

    def full(*arguments):
        raise OutputError("cannot write toy.safetensors: the disk is full")

    monkeypatch.setattr(training, "write_model_weights", full)
    assert run(trainer, qtbot).kind == "failed"
    assert "the disk is full; the training is kept" in trainer.panel.message.text()
    assert training.kept_training(models_folder() / "toy.safetensors").steps == 2


def test_a_checkpoint_that_cannot_be_written_at_a_stop_leaves_the_one_before(trainer, qtbot, fake, monkeypatch):
    stop_after(trainer, fake, qtbot, 2)

    def full(*arguments):
        raise OutputError("the disk is full")

    monkeypatch.setattr(sys.modules[__name__], "write_model_weights", full)
    fake.hold(2)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: trainer.curve.steps[-1:] == [4], timeout=10000)
    with qtbot.wait_signal(trainer.panel.ended, timeout=10000) as ended:
        trainer.panel.button.click()
    assert ended.args[0].kind == "stopped"
    assert "step 2 is kept" in trainer.panel.message.text()


def test_a_real_training_that_is_stopped_and_gone_on_with_ends_with_the_same_model(viewer, movie, qtbot, monkeypatch, toy_instrument):
    from napari_volumetric_smlm.engine.training import average
    from napari_volumetric_smlm.plugin import workers
    from napari_volumetric_smlm.recipes import finish, train_lean
    from napari_volumetric_smlm.recipes import train as recipe

    monkeypatch.setitem(train_lean.PRESETS, "quick", train_lean.Preset(40, 4, 5, 8, (1, 2)))
    monkeypatch.setattr(average, "HELD_OUT_FRAMES", 2)
    for module, name in ((recipe, "TELL_S"), (workers, "TICK_SECONDS")):
        monkeypatch.setattr(module, name, 0.0)
    plan = TrainPlan(frame_count=200, frame_px=32, window_px=13)
    trainer = open_widget(viewer, TRAIN)
    trainer.instrument.load(movie.parent / "toy.json")
    for name in ("frame_count", "frame_px", "window_px"):
        trainer.others.editors[name].setText(str(getattr(plan, name)))
    trainer.panel.button.click()
    qtbot.wait_until(lambda: len(trainer.curve.steps) > 4, timeout=20000)
    with qtbot.wait_signal(trainer.panel.ended, timeout=20000) as ended:
        trainer.panel.button.click()
    assert ended.args[0].kind == "stopped"
    kept = training.kept_training(trainer.place()).steps
    assert 4 < kept < 50
    assert f"step {kept} is kept, Train goes on from it" in trainer.panel.message.text()
    assert run(trainer, qtbot).kind == "done"
    assert trainer.curve.steps[-1] == 50
    weights, _ = read_model_weights(trainer.place())
    for name, values in finish(recipe.train(toy_instrument, plan)).weights.items():
        np.testing.assert_array_equal(weights[name], values)
    trainer.leave()


@pytest.fixture
def measuring(monkeypatch):
    """Stand for recipes.training_estimate; `permits` lets it go on."""
    calls, permits = [], threading.Semaphore(1000)

    def estimate_training(instrument, plan):
        calls.append((instrument, plan))
        for done, name in enumerate(("quick", "standard")):
            while not permits.acquire(timeout=0.02):
                yield Progress(stage="estimate", done=done, total=2, message=f"Measuring a few steps of {name}")
        return tuple(TrainingCost(preset=name, device="cpu", frames=9, seconds=7200.0, peak_mib=1536) for name in ("quick", "standard"))

    module = types.ModuleType("napari_volumetric_smlm.recipes.training_estimate")
    module.estimate_training = estimate_training
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return types.SimpleNamespace(calls=calls, permits=permits)


def measure(trainer, qtbot):
    with qtbot.wait_signal(trainer.estimate.job.ended, timeout=20000):
        trainer.estimate.button.click()
    return trainer.estimate.words.text()


def test_how_long_it_takes_is_measured_when_asked_and_stays_until_the_settings_change(trainer, qtbot, measuring, toy_instrument):
    trainer.first.editors["photons"].setText("3000, 9000")
    words = measure(trainer, qtbot)
    assert words == "On cpu, about\nquick: 2 h 0 min · 1.5 GiB\nstandard: 2 h 0 min · 1.5 GiB"
    assert measuring.calls == [(toy_instrument, TrainPlan(photons=(3000, 9000)))]
    trainer.name.setText("another")
    trainer.first.editors["preset"].setCurrentText("standard")
    assert trainer.estimate.words.text() == words
    trainer.others.editors["frame_px"].setText("120")
    assert not trainer.estimate.words.isVisibleTo(trainer)


def test_while_it_is_measured_the_window_lives_and_it_can_be_stopped(trainer, qtbot, measuring):
    for _ in range(1000):
        measuring.permits.acquire()
    trainer.estimate.button.click()
    qtbot.wait_until(lambda: "Measuring a few steps of quick" in trainer.estimate.words.text(), timeout=10000)
    trainer.estimate.button.click()
    qtbot.wait_until(lambda: not trainer.estimate.job.busy, timeout=10000)
    assert not trainer.estimate.words.isVisibleTo(trainer)
    assert trainer.estimate.button.text() == "How long will it take here?"


def test_a_training_stops_the_measuring_and_none_is_begun_beside_it(trainer, qtbot, fake, measuring):
    for _ in range(1000):
        measuring.permits.acquire()
    trainer.estimate.button.click()
    qtbot.wait_until(lambda: "Measuring a few steps of quick" in trainer.estimate.words.text(), timeout=10000)
    assert trainer.estimate.button.text() == "Stop measuring"
    fake.hold(2)
    trainer.panel.button.click()
    qtbot.wait_until(lambda: not trainer.estimate.job.busy, timeout=10000)
    assert not trainer.estimate.button.isEnabled()
    fake.allow()
    qtbot.wait_until(lambda: not trainer.panel.job.busy, timeout=10000)
    assert trainer.estimate.button.isEnabled()


def test_what_cannot_be_measured_says_why(viewer, fake, qtbot):
    trainer = open_widget(viewer, TRAIN)
    trainer.estimate.button.click()
    assert "Choose an instrument" in trainer.panel.message.text()
    trainer.leave()


def test_the_copied_call_is_the_one_that_was_made(trainer, qtbot, toy_instrument):
    trainer.others.editors["learning_rate"].setText("0.0003")
    script = trainer.calls.text(python=True)
    compile(script, "copied", "exec")
    assert "TrainPlan(learning_rate=0.0003)" in script
    assert load_instrument(script.split("load_instrument('")[1].split("'")[0]) == toy_instrument
    assert "--learning-rate 0.0003 --output model.safetensors" in trainer.calls.text(python=False)


def test_presets_set_both_halves(trainer, tmp_path):
    trainer.first.editors["preset"].setCurrentText("full")
    trainer.others.editors["seed"].setText("5")
    trainer.presets.save(tmp_path / "mine.json")
    trainer.presets.reset()
    assert trainer.others.plan() == trainer.first.plan() == TrainPlan()
    trainer.presets.load(tmp_path / "mine.json")
    assert trainer.others.plan() == TrainPlan(preset="full", seed=5)
    assert trainer.first.plan().preset == "full"


def test_the_trained_model_is_what_reconstruct_and_its_preview_use_next(trainer, viewer, qtbot, movie, recipes):
    viewer.open(str(movie), plugin="napari-volumetric-smlm")
    run(trainer, qtbot)
    trainer.next_button.click()
    widget = viewer.window.dock_widgets["Reconstruct (Volumetric SMLM)"]
    assert widget.model.box.currentText() == "toy"
    assert "For toy · z\u00a00\u00a0to\u00a01000\u00a0nm · 48 frames seen · Jaccard 0.91" in widget.model.facts.text()
    assert not widget.model.warning.isVisibleTo(widget)
    asked = []
    explain = sys.modules["napari_volumetric_smlm.recipes.reconstruct"].explain_frame
    recipes_module = sys.modules["napari_volumetric_smlm.recipes.reconstruct"]
    recipes_module.explain_frame = lambda *call: asked.append(call[2].model) or explain(*call)
    widget.preview.switch.setChecked(True)
    qtbot.wait_until(lambda: bool(recipes.explained) and not widget.preview.preview.job.busy, timeout=10000)
    assert asked == [str(trainer.session.model)]
    widget.preview.switch.setChecked(False)
    with qtbot.wait_signal(widget.panel.ended, timeout=20000):
        widget.panel.button.click()
    qtbot.wait_until(lambda: not widget.finisher.busy, timeout=10000)
    assert recipes.calls[0][2].model == str(trainer.session.model)
    assert "model=" in widget.share.calls.text(python=True)
    widget.leave()


def test_the_models_of_the_folder_are_offered_and_none_is_the_default(widget, toy_instrument, qtbot, recipes):
    keep_model(toy_instrument, models_folder() / "mine.safetensors")
    keep_model(toy_instrument, checkpoint_path(models_folder() / "mine.safetensors"))
    widget.model.box.opening.emit()
    assert [widget.model.box.itemText(i) for i in range(widget.model.box.count())] == [NO_MODEL, "mine"]
    assert widget._call()[2].model is None
    widget.model.box.setCurrentIndex(1)
    widget.model.box.activated.emit(1)
    assert widget._call()[2].model == str(models_folder() / "mine.safetensors")
    assert "fingerprint" in widget.model.facts.toolTip()
    widget.model.box.activated.emit(0)
    assert widget._call()[2].model is None


def test_models_of_the_package_are_offered_where_they_fit(widget, toy_instrument):
    box = widget.model.box
    texts = lambda: [box.itemText(i) for i in range(box.count())]  # noqa: E731
    # the start model begins trainings; nothing that comes along knows the toy microscope
    assert texts() == [NO_MODEL]
    widget.session.choose_instrument(load_example("tetrapod"), "example")
    assert texts() == [NO_MODEL, "tetrapod (comes with the plugin)"]
    widget.session.choose_instrument(toy_instrument, "example")
    assert texts() == [NO_MODEL]


def test_a_model_of_another_pixel_or_depth_range_is_told_and_not_run(widget, toy_instrument, tmp_path):
    units = {"low_nm": 0.0, "high_nm": 4000.0, "pixel_nm": 110.0, "photons": 1.0}
    place = keep_model(toy_instrument, tmp_path / "deep.safetensors", units=units, instrument="Tetrapod")
    assert widget.model.load(place)
    assert widget.model.box.currentText() == "deep"
    assert "⚠ deep.safetensors was trained for 'Tetrapod' with high_nm 4000, the instrument 'toy' has 1000" in widget.model.warning.text()
    assert not widget.panel.button.isEnabled()
    assert "The model does not fit the instrument: choose another one, or none" in widget.panel.button.toolTip()
    widget.session.choose_model(None)
    assert widget.panel.button.isEnabled()
    assert not widget.model.warning.isVisibleTo(widget)


def test_a_model_of_another_calibration_is_a_warning_only(widget, toy_instrument, tmp_path):
    place = keep_model(toy_instrument, tmp_path / "old.safetensors", instrument_fingerprint="0" * 16)
    widget.model.load(place)
    assert "was trained for 'toy' as it was then" in widget.model.warning.text()
    assert widget.panel.button.isEnabled()


def test_a_model_that_is_gone_or_none_is_words(widget, toy_instrument, tmp_path):
    assert not widget.model.load(tmp_path / "none.safetensors")
    assert "there is no such file" in widget.panel.message.text()
    assert widget.session.model is None
    place = keep_model(toy_instrument, tmp_path / "here.safetensors")
    widget.model.load(place)
    place.unlink()
    widget.model.refresh()
    widget._on_form()
    assert "there is no such file" in widget.model.warning.text()
    assert not widget.panel.button.isEnabled()


def test_settings_that_name_a_model_choose_it_and_are_saved_with_it(widget, toy_instrument, tmp_path):
    place = keep_model(toy_instrument, tmp_path / "mine.safetensors")
    widget.session.choose_model(place)
    widget.presets.save(tmp_path / "with.json")
    widget.presets.reset()
    assert widget.session.model is None
    widget.presets.load(tmp_path / "with.json")
    assert widget.session.model == place


def test_the_model_last_used_with_an_instrument_is_chosen_again_unless_the_user_chose(viewer, recipes, toy_instrument, movie, tmp_path):
    from napari_volumetric_smlm.plugin.session import session_of

    place = keep_model(toy_instrument, tmp_path / "mine.safetensors")
    session = session_of(viewer)
    session.memory.store_plan(ReconstructPlan(model=str(place)), toy_instrument.fingerprint)
    widget = open_widget(viewer)
    widget.instrument.load(movie.parent / "toy.json")
    assert session.model == place
    session.choose_model(None)
    widget.instrument.load(movie.parent / "toy.json")
    assert session.model is None
    widget.leave()


def test_two_pickers_of_one_session_agree(viewer, qtbot, toy_instrument):
    from napari_volumetric_smlm.plugin.session import session_of

    keep_model(toy_instrument, models_folder() / "a.safetensors")
    pickers = [ModelPicker(session_of(viewer)) for _ in range(2)]
    for picker in pickers:
        qtbot.add_widget(picker)
    pickers[0].box.activated.emit(1)
    assert [picker.box.currentText() for picker in pickers] == ["a", "a"]


def test_a_long_curve_stays_short_and_bad_numbers_draw(qtbot):
    from napari_volumetric_smlm.plugin.widgets.curve import MOST_POINTS, LossCurve

    curve = LossCurve()
    qtbot.add_widget(curve)
    for step in range(1, 5000):
        curve.add(step, {"count": 1.0, "loss": float("nan") if step == 4000 else 1e4 / step})
    assert MOST_POINTS // 2 <= len(curve.steps) <= MOST_POINTS
    assert curve.steps[-1] >= 4990
    assert curve.limits()[1] < 1e3
    curve.resize(320, 150)
    assert not curve.grab().isNull()


def test_the_widgets_load_without_torch():
    import subprocess

    code = (
        "import sys, napari_volumetric_smlm.plugin.widgets.train, napari_volumetric_smlm.plugin.widgets.models\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_a_model_that_sees_neighbouring_frames_says_so_in_the_list(toy_instrument):
    words = card_words(card_for(toy_instrument, architecture={"channels": 4, "context_frames": 1}))
    assert "looks at the frames before and after too" in words
    assert "before and after" not in card_words(card_for(toy_instrument))
