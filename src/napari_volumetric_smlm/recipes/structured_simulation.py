"""Simulate a raw structured-illumination stack whose patterns and sample are known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator

import numpy as np
import torch

from ..domain.illumination import GEOMETRIES, StructuredSimulation
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.structured_plans import StructuredSimulatePlan
from ..engine.simulate.camera import expose
from ..engine.structured.arrange import frame_numbers
from ..engine.structured.estimate import Optics
from ..engine.structured.otf import transfer_of
from ..engine.structured.pattern import nominal_illumination, with_phases
from ..engine.structured.simulate import FINE, MARGIN_PX, frames_of, sample_image
from ..errors import PlanError
from .devices import chosen_device


def simulate_structured(instrument: Instrument, plan: StructuredSimulatePlan) -> Generator[Progress, None, StructuredSimulation]:
    """Simulate; the same plan on the same kind of device gives the same stack.

    Raises
    ------
    PlanError
        If the geometry needs volumes, or the finest wave is beyond what the pixels can carry.
    """
    geometry = GEOMETRIES[plan.geometry]
    if geometry.axial:
        raise PlanError(f"geometry {plan.geometry} makes volumes, which are not simulated yet: choose a 2d geometry")
    device = chosen_device(plan.device)
    yield Progress(stage="prepare", message="Placing emitters")
    optics = Optics(transfer_of(instrument).damped(plan.otf_damping), instrument.pixel_nm() * 1e-3).to(device)
    finest = plan.frequency * optics.transfer.cutoff_per_um
    if finest * optics.pixel_um > FINE / 2:
        raise PlanError(f"a wave of {1000 / finest:.0f} nm is too fine for pixels of {1000 * optics.pixel_um:g} nm: lower the frequency")
    generator = torch.Generator().manual_seed(plan.seed)
    noise = torch.Generator(device).manual_seed(plan.seed)
    nominal = nominal_illumination(geometry, finest, plan.angle_rad, plan.modulation)
    phases = 2 * math.pi * torch.rand(geometry.orientations, generator=generator)
    errors = plan.step_error_rad * torch.randn((geometry.orientations, geometry.phases), generator=generator)
    illumination = with_phases(nominal, phases.tolist(), errors.tolist())
    sample = sample_image(plan.emitter_density_per_um2, plan.structure, (plan.shape_yx_px, optics.pixel_um), generator).to(device)
    mean = plan.photons * frames_of(sample, illumination, optics)
    numbers = frame_numbers(geometry.frame_count, geometry, 1, plan.order)[0, :, :, 0]
    ordered = torch.empty((geometry.frame_count, *plan.shape_yx_px), device=device)
    ordered[torch.from_numpy(numbers.flatten()).to(device)] = mean.flatten(0, 1)
    lamp = torch.linspace(1, 1 - plan.bleaching, geometry.frame_count, device=device)[:, None, None]
    counts = np.empty((plan.time_count * geometry.frame_count, *plan.shape_yx_px), np.uint16)
    for time in range(plan.time_count):
        exposed = expose(ordered * lamp + plan.background_photons, instrument.cameras[0], noise)
        counts[time * geometry.frame_count : (time + 1) * geometry.frame_count] = exposed.cpu().numpy().astype(np.uint16)
        yield Progress(stage="simulate", done=time + 1, total=plan.time_count, message=f"Time point {time + 1} of {plan.time_count}")
    digest = hashlib.sha256((instrument.fingerprint + plan.model_dump_json()).encode()).hexdigest()
    stack = RawStack(
        counts_tyx=(counts,),
        kind="structured",
        fingerprint=digest[:16],
        pixel_nm=instrument.pixel_nm(),
        metadata={"simulated": plan.model_dump(mode="json"), "instrument": instrument.name},
    )
    inner = sample[MARGIN_PX * FINE : -MARGIN_PX * FINE, MARGIN_PX * FINE : -MARGIN_PX * FINE]
    return StructuredSimulation(stack=stack, illumination=illumination, sample_yx=inner.cpu().numpy())
