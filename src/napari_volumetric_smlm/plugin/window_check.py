"""Say as JSON what Qt and OpenGL are; run by `vsmlm doctor` in a process of its own, because Qt ends a process that has no display."""

from __future__ import annotations

import json
import sys


def look() -> dict[str, str]:
    """Open an OpenGL context without a window and ask it."""
    from qtpy import API_NAME, QT_VERSION
    from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    found = {"binding": str(API_NAME), "qt": str(QT_VERSION), "platform": str(application.platformName())}
    context, surface = QOpenGLContext(), QOffscreenSurface()
    surface.create()
    if not context.create() or not context.makeCurrent(surface):
        return found | {"opengl": ""}
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    names = [glGetString(which) or b"" for which in (GL_VERSION, GL_RENDERER)]
    context.doneCurrent()
    return found | {"opengl": names[0].decode(errors="replace"), "renderer": names[1].decode(errors="replace")}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look()) + "\n")
