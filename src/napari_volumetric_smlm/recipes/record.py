"""What a table of molecules says about how it came about, and what remains of a reconstruction that did not end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from .. import __version__
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import ReconstructPlan
from ..domain.runs import Progress, Reconstruction

Asked = tuple[RawStack, Instrument, ReconstructPlan]


def provenance(asked: Asked) -> dict[str, Any]:
    """Program, plan, instrument and source of a reconstruction, ready for JSON."""
    stack, instrument, plan = asked
    return {
        "program": f"napari-volumetric-smlm {__version__}",
        "torch": version("torch"),
        "plan": plan.model_dump(mode="json"),
        "instrument": instrument.name,
        "instrument_fingerprint": instrument.fingerprint,
        "source": list(stack.source),
        "source_fingerprint": stack.fingerprint,
    }


def reconstruction(asked: Asked, tables: Sequence[Localizations], seconds: float, record: dict[str, Any]) -> Reconstruction:
    """Join the tables of batches; `record` stands in the table behind what was asked, and says how many frames are done and whether all."""
    _, instrument, plan = asked
    return Reconstruction(
        localizations=Localizations.joined(tables).model_copy(update={"provenance": provenance(asked) | record}),
        plan=plan,
        instrument_fingerprint=instrument.fingerprint,
        frames_done=record["frames_done"],
        complete=record["complete"],
        seconds=seconds,
    )


class Collector:
    """Keeps what `reconstruct` told of, for the case that it is stopped or fails."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.found: list[Localizations] = []
        self.frames_done = 0
        self._started = time.perf_counter()

    def take(self, progress: Progress) -> None:
        """Keep a step's batch of molecules, if it brings one."""
        if isinstance(progress.preview, Localizations):
            self.add(progress.preview, progress.done)

    def add(self, batch: Localizations, frames_done: int) -> None:
        """Keep a batch of molecules, after which so many frames are done."""
        self.found.append(batch)
        self.frames_done = frames_done

    def partial(self, reason: str) -> Reconstruction | None:
        """Join what came so far, marked as incomplete with the reason among its notes; None when nothing came."""
        if not self.found:
            return None
        seconds = time.perf_counter() - self._started
        record = {"seconds": round(seconds, 3), "complete": False, "frames_done": self.frames_done, "notes": [reason]}
        return reconstruction(self.asked, self.found, seconds, record)
