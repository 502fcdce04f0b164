"""What recipes yield while they work and return when they are done."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt

from .bead_plans import BeadScanPlan
from .images import RawStack
from .instrument import Instrument
from .molecules import Localizations
from .noun import Array, Noun
from .plans import CalibrationPlan, ReconstructPlan, SimulatePlan, TrainPlan


class Progress(Noun):
    """One step of a running recipe; the only thing that recipes yield, at least twice a second.

    stage : phase in words ("search", "refine", ...); done of total counts inside the stage (total 0 = unknown).
    message : a sentence for the user, or empty. numbers : figures to plot, by name.
    preview : a partial result (Localizations, array) or None; a reader must not change it.
    """

    stage: str
    done: NonNegativeInt = 0
    total: NonNegativeInt = 0
    message: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)
    preview: Any = None


class Calibration(Noun):
    """A fitted instrument with the evidence for it.

    measured_vzyx, fitted_vzyx : counts above background of the first bead and the model's, slice by slice.
    correlation_z : Pearson correlation of measured and fitted per slice, all pixels of the crop (mean over views).
    held_out_z : whether the scoring fit did not see the slice.
    bound_nm : columns z, sigma_z, sigma_y, sigma_x of an isolated molecule (Cramér-Rao), over depth.
    focus_z_nm : nominal focal plane of each slice, as the instrument's focal_plane_nm counts it.
    opposite_correlation_held_out : mean score on unseen slices with the z direction reversed, when tried.
    """

    instrument: Instrument
    plan: CalibrationPlan
    measured_vzyx: Array
    fitted_vzyx: Array
    correlation_z: Array
    held_out_z: Array
    neighbour_correlation_z: Array
    bound_nm: Array
    bead_positions_yx_px: tuple[tuple[float, float], ...]
    focus_z_nm: Array | None = None
    opposite_correlation_held_out: float | None = None
    verdict: str
    passed: bool
    seconds: float


class Reconstruction(Noun):
    """What one click returns. `complete` is false after a cancel: the table then holds the frames done so far."""

    localizations: Localizations
    plan: ReconstructPlan
    instrument_fingerprint: str
    frames_done: int
    complete: bool
    seconds: float


class FrameExplanation(Noun):
    """One frame beside what was found in it: camera counts turned to photons, the model's mean and the residual in sigmas.

    camera_v, corner_vyx_px : camera of each view, and where the first pixel of its pictures lies on that camera's frames.
    """

    frame: int
    localizations: Localizations
    photons_vyx: Array
    model_vyx: Array
    residual_vyx: Array
    camera_v: tuple[int, ...]
    corner_vyx_px: tuple[tuple[int, int], ...]


class Simulation(Noun):
    """A simulated movie and the molecules that are truly in it."""

    stack: RawStack
    truth: Localizations
    instrument: Instrument
    plan: SimulatePlan


class BeadScan(Noun):
    """A simulated scan of the focal plane over beads, and where these lie on the first view's camera (row, column)."""

    stack: RawStack
    positions_yx_px: tuple[tuple[float, float], ...]
    instrument: Instrument
    plan: BeadScanPlan


class Evaluation(Noun):
    """Scores of found against true molecules; RMSE and bias over the pairs, lateral = sqrt(mean(dx^2 + dy^2)).

    ratio_to_bound_zyx : root mean square of error / sigma, with the sigmas of the found table; 1 when they are honest.
    median_ratio_to_bound_zyx : median of |error / sigma| over that of a normal distribution; blind to a few wild pairs.
    precision, recall : None where nothing was found, or nothing was there to be found.
    within_one_sigma_zyx : share of the pairs with |error| <= sigma; 0.68 when the sigmas are honest.
    offset_zyx_nm : constant that was taken off the found positions before, where the plan asks for it.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    jaccard: float
    precision: float | None
    recall: float | None
    rmse_lateral_nm: float | None = None
    rmse_axial_nm: float | None = None
    bias_zyx_nm: tuple[float, float, float] | None = None
    efficiency_lateral: float | None = None
    efficiency_axial: float | None = None
    efficiency_3d: float | None = None
    ratio_to_bound_zyx: tuple[float, float, float] | None = None
    median_ratio_to_bound_zyx: tuple[float, float, float] | None = None
    within_one_sigma_zyx: tuple[float, float, float] | None = None
    offset_zyx_nm: tuple[float, float, float] | None = None


class ModelCard(Noun):
    """What a model is, how it came about and how well it did on frames that its training never saw.

    units : low_nm, high_nm, pixel_nm, photons of `engine.networks.units`. architecture : arguments of the network.
    accuracy : figures by name, on `tested_frames` simulated frames. kept_step : whose averaged weights did best on held-out frames,
    other ones than those of the test; these are the model. masks_sha256 : of the phase of each view's mask, as it was read.
    """

    kind: str = "localizer"
    architecture: dict[str, Any]
    units: dict[str, float]
    window_px: int
    ground_px: float
    instrument: str
    instrument_fingerprint: str
    masks_sha256: tuple[str, ...] = ()
    plan: TrainPlan
    command: str = ""
    frames_seen: int
    kept_step: int = 0
    tested_frames: int = 0
    accuracy: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def makes_volumes(self) -> bool:
        """Whether the network makes volumes of light-field views, not molecules."""
        return self.kind in ("vnet", "vnet_paper")

    @property
    def context_frames(self) -> int:
        """Neighbouring frames on each side that the network sees; 0 = it reads single frames."""
        return int(self.architecture.get("context_frames", 0))

    @property
    def views(self) -> int | None:
        """Number of views that the network takes; None where it takes any."""
        parallax, views = self.architecture.get("parallax_px"), self.architecture.get("views")
        return len(parallax) if parallax is not None else views


class TrainedModel(Noun):
    """Weights by name and their card. `curve` : loss per step, by part; `complete` is false after a stop."""

    weights: dict[str, Array]
    card: ModelCard
    curve: dict[str, Array]
    complete: bool
    seconds: float


class TrainingCost(Noun):
    """What a preset of the training takes on a device, from a few measured steps.

    frames : to learn from. seconds : for all of them. peak_mib : highest memory, of the GPU or (without one) of the whole program;
    None where the system does not tell.
    """

    preset: str
    device: str
    frames: int
    seconds: float
    peak_mib: float | None = None
