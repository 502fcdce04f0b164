"""Everything that a user may choose: one plan a verb; the same object is form, JSON beside the result and Python argument.

Each field carries its description, which is the tooltip in napari and the help text of the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from .noun import Noun
from .training_rules import LEAST_SHARE_ON, USUAL_ON_FRAMES, check_neighbours, check_voxels

LARGEST_BLUR_NM = 2000.0
Device = Literal["auto", "cpu", "cuda", "mps"]


def moving_step(value: float) -> float:
    """Return a step of the focal plane between two slices if it is one.

    Raises
    ------
    ValueError
        If it is too small or too large.
    """
    if not 1 <= abs(value) <= 5000:
        raise ValueError(f"z_step_nm is {value}; a step of 1 to 5000 nm is expected (+ = the focal plane moves into the sample)")
    return value


class CalibrationPlan(Noun):
    """How to turn a bead stack into a calibrated instrument."""

    z_step_nm: float = Field(
        description="Step between slices in nm; positive when the focal plane moves into the sample, negative when it moves out."
    )
    bead_diameter_nm: float = Field(0.0, ge=0, le=2000, description="Diameter of the beads in nm; 0 for a point.")
    bead_height_nm: float | None = Field(None, description="Height of the bead's centre above the coverslip in nm; empty = its radius.")
    bead_positions_yx_px: tuple[tuple[float, float], ...] | None = Field(
        None, description="Centres (row, column) of the beads to use, in pixels of the first camera; empty = found automatically."
    )
    crop_px: PositiveInt | None = Field(
        None, ge=15, description="Side of the square cut around each bead in pixels; empty = chosen from the data."
    )
    focus_slice: float | None = Field(
        None, description="Slice (from 0) in which the focal plane is at the first bead; empty = where its image is narrowest."
    )
    held_out_slices: tuple[int, ...] | None = Field(
        None, description="Slices (from 0) that the fit must not see and that score it; empty = every third slice."
    )
    try_both_signs: bool = Field(
        True, description="Also fit with the opposite z direction and show both scores; parallax tells it without."
    )
    pixel_wise: bool = Field(True, description="Refine the phase pixel by pixel after the Zernike fit; views of microlenses need none.")
    fit_amplitude: bool = Field(True, description="Also fit a smooth amplitude over the pupil.")
    fit_pupil: bool = Field(
        True,
        description="Fit the pupil; off = keep it, and move the images of microlens views to where the beads show them, plane by plane.",
    )
    device: Device = Field("auto", description="Where to compute.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")

    @field_validator("z_step_nm")
    @classmethod
    def _step_moves(cls, value: float) -> float:
        return moving_step(value)


class ReconstructPlan(Noun):
    """How to turn raw frames into molecules."""

    model: str | None = Field(None, description="Trained model to use; empty = localization without training.")
    method: Literal["search", "pursuit"] = Field(
        "search",
        description="How molecules are found: search and joint fit, or matching pursuit (fit and subtract one by one; for comparison).",
    )
    start: Literal["search", "volume"] = Field(
        "search",
        description="Where the fit begins in light-field frames: at what the search of the views finds, or at the peaks of a volume "
        "(of the model, if it is a V-Net, else of a short deconvolution).",
    )
    refine: bool = Field(
        True,
        description="Fit what a model finds; off = its finds are the table, as published: places and the network's confidence, "
        "no photons and no errors.",
    )
    thorough: bool = Field(
        False, description="With a model: also search anew where the fit is bad; may find a few more in dense frames, and takes longer."
    )
    first_frame: int = Field(0, ge=0, description="First frame to read, counted from 0.")
    last_frame: int | None = Field(None, ge=0, description="Last frame to read, counted from 0 and included; empty = to the end.")
    region_yx_px: tuple[int, int, int, int] | None = Field(
        None, description="Part of the frame (first row, first column, row after last, column after last) in pixels; empty = whole frame."
    )
    detection_threshold: PositiveFloat = Field(
        30.0,
        description="Log-likelihood that a molecule must gain to be kept (natural units); "
        "lower finds dimmer molecules and more false ones.",
    )
    min_photons: float = Field(0.0, ge=0, description="Drop molecules with fewer detected photons.")
    max_molecules_per_frame: PositiveInt = Field(
        500, le=20000, description="Stop adding molecules to a frame (of a large one: to each of its parts) at this number."
    )
    depth_step_nm: PositiveFloat | None = Field(None, description="Distance of the search depths in nm; empty = from the PSF.")
    window_px: PositiveInt | None = Field(None, ge=7, description="Side of the fit window in pixels; empty = from the PSF's footprint.")
    background_scale_px: PositiveFloat = Field(30.0, description="Smallest structure that the fitted background may follow, in pixels.")
    fit_blur: bool = Field(False, description="Fit a Gaussian blur per molecule as well (motion, or a PSF that varies).")
    device: Device = Field("auto", description="Where to compute.")
    batch_frames: PositiveInt = Field(8, le=4096, description="Frames that are computed together.")
    processes: int = Field(
        0, ge=0, le=256, description="Processes that share the frames on the processor; 0 = one a core where that saves time."
    )

    @model_validator(mode="after")
    def _pursuit_needs_no_model(self) -> ReconstructPlan:
        if self.method == "pursuit" and self.model is not None:
            raise ValueError("method is 'pursuit', which asks no model, but a model is given: leave the model out, or choose the search")
        if self.method == "pursuit" and self.start == "volume":
            raise ValueError("method is 'pursuit', which takes no first guesses, but start is 'volume': leave one of them out")
        return self

    @model_validator(mode="after")
    def _finds_alone_know_no_photons(self) -> ReconstructPlan:
        if self.refine:
            return self
        if self.model is None and self.start == "search":
            raise ValueError("refine is off, but there is no model whose finds could be taken as they are: give one, or turn refine on")
        if self.min_photons > 0 or self.fit_blur:
            other = "fit_blur is on" if self.fit_blur else f"min_photons is {self.min_photons:g}"
            raise ValueError(f"{other}, but with refine off neither photons nor blur are fitted: leave it out, or turn refine on")
        return self

    @model_validator(mode="after")
    def _ranges_rise(self) -> ReconstructPlan:
        if self.last_frame is not None and self.last_frame < self.first_frame:
            raise ValueError(f"last_frame {self.last_frame} lies before first_frame {self.first_frame}")
        if self.region_yx_px is not None:
            top, left, bottom, right = self.region_yx_px
            if not (0 <= top < bottom and 0 <= left < right):
                raise ValueError(
                    f"region_yx_px {self.region_yx_px} is empty; expected (first row, first column, row after last, column after last)"
                )
        return self


class SimulatePlan(Noun):
    """What a simulated movie contains."""

    frame_count: PositiveInt = Field(20, description="Number of frames.")
    shape_yx_px: tuple[PositiveInt, PositiveInt] = Field(
        (128, 128), description="Rows and columns of a frame; not given = those of a light-field instrument's own frames."
    )
    density_per_um2: PositiveFloat = Field(0.1, description="Molecules that are on, per square micrometre and frame.")
    border_px: int = Field(10, ge=0, description="Margin of the frame without molecules, in pixels.")
    photons: tuple[PositiveFloat, PositiveFloat] = Field(
        (2000.0, 20000.0), description="Lowest and highest photons per frame of a molecule that is on for the whole frame."
    )
    photon_distribution: Literal["uniform", "gamma", "exponential"] = Field(
        "uniform", description="How photons are spread; gamma and exponential take the mean of the two limits."
    )
    mean_on_frames: float = Field(2.0, ge=0, description="Mean on-time in frames; 0 = every molecule is on for exactly one whole frame.")
    background_photons: tuple[float, float] = Field((10.0, 30.0), description="Lowest and highest background in photons per pixel.")
    background_structure: Literal["flat", "gaussian", "perlin"] = Field("flat", description="Shape of the background over the frame.")
    structure: Literal["uniform", "filaments", "shells", "microtubules", "pits", "mitochondria"] = Field(
        "uniform",
        description="Where the molecules sit: anywhere, on filaments of 25 nm, on shells, or on structures as they are labelled: "
        "microtubules (hollow, 55 nm), clathrin pits (hollow, 50 to 120 nm), mitochondria (tubes, 240 to 325 nm).",
    )
    blur_nm: tuple[float, float] = Field((0.0, 0.0), description="Lowest and highest extra Gaussian blur per molecule in nm.")
    seed: int = Field(0, ge=0, description="Seed: the same seed gives the same movie.")
    device: Device = Field("auto", description="Where to compute.")


class TrainPlan(Noun):
    """How to train a network for an instrument, and what its frames will look like."""

    preset: Literal["quick", "standard", "full"] = Field(
        "quick", description="How long: quick (laptop, about an hour), standard (a night, or minutes on a GPU) or full (GPU)."
    )
    architecture: Literal["lean", "deepstorm3d", "autods3d", "vnet", "vnet_paper", "lnet4", "lnet8"] = Field(
        "lean",
        description="Ours (lean), or a published network with its own targets and losses, many times slower: DeepSTORM3D, AutoDS3D; "
        "vnet makes volumes from light-field views; vnet_paper does as published, with a hundred times the work; "
        "lnet4 and lnet8 (published) find molecules in volumes.",
    )
    upsampling: PositiveInt | None = Field(
        None, description="Voxels per camera pixel along rows and columns: 1, 2 or 4 for autods3d; empty = as published (4; autods3d: 1)."
    )
    depth_planes: PositiveInt | None = Field(
        None,
        ge=2,
        le=512,
        description="Voxels along z; empty = as published (deepstorm3d: 121, autods3d: 81, vnet_paper: 64), or 125 nm apart (vnet).",
    )
    frame_count: PositiveInt | None = Field(None, description="Simulated frames to learn from; empty = what the preset says.")
    frame_px: PositiveInt = Field(80, ge=32, le=512, description="Side of a training frame in pixels.")
    density_per_um2: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.02, 0.6), description="Lowest and highest number of molecules that are on, per square micrometre and frame."
    )
    photons: tuple[PositiveFloat, PositiveFloat] = Field(
        (2000.0, 20000.0), description="Lowest and highest photons of a molecule; with vnet also per square micrometre of structures."
    )
    photon_distribution: Literal["uniform", "gamma", "exponential"] = Field(
        "uniform", description="How photons are spread; gamma and exponential take the mean of the two limits."
    )
    least_photons: float = Field(
        0.0,
        ge=0,
        description="Molecules with fewer photons are in the frames, but need not be found; where they blink, at least 1/4 of the lowest.",
    )
    context_frames: int = Field(
        0,
        ge=0,
        le=1,
        description="Neighbouring frames on each side that the network (lean) sees as well: 0, or 1 where molecules stay on for several "
        "frames; it learns from triples of frames, which takes longer.",
    )
    mean_on_frames: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Mean on-time of the molecules in frames, which begins and ends inside frames; 0 = every molecule is on for exactly "
        "one whole frame; empty = 2 with context_frames, else 0.",
    )
    background_photons: tuple[float, float] = Field((10.0, 30.0), description="Lowest and highest background in photons per pixel.")
    background_structure: Literal["flat", "gaussian", "perlin"] = Field("perlin", description="Shape of the background over the frame.")
    blur_nm: tuple[float, float] = Field((0.0, 0.0), description="Lowest and highest extra Gaussian blur per molecule in nm.")
    learning_rate: PositiveFloat = Field(1e-3, le=0.1, description="Highest learning rate.")
    start_model: str | None = Field(
        None, description="Model to start from (its .safetensors); shipped = the package's own start model, empty = random weights."
    )
    window_px: PositiveInt | None = Field(None, ge=7, description="Side of the PSF's window in pixels; empty = from the PSF's footprint.")
    device: Device = Field("auto", description="Where to compute.")
    seed: int = Field(0, ge=0, description="Seed: the same seed gives the same model on the same kind of device.")

    @model_validator(mode="after")
    def _ranges_rise(self) -> TrainPlan:
        for name in ("density_per_um2", "photons", "background_photons", "blur_nm"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is ({low:g}, {high:g}): expected the lowest and then the highest value, neither below 0")
        if self.blur_nm[1] > LARGEST_BLUR_NM:
            raise ValueError(
                f"blur_nm reaches {self.blur_nm[1]:g} nm: at most {LARGEST_BLUR_NM:g} nm are expected, beyond it no image is left to find"
            )
        if self.least_photons >= self.photons[1]:
            raise ValueError(f"least_photons {self.least_photons:g} is not below the highest photons {self.photons[1]:g}: nothing to find")
        return self

    @property
    def on_frames(self) -> float:
        """Mean on-time in frames; 0 = every molecule is on for one whole frame."""
        return self.mean_on_frames if self.mean_on_frames is not None else USUAL_ON_FRAMES if self.context_frames else 0.0

    @property
    def least_wanted_photons(self) -> float:
        """Photons below which a molecule need not be found."""
        return max(self.least_photons, LEAST_SHARE_ON * self.photons[0] if self.on_frames else 0.0)

    @model_validator(mode="after")
    def _the_architecture_can_do_it(self) -> TrainPlan:
        check_neighbours(self)
        check_voxels(self)
        return self

    def without_folders(self) -> TrainPlan:
        """Return the plan as it stands in a card: where a file lay on this computer is nobody's business."""
        return self if self.start_model is None else self.model_copy(update={"start_model": Path(self.start_model).name})


class EvaluatePlan(Noun):
    """How found molecules are paired with the true ones."""

    gate: Literal["sphere", "cylinder"] = Field(
        "sphere", description="Shape of the gate: one distance in 3D, or lateral and axial limits apart."
    )
    gate_nm: PositiveFloat = Field(150.0, description="Largest 3D distance of a pair in nm (sphere).")
    gate_lateral_nm: PositiveFloat = Field(250.0, description="Largest lateral distance of a pair in nm (cylinder).")
    gate_axial_nm: PositiveFloat = Field(500.0, description="Largest axial distance of a pair in nm (cylinder).")
    dim_below_photons: float = Field(0.0, ge=0, description="True molecules with fewer photons are neutral: neither missed nor false.")
    remove_offset: bool = Field(
        False,
        description="Shift the found molecules by their median distance from the true ones first; a calibration leaves a constant open.",
    )


class RenderPlan(Noun):
    """How a table becomes a super-resolved picture."""

    pixel_nm: PositiveFloat = Field(20.0, description="Pixel of the picture in nm.")
    method: Literal["histogram", "gaussian", "ash"] = Field(
        "gaussian", description="Histogram, Gaussian of each molecule's own uncertainty, or averaged shifted histogram."
    )
    dimensions: Literal["2d", "3d"] = Field("2d", description="Projection along z, or a volume.")
    depth_step_nm: PositiveFloat = Field(50.0, description="Plane distance of a volume in nm.")
    smallest_sigma_nm: PositiveFloat = Field(5.0, description="Smallest Gaussian drawn, in nm.")
    color_by_depth: bool = Field(False, description="Colour by depth instead of brightness only (2d).")
