"""What all frames of a run share, and the way of one batch of frames through it: photons in, columns of a table out.

It knows no stack, so that another process can do it with photons that it is sent.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from ..domain.instrument import Instrument
from ..domain.plans import ReconstructPlan
from ..engine.localize.findings import Findings
from ..engine.localize.footprint import choose_depth_step, choose_window
from ..engine.localize.localizer import Localizer, Propose, Rules
from ..engine.localize.pursuit import Pursuit
from ..engine.localize.scene import Patches
from ..engine.localize.tiles import Tile, Tiling, cut_patches
from ..engine.localize.unrefined import Unjudged, Unrefined
from ..engine.optics.table import PsfTable
from .devices import chosen_device
from .photons import Shares, ViewImages, detected_shares, to_device
from .trained import SURE, TrainedLocalizer, load_network, proposer
from .volume_start import VolumeLocalizer

# A round of fitting takes time in proportion to the patches' area; with this many pixels it stays well under a second,
# which is how soon a cancel must act.
PATCH_PX_A_BATCH = 30_000
# After first guesses the search is short: what is left over is few and far between, and the refinement finds its depth from
# farther away.
SHORT_SEARCH: dict[str, Any] = {"passes": 1, "largest_reseats": 0}
# Of a volume's deconvolution: 12 tell molecules apart, which is all that the fit needs; depth alone (27 nm instead of 80) needs 25.
ITERATIONS = {True: 12, False: 25}
FITTED_COLUMNS = (
    *("frame", "z_nm", "y_nm", "x_nm", "sigma_z_nm", "sigma_y_nm", "sigma_x_nm", "photons", "sigma_photons"),
    *("background_photons", "sigma_background_photons", "probability", "log_likelihood_ratio", "converged"),
)
FOUND_COLUMNS = ("frame", "z_nm", "y_nm", "x_nm", "confidence")  # without refinement
# What a network guesses stands at times twice at one place, and what it misses stands where images overlap.
CROWDED: dict[str, Any] = {"weakest_first": True, "neighbours_follow": True, "sure": SURE}
Region = tuple[int, int, int, int]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Fit:
    """What all frames of a run share. neighbours : the network that proposes, if it looks at neighbouring frames."""

    instrument: Instrument
    plan: ReconstructPlan
    region: Region
    shares: Shares
    table: PsfTable
    tiling: Tiling
    localizer: Localizer
    neighbours: TrainedLocalizer | None = None

    @property
    def context_frames(self) -> int:
        """How many frames before and after a batch its network wants to see."""
        return 0 if self.neighbours is None else self.neighbours.context_frames

    @property
    def frames_a_batch(self) -> int:
        """How many frames may be localized at once, so that a cancel acts soon."""
        height, width = self.tiling.patch_yx
        return max(1, min(self.plan.batch_frames, PATCH_PX_A_BATCH // (height * width)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that this fit gives."""
        if not self.plan.refine:
            return FOUND_COLUMNS
        return (*FITTED_COLUMNS, "psf_width_nm") if self.localizer.refiner.fit_blur else FITTED_COLUMNS


@dataclass(frozen=True)
class Part:
    """One tile of a batch while it is localized: its patches and the frame of each."""

    tile: Tile
    frames: torch.Tensor
    patches: Patches
    steps: Generator[int, None, Findings]


def prepare_fit(instrument: Instrument, plan: ReconstructPlan, region: Region) -> Fit:
    """Compute what is computed once: PSF table, tiles, search kernels, network."""
    trained = load_network(plan.model, instrument) if plan.model is not None else None
    window = plan.window_px or (trained[1].window_px if trained else choose_window(instrument))
    window += 1 - window % 2
    depth_step = plan.depth_step_nm or choose_depth_step(instrument)
    tiling = Tiling.of_frame((region[2] - region[0], region[3] - region[1]), window)
    blur = max(view.blur_nm for view in instrument.views)
    blur_range = (0.55 * blur, 1.45 * blur) if blur > 0 else (0.1 * instrument.pixel_nm(), 0.8 * instrument.pixel_nm())
    shares = detected_shares(instrument)
    table = PsfTable(shares.instrument, window, depth_step / 2, blur_range if plan.fit_blur else None, chosen_device(plan.device))
    guessed = trained is not None or plan.start == "volume"
    short = guessed and not plan.thorough
    rules = Rules(
        threshold=plan.detection_threshold,
        depth_step_nm=depth_step * (2 if short else 1),
        apart_nm=0.2 * window * table.pixel_v[0],
        largest_count=plan.max_molecules_per_frame,
        background_scale_px=plan.background_scale_px,
        fit_blur=plan.fit_blur,
        **(SHORT_SEARCH if short else {}),
        **(CROWDED if trained and plan.start == "search" else {}),
    )
    propose: Propose | None = None
    if plan.start == "volume":
        propose = VolumeLocalizer(shares.instrument, trained[0].to(table.device) if trained else None, ITERATIONS[plan.refine])
    elif trained:
        propose = proposer(*trained, table, tiling.patch_yx)
    way = Pursuit if plan.method == "pursuit" else Localizer if plan.refine else Unrefined
    localizer = way(table, tiling.patch_yx, rules, propose)
    neighbours = propose if isinstance(propose, TrainedLocalizer) and propose.context_frames else None
    return Fit(instrument, plan, region, shares, table, tiling, localizer, neighbours)


def parts_of(fit: Fit, images: list[ViewImages], first_frame: int, blank_too: bool = False) -> Generator[Part, None, None]:
    """Parts of a batch of frames, by default without patches in which no pixel counts (blank frames, saturated fields).

    images : of the batch, and of the fit's `context_frames` on each side of it. first_frame : number of the batch's first.
    """
    device, outer = fit.table.device, fit.context_frames
    views = [to_device(view, device) for view in images]
    for tile in fit.tiling.tiles:
        patches = cut_patches(views, fit.table, tile, fit.tiling, fit.region[:2])
        found = None
        if fit.neighbours is not None:
            with _one_thread(device):
                found = fit.neighbours.across(patches)
            patches = patches.select(torch.arange(outer, len(patches.photons_tvyx) - outer, device=device))
        told = (patches.seen_tvyx.flatten(1).any(1) | blank_too).nonzero()[:, 0]
        if not len(told):
            continue
        # on a processor one after the other: a patch that is done costs nothing while others go on
        for some in told.split(1 if device.type == "cpu" else len(told)):
            these = patches.select(some)
            if found is not None:
                these.found = found.of_patches(some)
            yield Part(tile, some + first_frame, these, fit.localizer.run(these))


def localized(fit: Fit, part: Part) -> Generator[int, None, Findings]:
    """Step through a part with one thread: its many small operations take twice as long with more."""
    while True:
        with _one_thread(fit.table.device):
            try:
                count = next(part.steps)
            except StopIteration as end:
                found: Findings = end.value
                return found
        yield count


@contextmanager
def _one_thread(device: torch.device) -> Generator[None, None, None]:
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def columns_of(fit: Fit, part: Part, found: Findings) -> Columns:
    """Rows of one tile that its core owns, in frame coordinates."""
    state, tile, pixel = found.state, part.tile, fit.table.pixel_v[0]
    y_px = state.position_m3[:, 1] / pixel + tile.top
    x_px = state.position_m3[:, 2] / pixel + tile.left
    keep = fit.tiling.owned(tile, y_px, x_px) & (state.photons_m * fit.shares.photons >= fit.plan.min_photons)
    sigma, ratio = found.sigma_mp, found.log_likelihood_ratio_m
    columns = {
        "frame": part.frames[state.patch_m],
        "z_nm": state.position_m3[:, 0],
        "y_nm": (y_px + fit.region[0]).double() * pixel,
        "x_nm": (x_px + fit.region[1]).double() * pixel,
        "sigma_z_nm": sigma[:, 0],
        "sigma_y_nm": sigma[:, 1],
        "sigma_x_nm": sigma[:, 2],
        "photons": state.photons_m * fit.shares.photons,
        "sigma_photons": sigma[:, 3] * fit.shares.photons,
        "background_photons": found.background_m * fit.shares.background,
        "sigma_background_photons": found.sigma_background_m * fit.shares.background,
        # without training the odds come from the likelihood ratio alone, against the plan's threshold as even odds
        "probability": torch.sigmoid(ratio - fit.plan.detection_threshold),
        "log_likelihood_ratio": ratio,
        "converged": found.converged_m,
    }
    if fit.localizer.refiner.fit_blur:
        columns["psf_width_nm"] = state.blur_m
    if isinstance(found, Unjudged):
        columns["confidence"] = found.confidence_m
    return {name: columns[name][keep].cpu().numpy() for name in fit.columns}
