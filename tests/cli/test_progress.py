"""Progress on stderr and Ctrl-C that keeps what is done."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest

from napari_volumetric_smlm.cli.progress import Reporter, Stopped, carry_out, duration
from napari_volumetric_smlm.domain.runs import Progress
from napari_volumetric_smlm.recipes import finish


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_tells_stage_count_rate_and_time_left():
    stream, now = io.StringIO(), [0.0]
    report = Reporter(stream=stream, clock=lambda: now[0])
    report(Progress(stage="refine", done=0, total=200))
    now[0] = 5.0
    report(Progress(stage="refine", done=10, total=200))
    now[0] = 20.0
    report(Progress(stage="refine", done=80, total=200))
    lines = stream.getvalue().splitlines()
    assert lines == ["refine, 0 of 200 (0 %)", "refine, 80 of 200 (40 %), 4 per second, 30 s left"]


def test_a_new_stage_is_told_at_once():
    stream = io.StringIO()
    report = Reporter(stream=stream, clock=lambda: 0.0)
    for stage in ("load", "load", "search"):
        report(Progress(stage=stage, message="now"))
    assert stream.getvalue().splitlines() == ["load, now", "search, now"]


def test_a_terminal_shows_one_line_that_changes():
    stream, now = Terminal(), [0.0]
    report = Reporter(stream=stream, clock=lambda: now[0])
    for step in range(3):
        now[0] += 1
        report(Progress(stage="search", done=step, total=3))
    report.close()
    assert stream.getvalue().count("\r") == 3
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 1


def test_quiet_says_nothing(capsys):
    def recipe():
        yield Progress(stage="search")
        return 7

    assert carry_out(recipe(), quiet=True) == 7
    assert capsys.readouterr().err == ""
    assert carry_out(recipe(), quiet=False) == 7
    assert "search" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_ctrl_c_stops_at_the_next_step_with_what_is_done():
    closed = []

    def recipe():
        try:
            for step in range(1000):
                if step == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                yield Progress(stage="search", done=step, total=1000, preview=step)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped) as stop:
        carry_out(recipe(), quiet=True)
    assert stop.value.previews == [0, 1, 2, 3]
    assert stop.value.done == 3
    assert closed == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once():
    def recipe():
        yield Progress(stage="search")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        yield Progress(stage="never")

    with pytest.raises(KeyboardInterrupt):
        carry_out(recipe(), quiet=True)


def test_finish_returns_the_value_and_closes_the_recipe_on_errors():
    closed = []

    def recipe():
        try:
            yield Progress(stage="one")
            yield Progress(stage="two")
            return "done"
        finally:
            closed.append(True)

    seen = []
    assert finish(recipe(), lambda progress: seen.append(progress.stage)) == "done"
    assert seen == ["one", "two"]

    def fail(progress):
        raise ValueError("the report fails")

    with pytest.raises(ValueError, match="report fails"):
        finish(recipe(), fail)
    assert closed == [True, True]
