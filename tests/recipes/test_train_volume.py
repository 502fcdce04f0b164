"""Networks that make volumes, from the simulated frame to the model's volume. Quality is proven in benchmarks, not here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.plans import ReconstructPlan, SimulatePlan, TrainPlan
from napari_volumetric_smlm.domain.volume_plans import VolumePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.errors import ModelError, PlanError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.models import write_model_weights
from napari_volumetric_smlm.recipes import finish, train_volume
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import cut_instrument, split_views
from napari_volumetric_smlm.recipes.train import begin, train
from napari_volumetric_smlm.recipes.volume import make_volume

PLAN = TrainPlan(architecture="vnet", frame_count=12, frame_px=32, window_px=31, depth_planes=5, device="cpu")


@pytest.fixture(scope="module")
def raw_instrument():
    shipped = load_example("light_field_3").model_copy(update={"depth_range_nm": (-600.0, 600.0)})
    return light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (60, 64)}), shipped)


@pytest.fixture(scope="module")
def instrument(raw_instrument):
    return cut_instrument(raw_instrument)


@pytest.fixture(scope="module")
def trained(instrument):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train_volume.PRESETS, "quick", train_volume.Preset(40, 2, 8, (1, 2)))
        patch.setattr(train_volume, "TEST_FRAMES", 2)
        patch.setattr(average, "HELD_OUT_FRAMES", 2)
        return finish(train(instrument, PLAN)), finish(train(instrument, PLAN))


@pytest.fixture
def model(trained, tmp_path):
    return write_model_weights(trained[0].weights, trained[0].card.model_dump(mode="json"), tmp_path / "v.safetensors")


@pytest.fixture(scope="module")
def movie(raw_instrument):
    plan = SimulatePlan(frame_count=2, shape_yx_px=(1024, 1024), density_per_um2=0.05, photons=(6000, 9000), device="cpu")
    return finish(simulate(raw_instrument, plan))


def test_training_is_repeated_by_its_seed_and_told_by_its_card(trained, instrument):
    one, again = trained
    assert all(np.array_equal(one.weights[name], again.weights[name]) for name in one.weights)
    assert np.isfinite(one.curve["volume"]).all()
    card = one.card
    assert (card.kind, card.instrument_fingerprint, card.frames_seen) == ("vnet", instrument.fingerprint, 12)
    assert np.shape(card.architecture["parallax_px"]) == (3, 5, 2)
    assert set(card.accuracy) == {"correlation", "missed_variance"}
    # the optics are in the card, not among the weights
    assert not any("parallax" in name for name in one.weights)


def test_frames_of_a_training_show_what_their_volume_holds(instrument):
    family, _, _ = begin(instrument, PLAN.model_copy(update={"frame_px": 48}))
    drawn = family.frames.batch(6, 0)
    other = family.frames.batch(6, 0, test=True)
    assert torch.equal(drawn.views_tvyx, family.frames.batch(6, 0).views_tvyx)
    assert not torch.equal(drawn.views_tvyx, other.views_tvyx)
    assert drawn.volume_tzyx.shape == (6, 5, 48, 48)
    # where the volume is bright, so are the views
    correlations = [
        float(torch.corrcoef(torch.stack([views.mean(0).flatten(), volume.sum(0).flatten()]))[0, 1])
        for views, volume in zip(drawn.views_tvyx, drawn.volume_tzyx, strict=True)
    ]
    assert min(correlations) > 0.5


def test_a_trained_model_makes_a_volume_of_raw_and_of_cut_frames(model, movie):
    plan = VolumePlan(model=str(model), device="cpu")
    raw = finish(make_volume(movie.stack, movie.instrument, plan))
    assert raw.values_zyx.shape == (5, 60, 64)
    assert raw.voxel_zyx_nm == (300.0, 145.0, 145.0)
    assert np.array_equal(raw.values_zyx, finish(make_volume(*split_views(movie.stack, movie.instrument), plan)).values_zyx)
    tiles = []
    tiled = finish(make_volume(movie.stack, movie.instrument, plan.model_copy(update={"tile_px": 32})), tiles.append)
    assert tiled.values_zyx == pytest.approx(raw.values_zyx, rel=1e-4, abs=1e-3)
    assert [p.done for p in tiles if p.stage == "volume"] == [1, 2, 3, 4]


def test_the_published_network_learns_and_makes_volumes_by_the_same_recipes(instrument, movie, tmp_path, monkeypatch):
    monkeypatch.setattr(train_volume, "PAPER_LEVELS", 2)
    monkeypatch.setattr(train_volume, "TEST_FRAMES", 3)
    monkeypatch.setattr(average, "HELD_OUT_FRAMES", 1)
    plan = PLAN.model_copy(update={"architecture": "vnet_paper", "depth_planes": 4, "frame_count": 6})
    result = finish(train(instrument, plan))
    assert (result.card.kind, result.card.frames_seen) == ("vnet_paper", 6)
    assert np.isfinite(result.curve["volume"]).all()
    model = write_model_weights(result.weights, result.card.model_dump(mode="json"), tmp_path / "p.safetensors")
    volume = finish(make_volume(movie.stack, movie.instrument, VolumePlan(model=str(model), device="cpu", tile_px=32)))
    assert volume.values_zyx.shape == (4, 60, 64)


@pytest.fixture(scope="module")
def other_array():
    """Return the cut views of an array that is turned, so that the same depths have another parallax."""
    shipped = load_example("light_field_3").model_copy(update={"depth_range_nm": (-600.0, 600.0)})
    array = shipped.microlenses.model_copy(update={"field_yx_px": (60, 64), "rotation_rad": 0.5})
    return cut_instrument(light_field_instrument(array, shipped))


def test_a_model_of_another_array_is_a_start_for_a_network_that_keeps_its_own_parallax(model, trained, other_array, monkeypatch):
    monkeypatch.setitem(train_volume.PRESETS, "quick", train_volume.Preset(40, 2, 8, (1, 2)))
    plan = PLAN.model_copy(update={"start_model": str(model)})
    _, card, trainer = begin(other_array, plan)
    parallax = torch.tensor(card.architecture["parallax_px"])
    assert not torch.allclose(parallax, torch.tensor(trained[0].card.architecture["parallax_px"]), atol=0.5)
    assert torch.equal(trainer.network.parallax_vz2.cpu(), parallax)
    weights = trainer.network.state_dict()
    assert all(np.array_equal(weights[name].cpu().numpy(), value) for name, value in trained[0].weights.items())


@pytest.mark.parametrize(("change", "wide", "words"), [
    ({"depth_planes": 7}, 8, r"v.safetensors: .*planes 5 instead of 7\. Train with --depth-planes 5, or leave"),
    ({}, 12, r"width 8 instead of 12\. Train with --architecture vnet --preset quick, which made it, or leave"),
    ({"architecture": "vnet_paper", "depth_planes": 4}, 8, r"network vnet instead of vnet_paper\. Train with --architecture vnet"),
])  # fmt: skip
def test_a_start_model_of_another_network_is_refused_in_few_words(model, instrument, monkeypatch, change, wide, words):
    monkeypatch.setitem(train_volume.PRESETS, "quick", train_volume.Preset(40, 2, wide, (1, 2)))
    monkeypatch.setattr(train_volume, "PAPER_LEVELS", 2)
    with pytest.raises(ModelError, match=words) as refused:
        begin(instrument, PLAN.model_copy(update={"start_model": str(model), **change}))
    assert len(str(refused.value)) < 250


def test_models_and_instruments_that_do_not_fit_are_refused(model, movie, instrument, toy_instrument):
    plan = VolumePlan(model=str(model), device="cpu")
    stack, cut = split_views(movie.stack, movie.instrument)
    with pytest.raises(ModelError, match="makes volumes, not molecules"):
        finish(reconstruct(stack, cut, ReconstructPlan(model=str(model), device="cpu")))
    deeper = movie.instrument.model_copy(update={"depth_range_nm": (-2000.0, 2000.0)})
    with pytest.raises(ModelError, match=r"low_nm -600, the instrument .* has -2000"):
        finish(make_volume(movie.stack, deeper, plan))
    two = cut.model_copy(update={"views": cut.views[:2], "cameras": cut.cameras[:2]})
    with pytest.raises(ModelError, match=r"trained for 3 views, the instrument .* has 2"):
        finish(make_volume(stack.model_copy(update={"counts_tyx": stack.counts_tyx[:2]}), two, plan))
    with pytest.raises(PlanError, match="has one view"):
        begin(toy_instrument, PLAN)
    with pytest.raises(PlanError, match="needs them cut"):
        begin(movie.instrument, PLAN)
    with pytest.raises(PlanError, match="a multiple of 64"):
        begin(instrument, PLAN.model_copy(update={"architecture": "vnet_paper"}))
    with pytest.raises(ValidationError, match="vnet's voxels are the camera's pixels"):
        TrainPlan(architecture="vnet", upsampling=2)
