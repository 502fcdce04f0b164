"""Raw frames and a calibrated instrument to molecules."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import torch
from loky.process_executor import BrokenProcessPool

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import ReconstructPlan
from ..domain.runs import FrameExplanation, Progress, Reconstruction
from ..engine.localize.findings import Findings
from ..engine.localize.scene import Patches
from ..engine.localize.tiles import Tile
from .crew import WORTH_S, crew, processes_for
from .fitting import Columns, Fit, columns_of, localized, parts_of, prepare_fit
from .photons import ViewImages, check_cameras, frames_and_region, noise_floors, read_run
from .record import reconstruction

METHODS = {
    "search": "matched filter, joint maximum-likelihood refinement",
    "pursuit": "matching pursuit: molecules fitted and subtracted one by one",
}
STILL = "The model looks at the frames before and after as well; this one has none and is read alone"


@dataclass(frozen=True)
class Job:
    """A run: what its frames share, the frames and their stack."""

    stack: RawStack
    frames: range
    noise_floor_c: list[float]
    fit: Fit

    def photons(self, batch: range) -> list[ViewImages]:
        """Photons of some frames in every view, and of the neighbours that the fit's network wants to see."""
        return read_run(self.stack, self.fit.instrument, batch, self.noise_floor_c, self.fit.context_frames)

    @property
    def notice(self) -> str:
        """What to tell the user of the frames and the model, or nothing."""
        return STILL if self.fit.context_frames and self.stack.frame_count == 1 else ""


@dataclass
class _Tally:
    """How far a run is."""

    total: int
    done: int = 0
    molecules: int = 0
    tables: list[Localizations] = field(default_factory=list)

    def add(self, table: Localizations, frames: int) -> Progress:
        """Count a batch in, and tell."""
        self.tables.append(table)
        self.done, self.molecules = self.done + frames, self.molecules + len(table)
        return self.told(preview=table)

    def told(self, message: str = "", preview: Localizations | None = None, **numbers: float) -> Progress:
        """Tell where the run is."""
        counted = {**numbers, "molecules": float(self.molecules)}
        return Progress(stage="localize", done=self.done, total=self.total, message=message, numbers=counted, preview=preview)


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
    tally = _Tally(len(job.frames))
    if job.notice:
        yield tally.told(job.notice)
    processes, alone = processes_for(plan, job.fit.table.device), time.perf_counter()
    while tally.done < tally.total:
        yield from _alone(job, tally)
        left_s = (time.perf_counter() - alone) / tally.done * (tally.total - tally.done)
        # a plan that names a number has its will, whatever it is worth
        if processes > 1 and tally.done < tally.total and (plan.processes or left_s * (1 - 1 / processes) > WORTH_S):
            processes = yield from _together(job, tally, processes)
    seconds = time.perf_counter() - started
    record = {
        "device": str(job.fit.table.device),
        "seconds": round(seconds, 3),
        "complete": True,
        "frames_done": tally.done,
        "method": METHODS[plan.method] if plan.refine else "the model's finds, not refined",
        "window_px": job.fit.table.window_px,
        "read_noise_floor_photons2": [round(f, 2) for f in job.noise_floor_c],
    }
    if job.fit.context_frames:
        record["neighbouring_frames"] = 0 if job.notice else job.fit.context_frames
    return reconstruction((stack, instrument, plan), tally.tables, seconds, record)


def _alone(job: Job, tally: _Tally) -> Generator[Progress, None, None]:
    """Localize the next batch in this process."""
    batch = job.frames[tally.done : tally.done + job.fit.frames_a_batch]
    columns = []
    for part in parts_of(job.fit, job.photons(batch), batch.start):
        steps = localized(job.fit, part)
        while True:
            try:
                yield tally.told(molecules_now=float(next(steps)))
            except StopIteration as end:
                columns.append(columns_of(job.fit, part, end.value))
                break
    yield tally.add(_table(job, columns), len(batch))


def _together(job: Job, tally: _Tally, processes: int) -> Generator[Progress, None, int]:
    """Localize all frames that are left in several processes; returns how many to use if some are left after all."""
    step, given = job.fit.frames_a_batch, tally.done
    yield tally.told(f"Starting {processes} processes")
    try:
        with crew(job.fit.instrument, job.fit.plan, job.fit.region, processes) as together:
            while tally.done < tally.total:
                while together.wants and given < tally.total:
                    batch = job.frames[given : given + step]
                    together.give(job.photons(batch), batch)
                    given += len(batch)
                taking = together.take()
                while True:
                    try:
                        next(taking)
                        yield tally.told()
                    except StopIteration as end:
                        frames, columns = end.value
                        break
                yield tally.add(_table(job, columns), frames)
    except (BrokenProcessPool, OSError) as error:
        # without memory for them, or where none may be started: slower, but it goes on
        yield tally.told(f"The processes ended ({type(error).__name__}); going on with one")
        return 1
    return processes


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
    height, width = job.fit.tiling.shape_yx
    pictures = torch.zeros((3, len(instrument.views), height, width))
    columns = []
    for k, part in enumerate(parts_of(job.fit, job.photons(job.frames), frame, blank_too=True)):
        steps = localized(job.fit, part)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                columns.append(columns_of(job.fit, part, end.value))
                _paint(pictures, part.tile, part.patches, end.value)
                break
            yield Progress(stage="preview", done=k, total=len(job.fit.tiling.tiles), message=job.notice)
    for v, view in enumerate(instrument.views):
        pictures[:2, v] *= instrument.cameras[view.camera].excess_noise
    photons, model, residual = (p.numpy() for p in pictures)
    return FrameExplanation(
        frame=frame,
        localizations=_table(job, columns),
        photons_vyx=photons,
        model_vyx=model,
        residual_vyx=residual,
        camera_v=tuple(view.camera for view in instrument.views),
        corner_vyx_px=_corners(instrument, job.fit.region),
    )


def _corners(instrument: Instrument, region_yx_px: tuple[int, int, int, int]) -> tuple[tuple[int, int], ...]:
    """Where the first view's region lies on the frames of every view's camera: where its affine puts the middle, to the nearest pixel."""
    corner = np.array(region_yx_px[:2]) * instrument.pixel_nm()
    middle = (np.array(region_yx_px[2:]) * instrument.pixel_nm() - corner) / 2
    corners = []
    for v, view in enumerate(instrument.views):
        affine = np.array(view.affine_yx)
        row, column = np.rint((affine[:, :2] @ (corner + middle) + affine[:, 2] - middle) / instrument.pixel_nm(v)).astype(int)
        corners.append((int(row), int(column)))
    return tuple(corners)


def prepare(stack: RawStack, instrument: Instrument, plan: ReconstructPlan) -> Job:
    """Everything that is computed once, and the noise of the cameras."""
    check_cameras(stack, instrument)
    frames, region = frames_and_region(stack, plan, instrument)
    return Job(stack, frames, noise_floors(stack, instrument, frames), prepare_fit(instrument, plan, region))


def _table(job: Job, parts: list[Columns]) -> Localizations:
    """One batch's tiles as a table, sorted by frame; without parts it is empty but has its columns."""
    columns = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in job.fit.columns}
    order = np.argsort(columns["frame"], kind="stable")
    height, width = job.stack.counts_tyx[job.fit.instrument.views[0].camera].shape[1:]
    return Localizations(
        columns={name: values[order] for name, values in columns.items()},
        z_reference=job.fit.instrument.z_reference,
        pixel_nm=job.fit.table.pixel_v[0],
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
