"""A microscope as V views of the same molecules.

Axes are z, y, x; lengths stand in the sample unless the name says otherwise.
Camera pixel (0, 0) of the first view has its centre at (y, x) = (0, 0) nm.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator, model_validator

from .microlenses import MicrolensArray, Outline, Region
from .noun import Array, Noun

Row = tuple[float, float, float]
IDENTITY_AFFINE: tuple[Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Objective(Noun):
    """The objective lens; its numerical aperture cannot exceed the index of its immersion medium."""

    numerical_aperture: PositiveFloat = Field(description="Numerical aperture as engraved on the objective; at most the immersion index.")
    magnification: PositiveFloat = Field(description="Magnification from sample to camera, tube lens and relays included.")
    immersion_index: float = Field(1.518, ge=1.0, le=2.5, description="Refractive index of the immersion (oil 1.518, water 1.33, air 1).")

    @model_validator(mode="after")
    def _aperture_fits_index(self) -> Objective:
        if self.numerical_aperture > self.immersion_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture} is above immersion_index {self.immersion_index}: "
                "no light travels at that angle; check both numbers"
            )
        return self


class Camera(Noun):
    """From photons to counts: counts = (photons * quantum_efficiency * em_gain) / gain_e_per_count + offset_counts.

    `offset_counts`, `gain_e_per_count` and `read_noise_e` are one number or a map (y, x) over the sensor.
    Reconstructed photons are detected photons (electrons before multiplication), so quantum_efficiency enters the simulator only.
    """

    name: str = Field("camera", description="Name of the camera, for reports.")
    pixel_um: PositiveFloat = Field(description="Side of a pixel on the chip in um (after binning), not in the sample.")
    quantum_efficiency: float = Field(1.0, gt=0, le=1, description="Share of the photons that become electrons, 0 to 1.")
    gain_e_per_count: PositiveFloat | Array = Field(
        1.0,
        description="Electrons per count of the converter (the data sheet's conversion factor without EM gain); number or map (y, x).",
    )
    offset_counts: float | Array = Field(0.0, description="Counts of a pixel without light (baseline, bias); a number or a map (y, x).")
    read_noise_e: float | Array = Field(0.0, description="Read noise in electrons, root mean square; a number or a map (y, x).")
    em_gain: float = Field(1.0, ge=1, description="Electron-multiplying gain in use; 1 for cameras without it (sCMOS, CCD).")
    saturation_counts: PositiveFloat | None = Field(
        None, description="Counts at which a pixel saturates; empty = the largest number that the file can hold."
    )

    @field_validator("gain_e_per_count", "offset_counts", "read_noise_e")
    @classmethod
    def _maps_are_planes(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, np.ndarray) and value.shape == ():
            value = float(value)  # the union takes whole numbers for arrays without axes
        shape = getattr(value, "shape", None)
        if isinstance(value, float) and value <= 0 and info.field_name == "gain_e_per_count":
            raise ValueError(f"found {value:g}, expected a number above 0, or a map (y, x)")
        if shape is not None and len(shape) != 2:
            raise ValueError(f"a camera map has the axes (y, x); found an array of shape {shape}")
        if info.field_name != "offset_counts" and np.any(np.asarray(value) < 0):
            raise ValueError(f"found values down to {np.min(np.asarray(value)):g}, expected none below 0")
        if info.field_name == "gain_e_per_count" and np.any(np.asarray(value) == 0):
            raise ValueError("found zeros, expected every gain above 0")
        return value

    @property
    def excess_noise(self) -> float:
        """Variance of the detected electrons over their mean: 2 for a multiplying (EMCCD) register, else 1."""
        return 2.0 if self.em_gain > 1 else 1.0


class PhaseMask(Noun):
    """A phase element in a plane conjugate to the pupil, sampled on its own pixels.

    Mask position u (um) belongs to the pupil direction n sin(theta) = -magnification * u / fourier_lens: the relay that
    makes the pupil's image on the mask turns it by 180 degrees (the convention of DeepSTORM3D and VIPR mask files).
    The optical axis goes through the centre of pixel n // 2 on both axes.
    """

    phase_rad_yx: Array
    mask_pixel_um: PositiveFloat = Field(description="Side of one pixel of the mask in um.")
    fourier_lens_mm: PositiveFloat = Field(description="Focal length in mm of the lens between the intermediate image and the mask.")
    source: str = ""

    @field_validator("phase_rad_yx")
    @classmethod
    def _is_plane(cls, value: object) -> object:
        shape = getattr(value, "shape", ())
        if len(shape) != 2 or min(shape) < 8:
            raise ValueError(f"a phase mask is an image (y, x) of at least 8 x 8 pixels; found shape {shape}")
        return value


class Aperture(Noun):
    """The part of the pupil that one view sees (for example through a microlens), in units of n sin(theta).

    centre_na_yx : centre of the disc or hexagon, tip of the sector.
    radius_na : radius of disc or sector; of a hexagon, the distance from its centre to a side.
    angle_rad : direction, from x towards y, of a side's normal (hexagon) or of the bisector (sector).
    opening_rad : angle between the straight edges of the sector.
    """

    outline: Outline = "disc"
    centre_na_yx: tuple[float, float] = (0.0, 0.0)
    radius_na: PositiveFloat
    angle_rad: float = 0.0
    opening_rad: float = Field(2 * math.pi / 3, gt=0, le=math.pi)


class View(Noun):
    """One image of the molecules: a pupil with its phase and amplitude, a camera and a place on it.

    zernike_noll_rad : Noll index -> coefficient in rad, root mean square over the full pupil of radius NA (Noll 1976).
    phase_rad_yx, amplitude_yx : pixel-wise maps over the square -NA..NA, first and last sample on the edge.
    focus_shift_nm : shift of this view's focal plane into the sample (biplane), added to the instrument's focal_plane_nm.
    affine_yx : rows (y, x) of [linear | shift in nm]; takes (y, x) nm of the first view to (y, x) nm on this view's camera.
    photon_fraction : share of the molecule's photons seen in this view; only ratios between views matter.
    blur_nm : standard deviation of an extra Gaussian blur.
    image_shift_zyx_nm : rows (z, y, x): where images lie beyond what the pupil says, as measured depth by depth; linear in between.
    region_yx_px : the part of the camera's frame that shows this view; None = all of it.
    """

    name: str = "view"
    camera: int = Field(0, ge=0)
    aperture: Aperture | None = None
    mask: PhaseMask | None = None
    zernike_noll_rad: dict[int, float] = Field(default_factory=dict)
    phase_rad_yx: Array | None = None
    amplitude_yx: Array | None = None
    focus_shift_nm: float = 0.0
    affine_yx: tuple[Row, Row] = IDENTITY_AFFINE
    photon_fraction: PositiveFloat = 1.0
    blur_nm: float = Field(0.0, ge=0, le=2000)
    image_shift_zyx_nm: Array | None = None
    region_yx_px: Region | None = None

    @field_validator("image_shift_zyx_nm")
    @classmethod
    def _depths_rise(cls, value: object) -> object:
        shape = getattr(value, "shape", None)
        if shape is None:
            return value
        if len(shape) != 2 or shape[0] < 2 or shape[1] != 3 or not (np.diff(np.asarray(value)[:, 0]) > 0).all():
            raise ValueError(f"image shifts are two or more rows (z, y, x) of rising z; found an array of shape {shape}")
        return value

    @field_validator("zernike_noll_rad")
    @classmethod
    def _noll_starts_at_one(cls, value: dict[int, float]) -> dict[int, float]:
        wrong = [j for j in value if not 1 <= j <= 231]
        if wrong:
            raise ValueError(f"Noll indices run from 1 to 231; found {wrong}")
        return dict(sorted(value.items()))

    @field_validator("phase_rad_yx", "amplitude_yx")
    @classmethod
    def _is_square(cls, value: object) -> object:
        shape = getattr(value, "shape", None)
        if shape is not None and (len(shape) != 2 or shape[0] != shape[1] or shape[0] < 8):
            raise ValueError(f"a pupil map is square (y, x), at least 8 x 8; found shape {shape}")
        return value

    @model_validator(mode="after")
    def _affine_is_invertible(self) -> View:
        (a, b, _), (c, d, _) = self.affine_yx
        if abs(a * d - b * c) < 1e-6:
            raise ValueError(f"affine_yx {self.affine_yx} squeezes the plane to a line and cannot be inverted")
        return self

    @field_validator("region_yx_px")
    @classmethod
    def _region_is_not_empty(cls, value: Region | None) -> Region | None:
        if value is not None and not (value[0] < value[2] and value[1] < value[3]):
            raise ValueError(f"region_yx_px {value} is empty; expected (first row, first column, row after last, column after last)")
        return value


class CalibrationRecord(Noun):
    """How a calibration came about, kept inside the instrument that it made."""

    bead_sources: tuple[str, ...] = ()
    z_step_nm: float
    bead_diameter_nm: float = 0.0
    correlation_fitted: float
    correlation_held_out: float
    correlation_opposite_sign: float | None = None
    verdict: str = ""


class Instrument(Noun):
    """A microscope: one objective, its cameras and V views.

    focal_plane_nm : nominal focal plane, height above the coverslip (+ = into the sample). Zero when sample and immersion
        index agree, because z is then measured from the nominal focus itself.
    wave_model : scalar, or vectorial (freely rotating dipole).
    apodization : aplanatic (energy-conserving 1/sqrt(cos) amplitude) or none.
    supercritical : keep light beyond the sample's critical angle (evanescent in the sample) instead of cutting it.
    pixel_model : integrated over the pixel's area, or sampled at its centre.
    depth_range_nm : lowest and highest z of molecules.
    microlenses : the array whose lenses made the views, kept beside them as a calibration is.
    """

    schema_version: Literal["vsmlm-instrument-1"] = "vsmlm-instrument-1"
    name: str = Field("instrument", description="Name of the microscope, for reports.")
    objective: Objective
    cameras: tuple[Camera, ...] = Field(min_length=1)
    views: tuple[View, ...] = Field((View(),), min_length=1)
    emission_nm: float = Field(ge=200, le=2000, description="Mean wavelength of the emitted light in nm.")
    sample_index: float = Field(1.33, ge=1.0, le=2.5, description="Refractive index around the molecules (water 1.33).")
    focal_plane_nm: float = Field(
        0.0, description="Nominal focal plane in nm above the coverslip (+ = into the sample); 0 when sample and immersion index agree."
    )
    wave_model: Literal["scalar", "vectorial"] = Field("scalar", description="Scalar wave, or vectorial: a freely rotating dipole.")
    apodization: Literal["aplanatic", "none"] = Field("aplanatic", description="Amplitude over the pupil: energy-conserving, or flat.")
    supercritical: bool = Field(False, description="Keep light beyond the sample's critical angle instead of cutting it.")
    pixel_model: Literal["integrated", "point"] = Field("integrated", description="Light over the pixel's area, or at its centre.")
    depth_range_nm: tuple[float, float] = Field(description="Lowest and highest z of molecules in nm.")
    calibration: CalibrationRecord | None = None
    microlenses: MicrolensArray | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Instrument:
        missing = [view.camera for view in self.views if view.camera >= len(self.cameras)]
        if missing:
            raise ValueError(f"a view names camera {missing[0]}, but there are {len(self.cameras)} cameras (counted from 0)")
        if not self.depth_range_nm[0] < self.depth_range_nm[1]:
            raise ValueError(f"depth_range_nm {self.depth_range_nm} must rise from the lowest to the highest z")
        if self.z_reference == "focus" and self.focal_plane_nm != 0:
            raise ValueError(
                f"focal_plane_nm is {self.focal_plane_nm} but sample_index equals immersion_index ({self.sample_index}): "
                "z is then measured from the nominal focus; set focal_plane_nm to 0"
            )
        first = self.views[0]
        if first.affine_yx != IDENTITY_AFFINE:
            raise ValueError("the first view defines the coordinates: its affine_yx must be the identity")
        return self

    @property
    def z_reference(self) -> Literal["coverslip", "focus"]:
        """From where z is measured: the coverslip when the indices differ, else the nominal focus."""
        return "focus" if math.isclose(self.sample_index, self.objective.immersion_index, abs_tol=1e-9) else "coverslip"

    def pixel_nm(self, view: int = 0) -> float:
        """Camera pixel of a view, in the sample."""
        return self.cameras[self.views[view].camera].pixel_um * 1000.0 / self.objective.magnification

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when anything that shapes the images of a molecule changes (names do not)."""
        places = {"views": {"__all__": {"region_yx_px"}}}
        shaping = self.model_dump(mode="json", exclude={"name": True, "calibration": True, "microlenses": True, **places})
        for view in shaping["views"]:
            # fingerprints of instruments without are older than the field
            if view["image_shift_zyx_nm"] is None:
                del view["image_shift_zyx_nm"]
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def masks_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the phase (64-bit floats, row by row) of the mask of every view that has one."""
        phases = [np.ascontiguousarray(view.mask.phase_rad_yx, dtype="<f8") for view in self.views if view.mask is not None]
        return tuple(hashlib.sha256(phase.tobytes()).hexdigest() for phase in phases)
