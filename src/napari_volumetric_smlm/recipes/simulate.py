"""Simulate: a movie of blinking molecules, and the table of what is truly in it."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

import numpy as np
import torch

from .. import __version__
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.molecules import Localizations
from ..domain.plans import SimulatePlan
from ..domain.runs import Progress, Simulation
from ..engine.simulate.background import background_images
from ..engine.simulate.camera import expose
from ..engine.simulate.molecules import Emissions, blink
from ..engine.simulate.scene import Scene
from ..engine.simulate.structures import plan_box
from ..errors import PlanError
from .devices import chosen_device
from .frame_size import with_frame_size

LARGEST_MOVIE_GIB = 8
# Molecules and pixels that are drawn between two reports, so that they come at least twice a second on one core.
MOLECULES_A_STEP, PIXELS_A_STEP = 100, 4_000_000


def simulate(instrument: Instrument, plan: SimulatePlan) -> Generator[Progress, None, Simulation]:
    """Simulate a movie; the same plan on the same kind of device gives the same movie.

    The plan's photons and background are those that reach the cameras; the truth holds what the cameras detect (times their quantum
    efficiency), as a reconstruction would. Light farther from a molecule than its window is left out (see `Scene`).

    Returns
    -------
    Simulation
        truth : one row per molecule and frame, with the columns photons (over all views), background_photons (at the molecule, first
        view), id (of the molecule, the same in all its frames) and on_fraction (share of the exposure that it was on).

    Raises
    ------
    PlanError
        If the border leaves nothing of the frame, a range falls, or the movie would not fit into memory.
    InstrumentError
        If a map of a camera has another shape than the frames.
    """
    plan = with_frame_size(plan, instrument)
    check_movie(instrument, plan)
    device = chosen_device(plan.device)
    yield Progress(stage="prepare", message="Computing the point-spread function")
    # molecules and background come from the processor's generator: they are few, and alike on all devices
    generator = torch.Generator().manual_seed(plan.seed)
    noise = torch.Generator(device).manual_seed(plan.seed)
    emissions = blink(plan, plan_box(instrument, plan), generator)
    background_cyx = background_of(instrument, plan, generator)
    scene = Scene(instrument, plan.shape_yx_px, plan.blur_nm, device=device)

    counts = [np.empty((plan.frame_count, *plan.shape_yx_px), np.uint16) for _ in instrument.cameras]
    lit, light = emissions.to(device), background_cyx.to(device)
    size = background_cyx.numel()
    step = min(MOLECULES_A_STEP * plan.frame_count // max(1, len(emissions)), PIXELS_A_STEP // size)
    step = max(1, min(step, plan.frame_count))
    for first in range(0, plan.frame_count, step):
        last = min(first + step, plan.frame_count)
        mean = scene.draw(lit.in_frames(first, last), last - first) + light
        for c, camera in enumerate(instrument.cameras):
            counts[c][first:last] = expose(mean[:, c], camera, noise).cpu().numpy().astype(np.uint16)
        yield Progress(stage="simulate", done=last, total=plan.frame_count, message=f"Frame {last} of {plan.frame_count}")
    return Simulation(
        stack=_stack(instrument, plan, counts),
        truth=_truth(instrument, plan, emissions, background_cyx, scene.fraction_v),
        instrument=instrument,
        plan=plan,
    )


def check_movie(instrument: Instrument, plan: SimulatePlan) -> None:
    """Check the ranges of a plan and the memory that its frames take.

    Raises
    ------
    PlanError
        With the numbers that were found and expected.
    """
    for name in ("photons", "background_photons", "blur_nm"):
        low, high = getattr(plan, name)
        if not 0 <= low <= high:
            raise PlanError(f"{name} is ({low:g}, {high:g}): expected the lowest and then the highest value, neither below 0")
    bytes_needed = 2 * plan.frame_count * plan.shape_yx_px[0] * plan.shape_yx_px[1] * len(instrument.cameras)
    if bytes_needed > LARGEST_MOVIE_GIB * 2**30:
        raise PlanError(
            f"{plan.frame_count} frames of {plan.shape_yx_px[0]} x {plan.shape_yx_px[1]} pixels on {len(instrument.cameras)} cameras take "
            f"{bytes_needed / 2**30:.1f} GiB, more than the {LARGEST_MOVIE_GIB} GiB that a simulated movie may have: simulate several "
            "shorter ones with different seeds"
        )


def background_of(instrument: Instrument, plan: SimulatePlan, generator: torch.Generator) -> torch.Tensor:
    """Background before the sensors (cameras, y, x); a camera that sees less of the molecules sees less of it too."""
    share_c = [0.0] * len(instrument.cameras)
    for view in instrument.views:
        share_c[view.camera] += view.photon_fraction
    first = share_c[instrument.views[0].camera]
    image = background_images(1, plan.shape_yx_px, plan.background_photons, plan.background_structure, generator)
    return torch.cat([image * (share / first) for share in share_c])


def _stack(instrument: Instrument, plan: SimulatePlan, counts: list[np.ndarray]) -> RawStack:
    digest = hashlib.sha256((instrument.fingerprint + plan.model_dump_json()).encode()).hexdigest()
    return RawStack(
        counts_tyx=tuple(counts),
        kind="frames",
        fingerprint=digest[:16],
        pixel_nm=instrument.pixel_nm(),
        metadata={"simulated": plan.model_dump(mode="json"), "instrument": instrument.name},
    )


def _truth(
    instrument: Instrument, plan: SimulatePlan, emissions: Emissions, background_cyx: torch.Tensor, fraction_v: list[float]
) -> Localizations:
    efficiency = [instrument.cameras[view.camera].quantum_efficiency for view in instrument.views]
    detected = sum(share * q for share, q in zip(fraction_v, efficiency, strict=True))
    position = emissions.position_n3.double().numpy()
    last = np.array(plan.shape_yx_px) - 1
    row, column = np.clip(np.rint(position[:, 1:] / instrument.pixel_nm()), 0, last).astype(int).T
    first_view = background_cyx[instrument.views[0].camera].numpy() * efficiency[0]
    return Localizations(
        columns={
            "frame": emissions.frame_n.numpy(),
            "z_nm": position[:, 0],
            "y_nm": position[:, 1],
            "x_nm": position[:, 2],
            "photons": emissions.photons_n.double().numpy() * detected,
            "background_photons": first_view[row, column],
            "id": emissions.molecule_n.numpy(),
            "on_fraction": emissions.on_fraction_n.double().numpy(),
        },
        z_reference=instrument.z_reference,
        pixel_nm=instrument.pixel_nm(),
        frame_count=plan.frame_count,
        shape_yx_px=plan.shape_yx_px,
        provenance={
            "made_by": f"napari-volumetric-smlm {__version__}",
            "verb": "simulate",
            "plan": plan.model_dump(mode="json"),
            "instrument_fingerprint": instrument.fingerprint,
        },
    )
