"""Sample data hooks and example instruments: everything travels with the package, nothing is downloaded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def example_instruments() -> dict[str, Path]:
    """Return the instruments that come with the package, by name."""
    folder = Path(str(resources.files("napari_volumetric_smlm") / "resources" / "instruments"))
    return {path.stem.replace("-", " ").replace("_", " "): path for path in sorted(folder.glob("*.json"))}
