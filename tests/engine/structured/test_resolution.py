"""Width of beads against theory, with patterns that were found blind."""

from __future__ import annotations

import math

import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES
from napari_volumetric_smlm.domain.structured_plans import StructuredPlan
from napari_volumetric_smlm.engine.structured.estimate import Search, estimate
from napari_volumetric_smlm.engine.structured.otf import ideal_transfer
from napari_volumetric_smlm.engine.structured.pattern import nominal_illumination
from napari_volumetric_smlm.engine.structured.reconstruct import reconstructor
from napari_volumetric_smlm.engine.structured.simulate import FINE, MARGIN_PX, frames_of

SIDE, BEADS, REACH = 128, 60, 12
FREQUENCY = 0.9


def beads(optics, geometry):
    """Frames of beads at the centres of pixels, and where these are."""
    generator = torch.Generator().manual_seed(4)
    sample = torch.zeros((FINE * (SIDE + 2 * MARGIN_PX), FINE * (SIDE + 2 * MARGIN_PX)))
    places = torch.randint(REACH, SIDE - REACH, (BEADS, 2), generator=generator)
    rows, columns = (MARGIN_PX * FINE + FINE * places[:, axis] + FINE // 2 for axis in (0, 1))
    sample[rows, columns] = 1.0
    pattern = nominal_illumination(GEOMETRIES[geometry], FREQUENCY * optics.transfer.cutoff_per_um, 0.3, 0.5)
    mean = 2000 * frames_of(sample, pattern, optics) + 2
    return torch.poisson(mean, generator=generator) - 2, places


def full_width(profile_at):
    """Full width at half maximum of a function of distance in um, of which the value at 0 is the largest."""
    distance = torch.linspace(0, 0.4, 2001)
    profile = profile_at(distance)
    return 2 * float(distance[int((profile < 0.5 * profile[0]).float().argmax())])


def measured_width(image, places, angle):
    """Of the mean bead, along a direction."""
    parts = [image[2 * y - REACH : 2 * y + REACH + 1, 2 * x - REACH : 2 * x + REACH + 1] for y, x in places.tolist()]
    mean = torch.stack(parts).median(0).values
    mean = mean - mean.flatten().quantile(0.2)

    def along(distance):
        steps = distance / (0.0325 * REACH)
        grid = torch.stack([steps * math.cos(angle), steps * math.sin(angle)], -1)[None, None]
        return torch.nn.functional.grid_sample(mean[None, None], grid, mode="bicubic", align_corners=True)[0, 0, 0]

    return full_width(along)


def theoretical_width(cutoff, exponent):
    """Of a lens whose OTF ends at a frequency: Hankel transform of the taper."""
    q = torch.linspace(0, cutoff, 800)
    taper = ideal_transfer(q, cutoff) ** exponent * q
    return full_width(lambda distance: (taper * torch.special.bessel_j0(2 * math.pi * distance[:, None] * q)).sum(1))


@pytest.mark.parametrize("geometry", ["2d-3x3", "2d-3x5", "hexagonal-1x7", "lattice-1x3"])
def test_beads_are_as_wide_as_theory_allows(optics, geometry):
    frames, places = beads(optics, geometry)
    found = estimate(frames, optics, Search(GEOMETRIES[geometry]))
    assert all(found.verdict.passed)
    plan = StructuredPlan(wiener=0.01, attenuation=0.0)
    image = reconstructor(found, optics, (SIDE, SIDE), plan)(frames)
    cutoff = optics.transfer.cutoff_per_um
    theory, native = (theoretical_width(cutoff * (1 + gain), plan.apodization) for gain in (FREQUENCY, 0.0))
    # directions of the waves: there the support reaches farthest
    for orientation in found.orientations:
        wave = orientation.waves[-1]
        width = measured_width(image, places, wave.angle_rad)
        assert width < 1.15 * theory
        if geometry == "lattice-1x3":
            assert measured_width(image, places, wave.angle_rad + math.pi / 2) == pytest.approx(native, rel=0.15)
