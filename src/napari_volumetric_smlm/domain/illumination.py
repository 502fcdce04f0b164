"""Structured illumination: P patterns of light on the same sample.

One orientation of the pattern is recorded in N frames n, between which the pattern moves. Over the sample it is a sum of waves w:

    I_n(r) = 1 + sum_w m_w cos(2 pi k_w (r - r_c) + phi_w + step_w delta_n)

r_c is the centre of the field, ((rows - 1) / 2, (columns - 1) / 2) pixels, where an error of k does not leak into the phase.
In three dimensions the first order of three beams stands along z as well, where z is counted from the focal plane into the sample: its
term has the factor cos(2 pi a_w z + theta_w).
Wave vectors are in cycles per micrometre; angles run from +x towards +y of the array, in which row numbers grow downwards.
The sign of k is a convention: k, phi and delta with the opposite sign make the same pattern.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from .images import RawStack
from .noun import Array, Noun

Colour = Literal["green", "amber", "red"]


class Geometry(Noun):
    """How many frames a reconstruction takes and which waves their patterns have.

    wave_steps : turns that each wave's phase makes while n runs over its frames; (1,) = two beams, (1, 2) = three beams.
    hexagonal : the waves are three crossing ones instead of the orders of one line pattern.
    axial : the pattern is structured along z as well, and a stack of planes is reconstructed as a volume.
    """

    orientations: PositiveInt
    phases: int = Field(ge=3)
    wave_steps: tuple[int, ...] = Field(min_length=1)
    hexagonal: bool = False
    axial: bool = False

    @model_validator(mode="after")
    def _waves_can_be_told_apart(self) -> Geometry:
        # frames see a step only modulo their number: every band needs its own remainder
        remainders = [step * sign % self.phases for step in self.wave_steps for sign in (1, -1)]
        if len({0, *remainders}) < 2 * len(self.wave_steps) + 1:
            raise ValueError(
                f"{self.phases} phases cannot separate waves of {self.wave_steps} steps: "
                f"{2 * len(self.wave_steps) + 1} bands need as many different phases; record more phases or use fewer orders"
            )
        return self

    @property
    def frame_count(self) -> int:
        """Frames of one plane at one time."""
        return self.orientations * self.phases

    @property
    def standing(self) -> tuple[bool, ...]:
        """Which waves stand along z: of three beams those of odd steps, where the central beam meets an outer one."""
        return tuple(self.axial and step % 2 == 1 for step in self.wave_steps)


GEOMETRIES: dict[str, Geometry] = {
    "2d-3x3": Geometry(orientations=3, phases=3, wave_steps=(1,)),
    "2d-3x5": Geometry(orientations=3, phases=5, wave_steps=(1, 2)),
    "2d-5x5": Geometry(orientations=5, phases=5, wave_steps=(1, 2)),
    "3d-3x5": Geometry(orientations=3, phases=5, wave_steps=(1, 2), axial=True),
    "hexagonal-1x7": Geometry(orientations=1, phases=7, wave_steps=(1, 2, -3), hexagonal=True),
    "lattice-1x3": Geometry(orientations=1, phases=3, wave_steps=(1,)),
    "lattice-1x5": Geometry(orientations=1, phases=5, wave_steps=(1, 2)),
}


class RadialOTF(Noun):
    """An optical transfer function that is the same in all directions: value k belongs to frequency k * step_per_um; beyond the last, 0."""

    values: Array
    step_per_um: PositiveFloat
    source: str = ""

    @field_validator("values")
    @classmethod
    def _falls_from_one(cls, value: NDArray[Any]) -> NDArray[Any]:
        if value.ndim != 1 or len(value) < 4:
            raise ValueError(f"a radial OTF is a row of at least 4 values; found shape {value.shape}")
        first, largest = float(value[0]), float(value.max())
        if not 0.99 <= first <= 1.01 or largest > 1.01:
            raise ValueError(
                f"an OTF is 1 at frequency 0 and nowhere larger; found {first:g} there and {largest:g} as the largest: "
                "divide all by the first"
            )
        return value

    @property
    def cutoff_per_um(self) -> float:
        """Frequency from which on no value exceeds a thousandth."""
        return float(np.flatnonzero(self.values > 1e-3)[-1] + 1) * self.step_per_um


class Evidence(Noun):
    """What speaks for a wave that was found.

    z_score : correlation of the separated bands over its standard deviation by chance, sqrt(2 |N|^2 / var N).
    rival_z_score : the largest one elsewhere.
    correlation : normalised overlap correlation of the bands, 0 to 1.
    sigma_frequency_per_um, sigma_phase_rad, sigma_modulation : standard errors.
    modulation_to_noise : amplitude of the pattern over the noise of a frame, root mean square, both in the raw frames.
    """

    z_score: NonNegativeFloat
    rival_z_score: NonNegativeFloat
    correlation: NonNegativeFloat
    sigma_frequency_per_um: NonNegativeFloat
    sigma_phase_rad: NonNegativeFloat
    sigma_modulation: NonNegativeFloat
    modulation_to_noise: NonNegativeFloat


class Wave(Noun):
    """One wave of a pattern.

    phase_rad : at the centre of the field in the first frame. step : turns of its phase over the frames. evidence : None = was given.
    axial_per_um, axial_phase_rad : frequency along z, 0 where the wave is the same in all depths, and its phase in the focal plane.
    """

    frequency_yx_per_um: tuple[float, float]
    modulation: float = Field(ge=0, le=2)
    phase_rad: float
    step: int = 1
    axial_per_um: NonNegativeFloat = 0.0
    axial_phase_rad: float = 0.0
    evidence: Evidence | None = None

    @property
    def frequency_per_um(self) -> float:
        """Length of the wave vector."""
        return math.hypot(*self.frequency_yx_per_um)

    @property
    def period_nm(self) -> float:
        """Distance of two crests."""
        return 1000 / self.frequency_per_um

    @property
    def angle_rad(self) -> float:
        """Direction of the wave vector, from +x towards +y of the array."""
        return math.atan2(*self.frequency_yx_per_um)


class Orientation(Noun):
    """Waves that move together. steps_rad : delta of each frame, the first one 0; nominally 2 pi n / N."""

    waves: tuple[Wave, ...] = Field(min_length=1)
    steps_rad: tuple[float, ...] = Field(min_length=3)

    @property
    def step_deviation_rad(self) -> float:
        """Largest distance of a step from the nominal one."""
        count = len(self.steps_rad)
        return max(abs(math.remainder(step - 2 * math.pi * n / count, 2 * math.pi)) for n, step in enumerate(self.steps_rad))


class Verdict(Noun):
    """Whether found patterns can be trusted, why, and what to do. passed : orientations that can be used, one flag each."""

    colour: Colour
    words: str
    passed: tuple[bool, ...]


class Illumination(Noun):
    """All patterns of an acquisition."""

    schema_version: Literal["vsmlm-illumination-1"] = "vsmlm-illumination-1"
    geometry: Geometry
    orientations: tuple[Orientation, ...]
    verdict: Verdict | None = None

    @model_validator(mode="after")
    def _fits_its_geometry(self) -> Illumination:
        if len(self.orientations) != self.geometry.orientations:
            raise ValueError(f"{len(self.orientations)} orientations were given, the geometry has {self.geometry.orientations}")
        for number, orientation in enumerate(self.orientations):
            if len(orientation.steps_rad) != self.geometry.phases:
                raise ValueError(
                    f"orientation {number} has {len(orientation.steps_rad)} phase steps, the geometry {self.geometry.phases} phases"
                )
            steps = tuple(wave.step for wave in orientation.waves)
            if steps != self.geometry.wave_steps:
                raise ValueError(f"orientation {number} has waves of steps {steps}, the geometry {self.geometry.wave_steps}")
        return self


class StructuredEstimate(Noun):
    """What blind estimation found.

    order : of the frames, slowest first; order_scores : evidence of each order that was tried.
    power_ayx : decadic logarithm of the frames' power spectra. overlap_byx : score of every band of every orientation at each trial wave
    vector. Frequency zero stands at n // 2 in both, and step_yx_per_um is the distance of their samples.
    """

    illumination: Illumination
    power_ayx: Array | None = None
    overlap_byx: Array | None = None
    step_yx_per_um: tuple[PositiveFloat, PositiveFloat] | None = None
    order: str
    order_scores: dict[str, float] = Field(default_factory=dict)
    order_is_sure: bool = True
    notes: tuple[str, ...] = ()
    seconds: NonNegativeFloat = 0.0


class StructuredSimulation(Noun):
    """A simulated raw stack, its patterns, and the sample (emitters per pixel, three pixels for each of the camera's).

    sample_zyx : its layers at the recorded planes, where there are several; sample_yx is then the sum of all, those beyond them as well.
    """

    stack: RawStack
    illumination: Illumination
    sample_yx: Array
    sample_zyx: Array | None = None


class StructuredImages(Noun):
    """Reconstructed images (t, y, x) beside the wide-field images of the same frames on the same grid.

    Pixel (0, 0) has its centre at origin_yx_nm, in the coordinates of the raw frames. Brightness is that of the raw frames; a volume has
    in all its planes together the light of one raw image.
    planes : images of one time, which follow each other. plane_nm : their distance, where they make a volume.
    section_tyx, pseudo_confocal_tyx : optical sections of the same frames without reconstruction, where they were asked for.
    """

    images_tyx: Array
    wide_field_tyx: Array
    section_tyx: Array | None = None
    pseudo_confocal_tyx: Array | None = None
    pixel_nm: PositiveFloat
    planes: PositiveInt = 1
    plane_nm: PositiveFloat | None = None
    origin_yx_nm: tuple[float, float] = (0.0, 0.0)
    illumination: Illumination
    notes: tuple[str, ...] = ()
    seconds: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _have_the_same_shape(self) -> StructuredImages:
        if self.images_tyx.ndim != 3 or np.shape(self.images_tyx) != np.shape(self.wide_field_tyx):
            raise ValueError(f"images (t, y, x) of one shape are expected; found {self.images_tyx.shape} and {self.wide_field_tyx.shape}")
        if len(self.images_tyx) % self.planes:
            raise ValueError(f"{len(self.images_tyx)} images are not a multiple of {self.planes} planes")
        return self

    def by_volume(self, values_tyx: NDArray[Any]) -> NDArray[Any]:
        """Images of one kind as (t, z, y, x)."""
        return np.asarray(values_tyx).reshape(-1, self.planes, *values_tyx.shape[-2:])
