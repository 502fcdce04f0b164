"""The patterns of an illumination as images, and illuminations made to order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...domain.illumination import Geometry, Illumination, Orientation, Wave

HEXAGONAL_TURN_RAD = 2 * math.pi / 3


def pattern_images(illumination: Illumination, y_um: Tensor, x_um: Tensor) -> Tensor:
    """Patterns (a, p, y, x) at places counted from the centre of the field; see `domain.illumination` for the equation."""
    orientations = []
    for orientation in illumination.orientations:
        frames = []
        for delta in orientation.steps_rad:
            light = torch.ones((len(y_um), len(x_um)), dtype=y_um.dtype, device=y_um.device)
            for wave in orientation.waves:
                ky, kx = wave.frequency_yx_per_um
                angle = 2 * math.pi * (ky * y_um[:, None] + kx * x_um[None, :]) + wave.phase_rad + wave.step * delta
                light = light + wave.modulation * torch.cos(angle)
            frames.append(light)
        orientations.append(torch.stack(frames))
    return torch.stack(orientations)


def axial_frequency(lateral_per_um: float, medium_per_um: float) -> float:
    """Axial frequency of a beam along z against one whose wave vector has this lateral part.

    medium_per_um : refractive index over wavelength.
    """
    return medium_per_um - math.sqrt(max(medium_per_um**2 - lateral_per_um**2, 0.0))


def standing_waves(illumination: Illumination, medium_per_um: float, focus_um: float = 0.0) -> Illumination:
    """The same patterns, standing along z as three beams make them where the geometry says so.

    Parameters
    ----------
    medium_per_um : refractive index over the wavelength of excitation. focus_um : where along z they are strongest, from the focal plane.
    """
    orientations = []
    for orientation in illumination.orientations:
        waves = []
        for wave, stands in zip(orientation.waves, illumination.geometry.standing, strict=True):
            axial = axial_frequency(wave.frequency_per_um, medium_per_um) if stands else 0.0
            waves.append(wave.model_copy(update={"axial_per_um": axial, "axial_phase_rad": -2 * math.pi * axial * focus_um}))
        orientations.append(orientation.model_copy(update={"waves": tuple(waves)}))
    return illumination.model_copy(update={"orientations": tuple(orientations)})


def centred_places(count: int, step_um: float, like: Tensor) -> Tensor:
    """Places of samples, counted from the centre of the field at (count - 1) / 2."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) - (count - 1) / 2) * step_um


def nominal_illumination(geometry: Geometry, finest_per_um: float, angle_rad: float, modulation: float) -> Illumination:
    """Evenly turned orientations with equal steps and all phases 0."""
    steps = tuple(2 * math.pi * n / geometry.phases for n in range(geometry.phases))
    top = max(map(abs, geometry.wave_steps))
    orientations = []
    for a in range(geometry.orientations):
        waves = []
        for w, step in enumerate(geometry.wave_steps):
            angle = angle_rad + (w * HEXAGONAL_TURN_RAD if geometry.hexagonal else a * math.pi / geometry.orientations)
            length = finest_per_um if geometry.hexagonal else finest_per_um * step / top
            vector = (length * math.sin(angle), length * math.cos(angle))
            waves.append(Wave(frequency_yx_per_um=vector, modulation=modulation, phase_rad=0.0, step=step))
        orientations.append(Orientation(waves=tuple(waves), steps_rad=steps))
    return Illumination(geometry=geometry, orientations=tuple(orientations))


def with_phases(illumination: Illumination, phase_rad_a: Sequence[float], errors_rad_ap: Sequence[Sequence[float]]) -> Illumination:
    """The same patterns, moved by a phase per orientation and with errors of the steps; the first error of each counts as a phase."""
    changed = []
    for orientation, phase, errors in zip(illumination.orientations, phase_rad_a, errors_rad_ap, strict=True):
        steps = tuple(step + error - errors[0] for step, error in zip(orientation.steps_rad, errors, strict=True))
        waves = tuple(
            wave.model_copy(update={"phase_rad": math.remainder(wave.step * (phase + errors[0]), 2 * math.pi)})
            for wave in orientation.waves
        )
        changed.append(Orientation(waves=waves, steps_rad=steps))
    return Illumination(geometry=illumination.geometry, orientations=tuple(changed))
