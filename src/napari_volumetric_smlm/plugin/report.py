"""The log of a session, and a report about computer and versions to paste into a bug report."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
import traceback
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from .. import __version__

KEPT_LINES = 2000
LARGEST_LOG_BYTES = 1_000_000
PACKAGES = (
    "napari",
    "npe2",
    "magicgui",
    "qtpy",
    "PySide6-Essentials",
    "PySide6",
    "PyQt6",
    "torch",
    "numpy",
    "scipy",
    "pydantic",
    "tifffile",
)


class Log(QObject):
    """Lines with the time of day, kept in memory and, where the disk allows it, in a file."""

    added = Signal(str)

    def __init__(self, path: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.lines: list[str] = []
        self.path = path

    def add(self, text: str) -> None:
        """Add a line (or several, of one event)."""
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        self.lines = [*self.lines[-KEPT_LINES:], line]
        # a log that cannot be written must not stop the work
        with contextlib.suppress(OSError):
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                too_long = self.path.exists() and self.path.stat().st_size > LARGEST_LOG_BYTES
                with self.path.open("w" if too_long else "a", encoding="utf-8") as stream:
                    stream.write(time.strftime("%Y-%m-%d ") + line + "\n")
        self.added.emit(line)

    def add_error(self, error: BaseException) -> str:
        """Add an error with its traceback; return the traceback."""
        details = "".join(traceback.format_exception(error))
        self.add(details.rstrip())
        return details


def computer() -> list[str]:
    """Return versions and devices, one a line. torch is asked about its devices only where it is loaded already."""
    lines = [
        f"napari-volumetric-smlm {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"{os.cpu_count()} processors",
    ]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name} {importlib.metadata.version(name)}")
    return [*lines, f"computing on {device_words()}"]


def device_words() -> str:
    """Say what torch computes on, with free memory; without loading torch."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):
        return "not known yet (the engine is loaded by the first job)"
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"{torch.cuda.get_device_name()}: {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"CPU with {torch.get_num_threads()} threads"


def report(log: Log, facts: list[str]) -> str:
    """Return what a bug report needs: versions, facts about the session, the last lines of the log."""
    return "\n".join([*computer(), "", *facts, "", "Log:", *log.lines[-200:]]) + "\n"
