"""A microlens array in a plane conjugate to the pupil: each of its lenses makes one view (Fourier light field).

Positions are (y, x) along the axes of the camera, in mm from the optical axis. The relay that makes the pupil's image on the
array turns it by 180 degrees, so a lens at c sees the directions around n sin(theta) = -native_magnification * c / fourier_lens.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .noun import Noun

Layout = Literal["triangle", "hexagon", "square", "explicit"]
Outline = Literal["disc", "hexagon", "sector"]
Point = tuple[float, float]
Region = tuple[int, int, int, int]
# Etched arrays keep their pitch to a few parts in ten thousand; centres that a user states may be rounded.
PITCH_TOLERANCE = 0.01


class MicrolensArray(Noun):
    """Lenses, the Fourier lens before them and the raw frame behind them.

    Without `sensor_centres_yx_px` the array's centre lies at the centre of the frame and `rotation_rad` turns the layout (from x
    towards y); with them the lenses are where they were measured, one per lens in any order.
    """

    layout: Layout = Field("triangle", description="Three lenses around the axis, seven (hexagon), a square grid, or explicit centres.")
    outline: Outline = Field("disc", description="Clear part of a lens: disc, hexagon, or sector (lenses that share the pupil seamlessly).")
    lenses_a_side: int = Field(3, ge=1, le=16, description="Lenses along each side of a square layout.")
    centres_yx_mm: tuple[Point, ...] | None = Field(None, description="Lens centres (y, x) in mm from the axis, for the explicit layout.")
    pitch_mm: PositiveFloat = Field(description="Distance of neighbouring lenses in mm; also the diameter of a disc.")
    focal_length_mm: PositiveFloat = Field(description="Focal length of a microlens in mm; the camera lies that far behind the array.")
    fourier_lens_mm: PositiveFloat = Field(description="Focal length in mm of the lens between the native image and the array.")
    native_magnification: PositiveFloat = Field(description="Magnification from the sample to the native image before the Fourier lens.")
    rotation_rad: float = Field(0.0, description="Angle by which the layout is turned, from x towards y, in rad.")
    frame_yx_px: tuple[PositiveInt, PositiveInt] = Field(description="Rows and columns of a raw frame.")
    sensor_centres_yx_px: tuple[Point, ...] | None = Field(
        None, description="Measured image of each lens's axis on the sensor (row, column) in pixels; empty = computed from the layout."
    )
    field_yx_px: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="Rows and columns of a view; empty = the largest field of which no two views share a pixel."
    )
    pixel_nm: PositiveFloat | None = Field(
        None, description="Measured camera pixel in the sample in nm; empty = computed from the focal lengths."
    )

    @model_validator(mode="after")
    def _lenses_fit_together(self) -> MicrolensArray:
        if (self.layout == "explicit") != (self.centres_yx_mm is not None):
            raise ValueError(f"layout is {self.layout!r}: centres_yx_mm belongs to the layout 'explicit', and only to it")
        centres = self.layout_yx_mm
        if self.outline == "sector":
            self._check_ring(centres)
            return self
        if self.outline == "hexagon" and self.layout == "square" and self.lenses_a_side > 1:
            raise ValueError("hexagonal lenses overlap on a square grid of the same pitch: use the outline 'disc'")
        for i, j in combinations(range(len(centres)), 2):
            apart = math.dist(centres[i], centres[j])
            if apart < self.pitch_mm * (1 - PITCH_TOLERANCE):
                raise ValueError(
                    f"lenses {i} and {j} are {apart:.3f} mm apart, the pitch is {self.pitch_mm:g} mm: they overlap; "
                    "correct centres_yx_mm or the pitch"
                )
        return self

    def _check_ring(self, centres: NDArray[np.float64]) -> None:
        radius = np.hypot(*centres.T)
        angle = np.sort(np.arctan2(*centres.T))
        gaps = np.diff(np.append(angle, angle[0] + 2 * math.pi))
        if len(centres) < 2 or np.ptp(radius) > 0.05 * radius.max() or np.ptp(gaps) > 0.1:
            raise ValueError(
                f"sectors share the pupil equally, so their lenses lie on a ring at equal angles; found {len(centres)} lenses "
                f"{radius.min():.2f} to {radius.max():.2f} mm from the axis: use the outline 'disc'"
            )

    @model_validator(mode="after")
    def _measured_centres_lie_in_the_frame(self) -> MicrolensArray:
        measured = self.sensor_centres_yx_px
        if measured is None:
            return self
        if len(measured) != self.count:
            raise ValueError(f"{len(measured)} lens centres were measured, the layout {self.layout!r} has {self.count} lenses")
        for k, (row, column) in enumerate(measured):
            if not (0 <= row <= self.frame_yx_px[0] - 1 and 0 <= column <= self.frame_yx_px[1] - 1):
                raise ValueError(
                    f"lens centre {k} at row {row:g}, column {column:g} lies outside the frame of {self.frame_yx_px[0]} x "
                    f"{self.frame_yx_px[1]} pixels: measured on a frame of another size or binning?"
                )
        return self

    @property
    def count(self) -> int:
        """Number of lenses."""
        return len(self.layout_yx_mm)

    @property
    def layout_yx_mm(self) -> NDArray[np.float64]:
        """Lens centres as built, turned by `rotation_rad`, (V, 2)."""
        if self.layout == "triangle":
            angle = np.deg2rad([90.0, 210.0, 330.0])
            centres = self.pitch_mm / math.sqrt(3) * np.stack([np.sin(angle), np.cos(angle)], 1)
        elif self.layout == "hexagon":
            angle = np.deg2rad(np.arange(0, 360, 60))
            ring = self.pitch_mm * np.stack([np.sin(angle), np.cos(angle)], 1)
            centres = np.concatenate([np.zeros((1, 2)), ring])
        elif self.layout == "square":
            line = (np.arange(self.lenses_a_side) - (self.lenses_a_side - 1) / 2) * self.pitch_mm
            centres = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
        else:
            centres = np.array(self.centres_yx_mm or (), dtype=np.float64).reshape(-1, 2)
        c, s = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        return centres @ np.array([[c, -s], [s, c]])

    def centres_on_sensor(self, camera_pixel_um: float) -> NDArray[np.float64]:
        """Measured or computed image of each lens's axis on the sensor, (V, 2) rows and columns."""
        if self.sensor_centres_yx_px is not None:
            return np.array(self.sensor_centres_yx_px, dtype=np.float64)
        return (np.array(self.frame_yx_px) - 1) / 2 + self.layout_yx_mm * 1000 / camera_pixel_um

    def centres_in_pupil(self, camera_pixel_um: float) -> NDArray[np.float64]:
        """Lens centres in mm from the axis, (V, 2): from the measured ones, where there are any; the axis is then in their middle."""
        built = self.layout_yx_mm
        if self.sensor_centres_yx_px is None:
            return built
        seen = self.centres_on_sensor(camera_pixel_um) * camera_pixel_um / 1000
        return seen - seen.mean(0) + built.mean(0)

    def direction_per_mm(self) -> float:
        """Change of n sin(theta) per mm on the array; negative, because the relay turns the pupil's image."""
        return -self.native_magnification / self.fourier_lens_mm

    def magnification(self, camera_pixel_um: float) -> float:
        """Magnification from the sample to the camera: that of the measured pixel, else that of the focal lengths."""
        if self.pixel_nm is not None:
            return camera_pixel_um * 1000 / self.pixel_nm
        return self.native_magnification * self.focal_length_mm / self.fourier_lens_mm


class LightFieldNumbers(Noun):
    """What follows from the focal lengths, the pitch and the objective (Guo et al., Opt. Express 27, 25573, 2019).

    magnification, nominal_pixel_nm : computed from the focal lengths, whatever pixel was measured.
    occupancy : diameter of the pupil on the array over the pitch. samples_a_resolution : lateral resolution over the pixel.
    lateral_resolution_nm, axial_resolution_nm, depth_of_field_nm : of the paraxial theory.
    lens_na : radius of a lens in units of n sin(theta). centre_na_v, edges_na_v : direction of its centre, nearest and farthest one.
    chief_slope_v : lateral shift of a view per depth along the ray through the lens's centre.
    slope_yx_v : the same as (y, x), averaged over the light in the view. energy_share_v : share of the objective's light.
    """

    pupil_diameter_mm: float
    magnification: float
    nominal_pixel_nm: float
    pixel_nm: float
    occupancy: float
    lateral_resolution_nm: float
    samples_a_resolution: float
    axial_resolution_nm: float
    depth_of_field_nm: float
    field_um: float
    lens_na: float
    centre_na_v: tuple[float, ...]
    edges_na_v: tuple[Point, ...]
    chief_slope_v: tuple[float, ...]
    slope_yx_v: tuple[Point, ...]
    energy_share_v: tuple[float, ...]
