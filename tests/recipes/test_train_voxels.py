"""Training the published voxel networks by the same recipe. Quality is proven in benchmarks, not here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.plans import ReconstructPlan, TrainPlan
from napari_volumetric_smlm.engine.networks.voxels import decode_voxels
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.engine.training.average import Batch
from napari_volumetric_smlm.errors import ModelError, PlanError
from napari_volumetric_smlm.io.models import card_path, write_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes import train as recipe
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.train import train
from napari_volumetric_smlm.recipes.train_voxels import BATCH, VoxelFamily
from napari_volumetric_smlm.recipes.trained import VOXEL_RULES, build, load_network, proposer, scaled_frames

COARSE = {"frame_count": 6, "frame_px": 32, "photons": (3000, 6000), "density_per_um2": (0.1, 0.3), "window_px": 13, "depth_planes": 7}
PLANS = {
    "deepstorm3d": TrainPlan(architecture="deepstorm3d", **COARSE),
    "autods3d": TrainPlan(architecture="autods3d", **COARSE),
    "autods3d, finer": TrainPlan(architecture="autods3d", upsampling=2, **COARSE),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Take batches of two frames, hold as many out and test on as many."""
    for name in BATCH:
        monkeypatch.setitem(BATCH, name, 2)
    monkeypatch.setattr(recipe, "TEST_FRAMES", 2)
    monkeypatch.setattr(average, "HELD_OUT_FRAMES", 2)


def saved(result, place):
    return write_model_weights(result.weights, result.card.model_dump(mode="json"), place)


@pytest.fixture
def model(toy_instrument, tmp_path):
    return saved(finish(train(toy_instrument, PLANS["autods3d"])), tmp_path / "voxels.safetensors")


@pytest.mark.parametrize("name", PLANS)
def test_a_published_network_learns_with_a_finite_loss_that_the_seed_repeats(name, toy_instrument):
    one, again = (finish(train(toy_instrument, PLANS[name])) for _ in range(2))
    other = finish(train(toy_instrument, PLANS[name].model_copy(update={"seed": 1})))
    assert one.card.kind == PLANS[name].architecture
    assert set(one.curve) == ({"volume", "overlap"} if name == "deepstorm3d" else {"volume"})
    for part, losses in one.curve.items():
        assert losses.shape == (3,)
        assert np.isfinite(losses).all()
        np.testing.assert_array_equal(losses, again.curve[part])
    assert not np.array_equal(one.curve["volume"], other.curve["volume"])


@pytest.mark.parametrize(("name", "finer"), [("deepstorm3d", 4), ("autods3d", 1), ("autods3d, finer", 2)])
def test_the_network_has_the_voxels_of_its_paper(name, finer, toy_instrument):
    family = VoxelFamily(toy_instrument, PLANS[name].model_copy(update={"depth_planes": None}))
    assert family.architecture["upsampling"] == finer
    assert family.architecture["depth_planes"] == (121 if name == "deepstorm3d" else 81)
    assert family.grid.voxel_zyx_nm == pytest.approx((1000 / family.grid.depth_planes, 110 / finer, 110 / finer))


@pytest.mark.parametrize("name", PLANS)
def test_the_loss_draws_the_voxels_of_the_molecules_up(name, toy_instrument):
    family = VoxelFamily(toy_instrument, PLANS[name].model_copy(update={"depth_planes": 21, "photons": (5900, 6000)}))
    emissions = family.frames.batch(2, 0)[2]
    asked = {}

    def ask(frames):
        finer = family.grid.upsampling
        asked["voxels"] = torch.zeros((len(frames), 21, 32 * finer, 32 * finer), requires_grad=True)
        return asked["voxels"]

    loss = sum(family.loss(ask, Batch(family.batch, 0)).values())
    (slope,) = torch.autograd.grad(loss, asked["voxels"])
    rows = family.frames.wanted(emissions)
    index = family.grid.index(emissions.position_n3[rows]).round().long()
    inside = (index[:, 0] >= 0) & (index[:, 0] < 21)
    frame, (z, y, x) = emissions.frame_n[rows][inside], index[inside].T
    assert len(z) > 2
    assert float(slope[frame, z, y, x].max()) < 0.2 * float(slope.min()) < 0
    assert float(slope.mean()) > 0.1 * float(slope.min())


def test_a_saved_model_finds_the_same_as_the_trained_one(toy_instrument, tmp_path, film):
    result = finish(train(toy_instrument, PLANS["autods3d"]))
    network, card = load_network(str(saved(result, tmp_path / "voxels.safetensors")), toy_instrument)
    assert card == result.card
    family = VoxelFamily(toy_instrument, PLANS["autods3d"])
    frames = family.frames.batch(2, 0, test=True)[0]
    network.eval()
    fresh = build(result.card)
    fresh.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in result.weights.items()})
    fresh.eval()
    with torch.no_grad():
        assert torch.equal(network(frames), fresh(frames))
    # what layers measured of their inputs was learnt too
    assert float(network.norm.running_var) != 1.0


def test_frames_reach_a_published_network_from_0_to_1_whatever_dead_pixels_say(toy_instrument, film):
    family = VoxelFamily(toy_instrument, PLANS["autods3d"])
    counts = film(toy_instrument, [(0, 500.0, 16.0, 16.0, 20000.0)], (32, 32), 1).counts_tyx[0].copy()
    plain = scaled_frames(family.frames.patches_of((counts,), 1))
    assert (float(plain.min()), float(plain.max())) == (0.0, 1.0)
    counts[0, 3, 4] = 65535  # saturated
    marked = scaled_frames(family.frames.patches_of((counts,), 1))
    counts[0, 3, 4] = 0
    assert marked[0, 0, 3, 4] == 0
    assert torch.allclose(marked[0, 0, 10:], plain[0, 0, 10:])


@pytest.mark.parametrize("kind", VOXEL_RULES)
def test_voxels_become_first_guesses_at_their_places_and_brightness(kind, toy_instrument, film):
    plan = PLANS[kind].model_copy(update={"depth_planes": 21})
    family = VoxelFamily(toy_instrument, plan)
    movie = film(toy_instrument, [(0, 500.0, 16.0, 16.0, 5000.0)], (32, 32), 2)
    patches = family.frames.patches_of(movie.counts_tyx, 2)
    voxels = torch.zeros((1, 21, *(32 * family.grid.upsampling,) * 2))
    voxels[0, 12, 9, 20] = 600.0

    class Says(torch.nn.Module):
        def forward(self, frames):
            return voxels

    card = finish(train(toy_instrument, plan)).card
    table = PsfTable(toy_instrument, 13, 50.0)
    found = proposer(Says(), card, table, (32, 32))(patches)
    assert found.patch_m.tolist() == [0, 1]
    place = decode_voxels(voxels, family.grid, VOXEL_RULES[kind]).position_n3
    assert torch.equal(found.position_m3, place.expand(2, -1))
    # DeepSTORM3D's voxels say nothing of photons, those of AutoDS3D are 800 high for the brightest
    assert found.photons_m.tolist() == pytest.approx([4500.0 if kind == "deepstorm3d" else 0.75 * 6000] * 2)


def test_where_the_network_sees_nothing_the_search_still_finds_and_fits(toy_instrument, film, tmp_path):
    result = finish(train(toy_instrument, PLANS["autods3d"]))
    blind = {name: 0 * value if name.startswith("leave") else value for name, value in result.weights.items()}
    model = saved(result.model_copy(update={"weights": blind}), tmp_path / "blind.safetensors")
    rows = [(t, 300.0 + 100 * t, 12.0 + t, 20.0, 8000.0) for t in range(3)]
    movie = film(toy_instrument, rows, (40, 40), 3)
    found = finish(reconstruct(movie, toy_instrument, ReconstructPlan(model=str(model)))).localizations
    assert found["frame"].tolist() == [0, 1, 2]
    assert np.abs(found["z_nm"] - [row[1] for row in rows]).max() < 60


def test_without_refinement_the_finds_are_the_table_with_their_confidence(toy_instrument, film, tmp_path):
    result = finish(train(toy_instrument, PLANS["autods3d"]))
    loud = {name: 1000 * value if name == "leave.weight" else value for name, value in result.weights.items()}
    model = saved(result.model_copy(update={"weights": loud}), tmp_path / "loud.safetensors")
    movie = film(toy_instrument, [(0, 500.0, 16.0, 16.0, 5000.0)], (32, 32), 2)
    found = finish(reconstruct(movie, toy_instrument, ReconstructPlan(model=str(model), refine=False))).localizations
    network, card = load_network(str(model), toy_instrument)
    table = PsfTable(toy_instrument, 13, 50.0)
    says = proposer(network, card, table, (32, 32))(VoxelFamily(toy_instrument, PLANS["autods3d"]).frames.patches_of(movie.counts_tyx, 2))
    assert len(says.patch_m) > 3
    assert list(found.columns) == ["frame", "z_nm", "y_nm", "x_nm", "confidence"]
    np.testing.assert_allclose(found.position_zyx_nm, says.position_m3, atol=0.1)
    np.testing.assert_allclose(found["confidence"], says.gain_m, rtol=1e-4)
    assert found.provenance["method"] == "the model's finds, not refined"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "refine is off, but there is no model whose finds could be taken"),
        ({"model": "a.safetensors", "min_photons": 500}, "min_photons is 500, but with refine off neither photons nor blur are fitted"),
        ({"model": "a.safetensors", "fit_blur": True}, "fit_blur is on, but with refine off"),
    ],
)
def test_what_finds_alone_cannot_tell_is_refused_in_words(asked, words):
    with pytest.raises(ValidationError, match=words):
        ReconstructPlan(refine=False, **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"upsampling": 2}, "upsampling is 2, but the architecture 'lean' has no voxels: leave upsampling out, or choose deepstorm3d"),
        ({"depth_planes": 81}, "depth_planes is 81, but the architecture 'lean' has no voxels"),
        ({"architecture": "deepstorm3d", "upsampling": 1}, "upsampling is 1, but deepstorm3d knows 4 voxels per camera pixel only"),
        ({"architecture": "autods3d", "upsampling": 3}, "upsampling is 3, but autods3d knows 1 or 2 or 4 voxels"),
    ],
)
def test_voxels_that_the_architecture_does_not_have_are_refused_in_words(asked, words):
    with pytest.raises(ValidationError, match=words):
        TrainPlan(**asked)


def test_an_instrument_of_two_views_is_refused_in_words(toy_instrument):
    two = toy_instrument.model_copy(update={"views": toy_instrument.views * 2})
    with pytest.raises(PlanError, match="autods3d reads one view, the instrument 'toy' has 2: choose the architecture lean"):
        finish(train(two, PLANS["autods3d"]))


def test_a_start_model_of_a_published_architecture_does_not_start_ours(model, toy_instrument):
    plan = TrainPlan(**{**COARSE, "depth_planes": None}, start_model=str(model))
    words = r"network autods3d instead of localizer\. Train with --architecture autods3d .* which made it, or leave"
    with pytest.raises(ModelError, match=words):
        finish(train(toy_instrument, plan))


@pytest.mark.parametrize(("change", "words"), [
    ({"kind": "oracle"}, "says that it is a 'oracle'; localizer, .*deepstorm3d and autods3d are known"),
    ({"architecture": {"upsampling": 1}}, "card lacks 'dilations' of its architecture"),
])  # fmt: skip
def test_a_card_that_nobody_understands_is_refused_in_words(change, words, model, toy_instrument):
    place = card_path(model)
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(ModelError, match=words):
        load_network(str(model), toy_instrument)
