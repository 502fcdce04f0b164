"""Structured illumination: find the patterns of a raw stack, and reconstruct it."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..domain.illumination import Illumination, RadialOTF, StructuredEstimate, StructuredImages
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.structured_plans import EstimatePlan, Microscope, StructuredPlan
from ..engine.structured.arrange import possible_orders
from ..engine.structured.bands import equalized
from ..engine.structured.compare import optical_section, pseudo_confocal, wide_field
from ..engine.structured.estimate import Optics, Search, measure_all
from ..engine.structured.motion import largest_shift_px
from ..engine.structured.order import find_order
from ..engine.structured.otf import transfer_from, transfer_of
from ..engine.structured.pictures import overlap_maps, power_spectra
from ..engine.structured.reconstruct import Reconstructor, reconstructor, wiener_parameter
from ..errors import PlanError
from .devices import chosen_device
from .structured_frames import FrameSource, check_sampling

LARGEST_RESULT_GIB = 8
WORRYING_SHIFT_PX = 1.0
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
    optics = _optics(instrument, plan, otf).to(device)
    source = FrameSource(stack, instrument, plan, device)
    times = source.times[: plan.averaged_times]
    yield Progress(stage="estimate", total=len(times), message=f"Looking for patterns in {len(times)} time points")
    found = _estimate(source, optics, plan, times, pictures=True)
    yield Progress(stage="estimate", done=len(times), total=len(times), message=_words(found))
    notes = (*found.notes, *_foreign_lens(instrument, otf), *source.remarks())
    return found.model_copy(update={"notes": notes, "seconds": time.perf_counter() - started})


def reconstruct_structured(
    stack: RawStack, instrument: Instrument, plan: StructuredPlan, illumination: Illumination | None = None, otf: RadialOTF | None = None
) -> Generator[Progress, None, StructuredImages]:
    """Reconstruct all time points (and planes, one by one); each progress shows the last image.

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
    if plan.chosen_geometry.axial:
        raise PlanError(
            f"geometry {plan.geometry} makes volumes, which are not reconstructed yet: choose 2d-3x5 to reconstruct plane by plane"
        )
    yield Progress(stage="prepare", message="Computing the optical transfer function")
    optics = _optics(instrument, plan, otf).to(device)
    source = FrameSource(stack, instrument, plan, device)
    _check_memory(source)
    if illumination is not None and illumination.geometry != source.geometry:
        raise PlanError(
            f"the patterns are those of {illumination.geometry.orientations} x {illumination.geometry.phases} frames, the plan says "
            f"{source.geometry.orientations} x {source.geometry.phases}: choose the geometry of the patterns"
        )
    yield Progress(stage="estimate", message="Looking for patterns")
    notes: list[str] = []
    made: dict[str, list[np.ndarray]] = {}
    used: _Used | None = None
    count = len(source.times)
    for done, moment in enumerate(source.times, start=1):
        if used is None or not (plan.reuse or illumination):
            times = source.times[: plan.averaged_times] if plan.reuse or illumination else range(moment, moment + 1)
            used = _Used.of(source, optics, plan, times, illumination)
            notes += [used.words, *used.notes]
            yield Progress(stage="estimate", done=done, total=count, message=used.words)
        for name, image in used.apply(source.frames(moment, used.order), plan).items():
            made.setdefault(name, []).append(image)
        preview = made["images_tyx"][-1][0]
        yield Progress(stage="reconstruct", done=done, total=count, message=f"Time point {done} of {count}", preview=preview)
    if used is None:
        raise PlanError("no time point was chosen")
    return StructuredImages(
        **{name: np.concatenate(images) for name, images in made.items()},
        pixel_nm=1000 * optics.pixel_um / used.filter.zoom,
        illumination=used.illumination,
        notes=(*notes, *_foreign_lens(instrument, otf), *source.remarks()),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Used:
    """Patterns and filter as they are used for one or all time points."""

    illumination: Illumination
    order: str
    words: str
    notes: tuple[str, ...]
    filter: Reconstructor

    @staticmethod
    def of(source: FrameSource, optics: Optics, plan: StructuredPlan, times: range, known: Illumination | None) -> _Used:
        """Estimate what is not known, and prepare the filter."""
        notes: tuple[str, ...] = ()
        if known is not None and plan.order is not None:
            illumination, order, words = known, str(plan.order), "The patterns were given."
        else:
            found = _estimate(source, optics, plan, times)
            illumination, order, words, notes = known or found.illumination, found.order, _words(found), found.notes
        with torch.inference_mode():
            frames = source.averaged(times[:1], order).movedim(2, 0)
            wiener = plan.wiener or wiener_parameter(equalized(frames) if plan.equalize else frames, optics)
            made = reconstructor(illumination, optics, source.shape_yx, plan.model_copy(update={"wiener": wiener}))
        return _Used(illumination, order, words, notes, made)

    def apply(self, frames_apzyx: Tensor, plan: StructuredPlan) -> dict[str, np.ndarray]:
        """Images (z, y, x) by the names that `StructuredImages` has; the wide field in place of a reconstruction that cannot be made."""
        with torch.inference_mode():
            frames = frames_apzyx.movedim(2, 0)
            if plan.equalize:
                frames = equalized(frames)
            seen = wide_field(frames, self.filter)
            failed = self.illumination.verdict is not None and not any(self.illumination.verdict.passed)
            found = {"images_tyx": seen if failed else self.filter(frames), "wide_field_tyx": seen}
            if plan.compare:
                found |= {"section_tyx": optical_section(frames, self.filter), "pseudo_confocal_tyx": pseudo_confocal(frames, self.filter)}
        return {name: image.cpu().numpy() for name, image in found.items()}


def _optics(instrument: Instrument, plan: EstimatePlan, otf: RadialOTF | None) -> Optics:
    transfer = transfer_from(otf) if otf is not None else transfer_of(instrument).damped(plan.otf_damping)
    pixel_um = instrument.pixel_nm() * 1e-3
    check_sampling(transfer.cutoff_per_um, pixel_um)
    return Optics(transfer, pixel_um)


def _estimate(source: FrameSource, optics: Optics, plan: EstimatePlan, times: range, pictures: bool = False) -> StructuredEstimate:
    """Patterns of the middle plane of some time points, averaged."""
    search = Search(source.geometry, plan.lowest_frequency, plan.highest_frequency, plan.measure_steps)
    orders = [plan.order] if plan.order else list(possible_orders(source.geometry, plan.planes))
    middle = plan.planes // 2
    with torch.inference_mode():
        frames = {order: source.averaged(times, order)[:, :, middle] for order in orders}
        chosen = find_order(frames.__getitem__, list(orders), optics, search)
        illumination = measure_all(frames[chosen.order], optics, search, chosen.found)
    return StructuredEstimate(
        illumination=illumination,
        order=chosen.order,
        order_scores=chosen.scores,
        order_is_sure=chosen.sure or plan.order is not None,
        notes=tuple(_moved(frames[chosen.order])),
        power_ayx=power_spectra(frames[chosen.order]).cpu().numpy() if pictures else None,
        overlap_byx=overlap_maps(chosen.found).cpu().numpy() if pictures else None,
        step_yx_per_um=chosen.found.grid.step_yx,
    )


def _moved(frames_apyx: Tensor) -> list[str]:
    shift = largest_shift_px(frames_apyx)
    if shift < WORRYING_SHIFT_PX:
        return []
    return [
        f"The images of the orientations lie up to {shift:.1f} pixels apart: the sample or the stage moved, or there is hardly any light; "
        "expect stripes and double contours."
    ]


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


def _words(found: StructuredEstimate) -> str:
    verdict = found.illumination.verdict
    words = verdict.words if verdict is not None else ""
    if not found.order_is_sure:
        words += f" The order of the frames is not certain ({found.order} fits best): state it."
    return words


def _check_memory(source: FrameSource) -> None:
    pixels = len(source.times) * source.plan.planes * source.shape_yx[0] * source.shape_yx[1]
    needed = 2 * 4 * 4 * pixels / 2**30
    if needed > LARGEST_RESULT_GIB:
        raise PlanError(
            f"{len(source.times)} time points make {needed:.1f} GiB of images, more than {LARGEST_RESULT_GIB}: "
            "reconstruct fewer at once (first_time, last_time)"
        )
