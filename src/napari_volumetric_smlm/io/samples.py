"""Sample data that travel with the package: small simulated stacks, each with a note that says what it is, most with their truth.

Made by docs/make_samples.py; opening them needs neither a network nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..errors import StackError
from .instruments import load_instrument
from .stacks import open_stack
from .tables import read_table


@dataclass(frozen=True)
class Sample:
    """One sample: a sentence for the user, one file a camera, and the names of its instrument and of its truth (beads have none)."""

    sentence: str
    files: tuple[str, ...]
    instrument: str
    truth: str | None = None


SAMPLES: dict[str, Sample] = {
    "tetrapod_beads": Sample(
        "Bead stack of a Tetrapod microscope (41 slices, 100 nm apart), to calibrate the design in the list of instruments",
        ("tetrapod_beads.tif",),
        "../instruments/tetrapod.json",
    ),
    "tetrapod": Sample(
        "Tetrapod movie of the same microscope: filaments over 4 um of depth, about 10 molecules a frame",
        ("tetrapod.tif",),
        "tetrapod_microscope.json",
        "tetrapod_truth.csv",
    ),
    "astigmatic": Sample(
        "Astigmatic movie on an EMCCD camera: filaments over 0.9 um of depth, about 30 molecules a frame",
        ("astigmatic.tif",),
        "../instruments/astigmatic.json",
        "astigmatic_truth.csv",
    ),
    "biplane": Sample(
        "Biplane movie on two cameras: shells over 1 um of depth, about 18 molecules a frame",
        ("biplane_camera1.tif", "biplane_camera2.tif"),
        "../instruments/biplane.json",
        "biplane_truth.csv",
    ),
    "light_field": Sample(
        "Fourier light-field movie through three lenses: filaments over 4 um of depth, about 14 molecules a frame",
        ("light_field.tif",),
        "light_field_microscope.json",
        "light_field_truth.csv",
    ),
    "structured": Sample(
        "Raw frames of structured illumination: filaments under stripes in 3 directions x 3 phases, to find the patterns and reconstruct",
        ("structured.tif",),
        "structured_microscope.json",
    ),
}


def sample_paths(name: str) -> tuple[Path, ...]:
    """Return the files of a sample, one a camera.

    Raises
    ------
    StackError
        If there is no such sample; the others are named.
    """
    return tuple(_folder() / file for file in _sample(name).files)


def open_sample(name: str) -> RawStack:
    """Open the stack of a sample, lazily; as `sample_paths`."""
    return open_stack(sample_paths(name))


def sample_instrument(name: str) -> Instrument:
    """Return the instrument of a sample: for movies the one that took them, for beads the design that they are to calibrate."""
    return load_instrument((_folder() / _sample(name).instrument).resolve())


def sample_truth(name: str) -> Localizations | None:
    """Return the molecules that are truly in a sample, or None where it has none (beads)."""
    truth = _sample(name).truth
    return None if truth is None else read_table(_folder() / truth)


def _sample(name: str) -> Sample:
    if name not in SAMPLES:
        raise StackError(f"no sample is called {name!r}; there are {', '.join(SAMPLES)}")
    return SAMPLES[name]


def _folder() -> Path:
    return Path(str(resources.files("napari_volumetric_smlm") / "resources" / "samples"))
