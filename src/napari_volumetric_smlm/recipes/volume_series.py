"""One volume a frame: a light-field movie becomes a movie of volumes, written while it is made."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..domain.images import RawStack, Volume
from ..domain.instrument import Instrument
from ..domain.noun import Noun
from ..domain.runs import Progress
from ..domain.volume_plans import DeconvolvePlan, ViewsPlan, VolumePlan
from ..errors import PlanError
from ..io.results import write_provenance
from ..io.volume_series import incomplete_path, volume_series
from .deconvolve import deconvolve
from .photons import asked_range
from .volume import make_volume


@dataclass(frozen=True)
class WrittenVolumes:
    """A file of volumes (t, z, y, x); `last` is the volume of its last frame."""

    place: Path
    count: int
    last: Volume
    seconds: float


def volume_of(stack: RawStack, instrument: Instrument, plan: ViewsPlan) -> Generator[Progress, None, Volume]:
    """Make one volume by whatever the plan says: a network or deconvolution; as `make_volume` and `deconvolve`."""
    if isinstance(plan, VolumePlan):
        return (yield from make_volume(stack, instrument, plan))
    if isinstance(plan, DeconvolvePlan):
        return (yield from deconvolve(stack, instrument, plan))
    raise PlanError(f"{type(plan).__name__} does not say how a volume is made")


def of_frame(plan: ViewsPlan, frame: int) -> ViewsPlan:
    """The plan for one frame alone."""
    return plan.model_copy(update={"first_frame": frame, "last_frame": frame})


def write_volumes(stack: RawStack, instrument: Instrument, plan: ViewsPlan, place: Path) -> Generator[Progress, None, WrittenVolumes]:
    """Make the volume of every frame from the plan's first to its last and write them as one OME-TIFF, with a record beside it.

    A recipe that is closed early leaves the volumes done so far in `X.incomplete.tif`.

    Yields
    ------
    Progress
        After every step of every frame; done counts frames.

    Raises
    ------
    PlanError
        If there is no such frame.
    OutputError
        If the file cannot be written.
    SmlmError
        As the recipe of a single volume.
    """
    began = time.monotonic()
    frames = asked_range(plan.first_frame, plan.last_frame, stack.frame_count)
    with volume_series(place, len(frames)) as series:
        try:
            for done, frame in enumerate(frames):
                steps = volume_of(stack, instrument, of_frame(plan, frame))
                volume = yield from _counted(steps, f"Volume of frame {frame}", (done, len(frames)))
                series.add(volume.values_zyx, volume.voxel_zyx_nm, volume.origin_zyx_nm)
                yield Progress(stage="volumes", done=series.written, total=len(frames), message=f"Volume of frame {frame}")
        finally:
            if series.written:
                extra = {"frames": [frames.start, frames.start + series.written - 1], "complete": series.complete}
                where = place if series.complete else incomplete_path(place)
                write_provenance(record_of(volume, (stack, instrument, plan), **extra), where)
    return WrittenVolumes(place, len(frames), volume, time.monotonic() - began)


def record_of(volume: Volume, made_from: tuple[RawStack, Instrument, Noun], **more: Any) -> dict[str, Any]:
    """How a volume came about, to be written beside it."""
    stack, instrument, plan = made_from
    return {
        "vsmlm": __version__,
        "source": list(stack.source),
        "source_fingerprint": stack.fingerprint,
        "instrument": instrument.name,
        "instrument_fingerprint": instrument.fingerprint,
        "z_reference": instrument.z_reference,
        "plan": plan.model_dump(mode="json"),
        "origin_zyx_nm": volume.origin_zyx_nm,
        "voxel_zyx_nm": volume.voxel_zyx_nm,
        "quantity": volume.quantity,
        **more,
    }


def _counted(steps: Generator[Progress, None, Volume], words: str, count: tuple[int, int]) -> Generator[Progress, None, Volume]:
    """The steps of one volume, told as those of the series."""
    done, total = count
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            volume: Volume = end.value
            return volume
        more = f" · {progress.message}" if progress.message else ""
        yield Progress(stage="volumes", done=done, total=total, message=f"{words}{more}")
