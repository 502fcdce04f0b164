"""What a user may choose when light-field frames become volumes."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .noun import Noun
from .plans import Device


class ViewsPlan(Noun):
    """Which frames become one volume."""

    first_frame: int = Field(0, ge=0, description="First frame to read, counted from 0.")
    last_frame: int | None = Field(
        None, ge=0, description="Last frame, counted from 0 and included; all of them are averaged; empty = to the end."
    )
    background_photons: NonNegativeFloat | None = Field(
        None, description="Constant background in detected photons per pixel of a view; empty = each view's darkest parts."
    )
    tile_px: PositiveInt = Field(256, ge=32, le=4096, multiple_of=2, description="Side of a tile in pixels; smaller ones need less memory.")
    device: Device = Field("auto", description="Where to compute.")

    @model_validator(mode="after")
    def _frames_rise(self) -> ViewsPlan:
        if self.last_frame is not None and self.last_frame < self.first_frame:
            raise ValueError(f"last_frame {self.last_frame} lies before first_frame {self.first_frame}")
        return self


class VolumePlan(ViewsPlan):
    """How a trained network makes a volume."""

    model: str = Field(description="Model (.safetensors) that was trained to make volumes of this instrument.")


class DeconvolvePlan(ViewsPlan):
    """How views become the volume that explains them best, without a network."""

    iterations: PositiveInt = Field(50, le=10_000, description="Richardson-Lucy iterations; more are sharper and noisier.")
    depth_step_nm: PositiveFloat = Field(125.0, ge=10, le=2000, description="Distance of the volume's planes in nm.")
    window_px: PositiveInt = Field(81, ge=15, le=321, description="Side of the window in which the PSF is known, in pixels of a view.")
    wide_field: bool = Field(
        False, description="Show the volume as the objective alone would: blurred by its own PSF, so that noise is not mistaken for detail."
    )
