"""The published L-Net, trained by the same way as every network. Quality is no matter of tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.plans import ReconstructPlan, TrainPlan
from napari_volumetric_smlm.engine.networks import published_lnet
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.errors import ModelError
from napari_volumetric_smlm.io.models import write_model_weights
from napari_volumetric_smlm.recipes import finish, train_lnet
from napari_volumetric_smlm.recipes.train import begin, train
from napari_volumetric_smlm.recipes.trained import load_network, proposer

PLAN = TrainPlan(architecture="lnet4", frame_count=10, device="cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(train_lnet, "FINE_PX", 16)
    monkeypatch.setattr(published_lnet, "FINE_PX", 16)
    monkeypatch.setattr(train_lnet, "TEST_FRAMES", 2)
    monkeypatch.setattr(average, "HELD_OUT_FRAMES", 2)


def test_it_is_trained_and_read_back(toy_instrument, tmp_path):
    model = finish(train(toy_instrument, PLAN))
    assert np.isfinite(model.curve["volume"]).all()
    path = write_model_weights(model.weights, model.card.model_dump(mode="json"), tmp_path / "l.safetensors")
    network, card = load_network(str(path), toy_instrument)
    assert card.architecture == {"scale_zyx": [4, 4, 4], "levels": 4}
    assert network.scale_zyx == (4, 4, 4)
    with pytest.raises(ModelError, match="finds molecules in volumes, not in views: set start to 'volume'"):
        proposer(network, card, None, (8, 8))


def test_the_brightness_of_a_patch_is_that_of_its_answer(toy_instrument, monkeypatch):
    monkeypatch.setattr(train_lnet, "FINE_PX", 32)
    family, _, _ = begin(toy_instrument, PLAN.model_copy(update={"architecture": "lnet8"}))
    volumes, answers = family.frames.batch(30, 0)
    assert volumes.shape[1:] == (8, 4, 4)
    assert answers.shape[1:] == (32, 32, 32)
    again, _ = family.frames.batch(30, 0)
    assert torch.equal(volumes, again)
    assert not torch.equal(volumes, family.frames.batch(30, 0, test=True)[0])
    light = torch.stack([volumes.sum((1, 2, 3)), answers.sum((1, 2, 3))])
    assert float(torch.corrcoef(light.log())[0, 1]) > 0.8


def test_plans_of_voxels_do_not_fit_it():
    with pytest.raises(ValueError, match="upsampling is 4, but lnet8 has patches of its own"):
        TrainPlan(architecture="lnet8", upsampling=4)
    assert ReconstructPlan(start="volume", refine=False).model is None
