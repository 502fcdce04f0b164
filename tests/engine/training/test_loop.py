"""The loop: reproducible, resumable to the bit, and honest when it diverges."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.training.loop import Trainer
from napari_volumetric_smlm.errors import EngineError


def toy_loss(network, k):
    generator = torch.Generator().manual_seed(k)
    x = torch.randn((16, 3), generator=generator)
    return {"fit": ((network(x)[:, 0] - x.sum(1)) ** 2).mean(), "small": 1e-3 * sum((p**2).sum() for p in network.parameters())}


def trainer(steps=40, rate=0.02, loss=toy_loss):
    torch.manual_seed(3)
    return Trainer(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)), loss, steps, rate)


def test_the_loss_falls():
    steps = list(trainer().run())
    assert steps[-1].losses["fit"] < 0.3 * steps[0].losses["fit"]
    assert [s.number for s in steps] == list(range(1, 41))


def test_the_same_seed_gives_the_same_curve():
    assert [s.losses for s in trainer().run()] == [s.losses for s in trainer().run()]


def test_a_training_that_was_stopped_and_restored_ends_with_the_same_weights_to_the_bit():
    whole = trainer()
    curve = [s.losses for s in whole.run()]
    first = trainer()
    begun = [s.losses for s in first.run(until=17)]
    second = trainer()
    second.restore(first.state(), first.done)
    assert begun + [s.losses for s in second.run()] == curve
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_the_average_is_smoother_than_the_weights():
    one = trainer(steps=200, rate=0.05)
    list(one.run())
    with torch.no_grad():
        averaged, last = (float(toy_loss(network, 10_000)["fit"]) for network in (one.average, one.network))
    assert averaged < 1.5 * last
    assert any(not torch.equal(a, b) for a, b in zip(one.average.parameters(), one.network.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_training_before_the_step():
    def bad(network, k):
        return {"fit": toy_loss(network, k)["fit"] * (float("nan") if k == 5 else 1.0)}

    one = trainer(loss=bad)
    seen = []
    with pytest.raises(EngineError, match=r"the loss of step 6 is not finite \(fit nan\).*lower learning_rate"):
        seen.extend(one.run())
    assert one.done == 5
    assert all(bool(torch.isfinite(p).all()) for p in one.network.parameters())
