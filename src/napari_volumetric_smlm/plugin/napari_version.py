"""Whether the installed napari is new enough; nothing of it is imported."""

from __future__ import annotations

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
