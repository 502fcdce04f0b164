"""Simulate: a scan of the focal plane over beads on the coverslip, for a calibration to be tried on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator

import numpy as np
import torch

from ..domain.bead_plans import BeadScanPlan
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.plans import SimulatePlan
from ..domain.runs import BeadScan, Progress
from ..engine.simulate.beads import scan_beads
from ..engine.simulate.camera import expose
from ..engine.simulate.structures import Box, plan_box
from .frame_size import with_frame_size
from .simulate import background_of, check_movie

FEWEST_SLICES = 7
CANDIDATES = 50  # places from which each bead takes the one farthest from the others


def simulate_beads(instrument: Instrument, plan: BeadScanPlan) -> Generator[Progress, None, BeadScan]:
    """Simulate a bead scan as the instrument takes it; beads lie on the coverslip (or in the nominal focus), their centres at their radius.

    Raises
    ------
    PlanError
        If the margin leaves nothing of the frame, a range falls, or the scan would not fit into memory.
    """
    plan = with_frame_size(plan, instrument)
    focus = focus_of(instrument, plan)
    shared = plan.model_dump(include={"shape_yx_px", "background_photons", "background_structure"})
    movie = SimulatePlan(frame_count=len(focus), border_px=plan.bead_margin_px, **shared)
    check_movie(instrument, movie)
    generator = torch.Generator().manual_seed(plan.seed)
    place = _far_apart(plan.bead_count, plan_box(instrument, movie), generator)
    place[:, 0] = plan.bead_diameter_nm / 2
    background = background_of(instrument, movie, generator)
    yield Progress(stage="simulate", total=plan.bead_count, message="Drawing the beads")
    mean = background.expand(len(focus), *background.shape).clone()
    for bead in range(plan.bead_count):
        light = scan_beads(instrument, place[bead : bead + 1], focus, plan.shape_yx_px, plan.bead_diameter_nm)
        mean += plan.bead_photons * light
        yield Progress(stage="simulate", done=bead + 1, total=plan.bead_count, message=f"Bead {bead + 1} of {plan.bead_count}")
    counts = tuple(expose(mean[:, c], camera, generator).numpy().astype(np.uint16) for c, camera in enumerate(instrument.cameras))
    digest = hashlib.sha256((instrument.fingerprint + plan.model_dump_json()).encode()).hexdigest()
    stack = RawStack(
        counts_tyx=counts,
        kind="beads",
        fingerprint=digest[:16],
        pixel_nm=instrument.pixel_nm(),
        z_step_nm=plan.z_step_nm,
        metadata={"simulated": plan.model_dump(mode="json"), "instrument": instrument.name},
    )
    centres = (place[:, 1:] / instrument.pixel_nm()).tolist()
    return BeadScan(stack=stack, positions_yx_px=tuple((row, column) for row, column in centres), instrument=instrument, plan=plan)


def focus_of(instrument: Instrument, plan: BeadScanPlan) -> torch.Tensor:
    """Focal plane of each slice (t,) in nm above the coverslip.

    A molecule at z with the focal plane at f looks like a bead at 0 with the focal plane at f - z, so the scan is centred where the middle
    of the depths is in this sense, and by default is as long as they are.
    """
    low, high = instrument.depth_range_nm
    slices = plan.slice_count or max(FEWEST_SLICES, math.ceil((high - low) / abs(plan.z_step_nm)) + 1)
    middle = instrument.focal_plane_nm - (low + high) / 2
    return middle + (torch.arange(slices) - (slices - 1) / 2) * plan.z_step_nm


def _far_apart(count: int, box: Box, generator: torch.Generator) -> torch.Tensor:
    """Places (count, 3) in the box, each the farthest of several random ones from those before it."""
    chosen = torch.zeros((0, 3))
    for _ in range(count):
        candidates = box.low_nm + torch.rand((CANDIDATES, 3), generator=generator) * (box.high_nm - box.low_nm)
        best = int(torch.cdist(candidates[:, 1:], chosen[:, 1:]).amin(1).argmax()) if len(chosen) else 0
        chosen = torch.cat([chosen, candidates[best : best + 1]])
    return chosen
