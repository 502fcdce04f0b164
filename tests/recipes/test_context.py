"""A network that sees the frames before and after: what it learns from, what it is shown of a movie, and what it makes of that."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera
from napari_volumetric_smlm.domain.plans import ReconstructPlan, TrainPlan
from napari_volumetric_smlm.engine.localize.tiles import cut_patches
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.errors import ModelError
from napari_volumetric_smlm.io.models import read_model_card, write_model_weights
from napari_volumetric_smlm.recipes import finish, train_lean
from napari_volumetric_smlm.recipes import train as training
from napari_volumetric_smlm.recipes.fitting import prepare_fit
from napari_volumetric_smlm.recipes.photons import read_photons
from napari_volumetric_smlm.recipes.reconstruct import explain_frame, prepare, reconstruct
from napari_volumetric_smlm.recipes.train import begin, train
from napari_volumetric_smlm.recipes.train_lean import LeanFamily, Preset
from napari_volumetric_smlm.recipes.trained import SURE, build, load_network

SINGLE = TrainPlan(
    frame_count=1600, frame_px=32, photons=(600, 1500), density_per_um2=(0.02, 0.1), window_px=13, learning_rate=1e-2, seed=4, device="cpu"
)
PLAN = SINGLE.model_copy(update={"context_frames": 1, "mean_on_frames": 5.0})
SHAPE = (36, 40)
FRAMES = 7


@pytest.fixture(scope="module")
def instrument(toy_instrument):
    """Return the toy microscope with a camera whose noise is known, which otherwise would be judged from the frames of each run."""
    return toy_instrument.model_copy(update={"cameras": (Camera(pixel_um=11.0, read_noise_e=1.0),)})


@pytest.fixture(scope="module", autouse=True)
def small_training():
    """Let the quick preset be a network that learns in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train_lean.PRESETS, "quick", Preset(40, 4, 5, 16, (1, 2, 1)))
        patch.setattr(training, "TEST_FRAMES", 4)
        patch.setattr(average, "HELD_OUT_FRAMES", 2)
        yield


@pytest.fixture(scope="module")
def model(instrument, tmp_path_factory):
    """Return a network that has learned a little of what neighbours say."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    result = finish(train(instrument, PLAN))
    torch.set_num_threads(before)
    place = tmp_path_factory.mktemp("models") / "beside.safetensors"
    return write_model_weights(result.weights, result.card.model_dump(mode="json"), place)


@pytest.fixture(scope="module")
def movie(film, instrument):
    """Return molecules that stay on for some frames, dim in some of them."""
    rows = [(t, 500.0, 12.3, 14.6, 3000.0 if t % 2 else 900.0) for t in range(FRAMES)]
    rows += [(t, 350.0, 25.1, 28.4, 2500.0) for t in range(2, 6)] + [(t, 600.0, 20.0, 8.0, 1500.0) for t in range(3)]
    return film(instrument, rows, SHAPE, FRAMES)


def plan_with(model, **choices):
    return ReconstructPlan(model=str(model), device="cpu", **{"refine": False, "processes": 1, **choices})


def found_in(movie, instrument, plan):
    return finish(reconstruct(movie, instrument, plan)).localizations


def same(one, other):
    """Whether two tables are alike to the bit."""
    assert len(one) == len(other)
    for name in one.columns:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    return True


def part_of(movie, first, last):
    return RawStack(counts_tyx=tuple(counts[first : last + 1] for counts in movie.counts_tyx), kind="frames")


# -- what it learns from


def test_without_context_nothing_is_drawn_otherwise_than_before(instrument):
    plain, said = (LeanFamily(instrument, p).frames for p in (SINGLE, SINGLE.model_copy(update={"mean_on_frames": 0.0})))
    channels, targets, emissions = plain.batch(6, 3)
    assert channels.shape == (6, 7, 32, 32)
    assert (emissions.on_fraction_n == 1).all()
    # as they were before networks saw neighbours: shipped models can be made again
    assert torch.bincount(emissions.frame_n, minlength=6).tolist() == [4, 2, 0, 1, 1, 1]
    assert float(emissions.photons_n.sum()) == pytest.approx(10412.926, rel=1e-6)
    assert emissions.position_n3.sum(0).tolist() == pytest.approx([5707.97, 18463.92, 14175.21], rel=1e-5)
    assert float(channels.abs().mean()) == pytest.approx(0.58582, rel=1e-3)
    assert np.array_equal(channels, said.batch(6, 3)[0])
    assert LeanFamily(instrument, SINGLE).architecture.keys() == {"channels", "depths", "width", "dilations"}
    assert targets.frame_n.max() < 6


def test_frames_come_in_runs_in_which_molecules_blink_and_the_middle_one_is_to_be_read(instrument):
    frames = LeanFamily(
        instrument, PLAN.model_copy(update={"density_per_um2": (0.2, 0.2), "mean_on_frames": 2.0, "photons": (2000, 6000)})
    ).frames
    channels, targets, emissions = frames.batch(60, 0)
    assert channels.shape == (60, 3, 7, 32, 32)
    assert emissions.frame_n.max() < 60
    area_um2 = float(frames.box.area_um2)
    # 0.2 are on at any instant; of these that are on for a part of the frame there are 1/2 more, half of them beginning in it
    assert len(emissions) / 60 / area_um2 == pytest.approx(0.2 * (1 + 1 / 2), rel=0.1)
    assert float(emissions.on_fraction_n.sum()) / 60 / area_um2 == pytest.approx(0.2, rel=0.1)
    whole = emissions.on_fraction_n == 1
    # nobody goes in a whole frame with the probability exp(-1/2): these are on throughout
    assert int(whole.sum()) / 60 / area_um2 == pytest.approx(0.2 * math.exp(-1 / 2), rel=0.15)
    assert float((emissions.photons_n / emissions.on_fraction_n).min()) >= 2000 * 0.999
    # at the place of a molecule that must be found its depth scores high in the middle, and where it stays on in the neighbours too
    row, column = targets.place_n4[:, 1:3].round().long().clamp(0, 31).T
    score = channels[targets.frame_n, :, :5, row, column].amax(2)
    usual = float(channels[:, :, :5].abs().median())
    assert float(score[:, 1].median()) > 3 * usual
    shown = channels[targets.frame_n].flatten(2).any(2).all(1)
    assert usual < float(score[shown][:, 0].median()) < float(score[shown][:, 1].median())
    assert len(targets.frame_n) == int(frames.wanted(emissions).sum()) < len(emissions)


def test_molecules_that_shone_for_a_moment_need_not_be_found(instrument):
    assert PLAN.least_wanted_photons == 150
    assert SINGLE.least_wanted_photons == 0
    assert PLAN.model_copy(update={"least_photons": 700.0}).least_wanted_photons == 700
    frames = LeanFamily(instrument, PLAN).frames
    _, targets, _ = frames.batch(40, 1)
    assert float(targets.place_n4[:, 3].min()) * frames.units.photons >= 150


def test_some_runs_lack_the_frames_before_some_those_after_and_some_both(instrument):
    frames = LeanFamily(instrument, PLAN).frames
    shown = frames._shown(4000, torch.Generator().manual_seed(0))
    assert shown[:, 1].all()
    ways = {way: int((shown[:, [0, 2]] == torch.tensor(way)).all(1).sum()) / 4000 for way in ((0, 1), (1, 0), (0, 0), (1, 1))}
    assert ways == pytest.approx({(0, 1): 0.05, (1, 0): 0.05, (0, 0): 0.1, (1, 1): 0.8}, abs=0.02)
    channels = frames.batch(40, 0)[0]
    there = channels.flatten(2).any(2)
    assert there[:, 1].all()
    assert 0 < int((~there[:, [0, 2]]).sum()) < 40


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"context_frames": 1, "architecture": "deepstorm3d"}, "context_frames is 1, but deepstorm3d reads single frames: leave .* lean"),
        ({"context_frames": 1, "architecture": "vnet"}, "context_frames is 1, but vnet reads single frames"),
        ({"context_frames": 1, "mean_on_frames": 0}, "mean_on_frames is 0: molecules that are on for exactly one frame show nothing"),
        ({"mean_on_frames": 3, "architecture": "lnet4"}, "mean_on_frames is 3, but nothing blinks in what lnet4 learns from"),
        ({"context_frames": 2}, "less than or equal to 1"),
    ],
)
def test_neighbours_that_nobody_reads_or_that_show_nothing_are_refused_in_words(choices, words):
    with pytest.raises(ValidationError, match=words):
        TrainPlan(**choices)


def test_a_plan_with_neighbours_lets_molecules_blink_unless_it_says_how_long():
    assert (TrainPlan().on_frames, TrainPlan(context_frames=1).on_frames, TrainPlan(mean_on_frames=3).on_frames) == (0, 2, 3)


def test_a_model_of_single_frames_is_a_start_that_at_first_reads_alike(model, instrument, tmp_path):
    result = finish(train(instrument, SINGLE.model_copy(update={"frame_count": 8})))
    alone = write_model_weights(result.weights, result.card.model_dump(mode="json"), tmp_path / "alone.safetensors")
    family, card, trainer = begin(instrument, PLAN.model_copy(update={"start_model": str(alone)}))
    channels = family.frames.batch(3, 0)[0]
    single, _ = load_network(str(alone), instrument)
    torch.testing.assert_close(trainer.network(channels).logit_tyx, single(channels[:, 1]).logit_tyx)
    assert card.context_frames == 1
    with pytest.raises(ModelError, match="start model"):
        begin(instrument, SINGLE.model_copy(update={"start_model": str(model)}))


# -- what it says


def test_weights_and_card_come_back_as_they_were_and_the_card_says_what_it_sees(model, instrument):
    network, card = load_network(str(model), instrument)
    assert card == read_model_card(model)
    assert (card.context_frames, card.architecture["context_frames"], card.plan.context_frames) == (1, 1, 1)
    assert network.context_frames == 1
    assert bool((network.join.weight != 0).any())
    channels = LeanFamily(instrument, PLAN).frames.batch(2, 5)[0]
    again = build(card)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(channels).mean_tpyx, network(channels).mean_tpyx, rtol=0, atol=0)


def test_what_the_neighbours_show_of_a_dim_molecule_makes_it_more_probable(model, instrument, film):
    network = load_network(str(model), instrument)[0].eval()
    frames = LeanFamily(instrument, PLAN).frames

    def probability(beside: tuple[int, ...], shown: bool) -> float:
        """At the place of a dim molecule in the middle of 20 runs, which is bright in some of the other frames."""
        rows = [(3 * k + 1, 500.0, 16.0, 16.0, 400.0) for k in range(20)]
        rows += [(3 * k + place, 500.0, 16.0, 16.0, 1000.0) for k in range(20) for place in beside]
        counts = film(instrument, rows, (32, 32), 60).counts_tyx
        channels = frames.channels(frames.patches_of(counts, 60)).unflatten(0, (20, 3))
        with torch.no_grad():
            logit = network(channels if shown else channels[:, 1]).logit_tyx
        return float(torch.sigmoid(logit)[:, 14:19, 14:19].sum((1, 2)).mean())

    still = probability((0, 2), shown=False)
    assert probability((0, 2), shown=True) > 1.5 * still
    assert min(probability((0,), shown=True), probability((2,), shown=True)) > 1.2 * still
    assert probability((), shown=True) < 1.2 * still


# -- what it is shown of a movie


@pytest.mark.parametrize("refine", [False, True])
def test_the_table_does_not_depend_on_how_the_frames_are_shared_out(model, instrument, movie, refine):
    one, three, all_ = (found_in(movie, instrument, plan_with(model, refine=refine, batch_frames=n)) for n in (1, 3, 64))
    assert len(one) > FRAMES
    assert same(three, one)
    assert same(all_, one)


def test_processes_that_share_the_frames_see_the_neighbours_too(model, instrument, movie):
    alone = found_in(movie, instrument, plan_with(model, batch_frames=2))
    assert same(found_in(movie, instrument, plan_with(model, batch_frames=2, processes=2)), alone)


def test_the_table_is_that_of_the_network_shown_each_frame_with_its_neighbours(model, instrument, movie):
    fit = prepare_fit(instrument, plan_with(model), (0, 0, *SHAPE))
    network, features, units = fit.neighbours.network, fit.neighbours.features, fit.neighbours.units
    channels = torch.cat([features(part) for part in _parts(fit, movie, instrument)])
    nothing = torch.zeros_like(channels[:1])
    around = torch.stack([torch.cat([nothing, channels[:-1]]), channels, torch.cat([channels[1:], nothing])], 1)
    with torch.no_grad():
        expected = units.decode(network(around), 0.15)
        stills = units.decode(network(channels), 0.15)
    table = found_in(movie, instrument, plan_with(model))
    np.testing.assert_array_equal(np.bincount(table["frame"], minlength=FRAMES), np.bincount(expected.frame_n, minlength=FRAMES))
    assert table.position_zyx_nm == pytest.approx(expected.position_n3.numpy(), abs=0.1)
    assert not (len(stills.frame_n) == len(expected.frame_n) and np.allclose(stills.position_n3, expected.position_n3, atol=1))


def _parts(fit, movie, instrument):
    """Patches of the frames, each read alone."""
    for t in range(movie.frame_count):
        yield cut_patches(read_photons(movie, instrument, range(t, t + 1), [0.0]), fit.table, fit.tiling.tiles[0], fit.tiling, (0, 0))


@pytest.mark.parametrize("refine", [False, True])
def test_a_preview_of_one_frame_finds_what_the_whole_run_finds_there(model, instrument, movie, refine):
    whole = found_in(movie, instrument, plan_with(model, refine=refine))
    for frame in (0, 3, FRAMES - 1):
        explained = finish(explain_frame(movie, instrument, plan_with(model, refine=refine), frame))
        assert same(explained.localizations, whole.select(whole["frame"] == frame))


def test_frames_beside_the_chosen_ones_are_looked_at_where_the_movie_has_them(model, instrument, movie):
    whole = found_in(movie, instrument, plan_with(model))
    chosen = found_in(movie, instrument, plan_with(model, first_frame=2, last_frame=4))
    assert same(chosen, whole.select((whole["frame"] >= 2) & (whole["frame"] <= 4)))
    cut = found_in(part_of(movie, 2, 4), instrument, plan_with(model))
    assert not np.array_equal(cut["confidence"], chosen["confidence"])
    # the middle one of the three has both its neighbours in either
    middle, inside = cut.select(cut["frame"] == 1), chosen.select(chosen["frame"] == 3)
    np.testing.assert_array_equal(middle["confidence"], inside["confidence"])


class Counted:
    """A stack on a disk: remembers which frames were read."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts, self.read = counts, []
        self.shape, self.dtype, self.ndim = counts.shape, counts.dtype, 3

    def __getitem__(self, key):
        first = key if isinstance(key, int) else key[0] if isinstance(key, tuple) else key
        self.read.append(list(range(len(self.counts)))[first])
        return self.counts[key]


def test_of_a_stack_on_disk_at_most_one_more_frame_is_read_on_each_side(model, instrument, movie):
    lazy = Counted(movie.counts_tyx[0])
    job = prepare(RawStack(counts_tyx=(lazy,), kind="frames"), instrument, plan_with(model, first_frame=1, last_frame=5))
    for batch, expected in ((range(1, 3), [0, 1, 2, 3]), (range(3, 6), [2, 3, 4, 5, 6]), (range(5, 7), [4, 5, 6])):
        lazy.read.clear()
        images = job.photons(batch)
        assert lazy.read == [expected]
        assert len(images[0].photons_tyx) == len(batch) + 2


def test_a_neighbour_that_cannot_be_read_or_was_never_exposed_counts_as_missing(model, instrument, movie):
    counts = movie.counts_tyx[0].astype(np.float32)
    beginning = found_in(part_of(movie, 3, 6), instrument, plan_with(model))
    for wrong in (np.nan, 7.0):
        counts[2] = wrong
        stack = RawStack(counts_tyx=(counts.copy(),), kind="frames")
        for batch in (1, 8):
            later = found_in(stack, instrument, plan_with(model, first_frame=3, batch_frames=batch))
            np.testing.assert_array_equal(later["confidence"], beginning["confidence"])
            np.testing.assert_array_equal(later["frame"], beginning["frame"] + 3)


def test_in_a_frame_that_was_never_exposed_neighbours_do_not_find_molecules(model, instrument, movie):
    counts = movie.counts_tyx[0].copy()
    counts[3] = 100
    stack = RawStack(counts_tyx=(counts,), kind="frames")
    assert 3 not in found_in(stack, instrument, plan_with(model))["frame"]
    assert len(finish(explain_frame(stack, instrument, plan_with(model), 3)).localizations) == 0
    # not even for a network that sees molecules everywhere
    fit = prepare_fit(instrument, plan_with(model), (0, 0, *SHAPE))
    with torch.no_grad():
        fit.neighbours.network.leave.bias[:4] = 9.0
    images = prepare(stack, instrument, plan_with(model)).photons(range(2, 5))
    assert set(fit.neighbours.across(cut_patches(images, fit.table, fit.tiling.tiles[0], fit.tiling, (0, 0))).patch_m.tolist()) == {0, 2}


def test_a_single_frame_is_read_as_a_still_and_this_is_told(model, instrument, movie):
    told = []
    result = finish(reconstruct(part_of(movie, 3, 3), instrument, plan_with(model)), told.append)
    assert any("this one has none and is read alone" in progress.message for progress in told)
    assert result.localizations.provenance["neighbouring_frames"] == 0
    told.clear()
    assert finish(reconstruct(movie, instrument, plan_with(model)), told.append).localizations.provenance["neighbouring_frames"] == 1
    assert not any("read alone" in progress.message for progress in told)
    fit = prepare_fit(instrument, plan_with(model), (0, 0, *SHAPE))
    still = fit.neighbours(next(iter(_parts(fit, part_of(movie, 3, 3), instrument))))
    assert result.localizations["confidence"] == pytest.approx(still.gain_m[still.gain_m >= SURE].numpy(), abs=1e-5)
