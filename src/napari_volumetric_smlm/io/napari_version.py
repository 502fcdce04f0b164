"""Whether the installed napari and its window library can work; nothing of them is imported."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

OLDEST_NAPARI = (0, 9)


def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def napari_problem() -> str:
    """Say why the window cannot work with the installed napari; empty when it can."""
    oldest = ".".join(map(str, OLDEST_NAPARI))
    wish = f"{oldest} or newer is needed for the window: pip install --upgrade 'napari>={oldest}'"
    found = version_of("napari")
    if found is None:
        return f"napari is not installed; {wish} PySide6-Essentials. The command line and Python work without it"
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    return f"napari {found} is installed; {wish}" if numbers < OLDEST_NAPARI else ""


def binding_warning() -> str:
    """Say what is wrong with the installed Qt binding; empty when nothing is known.

    PySide6 6.12.0 gives away a reference to None with each call that returns nothing. From Python 3.12 on None is immortal;
    before, the process ends with "deallocating None" after some thousands of calls. 6.11.3 is sound.
    """
    found = version_of("PySide6-Essentials")
    if found is not None and found.startswith("6.12.0") and sys.version_info < (3, 12):
        return (
            f"PySide6 {found} with Python {sys.version_info[0]}.{sys.version_info[1]} will end napari without a word sooner or later: "
            "pip install 'PySide6-Essentials==6.11.3' 'shiboken6==6.11.3', or use Python 3.12 or newer"
        )
    return ""
