"""Whether the installed napari and its window library can work; nothing of them is imported."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

OLDEST_NAPARI = (0, 9)


def napari_problem() -> str:
    """Say why the window cannot work with the installed napari; empty when it can."""
    wish = "0.9 or newer is needed: pip install --upgrade 'napari>=0.9'"
    try:
        found = version("napari")
    except PackageNotFoundError:
        return f"napari is not installed; {wish} PySide6-Essentials"
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    return f"napari {found} is installed; {wish}" if numbers < OLDEST_NAPARI else ""


def binding_warning() -> str:
    """Say what is wrong with the installed Qt binding; empty when nothing is known.

    PySide6 6.12.0 gives away a reference to None with each call that returns nothing. From Python 3.12 on None is immortal;
    before, the process ends with "deallocating None" after some thousands of calls. 6.11.3 is sound.
    """
    try:
        found = version("PySide6-Essentials")
    except PackageNotFoundError:
        return ""
    if found.startswith("6.12.0") and sys.version_info < (3, 12):
        return (
            f"PySide6 {found} with Python {sys.version_info[0]}.{sys.version_info[1]} will end napari without a word sooner or later: "
            "pip install 'PySide6-Essentials==6.11.3' 'shiboken6==6.11.3', or use Python 3.12 or newer"
        )
    return ""
