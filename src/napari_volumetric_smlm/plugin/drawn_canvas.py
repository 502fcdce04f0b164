"""Two viewers in one program: OpenGL must look at the canvas of the one whose layers go.

When a layer goes, napari sends the rest of its drawing to OpenGL at once, whichever window was painted last (napari 0.9,
`_vispy.canvas`). In the other window's context these commands name objects that do not exist, and drawing fails from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# before a layer goes, and before many change
SIGNALS = ("removing", "begin_batch")


def keep_canvas(viewer: Any) -> Callable[[], None]:
    """Bring a viewer's canvas to OpenGL before its layers go; call what is returned to leave off."""

    def look_here() -> None:
        # a viewer without a window, or whose window is going, draws nothing
        window = getattr(getattr(viewer, "window", None), "_qt_viewer", None)
        if window is not None:
            window.canvas._scene_canvas.set_current()

    signals = [getattr(viewer.layers.events, name) for name in SIGNALS]
    for signal in signals:
        signal.connect(look_here, position="first")

    def leave_off() -> None:
        for signal in signals:
            signal.disconnect(look_here)

    return leave_off
