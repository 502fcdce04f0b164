"""Live inspection: the volume of the frame that the slider stands at, with its molecules; the newest wish wins."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from qtpy.QtCore import Signal

from ..domain.images import Volume
from ..domain.molecules import Localizations
from ..domain.volume_plans import InspectionPlan
from ..errors import SmlmError
from .drawn_canvas import keep_canvas
from .own_layers import OwnLayers
from .preview import Preview
from .session import Session
from .settings import preferences
from .volume_jobs import FrameVolume, VolumeCache, VolumeQuestion, volumes_job
from .volume_layers import Slot, lay_underneath, pixels_to_nm
from .volume_window import VolumeWindow
from .workers import Tick

# a volume takes longer than most people stay on a frame that they only pass
PAUSE_MS = 80


class Wishes(Protocol):
    """What the user wants to see; the widget's forms say it."""

    def inspection(self) -> InspectionPlan:
        """What is shown. Raises SmlmError while a form is wrong."""
        ...

    def questions(self, frames: tuple[int, ...]) -> list[VolumeQuestion]:
        """A question for every method and frame. Raises SmlmError while something is missing."""
        ...

    def molecules(self, first: int, last: int) -> Localizations:
        """Molecules of frames as far as they are known."""
        ...

    def underneath(self) -> Any:
        """An image layer to show below, or None."""
        ...


class LiveVolumes(OwnLayers):
    """Follows the frame slider while it is switched on. said : a sentence about what is going on. closed : the user closed the window."""

    said = Signal(str)
    closed = Signal()

    def __init__(self, session: Session, wishes: Wishes) -> None:
        super().__init__(session)
        self.wishes = wishes
        self.cache = VolumeCache()
        self.window = VolumeWindow()
        self.preview = Preview(self._wish, self, PAUSE_MS)
        self.frame = 0
        self.wanted: dict[Slot, VolumeQuestion] = {}
        self._plan = InspectionPlan()
        self._listening = True
        session.viewer.dims.events.current_step.connect(self._on_step)
        self._leave_canvas = keep_canvas(session.viewer)
        self.preview.job.ticked.connect(self._on_tick)
        self.preview.arrived.connect(lambda context, value: self._tell())
        self.preview.failed.connect(self._on_failed)
        self.window.closed.connect(self.closed)
        self.window.frame_asked.connect(self.step_to)

    @property
    def on(self) -> bool:
        """Whether it follows."""
        return self.preview.enabled

    def disconnect_viewer(self) -> None:
        """Stop following and close the window: what it belongs to goes away."""
        self.switch(False)
        self.window.close()
        if self._listening and self.session.viewer is not None:
            self.session.viewer.dims.events.current_step.disconnect(self._on_step)
            self._leave_canvas()
        self._listening = False

    def follow(self, frames: list[Any]) -> None:
        """Belong to these layers from now on."""
        self.frames = frames
        self.frame = self.current_frame()
        self.refresh()

    def switch(self, on: bool) -> None:
        """Begin or end to follow the slider; the window stays as it is in the end."""
        self.preview.enabled = on
        if not on:
            self.preview.cancel()
            self.said.emit("")
            return
        self.frame = self.current_frame()
        # first the job: the window takes a second to open
        self.refresh()
        self.window.open(self.frame, self._count())
        self._show_kept()

    def refresh(self) -> None:
        """Show what is wished for now: at once where it is kept, else when it is made."""
        if not self.on:
            return
        try:
            self._plan = self.wishes.inspection()
            frames = self._plan.frames_at(self.frame, self._count())
            questions = self.wishes.questions(frames)
        except SmlmError as problem:
            self.wanted = {}
            self.preview.cancel()
            self.said.emit(f"⚠ {problem}")
            return
        parity = {frame: frame % 2 if self._plan.two_colors else None for frame in frames}
        self.wanted = {Slot(question.method, parity[question.frame]): question for question in questions}
        if self._missing():
            self.said.emit(f"{self._frames_in_words()}: computing ...")
            self.preview.ask()
        else:
            self.preview.cancel()
        self._show_kept()

    def show_around(self) -> None:
        """Show molecules and what lies underneath, once a volume of this frame is there."""
        volumes, below = self._panels(), self.wishes.underneath()
        if below is None:
            self.window.put_underneath(None)
        if self.window.viewer is None or not volumes or not self.frames:
            return
        for slot in self._empty():
            self.window.darken(slot)
        self._show_molecules(volumes)
        if below is not None:
            self._show_underneath(below, volumes[0])
        low, high = self._depths()
        colors = "" if self._plan.two_colors or not self._plan.molecules else f" · molecules {low:.0f} to {high:.0f} nm, blue to orange"
        self.window.say(f"{self._frames_in_words()}{colors}")

    def _show_kept(self) -> None:
        """Put every volume that is kept into its slot."""
        self.window.keep_only(list(self.wanted))
        if self.window.bar is not None:
            self.window.bar.show_frame(self.frame, self._count())
        for slot, question in self.wanted.items():
            made = self.cache.find(question)
            if made is not None:
                self.window.put(made.volume, slot, self._plan.methods.index(slot.method))
        self.show_around()
        if not self._missing():
            self._tell()

    def _empty(self) -> list[Slot]:
        return [slot for slot, question in self.wanted.items() if self.cache.find(question) is None]

    def _missing(self) -> list[VolumeQuestion]:
        return [self.wanted[slot] for slot in self._empty()]

    def _panels(self) -> list[Volume]:
        """A volume of every method that has made one of this frame, from left to right without a gap."""
        there = {slot.method: made.volume for slot, question in self.wanted.items() if (made := self.cache.find(question)) is not None}
        return [there[method] for method in self._plan.methods[: len(there)] if method in there]

    def _wish(self) -> Any:
        missing = self._missing()
        chosen = preferences()
        return (self.frame, lambda: volumes_job(missing, chosen)) if missing else None

    def _on_tick(self, tick: Tick) -> None:
        made = [part for part in tick.previews if isinstance(part, FrameVolume)]
        for part in made:
            # also one that comes too late: the user may step back to it
            self.cache.keep(part)
        keys = {part.question.key for part in made}
        for slot, question in self.wanted.items():
            found = self.cache.find(question) if question.key in keys else None
            if found is not None:
                self.window.put(found.volume, slot, self._plan.methods.index(slot.method))
        if made:
            self.show_around()
        if self._missing():
            self.said.emit(f"{self._frames_in_words()}: {tick.progress.message or tick.progress.stage} ...")

    def _on_failed(self, error: Exception) -> None:
        self.said.emit(f"⚠ {error}")
        self.session.log.add_error(error)

    def _tell(self) -> None:
        made = [part for question in self.wanted.values() if (part := self.cache.find(question)) is not None]
        times = [f"{part.question.method} {part.seconds:.2f} s" for part in made]
        if times:
            self.said.emit(f"{self._frames_in_words()} · {' · '.join(times)}")

    def _show_molecules(self, volumes: list[Volume]) -> None:
        plan = self._plan
        parities: list[int | None] = [0, 1] if plan.two_colors else [None]
        self.window.keep_molecules(parities if plan.molecules else [])
        if not plan.molecules:
            return
        last = plan.frames_at(self.frame, self._count())[-1]
        table = self.wishes.molecules(max(0, self.frame - plan.molecule_frames + 1), max(last, self.frame))
        for parity in parities:
            shown = table if parity is None else table.select(table["frame"] % 2 == parity)
            self.window.put_molecules(shown.position_zyx_nm, parity, volumes, self._depths())

    def _show_underneath(self, layer: Any, volume: Volume) -> None:
        image = layer.data
        if layer.ndim > 2:
            place = layer.world_to_data(np.asarray(self.session.viewer.dims.point)[-layer.ndim :])
            image = image[int(np.clip(round(float(place[0])), 0, len(image) - 1))]
        pixel_nm = next(iter(self.wanted.values())).instrument.pixel_nm()
        below = volume.origin_zyx_nm[0] - volume.voxel_zyx_nm[0]
        self.window.put_underneath(lay_underneath(np.asarray(image), pixels_to_nm(layer, self.frames[0], pixel_nm), below, layer))

    def _depths(self) -> tuple[float, float]:
        return next(iter(self.wanted.values())).instrument.depth_range_nm

    def _count(self) -> int:
        return int(self.frames[0].data.shape[0]) if self.frames and self.frames[0].ndim > 2 else 1

    def _frames_in_words(self) -> str:
        frames = self._plan.frames_at(self.frame, self._count())
        return f"Frame {frames[0]}" if len(frames) == 1 else f"Frames {frames[0]} and {frames[1]}"

    def _on_step(self, event: Any = None) -> None:
        frame = self.current_frame()
        if frame != self.frame:
            self.frame = frame
            self.refresh()
