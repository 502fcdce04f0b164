"""Training a network for the toy microscope, and what a reconstruction makes of it. Quality is proven in benchmarks, not here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan, TrainPlan
from napari_volumetric_smlm.engine.assemble.score import score
from napari_volumetric_smlm.errors import EngineError, ModelError
from napari_volumetric_smlm.io.examples import example_models, start_model_path
from napari_volumetric_smlm.io.models import card_path, read_model_weights, write_model_weights
from napari_volumetric_smlm.recipes import finish, train_lean
from napari_volumetric_smlm.recipes.fitting import prepare_fit
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.train import begin, train
from napari_volumetric_smlm.recipes.train_lean import LeanFamily, Preset
from napari_volumetric_smlm.recipes.trained import load_network

pytestmark = pytest.mark.usefixtures("tiny_training")
PLAN = TrainPlan(frame_count=24, frame_px=32, photons=(3000, 6000), density_per_um2=(0.1, 0.3), window_px=13, seed=4)


@pytest.fixture
def model(toy_instrument, tmp_path):
    result = finish(train(toy_instrument, PLAN))
    return write_model_weights(result.weights, result.card.model_dump(mode="json"), tmp_path / "toy.safetensors")


def test_the_card_says_what_the_model_is_and_how_it_did(toy_instrument):
    result = finish(train(toy_instrument, PLAN, command="vsmlm train --seed 4"))
    card = result.card
    assert card.instrument_fingerprint == toy_instrument.fingerprint
    assert card.plan == PLAN
    assert card.command == "vsmlm train --seed 4"
    assert card.frames_seen == 24
    assert card.tested_frames == 4
    assert 1 <= card.kept_step <= 6
    assert 0 <= card.accuracy["jaccard"] <= 1
    assert card.units == {"low_nm": 0.0, "high_nm": 1000.0, "pixel_nm": 110.0, "photons": 4500.0}
    assert {len(values) for values in result.curve.values()} == {6}


def test_the_same_seed_gives_the_same_curve_and_weights_another_seed_others(toy_instrument):
    one, again = (finish(train(toy_instrument, PLAN)) for _ in range(2))
    other = finish(train(toy_instrument, PLAN.model_copy(update={"seed": 5})))
    for name, values in one.curve.items():
        np.testing.assert_array_equal(values, again.curve[name])
    assert not np.array_equal(one.curve["position"], other.curve["position"])
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, again.weights[name])


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"photons": (5000, 100)}, r"photons is \(5000, 100\): expected the lowest and then the highest"),
        ({"density_per_um2": (0.6, 0.02)}, r"density_per_um2 is \(0.6, 0.02\): expected the lowest and then the highest"),
        ({"background_photons": (-1, 10)}, r"background_photons is \(-1, 10\): .* neither below 0"),
        ({"blur_nm": (0, 1e5)}, "blur_nm reaches 100000 nm: at most 2000 nm are expected"),
        ({"photons": (3000, 6000), "least_photons": 9000}, "least_photons 9000 is not below the highest photons 6000"),
        ({"density_per_um2": (0.1, float("nan"))}, "density_per_um2.1\n.*finite number"),
    ],
)
def test_ranges_that_contradict_themselves_are_told(ranges, words):
    with pytest.raises(ValidationError, match=words):
        TrainPlan(**ranges)


def test_a_window_that_the_optics_cannot_fill_is_told(toy_instrument):
    with pytest.raises(EngineError, match=r"images are \d+ nm wide, but the field of a pupil .*: use a smaller window"):
        finish(train(toy_instrument, PLAN.model_copy(update={"window_px": 151})))


def test_frames_are_what_the_plan_asks_for(toy_instrument):
    frames = LeanFamily(toy_instrument, PLAN).frames
    channels, targets, emissions = frames.batch(50, 0)
    assert channels.shape == (50, 7, 32, 32)
    area_um2 = (32 * 0.11) ** 2
    assert len(targets.frame_n) / 50 / area_um2 == pytest.approx(0.2, rel=0.15)
    assert float(emissions.photons_n.min()) >= 3000
    # a molecule is where its target says: the score of its depth and pixel is large there
    row, column = targets.place_n4[:, 1:3].round().long().clamp(0, 31).T
    assert float(channels[targets.frame_n, :5, row, column].amax(1).median()) > 3 * float(channels[:, :5].abs().median())
    again = frames.batch(50, 0)[0]
    assert np.array_equal(again, channels)
    assert not np.array_equal(frames.batch(50, 0, test=True)[0], channels)


def test_a_reconstruction_takes_a_models_finds_and_fits_them(model, toy_instrument, film):
    rows = [(t, 300.0 + 60 * t, 12.0 + t, 20.0, 8000.0) for t in range(5)]
    movie = film(toy_instrument, rows, (40, 40), 5)
    found = finish(reconstruct(movie, toy_instrument, ReconstructPlan(model=str(model)))).localizations
    truth = found.model_copy(update={"columns": {
        "frame": np.array([r[0] for r in rows]), "z_nm": np.array([r[1] for r in rows]),
        "y_nm": np.array([r[2] * 110 for r in rows]), "x_nm": np.array([r[3] * 110 for r in rows]), "photons": np.full(5, 8000.0),
    }})  # fmt: skip
    result = score(truth, found, EvaluatePlan())
    assert (result.true_positives, result.false_positives) == (5, 0)
    assert result.rmse_axial_nm < 30


def test_a_model_for_another_pixel_size_is_refused(model, toy_instrument, film):
    camera = toy_instrument.cameras[0].model_copy(update={"pixel_um": 16.0})
    other = toy_instrument.model_copy(update={"cameras": (camera,)})
    movie = film(other, [(0, 500.0, 20.0, 20.0, 5000.0)], (40, 40), 1)
    with pytest.raises(ModelError, match=r"was trained for 'toy' with pixel_nm 110, the instrument 'toy' has 160: train a model"):
        finish(reconstruct(movie, other, ReconstructPlan(model=str(model))))


def test_weights_that_do_not_belong_to_the_card_are_refused(model, toy_instrument, film):
    card = json.loads(card_path(model).read_text())
    card["architecture"]["width"] = 16
    card_path(model).write_text(json.dumps(card))
    movie = film(toy_instrument, [(0, 500.0, 20.0, 20.0, 5000.0)], (40, 40), 1)
    with pytest.raises(ModelError, match="weights and card do not belong together"):
        finish(reconstruct(movie, toy_instrument, ReconstructPlan(model=str(model))))


def test_weights_under_other_names_are_refused(model, toy_instrument):
    arrays, card = read_model_weights(model)
    write_model_weights({f"module.{name}": array for name, array in arrays.items()}, card, model)
    with pytest.raises(ModelError, match="weights and card do not belong together"):
        load_network(str(model), toy_instrument)


def test_a_model_of_another_microscope_is_a_start_and_the_card_says_its_name_only(model, toy_instrument):
    deeper = toy_instrument.model_copy(update={"depth_range_nm": (0.0, 1500.0)})
    plan = PLAN.model_copy(update={"start_model": str(model), "frame_count": 2})
    _, card, trainer = begin(deeper, plan)
    weights = read_model_weights(model)[0]
    assert all(np.array_equal(value.numpy(), weights[name]) for name, value in trainer.network.state_dict().items())
    assert card.plan.start_model == model.name
    assert card.units["high_nm"] == 1500.0


def test_a_start_model_of_another_architecture_is_refused(model, toy_instrument, monkeypatch):
    monkeypatch.setitem(train_lean.PRESETS, "quick", Preset(40, 4, 5, 12, (1, 2)))
    with pytest.raises(ModelError, match=r"width 8 instead of 12\. Train with --architecture lean --preset quick, which made it"):
        finish(train(toy_instrument, PLAN.model_copy(update={"start_model": str(model)})))


def test_a_training_that_starts_from_a_model_begins_with_its_weights(model, toy_instrument):
    fresh = finish(train(toy_instrument, PLAN)).curve["position"][0]
    warm = finish(train(toy_instrument, PLAN.model_copy(update={"start_model": str(model)}))).curve["position"][0]
    assert warm < fresh


def test_the_start_model_of_the_package_is_called_shipped():
    assert start_model_path("mine.safetensors") == "mine.safetensors"
    assert Path(start_model_path("shipped")) == example_models()["start"]


def test_the_search_after_a_model_is_short_unless_a_thorough_one_is_asked_for(model, toy_instrument):
    region = (0, 0, 40, 40)
    alone, short, thorough = (
        prepare_fit(toy_instrument, ReconstructPlan(device="cpu", **way), region).localizer.rules
        for way in ({}, {"model": str(model)}, {"model": str(model), "thorough": True})
    )
    assert (short.passes, short.largest_reseats) == (1, 0)
    assert short.depth_step_nm == 2 * alone.depth_step_nm
    assert (thorough.passes, thorough.largest_reseats, thorough.depth_step_nm) == (alone.passes, alone.largest_reseats, alone.depth_step_nm)
