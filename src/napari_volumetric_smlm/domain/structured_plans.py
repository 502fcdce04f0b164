"""What a user may choose in structured illumination: estimate patterns, reconstruct, simulate raw stacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .illumination import GEOMETRIES, Geometry
from .images import RawStack
from .instrument import Camera, Instrument, Objective
from .noun import Noun
from .plans import Device

# what a stack's metadata may know of its camera
KNOWN_OF_CAMERAS = ("offset_counts", "saturation_counts")

GeometryName = Literal["2d-3x3", "2d-3x5", "2d-5x5", "3d-3x5", "hexagonal-1x7", "lattice-1x3", "lattice-1x5"]
FrameOrder = Literal["apz", "azp", "paz", "pza", "zap", "zpa"]
ORDERS: tuple[FrameOrder, ...] = ("apz", "azp", "paz", "pza", "zap", "zpa")


# usual wavelength of the laser over that of the emission
USUAL_EXCITATION = 0.93


class Microscope(Noun):
    """An ideal lens of which no more is known than what stands on it; the sample has the index of the immersion."""

    numerical_aperture: float = Field(gt=0, le=2, description="Numerical aperture of the objective, as it stands on it.")
    emission_nm: float = Field(ge=200, le=2000, description="Wavelength of the emitted light (not of the laser).")
    pixel_nm: PositiveFloat = Field(description="Size of a camera pixel in the sample: that of the chip over the magnification.")
    immersion_index: float = Field(1.518, ge=1, le=2, description="Refractive index of the immersion (oil 1.518, water 1.33).")
    offset_counts: float | None = Field(None, description="What the camera writes without light; empty = what the file says, else 0.")

    @model_validator(mode="after")
    def _can_be_built(self) -> Microscope:
        if self.numerical_aperture > self.immersion_index:
            raise ValueError(
                f"numerical aperture {self.numerical_aperture:g} is more than the index of the immersion, {self.immersion_index:g}: "
                "correct one of them"
            )
        return self

    @classmethod
    def of(cls, instrument: Instrument) -> Microscope:
        """What an instrument has of these numbers; its camera's offset stays with it."""
        return cls(
            numerical_aperture=instrument.objective.numerical_aperture,
            emission_nm=instrument.emission_nm,
            pixel_nm=instrument.pixel_nm(),
            immersion_index=instrument.objective.immersion_index,
        )

    def instrument(self, stack: RawStack | None = None) -> Instrument:
        """The same as an instrument, with the camera that the stack knows of."""
        known = dict(stack.metadata.get("camera", {})) if stack is not None else {}
        facts = {name: known[name] for name in KNOWN_OF_CAMERAS if name in known}
        if self.offset_counts is not None:
            facts["offset_counts"] = self.offset_counts
        return Instrument(
            name=f"NA {self.numerical_aperture:g}",
            objective=Objective(numerical_aperture=self.numerical_aperture, magnification=100, immersion_index=self.immersion_index),
            cameras=(Camera(pixel_um=self.pixel_nm * 0.1, **facts),),
            emission_nm=self.emission_nm,
            sample_index=self.immersion_index,
            apodization="none",
            depth_range_nm=(-500, 500),
        )


class FramesPlan(Noun):
    """How the frames of a raw stack are to be understood."""

    geometry: GeometryName = Field(
        "2d-3x3", description="Patterns: dimensions, then orientations x phases (2d-3x3 is usual for TIRF and grazing incidence)."
    )
    orientations: PositiveInt | None = Field(None, le=32, description="Orientations of the pattern; empty = as the geometry says.")
    phases: PositiveInt | None = Field(None, ge=3, le=64, description="Frames per orientation; empty = as the geometry says.")
    order: FrameOrder | None = Field(
        None,
        description="Order of the frames, slowest first (a = orientation, p = phase, z = plane); time is always outside. "
        "Empty = found from the strength of the pattern.",
    )
    planes: PositiveInt = Field(1, description="Planes (z) at each time; 1 with a 3d geometry = all frames are one time.")
    z_step_nm: PositiveFloat | None = Field(None, description="Distance of planes, or step of a tilted stage; empty = what the file says.")
    montage: Literal["none", "ap", "pa"] = Field(
        "none", description="Every image is a mosaic of the frames: rows of orientations (ap), rows of phases (pa), or no mosaic."
    )
    flip_y: bool = Field(False, description="Turn the frames upside down first (TIFF and DeltaVision files differ in this).")
    first_time: int = Field(0, ge=0, description="First time point to use, counted from 0.")
    last_time: int | None = Field(None, ge=0, description="Last time point, counted from 0 and included; empty = to the end.")
    device: Device = Field("auto", description="Where to compute.")

    @property
    def chosen_geometry(self) -> Geometry:
        """The geometry with the user's own counts."""
        known = GEOMETRIES[self.geometry]
        return Geometry(
            orientations=self.orientations or known.orientations,
            phases=self.phases or known.phases,
            wave_steps=known.wave_steps,
            hexagonal=known.hexagonal,
            axial=known.axial,
        )


class EstimatePlan(FramesPlan):
    """How patterns are found."""

    averaged_times: PositiveInt = Field(20, description="Time points whose frames are averaged first; a noisy movie needs many.")
    lowest_frequency: PositiveFloat = Field(0.5, description="Finest wave: lowest frequency to look at, over 2 NA / wavelength.")
    highest_frequency: PositiveFloat = Field(1.35, le=1.9, description="Finest wave: highest frequency to look at, over 2 NA / wavelength.")
    otf_damping: float = Field(
        0.3, gt=0, le=1, description="Loss of contrast at the cut-off beyond the ideal lens; 1 = ideal, 0.3 is common for real ones."
    )
    measure_steps: bool = Field(True, description="Measure each frame's phase step; else steps are equal.")
    excitation_nm: float | None = Field(
        None,
        ge=200,
        le=2000,
        description="Wavelength of the laser, from which the pattern along z of 3d geometries follows; empty = 0.93 of the emission's.",
    )


class StructuredPlan(EstimatePlan):
    """How raw frames become images of twice the resolution."""

    wiener: PositiveFloat | None = Field(
        None, le=10, description="Wiener parameter: larger is smoother, smaller is sharper and noisier; empty = from the noise."
    )
    attenuation: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Strength of the notch at low frequencies of the unmodulated light, against what is out of focus; 0 = none.",
    )
    attenuation_per_um: PositiveFloat = Field(2.0, description="Width of the notch (full width at half maximum) in cycles per micrometre.")
    apodization: NonNegativeFloat = Field(
        0.9, le=3, description="Exponent of the taper towards the highest frequencies; 0 = none (rings), 1 = as a lens of that resolution."
    )
    edge_px: int = Field(16, ge=0, le=256, description="Margin in which each edge of the frames turns into the opposite one, in pixels.")
    least_modulation: float = Field(
        0.1, ge=0, le=1, description="Waves found weaker are taken as this strong, with a note; noise would be amplified else."
    )
    equalize: bool = Field(True, description="Correct bleaching and lamp changes: all frames of a time get the same mean.")
    compare: bool = Field(False, description="Also make optical sections without reconstruction (homodyne and pseudo-confocal).")
    deskew_rad: float | None = Field(
        None,
        gt=-1.5708,
        lt=1.5708,
        description="Angle in rad between the planes and the way of the stage, for lattice light sheets (31.8 degrees = 0.555): planes, "
        "z_step_nm apart along that way, are laid over each other; negative = the other way; empty = planes lie straight above each other.",
    )
    deskew_axis: Literal["x", "y"] = Field("x", description="Axis of the frames along which the stage moves the sample.")
    reuse: bool = Field(True, description="Find the patterns once and use them for all time points; else find them for each.")


class StructuredSimulatePlan(Noun):
    """What a simulated raw stack contains."""

    geometry: GeometryName = Field("2d-3x3", description="Patterns: dimensions, then orientations x phases.")
    order: FrameOrder = Field("apz", description="Order of the frames, slowest first (a = orientation, p = phase, z = plane).")
    time_count: PositiveInt = Field(1, description="Number of time points.")
    shape_yx_px: tuple[PositiveInt, PositiveInt] = Field((256, 256), description="Rows and columns of a frame.")
    structure: Literal["filaments", "shells", "uniform"] = Field(
        "filaments", description="What is in the sample; few uniform emitters are beads."
    )
    emitter_density_per_um2: PositiveFloat = Field(400.0, description="Emitters per square micrometre; many make smooth structures.")
    photons: PositiveFloat = Field(200.0, description="Mean photons per pixel and frame in the brightest hundredth of the image.")
    background_photons: NonNegativeFloat = Field(5.0, description="Unmodulated background in photons per pixel and frame.")
    frequency: PositiveFloat = Field(0.9, le=1.9, description="Frequency of the finest wave over the cut-off 2 NA / wavelength.")
    angle_rad: float = Field(0.2, description="Direction of the first wave vector in rad, from +x towards +y of the array.")
    modulation: float = Field(0.6, gt=0, le=1, description="Strength of each wave.")
    otf_damping: float = Field(1.0, gt=0, le=1, description="Loss of contrast at the cut-off beyond the ideal lens; 1 = ideal.")
    planes: int = Field(15, ge=1, le=1000, description="Recorded planes (z), for 3d geometries.")
    z_step_nm: PositiveFloat = Field(125.0, description="Distance of the planes, for 3d geometries.")
    beyond_nm: NonNegativeFloat = Field(
        1000.0, description="Depth of the sample above and below the recorded planes: light from out of focus."
    )
    excitation_nm: float | None = Field(
        None, ge=200, le=2000, description="Wavelength of the laser, for 3d geometries; empty = 0.93 of the emission's."
    )
    pattern_focus_nm: float = Field(0.0, description="Where along z the pattern of 3d geometries is strongest, from the focal plane.")
    step_error_rad: NonNegativeFloat = Field(0.0, description="Random error of the phase steps, standard deviation in rad.")
    bleaching: float = Field(0.0, ge=0, lt=1, description="Share of the light that is lost from the first to the last frame of a time.")
    seed: int = Field(0, ge=0, description="Seed: the same seed gives the same stack.")
    device: Device = Field("auto", description="Where to compute.")
