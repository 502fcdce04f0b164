"""Files that travel with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..domain.instrument import Instrument
from ..errors import InstrumentError
from .instruments import load_instrument

SHIPPED, START = "shipped", "start"


def example_instruments() -> dict[str, Path]:
    """Return the instruments that come with the package: name to path."""
    return {path.stem: path for path in sorted(_folder("instruments").glob("*.json"))}


def example_models() -> dict[str, Path]:
    """Return the trained models that come with the package, by the name of their example instrument, and the start model."""
    return {path.stem: path for path in sorted(_folder("models").glob("*.safetensors"))}


def start_model_path(word: str) -> str:
    """Return the file of a model to start from: `shipped` stands for the one that comes with the package, all else for itself."""
    return str(_folder("models") / f"{START}.safetensors") if word == SHIPPED else word


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


def _folder(name: str) -> Path:
    return Path(str(resources.files("napari_volumetric_smlm") / "resources" / name))
