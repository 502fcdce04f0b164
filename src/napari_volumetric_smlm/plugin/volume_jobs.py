"""What the buttons for light-field volumes run, in the worker's thread, no Qt; and the volumes that are kept."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.volume_plans import ViewsPlan, VolumePlan
from .jobs import on_device, prepare_engine
from .settings import Preferences

if TYPE_CHECKING:
    from ..recipes.volume_series import WrittenVolumes

NETWORK, DECONVOLUTION = "V-Net", "Richardson-Lucy"
LARGEST_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class VolumeQuestion:
    """All that a volume follows from; the plan's first frame is the one that is asked for."""

    stack: RawStack
    instrument: Instrument
    plan: ViewsPlan

    @property
    def method(self) -> str:
        """What makes the volume, in a word."""
        return NETWORK if isinstance(self.plan, VolumePlan) else DECONVOLUTION

    @property
    def frame(self) -> int:
        """The frame."""
        return self.plan.first_frame

    @property
    def key(self) -> Hashable:
        """Changes when anything changes that the volume follows from, a model that was trained anew under its name included."""
        written = 0
        if isinstance(self.plan, VolumePlan):
            with contextlib.suppress(OSError):
                written = Path(self.plan.model).stat().st_mtime_ns
        places = tuple(view.region_yx_px for view in self.instrument.views)
        return self.stack, self.instrument.fingerprint, places, self.plan.model_dump_json(), written


@dataclass(frozen=True)
class FrameVolume:
    """The volume of one frame, on the nanometres of the molecules of that frame; `seconds` that it took."""

    question: VolumeQuestion
    volume: Volume
    seconds: float


class VolumeCache:
    """The volumes last made or looked at, as many as fit into `limit_bytes`."""

    def __init__(self, limit_bytes: int = LARGEST_CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, FrameVolume] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(int(made.volume.values_zyx.nbytes) for made in self._kept.values())

    def find(self, question: VolumeQuestion) -> FrameVolume | None:
        """Return the volume that answers a question, if it is kept."""
        key = question.key
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, made: FrameVolume) -> None:
        """Keep a volume; those not looked at for longest go."""
        self._kept[made.question.key] = made
        self._kept.move_to_end(made.question.key)
        while self.nbytes > self.limit_bytes:
            self._kept.popitem(last=False)


def volumes_job(questions: list[VolumeQuestion], chosen: Preferences) -> Generator[Progress, None, int]:
    """Make volumes one after the other; each comes as a preview as soon as it is there. Returns their number."""
    from ..recipes.volume_series import volume_of

    prepare_engine(chosen)
    for question in questions:
        began = time.perf_counter()
        steps = volume_of(question.stack, question.instrument, on_device(question.plan, chosen))
        volume = yield from _without_previews(steps)
        made = FrameVolume(question, volume, time.perf_counter() - began)
        yield Progress(stage="volume", message=f"{question.method}: done", preview=made)
    return len(questions)


def all_volumes_job(question: VolumeQuestion, place: Path, chosen: Preferences) -> Generator[Progress, None, WrittenVolumes]:
    """Write the volume of every frame that the plan asks for."""
    from ..recipes.volume_series import write_volumes

    prepare_engine(chosen)
    return (yield from write_volumes(question.stack, question.instrument, on_device(question.plan, chosen), place))


def _without_previews(steps: Generator[Progress, None, Any]) -> Generator[Progress, None, Any]:
    # an iteration that is under way is no volume to show
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        yield progress.model_copy(update={"preview": None})
