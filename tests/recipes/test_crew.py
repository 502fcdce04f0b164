"""Several processes give the table of one, end when they are told to, and are not missed when they die."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from loky import cpu_count

from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.recipes import crew, finish
from napari_volumetric_smlm.recipes import reconstruct as recipe

FRAMES = 10
ROWS = [(t, 300.0 + 30 * t, 12.3 + t, 14.6, 4000.0) for t in range(FRAMES)] + [(t, 650.0, 29.8, 31.2 - t, 5000.0) for t in range(FRAMES)]


@pytest.fixture(scope="module")
def movie(film, toy_instrument):
    return film(toy_instrument, ROWS, (44, 48), FRAMES)


def plan(**choices) -> ReconstructPlan:
    return ReconstructPlan(device="cpu", batch_frames=2, **choices)


def children() -> list[int]:
    """Processes of the crew that live."""
    mine = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as words:
                    parent, state = stat.read().rsplit(")", 1)[1].split()[1::-1]
                    if int(parent) == mine and state != "Z" and "popen_loky" in words.read():
                        found.append(int(name))
            except OSError:
                continue
    return found


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are looked up in /proc, which this system does not have")


@needs_proc
def test_two_processes_give_the_table_of_one_and_then_end(movie, toy_instrument):
    alone = finish(recipe.reconstruct(movie, toy_instrument, plan(processes=1)))
    told = []
    together = finish(recipe.reconstruct(movie, toy_instrument, plan(processes=2)), told.append)
    assert len(alone.localizations) == 2 * FRAMES
    assert together.frames_done == FRAMES
    for name in alone.localizations.columns:
        np.testing.assert_array_equal(together.localizations[name], alone.localizations[name])
    assert any("2 processes" in progress.message for progress in told)
    # previews come in the order of the frames
    previews = [progress.preview for progress in told if progress.preview is not None]
    assert [sorted(set(table["frame"].tolist())) for table in previews] == [[t, t + 1] for t in range(0, FRAMES, 2)]
    assert children() == []


@needs_proc
def test_a_cancel_ends_the_processes_at_once(movie, toy_instrument):
    steps = recipe.reconstruct(movie, toy_instrument, plan(processes=2))
    while "processes" not in next(steps).message:
        pass
    next(steps)
    assert len(children()) > 0
    started = time.monotonic()
    steps.close()
    assert time.monotonic() - started < 1.0
    assert children() == []


@needs_proc
def test_when_the_processes_die_one_goes_on_and_says_so(movie, toy_instrument):
    told, killed = [], False

    def watch(progress) -> None:
        nonlocal killed
        told.append(progress)
        if not killed and any("processes" in p.message for p in told):
            for process in children():
                os.kill(process, signal.SIGKILL)
                killed = True

    result = finish(recipe.reconstruct(movie, toy_instrument, plan(processes=2)), watch)
    assert killed
    assert any("going on with one" in progress.message for progress in told)
    assert result.frames_done == FRAMES
    assert sorted(result.localizations["frame"].tolist()) == sorted(2 * list(range(FRAMES)))


def test_a_short_run_and_a_gpu_need_no_company(movie, toy_instrument):
    assert crew.processes_for(plan(), torch.device("cuda")) == 1
    assert crew.processes_for(plan(), torch.device("cpu")) == cpu_count()
    assert crew.processes_for(plan(processes=3), torch.device("cpu")) == 3
    told = []
    finish(recipe.reconstruct(movie, toy_instrument, plan()), told.append)
    assert not any("processes" in progress.message for progress in told)
