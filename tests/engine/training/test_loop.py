"""The loop: reproducible, resumable to the bit, honest when it diverges, and content with less memory."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.engine.training.average import Averages, Batch
from napari_volumetric_smlm.engine.training.loop import Trainer
from napari_volumetric_smlm.errors import EngineError, ran_out_of_memory

FRAMES = 16


def toy_loss(network, batch):
    generator = torch.Generator().manual_seed(batch.number + 10**6 * batch.held_out)
    x = torch.randn((batch.frames, 3), generator=generator)
    return {"fit": ((network(x)[:, 0] - x.sum(1)) ** 2).mean(), "small": 1e-3 * sum((p**2).sum() for p in network.parameters())}


def trainer(steps=40, rate=0.02, loss=toy_loss, frames=FRAMES):
    torch.manual_seed(3)
    return Trainer(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)), loss, steps, rate, frames)


class SmallMemory:
    """A loss for which the memory holds only so many frames at once, from some call on."""

    def __init__(self, holds, after=0, error=None):
        self.holds, self.after, self.batches = holds, after, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, network, batch):
        if not batch.held_out:
            if batch.frames > self.holds and len(self.batches) >= self.after:
                raise self.error
            self.batches.append(batch)
        return toy_loss(network, batch)


def test_the_loss_falls():
    steps = list(trainer().run())
    assert steps[-1].losses["fit"] < 0.3 * steps[0].losses["fit"]
    assert [s.number for s in steps] == list(range(1, 41))


def test_the_same_seed_gives_the_same_curve():
    assert list(trainer().run()) == list(trainer().run())


@pytest.mark.parametrize("loss", [lambda: toy_loss, lambda: SmallMemory(4, after=11)])
def test_a_training_that_was_stopped_and_restored_ends_with_the_same_weights_to_the_bit(loss):
    whole = trainer(loss=loss())
    curve = list(whole.run())
    memory = loss()
    first = trainer(loss=memory)
    begun = list(first.run(until=17))
    second = trainer(loss=memory)
    second.restore(first.state(), begun)
    assert begun + list(second.run()) == curve
    assert second.averages.best_step == whole.averages.best_step
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_the_average_is_smoother_than_the_weights():
    one = trainer(steps=200, rate=0.05)
    list(one.run())
    mean = one.averages.mean
    with torch.no_grad():
        averaged, last = (float(toy_loss(network, Batch(16, 10_000))["fit"]) for network in (mean, one.network))
    assert averaged < 1.5 * last
    assert any(not torch.equal(a, b) for a, b in zip(mean.parameters(), one.network.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_training_before_the_step():
    def bad(network, batch):
        return {"fit": toy_loss(network, batch)["fit"] * (float("nan") if batch.number == 5 else 1.0)}

    one = trainer(loss=bad)
    seen = []
    with pytest.raises(EngineError, match=r"the loss of step 6 is not finite \(fit nan\).*lower learning_rate"):
        seen.extend(one.run())
    assert one.done == 5
    assert all(bool(torch.isfinite(p).all()) for p in one.network.parameters())


def test_a_gradient_that_is_not_finite_stops_the_training_before_it_ruins_the_weights():
    def steep(network, batch):
        # the slope of a root at 0 is infinite, the root is not
        lost = sum((p**2).sum() for p in network.parameters()) * 0
        return {"fit": toy_loss(network, batch)["fit"] + (lost.sqrt() if batch.number == 5 else 0.0)}

    one = trainer(loss=steep)
    with pytest.raises(EngineError, match=r"the gradient of step 6 is not finite \(fit [\d.]+\).*lower learning_rate"):
        list(one.run())
    assert one.done == 5
    assert all(bool(torch.isfinite(p).all()) for p in one.network.parameters())


def test_out_of_memory_halves_the_batch_tells_and_every_step_still_learns_from_all_its_frames():
    memory = SmallMemory(5, after=3)
    steps = list(trainer(steps=6, loss=memory).run())
    assert [s.together for s in steps] == [16, 16, 16, 4, 4, 4]
    assert [s.notice for s in steps] == ["", "", "", "Out of memory: batch 8 -> 4", "", ""]
    assert sum(batch.frames for batch in memory.batches) == 6 * FRAMES
    # no frames come twice
    assert len({batch.number for batch in memory.batches}) == len(memory.batches)


def test_parts_of_a_batch_sum_up_to_its_gradient():
    def known(network, batch):
        """Frames that do not depend on how they are cut: batch k + part * steps holds the frames of part `part`."""
        x = torch.arange(FRAMES * 3.0).reshape(FRAMES, 3).sin()
        part = batch.number // 40
        return {"fit": (network(x[part * batch.frames : (part + 1) * batch.frames]) ** 2).mean()}

    gradients = []
    for together in (16, 4):
        one = trainer(loss=known)
        one.together = together
        next(one.run())
        gradients.append(one.state())
    for name in gradients[0]:
        if name.startswith(("moments.exp_avg.", "network.")):
            torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-4, atol=1e-6)


def test_the_same_memory_gives_the_same_curve():
    one, again = (list(trainer(loss=SmallMemory(2, after=7)).run()) for _ in range(2))
    assert one == again
    assert one[-1].together == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        RuntimeError("[enforce fail at alloc_cpu.cpp] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_where_not_even_one_frame_fits_it_ends_in_words(error):
    one = trainer(loss=SmallMemory(0, error=error))
    with pytest.raises(EngineError, match="not even one training frame at a time fits into the memory: lower frame_px"):
        list(one.run())
    assert one.done == 0


def test_what_torch_says_here_when_memory_is_short_is_understood():
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**50)
    assert ran_out_of_memory(told.value)
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def broken(network, batch):
        raise RuntimeError("shapes do not match")

    one = trainer(loss=broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(one.run())
    assert one.together == FRAMES


def test_the_average_that_did_best_on_held_out_frames_is_kept(monkeypatch):
    def drifting(network, batch):
        """Learning pulls the weights away from 0.3, on which the held-out loss is lowest."""
        weight = network[0].weight.mean()
        return {"far": (weight - 0.3) ** 2 if batch.held_out else -weight}

    one = trainer(steps=50, rate=0.02, loss=drifting)
    curve = list(one.run())
    judged = {step.number: step.held_out for step in curve if step.held_out is not None}
    assert list(judged) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    best = min(judged, key=judged.get)
    assert best not in (5, 50)
    assert one.averages.best_step == best
    with torch.no_grad():
        kept, last = (float(drifting(network, Batch(1, 0, held_out=True))["far"]) for network in (one.averages.best, one.averages.mean))
    assert kept == pytest.approx(judged[best], rel=1e-5)
    assert kept < last


def test_the_held_out_frames_are_always_the_same_and_none_that_is_learned_from():
    drawn = []

    def noted(network, batch):
        drawn.append(batch)
        return toy_loss(network, batch)

    list(trainer(steps=20, loss=noted).run())
    held_out = [batch for batch in drawn if batch.held_out]
    assert held_out == [Batch(1, n, held_out=True) for n in range(average.HELD_OUT_FRAMES)] * 10


def test_a_mean_follows_what_norms_have_measured():
    network = torch.nn.BatchNorm1d(2)
    averages = Averages(network, toy_loss, 10)
    network.running_mean += 4.0
    network.num_batches_tracked += 7
    for done in range(1, 200):
        averages.follow(network, done)
    torch.testing.assert_close(averages.mean.running_mean, network.running_mean)
    assert int(averages.mean.num_batches_tracked) == 7
