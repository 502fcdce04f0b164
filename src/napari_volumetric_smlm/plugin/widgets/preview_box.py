"""The switch for the live preview, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from ...errors import SmlmError
from ..jobs import explain_job
from ..layers import FRAMES, PICTURE
from ..overlay import Overlay
from ..preview import Preview
from ..settings import preferences
from .sections import Words
from .views import ViewBar


class PreviewBox(QWidget):
    """Explains the frame under the slider again whenever something changes, while it is switched on.

    call : returns (stack, instrument, plan) of what Reconstruct would do; may raise SmlmError while something is missing.
    busy : whether the main job runs; then the preview rests.
    """

    def __init__(self, overlay: Overlay, views: ViewBar, call: Callable[[], tuple[Any, Any, Any]], busy: Callable[[], bool]) -> None:
        super().__init__()
        self.overlay, self.views, self.call, self.busy = overlay, views, call, busy
        self.switch = QCheckBox("Live preview of this frame")
        self.switch.setToolTip(
            "<qt>Find the molecules of the current frame again whenever a setting or the frame changes, "
            "with what was found and what is left over as layers.</qt>"
        )
        self.words = Words()
        self.preview = Preview(self._wish, self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.switch)
        layout.addWidget(self.words)
        self.switch.toggled.connect(self._on_switch)
        self.preview.arrived.connect(self._on_arrived)
        self.preview.failed.connect(lambda error: self.words.say(f"⚠ {error}"))
        self.preview.busy_changed.connect(lambda busy: self.words.say("Looking for molecules ..." if busy else ""))
        overlay.frame_changed.connect(self._on_frame)

    def allow(self, allowed: bool) -> None:
        """Whether everything is there that a preview needs; whatever changed, preview again."""
        self.switch.setEnabled(allowed)
        self.preview.ask()

    def _wish(self) -> Any:
        if self.busy() or not self.switch.isEnabled():
            return None
        try:
            stack, instrument, plan = self.call()
        except SmlmError:
            return None
        frame, chosen = self.overlay.frame, preferences()
        return frame, lambda: explain_job(stack, instrument, plan, frame, chosen)

    def _on_switch(self, switched_on: bool) -> None:
        self.preview.enable(switched_on)
        if not switched_on:
            self.words.say("")
            self.overlay.forget_preview()

    def _on_frame(self, frame: int) -> None:
        self.preview.ask()

    def _on_arrived(self, frame: int, explanation: Any) -> None:
        self.overlay.show_preview(explanation)
        if self.views.role == PICTURE:
            self.views.choose(FRAMES)
        else:
            self.overlay.show_only(self.views.role)
        count = len(explanation.localizations)
        self.words.say(f"{count} molecule{'' if count == 1 else 's'} in frame {explanation.frame} with these settings")
