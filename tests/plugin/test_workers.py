"""The bridge between recipes and threads: each trap of napari's workers, once."""

from __future__ import annotations

import threading
import time

import pytest

from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.errors import EngineError
from napari_volumetric_smlm.plugin.workers import Job, Outcome, State, Tick


class Heard:
    """Everything that a job told."""

    def __init__(self, job):
        self.ticks: list[Tick] = []
        self.outcomes: list[Outcome] = []
        self.states: list[State] = []
        job.ticked.connect(self.ticks.append)
        job.ended.connect(self.outcomes.append)
        job.state_changed.connect(self.states.append)


def run(job, qtbot, begin, quiet=True):
    heard = Heard(job)
    with qtbot.wait_signal(job.ended, timeout=10000):
        job.start(begin, quiet=quiet)
    return heard


def counting(n, seconds=0.0, closed=None):
    def steps():
        try:
            for k in range(n):
                time.sleep(seconds)
                yield Progress(stage="count", done=k + 1, total=n, preview=k)
            return "all counted"
        finally:
            if closed is not None:
                closed.append(True)

    return steps


@pytest.fixture
def job(qtbot):
    job = Job()
    yield job
    job.abandon()


@pytest.mark.parametrize("quiet", [True, False])
def test_a_job_ends_once_with_what_the_recipe_returned(job, qtbot, quiet):
    heard = run(job, qtbot, counting(3), quiet)
    assert [outcome.kind for outcome in heard.outcomes] == ["done"]
    assert heard.outcomes[0].value == "all counted"
    assert heard.states == [State.RUNNING, State.DONE]
    # nothing that streamed in is lost, however short the job
    assert [value for tick in heard.ticks for value in tick.previews] == [0, 1, 2]


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), EngineError("no convergence"), MemoryError()])
def test_no_error_is_swallowed_with_an_open_viewer(job, qtbot, viewer, error):
    def failing():
        yield Progress(stage="work")
        raise error

    heard = run(job, qtbot, failing, quiet=False)
    assert heard.outcomes[0].kind == "failed"
    assert heard.outcomes[0].error is error
    assert job.state is State.FAILED


def test_an_error_of_the_import_itself_is_told(job, qtbot):
    def begin():
        raise ImportError("no such engine")

    heard = run(job, qtbot, begin)
    assert isinstance(heard.outcomes[0].error, ImportError)


def test_the_recipe_runs_in_another_thread_and_the_slots_in_ours(job, qtbot):
    threads = []

    def steps():
        threads.append(threading.current_thread())
        yield Progress(stage="work", preview=1)

    here = []
    job.ticked.connect(lambda tick: here.append(threading.current_thread()))
    job.ended.connect(lambda outcome: here.append(threading.current_thread()))
    run(job, qtbot, steps)
    assert threads[0] is not threading.main_thread()
    assert set(here) == {threading.main_thread()}


def test_a_cancel_is_answered_within_a_second_keeps_previews_and_closes_the_recipe(job, qtbot):
    closed = []
    heard = Heard(job)
    job.start(counting(1000, 0.02, closed), quiet=True)
    qtbot.wait_until(lambda: len(heard.ticks) >= 4, timeout=5000)
    began = time.monotonic()
    with qtbot.wait_signal(job.ended, timeout=5000):
        job.stop()
        assert job.state is State.STOPPING
    assert time.monotonic() - began < 3.0  # a second on an idle machine: benchmarks/napari_session.py
    assert heard.outcomes[0].kind == "stopped"
    assert job.state is State.DONE
    previews = [value for tick in heard.ticks for value in tick.previews]
    assert previews == list(range(len(previews)))
    assert len(previews) > 2
    # its own finally has run already, in the worker's thread
    assert closed == [True]


def test_a_step_that_takes_too_long_is_not_waited_for(job, qtbot):
    release = threading.Event()
    closed = []

    def stubborn():
        try:
            yield Progress(stage="work")
            release.wait(10)
            yield Progress(stage="work")
        finally:
            closed.append(True)

    heard = Heard(job)
    job.start(stubborn, quiet=True)
    qtbot.wait_until(lambda: bool(heard.ticks), timeout=5000)
    began = time.monotonic()
    with qtbot.wait_signal(job.ended, timeout=5000):
        job.stop()
    assert time.monotonic() - began < 3.0  # a second on an idle machine: benchmarks/napari_session.py
    assert heard.outcomes[0].kind == "stopped"
    assert closed == []
    release.set()
    qtbot.wait_until(lambda: closed == [True], timeout=5000)
    qtbot.wait(50)
    assert len(heard.outcomes) == 1


def test_progress_is_throttled_but_previews_are_all_delivered(job, qtbot):
    heard = run(job, qtbot, counting(400, 0.002))
    seconds = job.seconds
    assert len(heard.ticks) <= seconds * 4 + 3
    assert [value for tick in heard.ticks for value in tick.previews] == list(range(400))


def test_loading_the_engine_is_announced_before_torch(job, qtbot, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    heard = run(job, qtbot, counting(1))
    assert heard.ticks[0].progress.stage == "Loading engine"


def test_a_job_that_quits_with_the_window_ends_as_stopped_and_closes_the_recipe(job, qtbot, viewer):
    closed = []
    heard = Heard(job)
    job.start(counting(1000, 0.02, closed))
    qtbot.wait_until(lambda: bool(heard.ticks), timeout=5000)
    with qtbot.wait_signal(job.ended, timeout=5000):
        # what napari does with all workers of a window that closes
        job._run.worker.quit()
    assert heard.outcomes[0].kind == "stopped"
    assert closed == [True]


def test_a_second_start_while_running_does_nothing(job, qtbot):
    started = []

    def steps():
        started.append(True)
        yield Progress(stage="work")
        time.sleep(0.2)

    job.start(steps, quiet=True)
    job.start(steps, quiet=True)
    qtbot.wait_until(lambda: not job.busy, timeout=5000)
    assert started == [True]


def test_an_abandoned_job_is_silent(job, qtbot):
    closed = []
    heard = Heard(job)
    job.start(counting(1000, 0.02, closed), quiet=True)
    qtbot.wait_until(lambda: bool(heard.ticks), timeout=5000)
    job.abandon()
    qtbot.wait_until(lambda: closed == [True], timeout=5000)
    qtbot.wait(50)
    assert heard.outcomes == []
    assert not job.busy
