"""Structured illumination: find the patterns of a raw stack, and reconstruct it."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np

from ..domain.illumination import Illumination, RadialOTF, StructuredEstimate, StructuredImages
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.structured_plans import EstimatePlan, Microscope, StructuredPlan
from ..errors import PlanError
from .devices import chosen_device
from .structured_deskew import Shear
from .structured_filter import Filter
from .structured_frames import FrameSource
from .structured_lens import Lens
from .structured_search import in_words, search

LARGEST_RESULT_GIB = 8
# of a raw plane's pixel in a volume's reconstruction: its 15 frames twice, their bands, the spectrum of the volume
BYTES_A_VOXEL = 330
# where an OTF falls to a tenth, over the cut-off: 0.81 for an ideal lens, less for real ones
USUAL_TENTH = (0.62, 0.88)


def plain_instrument(numerical_aperture: float, emission_nm: float, pixel_nm: float, immersion_index: float = 1.518) -> Instrument:
    """The instrument of a `Microscope`."""
    return Microscope(
        numerical_aperture=numerical_aperture, emission_nm=emission_nm, pixel_nm=pixel_nm, immersion_index=immersion_index
    ).instrument()


def estimate_patterns(
    stack: RawStack, instrument: Instrument, plan: EstimatePlan, otf: RadialOTF | None = None
) -> Generator[Progress, None, StructuredEstimate]:
    """Find the patterns, and the order of the frames where the plan does not state it.

    Parameters
    ----------
    otf : measured OTF; None = that of the instrument, with the plan's damping.

    Raises
    ------
    StackError, PlanError
        If the frames do not fit the geometry, or the pixel size the lens.
    """
    started = time.perf_counter()
    device = chosen_device(plan.device)
    yield Progress(stage="prepare", message="Computing the optical transfer function")
    lens = Lens.of(instrument, plan.otf_damping, otf, device)
    source = FrameSource(stack, instrument, plan, device)
    times = source.times[: plan.averaged_times]
    yield Progress(stage="estimate", total=len(times), message=f"Looking for patterns in {len(times)} time points")
    found = search(source, lens, plan, times, pictures=True)
    yield Progress(stage="estimate", done=len(times), total=len(times), message=in_words(found))
    notes = (*found.notes, *_foreign_lens(instrument, otf), *source.remarks())
    return found.model_copy(update={"notes": notes, "seconds": time.perf_counter() - started})


def reconstruct_structured(
    stack: RawStack, instrument: Instrument, plan: StructuredPlan, illumination: Illumination | None = None, otf: RadialOTF | None = None
) -> Generator[Progress, None, StructuredImages]:
    """Reconstruct all time points, and planes one by one or as a volume; each progress shows an image of the last.

    Where no orientation passes the verdict the result is the wide-field image, and a note says so.

    Parameters
    ----------
    illumination : known patterns; None = found in the stack.
    otf : measured OTF; None = that of the instrument, with the plan's damping.

    Raises
    ------
    StackError, PlanError
        If the frames do not fit the geometry or the patterns, or the pixel size the lens.
    """
    started = time.perf_counter()
    device = chosen_device(plan.device)
    yield Progress(stage="prepare", message="Computing the optical transfer function")
    lens = Lens.of(instrument, plan.otf_damping, otf, device)
    source = FrameSource(stack, instrument, plan, device)
    _check_memory(source, plan, instrument.pixel_nm())
    if illumination is not None and illumination.geometry != source.geometry:
        raise PlanError(
            f"the patterns are those of {illumination.geometry.orientations} x {illumination.geometry.phases} frames, the plan says "
            f"{source.geometry.orientations} x {source.geometry.phases} ({plan.geometry}): choose the geometry of the patterns"
        )
    yield Progress(stage="estimate", message="Looking for patterns")
    notes: list[str] = []
    made: dict[str, list[np.ndarray]] = {}
    used: Filter | None = None
    shear: Shear | None = None
    count = len(source.times)
    for done, moment in enumerate(source.times, start=1):
        if used is None or not (plan.reuse or illumination):
            times = source.times[: plan.averaged_times] if plan.reuse or illumination else range(moment, moment + 1)
            used = Filter.of(source, lens, plan, times, illumination)
            notes += [used.words, *used.notes]
            shear = Shear.of(plan, source, instrument.pixel_nm() / used.flat.zoom)
            yield Progress(stage="estimate", done=done, total=count, message=used.words)
        for name, image in used.apply(source.frames(moment, used.order), plan).items():
            made.setdefault(name, []).append(image if shear is None else shear.apply(image))
        # the middle plane of a volume, the first one of planes that were reconstructed one by one
        preview = made["images_tyx"][-1][source.planes // 2 if source.geometry.axial else 0]
        yield Progress(stage="reconstruct", done=done, total=count, message=f"Time point {done} of {count}", preview=preview)
    if used is None:
        raise PlanError("no time point was chosen")
    return StructuredImages(
        **{name: np.concatenate(images) for name, images in made.items()},
        pixel_nm=instrument.pixel_nm() / used.flat.zoom,
        planes=source.planes,
        plane_nm=shear.plane_nm if shear is not None else source.z_step_nm if source.geometry.axial else None,
        origin_yx_nm=shear.origin_yx_nm if shear is not None else (0.0, 0.0),
        illumination=used.illumination,
        notes=(*notes, *_foreign_lens(instrument, otf), *source.remarks()),
        seconds=time.perf_counter() - started,
    )


def _foreign_lens(instrument: Instrument, otf: RadialOTF | None) -> list[str]:
    if otf is None:
        return []
    cutoff = 2000 * instrument.objective.numerical_aperture / instrument.emission_nm
    tenth = float(np.flatnonzero(np.asarray(otf.values) >= 0.1)[-1]) * otf.step_per_um
    low, high = (share * cutoff for share in USUAL_TENTH)
    if low <= tenth <= high:
        return []
    return [
        f"The OTF {otf.source} falls to a tenth at {tenth:.2f} cycles per um; {low:.2f} to {high:.2f} are usual at "
        f"{instrument.emission_nm:g} nm and NA {instrument.objective.numerical_aperture:g}: it may be that of another wavelength."
    ]


def _check_memory(source: FrameSource, plan: StructuredPlan, pixel_nm: float) -> None:
    pixels = source.planes * source.shape_yx[0] * source.shape_yx[1]
    # a sheared stack is longer than its planes
    longer = source.planes * source.z_step_nm / pixel_nm / min(source.shape_yx) if plan.deskew_rad else 0.0
    needed = 2 * 4 * 4 * pixels * (1 + longer) * len(source.times) / 2**30
    if source.geometry.axial and (at_once := BYTES_A_VOXEL * pixels / 2**30) > LARGEST_RESULT_GIB:
        raise PlanError(
            f"{source.planes} planes of {source.shape_yx[0]} x {source.shape_yx[1]} pixels need about {at_once:.1f} GiB at once, more than "
            f"{LARGEST_RESULT_GIB}: cut the frames to a part of the field"
        )
    if needed > LARGEST_RESULT_GIB:
        raise PlanError(
            f"{len(source.times)} time points make {needed:.1f} GiB of images, more than {LARGEST_RESULT_GIB}: "
            "reconstruct fewer at once (first_time, last_time)"
        )
