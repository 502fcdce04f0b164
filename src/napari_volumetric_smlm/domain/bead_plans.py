"""What a user may choose about a simulated bead scan."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from .noun import Noun
from .plans import moving_step


class BeadScanPlan(Noun):
    """What a simulated scan of the focal plane over beads contains; `vsmlm calibrate` reads it."""

    bead_count: PositiveInt = Field(
        1, le=100, description="Number of beads on the coverslip, far apart: makes a scan of the focal plane over them, and no movie."
    )
    z_step_nm: float = Field(
        100.0, description="Step between slices in nm; positive when the focal plane moves into the sample, negative when it moves out."
    )
    slice_count: PositiveInt | None = Field(
        None, ge=7, le=2000, description="Number of slices; empty = as many as the depths of the instrument take."
    )
    bead_diameter_nm: float = Field(100.0, ge=0, le=2000, description="Diameter of the beads in nm; 0 for a point.")
    bead_photons: PositiveFloat = Field(60000.0, description="Photons of a bead in a slice that reach the cameras.")
    bead_margin_px: int = Field(20, ge=0, description="Margin of the frame, or of the first view's part of it, without beads, in pixels.")
    shape_yx_px: tuple[PositiveInt, PositiveInt] = Field(
        (128, 128), description="Rows and columns of a frame; not given = those of a light-field instrument's own frames."
    )
    background_photons: tuple[float, float] = Field((10.0, 30.0), description="Lowest and highest background in photons per pixel.")
    background_structure: Literal["flat", "gaussian", "perlin"] = Field("flat", description="Shape of the background over the frame.")
    seed: int = Field(0, ge=0, description="Seed: the same seed gives the same scan.")

    @field_validator("z_step_nm")
    @classmethod
    def _step_moves(cls, value: float) -> float:
        return moving_step(value)
