"""Half precision and GPUs change a training by no more than rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.engine.networks.localizer import LocalizerNetwork
from napari_volumetric_smlm.engine.training.precision import mixed_precision
from napari_volumetric_smlm.recipes import finish, train_lean, train_voxels
from napari_volumetric_smlm.recipes.train import train

pytestmark = pytest.mark.usefixtures("tiny_training")
PLAN = TrainPlan(frame_count=40, frame_px=32, photons=(3000, 6000), density_per_um2=(0.1, 0.3), window_px=13, seed=4, device="cpu")


@pytest.fixture
def half(monkeypatch):
    """Compute the network in bfloat16 on the processor, as it is done on GPUs."""
    for module in (train_lean, train_voxels):
        monkeypatch.setattr(module, "mixed_precision", lambda device: torch.autocast(device.type, torch.bfloat16))


def test_on_the_processor_nothing_changes():
    network = torch.nn.Conv2d(2, 2, 3)
    x = torch.randn((1, 2, 8, 8), generator=torch.Generator().manual_seed(1))
    with mixed_precision(torch.device("cpu")):
        inside = network(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, network(x))


def test_in_half_precision_the_outputs_keep_the_full_one():
    torch.manual_seed(2)
    network = LocalizerNetwork(7, 16, (1, 2))
    x = torch.randn((1, 7, 16, 16))
    full = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    for name in ("logit_tyx", "mean_tpyx", "sigma_tpyx", "background_tyx"):
        a, b = getattr(full, name), getattr(half, name)
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)
    # numbers that bfloat16 cannot hold: the last layer did not round them
    assert not torch.equal(half.logit_tyx, half.logit_tyx.bfloat16().float())


@pytest.mark.parametrize("architecture", [{}, {"architecture": "autods3d", "depth_planes": 7}])
def test_in_half_precision_the_losses_stay_nearly_the_same(architecture, toy_instrument, half):
    plan = TrainPlan.model_validate({**PLAN.model_dump(), **architecture, "frame_count": 16})
    rounded = finish(train(toy_instrument, plan))
    with pytest.MonkeyPatch.context() as patch:
        for module in (train_lean, train_voxels):
            patch.setattr(module, "mixed_precision", mixed_precision)
        exact = finish(train(toy_instrument, plan))
    for name, values in exact.curve.items():
        assert not np.array_equal(values, rounded.curve[name])
        np.testing.assert_allclose(rounded.curve[name], values, rtol=0.03, atol=0.02 * np.abs(values).max())
    assert {value.dtype for value in rounded.weights.values()} <= {np.dtype("float32"), np.dtype("int64")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is at hand")
def test_a_gpu_trains_as_the_processor_does(toy_instrument):
    cpu, gpu = (finish(train(toy_instrument, PLAN.model_copy(update={"device": device}))) for device in ("cpu", "cuda"))
    for name, values in cpu.curve.items():
        np.testing.assert_allclose(gpu.curve[name], values, rtol=0.05, atol=0.03 * np.abs(values).max())
    again = finish(train(toy_instrument, PLAN.model_copy(update={"device": "cuda"})))
    for name, values in gpu.curve.items():
        np.testing.assert_allclose(again.curve[name], values, rtol=1e-3, atol=1e-3 * np.abs(values).max())
