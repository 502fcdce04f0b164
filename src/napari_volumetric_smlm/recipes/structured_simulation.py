"""Simulate a raw structured-illumination stack whose patterns and sample are known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator

import numpy as np
import torch

from ..domain.illumination import GEOMETRIES, Illumination, StructuredSimulation
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.structured_plans import StructuredSimulatePlan
from ..engine.simulate.camera import expose
from ..engine.structured.arrange import frame_numbers
from ..engine.structured.pattern import nominal_illumination, standing_waves, with_phases
from ..engine.structured.simulate import FINE, MARGIN_PX, frames_of, sample_image
from ..engine.structured.volume_otf import focus_series
from ..engine.structured.volume_simulate import sample_volume, volume_frames
from ..errors import PlanError
from .devices import chosen_device
from .structured_lens import Lens


def simulate_structured(instrument: Instrument, plan: StructuredSimulatePlan) -> Generator[Progress, None, StructuredSimulation]:
    """Simulate; the same plan on the same kind of device gives the same stack.

    Raises
    ------
    PlanError
        If the finest wave is beyond what the pixels can carry, or beyond what three beams in the sample can make.
    """
    geometry = GEOMETRIES[plan.geometry]
    device = chosen_device(plan.device)
    yield Progress(stage="prepare", message="Placing emitters")
    lens = Lens.of(instrument, plan.otf_damping, None, device)
    optics = lens.optics
    finest = plan.frequency * optics.transfer.cutoff_per_um
    if finest * optics.pixel_um > FINE / 2:
        raise PlanError(f"a wave of {1000 / finest:.0f} nm is too fine for pixels of {1000 * optics.pixel_um:g} nm: lower the frequency")
    generator = torch.Generator().manual_seed(plan.seed)
    noise = torch.Generator(device).manual_seed(plan.seed)
    nominal = nominal_illumination(geometry, finest, plan.angle_rad, plan.modulation)
    phases = 2 * math.pi * torch.rand(geometry.orientations, generator=generator)
    errors = plan.step_error_rad * torch.randn((geometry.orientations, geometry.phases), generator=generator)
    illumination = with_phases(nominal, phases.tolist(), errors.tolist())
    planes = plan.planes if geometry.axial else 1
    if geometry.axial:
        illumination, sample, mean = _volume(lens, plan, illumination, generator)
    else:
        sample = sample_image(plan.emitter_density_per_um2, plan.structure, (plan.shape_yx_px, optics.pixel_um), generator).to(device)[None]
        mean = frames_of(sample[0], illumination, optics)[:, :, None]
    numbers = frame_numbers(geometry.frame_count * planes, geometry, planes, plan.order)[0]
    ordered = torch.empty((numbers.size, *plan.shape_yx_px), device=device)
    ordered[torch.from_numpy(numbers.flatten()).to(device)] = plan.photons * mean.flatten(0, 2)
    lamp = torch.linspace(1, 1 - plan.bleaching, len(ordered), device=device)[:, None, None]
    counts = np.empty((plan.time_count * len(ordered), *plan.shape_yx_px), np.uint16)
    for time in range(plan.time_count):
        exposed = expose(ordered * lamp + plan.background_photons, instrument.cameras[0], noise)
        counts[time * len(ordered) : (time + 1) * len(ordered)] = exposed.cpu().numpy().astype(np.uint16)
        yield Progress(stage="simulate", done=time + 1, total=plan.time_count, message=f"Time point {time + 1} of {plan.time_count}")
    digest = hashlib.sha256((instrument.fingerprint + plan.model_dump_json()).encode()).hexdigest()
    stack = RawStack(
        counts_tyx=(counts,),
        kind="structured",
        fingerprint=digest[:16],
        pixel_nm=instrument.pixel_nm(),
        z_step_nm=plan.z_step_nm if geometry.axial else None,
        metadata={"simulated": plan.model_dump(mode="json"), "instrument": instrument.name},
    )
    inner = sample[..., MARGIN_PX * FINE : -MARGIN_PX * FINE, MARGIN_PX * FINE : -MARGIN_PX * FINE].cpu().numpy()
    beyond = (len(inner) - planes) // 2
    recorded = inner[beyond : beyond + planes] if geometry.axial else None
    return StructuredSimulation(stack=stack, illumination=illumination, sample_yx=inner.sum(0), sample_zyx=recorded)


def _volume(
    lens: Lens, plan: StructuredSimulatePlan, illumination: Illumination, generator: torch.Generator
) -> tuple[Illumination, torch.Tensor, torch.Tensor]:
    """Patterns that stand along z, the sample (z, y, x) with layers beyond the planes, and mean frames (a, p, z, y, x)."""
    excitation = lens.excitation_per_um(plan.excitation_nm)
    widest = max(wave.frequency_per_um for o in illumination.orientations for wave in o.waves) / 2
    if widest >= excitation:
        raise PlanError(
            f"three beams of {1000 * lens.instrument.sample_index / excitation:.0f} nm light cannot make a pattern of {500 / widest:.0f} "
            "nm: lower the frequency or shorten excitation_nm"
        )
    standing = standing_waves(illumination, excitation, plan.pattern_focus_nm * 1e-3)
    plane_um, pixel_um = plan.z_step_nm * 1e-3, lens.optics.pixel_um
    layers = plan.planes + 2 * math.ceil(plan.beyond_nm / plan.z_step_nm)
    field = ((layers, *plan.shape_yx_px), plane_um, pixel_um)
    sample = sample_volume(plan.emitter_density_per_um2, plan.structure, field, generator).to(lens.optics.transfer.values_k.device)
    series = focus_series(lens.instrument, lens.optics.transfer, plane_um, 2 * layers)
    return standing, sample, volume_frames(sample, standing, lens.optics, series, plan.planes)
