"""Bead stacks for `calibration.py` and `axial.py`: those named on the command line, or the public ones where they are present."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.io.instruments import load_instrument
from napari_volumetric_smlm.io.stacks import open_stack

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared/data/engineered_psf"
NAMES = ("tetrapod", "edof", "crlb1", "learned1", "learned2")


@dataclass(frozen=True)
class BeadFile:
    """A stack, its instrument and signed z step; `barred` when the bars of these benchmarks hold for it."""

    name: str
    stack: RawStack
    instrument: Instrument
    z_step_nm: float
    barred: bool = True

    @property
    def counts(self) -> np.ndarray:
        """All slices as floating point."""
        return np.asarray(self.stack.counts_tyx[0][:]).astype(np.float32)


def add_bead_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name stacks."""
    parser.add_argument("--beads", nargs="+", type=Path, metavar="FILE", help="bead stacks; default: the public ones")
    parser.add_argument("--z-step-nm", type=float, default=100.0, help="signed step of the focal plane in nm")
    parser.add_argument("--instrument", type=Path, default=HERE / "instruments/phase_mask_pairs.json", help="nominal instrument (JSON)")


def bead_files(args: argparse.Namespace, with_measured_psfs: bool = False) -> list[BeadFile]:
    """Open the stacks that the options name; says which of the public ones are absent."""
    instrument = load_instrument(args.instrument)
    if args.beads:
        return [BeadFile(path.stem, open_stack(path, kind="beads"), instrument, args.z_step_nm) for path in args.beads]
    found = []
    for name in NAMES:
        path = DATA / f"telomeres_psf_pairs/beads/{name}.tif"
        if path.is_file():
            found.append(BeadFile(name, open_stack(path, kind="beads"), instrument, args.z_step_nm))
        else:
            print(f"skipped: {name}, {path.name} is not beside this checkout")
    for name in ("astigmatic", "two_lobed") if with_measured_psfs else ():
        path = DATA / f"real_psfs/{name}.tif"
        if path.is_file():
            optics = load_instrument(HERE / "instruments/measured_psfs.json")
            found.append(BeadFile(name, squared(open_stack(path, kind="beads")), optics, 50.0, barred=False))
        else:
            print(f"skipped: {name}, {path.name} is not beside this checkout")
    return found


def squared(stack: RawStack) -> RawStack:
    """Resample the columns of the measured PSFs from 74 to 72 nm, the step of their rows; they are smooth, so a spline does it."""
    counts = np.asarray(stack.counts_tyx[0][:]).astype(float)
    size = counts.shape[2]
    place = size // 2 + (np.arange(size) - size // 2) * 72.0 / 74.0
    rows, columns = np.meshgrid(np.arange(counts.shape[1]), place, indexing="ij")
    images = np.stack([ndimage.map_coordinates(image, [rows, columns], order=3) for image in counts]).astype(np.float32)
    return RawStack(counts_tyx=(images,), kind="beads", source=stack.source)
