"""Raw frames and a calibrated instrument to molecules, without training."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import ReconstructPlan
from ..domain.runs import FrameExplanation, Progress, Reconstruction
from ..engine.localize.findings import Findings
from ..engine.localize.footprint import choose_depth_step, choose_window
from ..engine.localize.localizer import Localizer, Rules
from ..engine.localize.scene import Patches
from ..engine.localize.tiles import Tile, Tiling, cut_patches
from ..engine.optics.table import PsfTable
from .devices import chosen_device
from .photons import Shares, check_cameras, detected_shares, frames_and_region, noise_floors, read_photons, to_device
from .record import provenance
from .trained import load_network, proposer

# A round of fitting takes time in proportion to the patches' area; with this many pixels it stays well under a second,
# which is how soon a cancel must act.
PATCH_PX_A_BATCH = 30_000
FITTED_COLUMNS = (
    *("frame", "z_nm", "y_nm", "x_nm", "sigma_z_nm", "sigma_y_nm", "sigma_x_nm", "photons", "sigma_photons"),
    *("background_photons", "sigma_background_photons", "probability", "log_likelihood_ratio", "converged"),
)


@dataclass(frozen=True)
class Job:
    """What all frames of a run share."""

    stack: RawStack
    instrument: Instrument
    plan: ReconstructPlan
    frames: range
    region: tuple[int, int, int, int]
    noise_floor_c: list[float]
    shares: Shares
    table: PsfTable
    tiling: Tiling
    localizer: Localizer


def reconstruct(stack: RawStack, instrument: Instrument, plan: ReconstructPlan) -> Generator[Progress, None, Reconstruction]:
    """Find and fit the molecules of a stack's frames.

    Yields
    ------
    Progress
        After every batch of frames, with its `Localizations` as preview, and several times within it.

    Returns
    -------
    Reconstruction
        The table; y and x from the centre of pixel (0, 0) of the first view's camera, z as `z_reference` says.

    Raises
    ------
    PlanError
        If frames, region or cameras do not fit the stack.
    StackError
        If frames hold values that are not finite.
    """
    started = time.perf_counter()
    yield Progress(stage="prepare", message="Computing the point-spread function")
    job = prepare(stack, instrument, plan)
    found: list[Localizations] = []
    total, done, molecules = len(job.frames), 0, 0
    step = _frames_a_batch(job)
    for first in range(0, total, step):
        batch = job.frames[first : first + step]
        columns = []
        for part in _tiles_of_batch(job, batch):
            while True:
                try:
                    count = next(part.steps)
                except StopIteration as end:
                    columns.append(_columns(job, part, end.value))
                    break
                numbers = {"molecules_now": float(count), "molecules": float(molecules)}
                yield Progress(stage="localize", done=done, total=total, numbers=numbers)
        table = _table(job, columns)
        found.append(table)
        done, molecules = done + len(batch), molecules + len(table)
        yield Progress(stage="localize", done=done, total=total, numbers={"molecules": float(molecules)}, preview=table)
    seconds = time.perf_counter() - started
    record = {
        **provenance((stack, instrument, plan)),
        "device": str(job.table.device),
        "seconds": round(seconds, 3),
        "complete": True,
        "frames_done": done,
        "method": "matched filter, joint maximum-likelihood refinement",
        "window_px": job.table.window_px,
        "read_noise_floor_photons2": [round(f, 2) for f in job.noise_floor_c],
    }
    return Reconstruction(
        localizations=Localizations.joined(found).model_copy(update={"provenance": record}),
        plan=plan,
        instrument_fingerprint=instrument.fingerprint,
        frames_done=done,
        complete=True,
        seconds=seconds,
    )


def explain_frame(
    stack: RawStack, instrument: Instrument, plan: ReconstructPlan, frame: int
) -> Generator[Progress, None, FrameExplanation]:
    """One frame beside what is found in it: photons, the model's mean and the residual in standard deviations.

    Further views appear as cut to the first view's region, to the nearest pixel.

    Raises
    ------
    PlanError, StackError
        As `reconstruct`.
    """
    yield Progress(stage="prepare", message="Computing the point-spread function")
    job = prepare(stack, instrument, plan.model_copy(update={"first_frame": frame, "last_frame": frame}))
    height, width = job.tiling.shape_yx
    pictures = torch.zeros((3, len(instrument.views), height, width))
    columns = []
    for k, part in enumerate(_tiles_of_batch(job, job.frames, blank_too=True)):
        while True:
            try:
                next(part.steps)
            except StopIteration as end:
                columns.append(_columns(job, part, end.value))
                _paint(pictures, part.tile, part.patches, end.value)
                break
            yield Progress(stage="preview", done=k, total=len(job.tiling.tiles))
    for v, view in enumerate(instrument.views):
        pictures[:2, v] *= instrument.cameras[view.camera].excess_noise
    photons, model, residual = (p.numpy() for p in pictures)
    return FrameExplanation(frame=frame, localizations=_table(job, columns), photons_vyx=photons, model_vyx=model, residual_vyx=residual)


def prepare(stack: RawStack, instrument: Instrument, plan: ReconstructPlan) -> Job:
    """Everything that is computed once: PSF table, tiles, search kernels, camera noise."""
    trained = load_network(plan.model, instrument) if plan.model is not None else None
    check_cameras(stack, instrument)
    frames, region = frames_and_region(stack, plan, instrument)
    window = plan.window_px or (trained[1].window_px if trained else choose_window(instrument))
    window += 1 - window % 2
    depth_step = plan.depth_step_nm or choose_depth_step(instrument)
    shape = (region[2] - region[0], region[3] - region[1])
    tiling = Tiling.of_frame(shape, window)
    blur = max(view.blur_nm for view in instrument.views)
    blur_range = (0.55 * blur, 1.45 * blur) if blur > 0 else (0.1 * instrument.pixel_nm(), 0.8 * instrument.pixel_nm())
    shares = detected_shares(instrument)
    table = PsfTable(shares.instrument, window, depth_step / 2, blur_range if plan.fit_blur else None, chosen_device(plan.device))
    rules = Rules(
        threshold=plan.detection_threshold,
        depth_step_nm=depth_step,
        apart_nm=0.2 * window * table.pixel_v[0],
        largest_count=plan.max_molecules_per_frame,
        background_scale_px=plan.background_scale_px,
        fit_blur=plan.fit_blur,
    )
    propose = proposer(*trained, table, tiling.patch_yx) if trained else None
    localizer = Localizer(table, tiling.patch_yx, rules, propose)
    return Job(stack, instrument, plan, frames, region, noise_floors(stack, instrument, frames), shares, table, tiling, localizer)


@dataclass(frozen=True)
class Part:
    """One tile of a batch while it is localized: its patches and the frame of each."""

    tile: Tile
    frames: torch.Tensor
    patches: Patches
    steps: Generator[int, None, Findings]


def _tiles_of_batch(job: Job, batch: range, blank_too: bool = False) -> Generator[Part, None, None]:
    """Parts of a batch of frames, by default without patches in which no pixel counts (blank frames, saturated fields)."""
    device = job.table.device
    views = [to_device(v, device) for v in read_photons(job.stack, job.instrument, batch, job.noise_floor_c)]
    for tile in job.tiling.tiles:
        patches = cut_patches(views, job.table, tile, job.tiling, job.region[:2])
        told = (patches.seen_tvyx.flatten(1).any(1) | blank_too).nonzero()[:, 0]
        if len(told):
            patches = patches if len(told) == len(batch) else patches.select(told)
            yield Part(tile, told + batch.start, patches, job.localizer.run(patches))


def _frames_a_batch(job: Job) -> int:
    height, width = job.tiling.patch_yx
    return max(1, min(job.plan.batch_frames, PATCH_PX_A_BATCH // (height * width)))


def _columns(job: Job, part: Part, found: Findings) -> dict[str, NDArray[Any]]:
    """Rows of one tile that its core owns, in frame coordinates."""
    state, tile, pixel = found.state, part.tile, job.table.pixel_v[0]
    y_px = state.position_m3[:, 1] / pixel + tile.top
    x_px = state.position_m3[:, 2] / pixel + tile.left
    keep = job.tiling.owned(tile, y_px, x_px) & (state.photons_m * job.shares.photons >= job.plan.min_photons)
    sigma, ratio = found.sigma_mp, found.log_likelihood_ratio_m
    columns = {
        "frame": part.frames[state.patch_m],
        "z_nm": state.position_m3[:, 0],
        "y_nm": (y_px + job.region[0]).double() * pixel,
        "x_nm": (x_px + job.region[1]).double() * pixel,
        "sigma_z_nm": sigma[:, 0],
        "sigma_y_nm": sigma[:, 1],
        "sigma_x_nm": sigma[:, 2],
        "photons": state.photons_m * job.shares.photons,
        "sigma_photons": sigma[:, 3] * job.shares.photons,
        "background_photons": found.background_m * job.shares.background,
        "sigma_background_photons": found.sigma_background_m * job.shares.background,
        # without training the odds come from the likelihood ratio alone, against the plan's threshold as even odds
        "probability": torch.sigmoid(ratio - job.plan.detection_threshold),
        "log_likelihood_ratio": ratio,
        "converged": found.converged_m,
    }
    if job.localizer.refiner.fit_blur:
        columns["psf_width_nm"] = state.blur_m
    return {name: values[keep].cpu().numpy() for name, values in columns.items()}


def _table(job: Job, parts: list[dict[str, NDArray[Any]]]) -> Localizations:
    """One batch's tiles as a table, sorted by frame; without parts it is empty but has its columns."""
    names = (*FITTED_COLUMNS, "psf_width_nm") if job.localizer.refiner.fit_blur else FITTED_COLUMNS
    columns = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in names}
    order = np.argsort(columns["frame"], kind="stable")
    height, width = job.stack.counts_tyx[job.instrument.views[0].camera].shape[1:]
    return Localizations(
        columns={name: values[order] for name, values in columns.items()},
        z_reference=job.instrument.z_reference,
        pixel_nm=job.table.pixel_v[0],
        frame_count=job.stack.frame_count,
        shape_yx_px=(int(height), int(width)),
    )


def _paint(pictures: torch.Tensor, tile: Tile, patches: Patches, found: Findings) -> None:
    """Copy a tile's core into the whole frame's photons, model and residual."""
    y0, x0, y1, x1 = tile.core
    inner = (0, slice(None), slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
    photons, variance = patches.photons_tvyx[inner], patches.read_variance_tvyx[inner]
    mean = found.mean_tvyx[0]
    residual = (photons - mean) / (mean + variance).clamp(min=0.05).sqrt() * patches.seen_tvyx[inner]
    for picture, values in zip(pictures, (photons, mean, residual), strict=True):
        picture[:, y0:y1, x0:x1] = values[:, y0 - tile.top : y1 - tile.top, x0 - tile.left : x1 - tile.left].cpu()
