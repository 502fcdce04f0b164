"""Files that travel with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..domain.instrument import Instrument
from ..errors import InstrumentError
from .instruments import load_instrument


def example_instruments() -> dict[str, Path]:
    """Return the instruments that come with the package: name to path."""
    folder = Path(str(resources.files("napari_volumetric_smlm") / "resources" / "instruments"))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def load_example(name: str) -> Instrument:
    """Read an instrument that comes with the package.

    Raises
    ------
    InstrumentError
        If there is none of this name; the others are named.
    """
    known = example_instruments()
    if name not in known:
        raise InstrumentError(f"no example instrument is called {name!r}; there are {', '.join(known)}")
    return load_instrument(known[name])
