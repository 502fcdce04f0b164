"""Processes that share the frames of a run on a machine with several cores.

Python steps through every fit, and one process steps on one core only. Each process makes the same `Fit` and gets photons; tables come
back in the order of the frames, and are the same as those of a single process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from loky import ProcessPoolExecutor, cpu_count

from ..domain.instrument import Instrument
from ..domain.plans import ReconstructPlan
from .fitting import Columns, Fit, Region, columns_of, localized, parts_of, prepare_fit
from .photons import ViewImages

# Starting the processes takes some seconds, which a run must have to spare.
WORTH_S = 12.0
TELL_S = 0.2
AHEAD = 2  # batches a process that wait for it
_fit: Fit | None = None


def processes_for(plan: ReconstructPlan, device: torch.device) -> int:
    """How many processes a plan asks for on a device; 1 = none beside this one."""
    if device.type != "cpu":
        return 1
    return plan.processes or cpu_count()


@dataclass
class Crew:
    """Running processes and the batches that they have been given."""

    executor: ProcessPoolExecutor
    processes: int
    waiting: deque[tuple[int, Future[list[Columns]]]] = field(default_factory=deque)

    @property
    def wants(self) -> bool:
        """Whether another batch would keep it busy."""
        return len(self.waiting) < AHEAD * self.processes

    def give(self, images: list[ViewImages], frames: range) -> None:
        """Hand a batch over."""
        arrays = [tuple(part.numpy() for part in (v.photons_tyx, v.read_variance_yx, v.seen_tyx)) for v in images]
        self.waiting.append((len(frames), self.executor.submit(_fit_frames, arrays, frames.start)))

    def take(self) -> Generator[None, None, tuple[int, list[Columns]]]:
        """Wait for the oldest batch, stepping several times a second: number of its frames, and its columns."""
        count, future = self.waiting[0]
        while True:
            try:
                columns = future.result(timeout=TELL_S)
            except NotYet:
                yield
                continue
            self.waiting.popleft()
            return count, columns


@contextmanager
def crew(instrument: Instrument, plan: ReconstructPlan, region: Region, processes: int) -> Iterator[Crew]:
    """Start processes; they end with the block, at once and whatever they do."""
    # on the processor there, whatever a worker would choose
    made_of = (instrument, plan.model_copy(update={"device": "cpu"}), region)
    executor = ProcessPoolExecutor(max_workers=processes, initializer=_prepare, initargs=made_of, env={"OMP_NUM_THREADS": "1"})
    try:
        yield Crew(executor, processes)
    finally:
        executor.shutdown(wait=True, kill_workers=True)


def _prepare(*made_of: Any) -> None:
    global _fit
    torch.set_num_threads(1)
    _fit = prepare_fit(*made_of)


def _fit_frames(arrays: list[tuple[Any, ...]], first_frame: int) -> list[Columns]:
    """Localize a batch in a process of the crew."""
    if _fit is None:
        raise RuntimeError("this process was not prepared")
    images = [ViewImages(*(torch.from_numpy(part) for part in view)) for view in arrays]
    found = []
    for part in parts_of(_fit, images, first_frame):
        steps = localized(_fit, part)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found.append(columns_of(_fit, part, end.value))
                break
    return found
