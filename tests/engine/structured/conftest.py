"""One toy microscope with structured illumination: water-like NA 1.3, 525 nm light, 65 nm pixels, filaments in focus."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Illumination
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective
from napari_volumetric_smlm.engine.structured.estimate import Optics
from napari_volumetric_smlm.engine.structured.otf import transfer_of
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination, with_phases
from napari_volumetric_smlm.engine.structured.simulate import frames_of, sample_image

PIXEL_UM = 0.065


@dataclasses.dataclass
class Raw:
    """Frames without offset, what is truly in them, and the finest frequency step."""

    frames: torch.Tensor
    illumination: Illumination
    optics: Optics
    sample: torch.Tensor

    @property
    def step_per_um(self):
        return 1 / (self.frames.shape[-1] * PIXEL_UM)


@pytest.fixture(scope="session")
def lens():
    return Instrument(
        objective=Objective(numerical_aperture=1.3, magnification=100, immersion_index=1.518),
        cameras=(Camera(pixel_um=100 * PIXEL_UM),),
        emission_nm=525,
        sample_index=1.518,
        apodization="none",
        depth_range_nm=(-500, 500),
    )


@pytest.fixture(scope="session")
def optics(lens):
    return Optics(transfer_of(lens), PIXEL_UM)


@pytest.fixture(scope="session")
def record(optics):
    """Return a maker of raw frames with Poisson and read noise."""

    def make(geometry="2d-3x3", frequency=0.9, modulation=0.6, photons=200.0, shape=(128, 128), step_error=0.0, seed=0):
        generator, dice = torch.Generator().manual_seed(seed), random.Random(seed)
        sample = sample_image(400.0, "filaments", (shape, PIXEL_UM), generator)
        known = GEOMETRIES[geometry]
        nominal = nominal_illumination(known, frequency * optics.transfer.cutoff_per_um, 0.3, modulation)
        phases = [dice.uniform(-3, 3) for _ in range(known.orientations)]
        errors = [[dice.gauss(0, step_error) for _ in range(known.phases)] for _ in range(known.orientations)]
        illumination = with_phases(nominal, phases, errors)
        mean = photons * frames_of(sample, illumination, optics) + 5
        frames = torch.poisson(mean, generator=generator) + torch.randn(mean.shape, generator=generator) - 5
        return Raw(frames, illumination, optics, sample)

    return make
