"""What a user may choose when light-field frames become volumes."""

from __future__ import annotations

from typing import Literal

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


class FindPlan(Noun):
    """What is looked for in volumes that are there already."""

    what: Literal["molecules", "blobs"] = Field(
        "molecules", description="Molecules, each a peak that a Gaussian is fitted to; or blobs of many sizes, such as lysosomes."
    )
    diameter_nm: tuple[PositiveFloat, PositiveFloat] = Field((300.0, 1200.0), description="Smallest and largest diameter of blobs.")
    model: str | None = Field(
        None,
        description="L-Net (.safetensors) that finds the molecules; it reads volumes that show what the objective alone would; "
        "empty = Gaussian fits.",
    )
    voxel_zyx_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="Size of a voxel (depth, row, column); empty = what the file says."
    )
    first_volume: int = Field(0, ge=0, description="First volume of a series to read, counted from 0.")
    last_volume: int | None = Field(None, ge=0, description="Last volume, counted from 0 and included; empty = to the end.")
    device: Device = Field("auto", description="Where a model computes.")

    @model_validator(mode="after")
    def _fit_together(self) -> FindPlan:
        if self.last_volume is not None and self.last_volume < self.first_volume:
            raise ValueError(f"last_volume {self.last_volume} lies before first_volume {self.first_volume}")
        if self.diameter_nm[0] >= self.diameter_nm[1]:
            raise ValueError(f"diameter_nm is {self.diameter_nm}: the smallest and then the largest diameter were expected")
        if self.what == "blobs" and self.model is not None:
            raise ValueError("a model finds molecules, not blobs: leave the model out, or set what to molecules")
        return self


class InspectionPlan(Noun):
    """What is shown of a frame while one steps through a light-field movie."""

    method: Literal["V-Net", "Richardson-Lucy", "side by side"] = Field(
        "V-Net", description="What makes the volume: a trained network, deconvolution, or both beside each other with the same contrast."
    )
    two_colors: bool = Field(
        False,
        description="Even and odd frames show two structures in turn: the volumes and molecules of a pair of frames in green and magenta.",
    )
    molecules: bool = Field(
        True,
        description="Show the molecules in the volume: of the last reconstruction, else found in each frame that you look at, with the "
        "settings of the widget Reconstruct.",
    )
    molecule_frames: PositiveInt = Field(
        1, le=1_000_000, description="Molecules of so many frames together: of this one and of those right before it."
    )

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, from left to right."""
        return ("V-Net", "Richardson-Lucy") if self.method == "side by side" else (self.method,)

    def frames_at(self, frame: int, count: int) -> tuple[int, ...]:
        """Frames whose volumes are shown: this one, or the pair that it belongs to."""
        first = frame - frame % 2
        return (frame,) if not self.two_colors else tuple(t for t in (first, first + 1) if t < count)
