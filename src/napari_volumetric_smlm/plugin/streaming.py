"""Results that stream in during a job: count, circles of the current frame, a picture that grows."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal

from ..domain.images import RawStack
from .jobs import RESTART
from .live import LivePicture, StreamedTable
from .overlay import Overlay
from .workers import Tick

# a growing picture is redrawn at most this often; the circles follow at each tick
PICTURE_SECONDS = 1.0
GROWING = "Super-resolved picture (growing)"


class Stream(QObject):
    """Takes the batches of a running job. counted : number of molecules so far."""

    counted = Signal(int)

    def __init__(self, overlay: Overlay) -> None:
        super().__init__(overlay)
        self.overlay = overlay
        self.stack: RawStack | None = None
        self.live: LivePicture | None = None
        self.layer: Any = None
        self._drawn_at = 0.0

    def begin(self, stack: RawStack) -> None:
        """Start anew."""
        self.stack = stack
        rows, columns = stack.counts_tyx[0].shape[1:]
        pixel_nm = self.overlay.pixel_nm
        self.overlay.session.streamed = StreamedTable()
        self.live = LivePicture((-pixel_nm / 2,) * 2, ((rows - 0.5) * pixel_nm, (columns - 0.5) * pixel_nm))
        self.layer = None
        self.overlay.forget_preview()

    def take(self, tick: Tick, seconds: float, picture_visible: bool) -> None:
        """Add what came with a tick, `seconds` after the start of the job."""
        if tick.progress.stage == RESTART and self.stack is not None:
            self.begin(self.stack)
        streamed = self.overlay.session.streamed
        if streamed is None or self.live is None or not tick.previews:
            return
        here = False
        for batch in tick.previews:
            streamed.add(batch)
            self.live.add(batch)
            here = here or bool((batch["frame"] == self.overlay.frame).any())
        if here:
            self.overlay.refresh()
        self.counted.emit(streamed.count)
        if self.layer is None:
            self.layer = self.overlay.show_picture(self.live.volume, name=GROWING)
            # the noun keeps a copy; the layer shall show the array that grows
            self.layer.data = self.live.counts_yx
            self.layer.visible = picture_visible
            self._drawn_at = seconds
        elif seconds - self._drawn_at >= PICTURE_SECONDS:
            self._drawn_at = seconds
            self.overlay.grow_picture(self.layer, self.live.counts_yx)

    def end(self) -> bool:
        """Forget what came; return whether something came."""
        streamed = self.overlay.session.streamed
        self.overlay.session.streamed = None
        if self.layer is not None:
            self.overlay.remove(self.layer)
            self.layer = None
        return streamed is not None and streamed.count > 0
