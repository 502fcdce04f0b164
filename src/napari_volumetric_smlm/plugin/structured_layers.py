"""Images of structured illumination as layers, over the frames that they were made from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.illumination import StructuredImages
from ..domain.structured_plans import StructuredPlan
from .layers import LayerData, mark
from .structured_jobs import Question
from .world import place_grid

SHARP, WIDE_FIELD, SECTION, CONFOCAL, RETOUCHED, EVIDENCE = (
    "structured", "wide_field", "optical_section", "pseudo_confocal", "structured_preview", "structured_evidence",
)  # fmt: skip
NAMES = {
    SHARP: "Reconstruction",
    WIDE_FIELD: "Wide field",
    SECTION: "Optical section",
    CONFOCAL: "Pseudo-confocal",
    RETOUCHED: "Preview of other settings",
}
# first the lowest: the reconstruction lies on top
STACKED = ((CONFOCAL, "pseudo_confocal_tyx"), (SECTION, "section_tyx"), (WIDE_FIELD, "wide_field_tyx"), (SHARP, "images_tyx"))


def lay_structured(images: StructuredImages, question: Question, frames: Any | None) -> list[LayerData]:
    """Show what there is of an answer: (y, x), or (t, y, x) on the slider of the frames; volumes as (z, y, x) or (t, z, y, x)."""
    shown = []
    for role, name in STACKED:
        values = getattr(images, name)
        if values is None:
            continue
        if images.plane_nm is not None:
            shown.append(lay_volumes(images.by_volume(values), role, images, (question, frames)))
        else:
            shown.append(_lay(np.asarray(values), role, images.pixel_nm, question, frames))
    return shown


def lay_volumes(values_tzyx: NDArray[Any], role: str, images: StructuredImages, over: tuple[Question, Any | None]) -> LayerData:
    """Show volumes of one kind over the frames (`over` : the question and the layer of its frames), depth in the frames' unit of length."""
    question, frames = over
    values, corner = _upright(values_tzyx, images.pixel_nm, question)
    corner = (corner[0] + images.origin_yx_nm[0], corner[1] + images.origin_yx_nm[1])
    camera_nm = question.instrument.pixel_nm()
    placed = place_grid(frames, camera_nm, (images.pixel_nm, images.pixel_nm), corner)
    step = (
        (images.plane_nm or 1.0)
        / images.pixel_nm
        * float(np.linalg.norm(placed["affine"][:2, 1]) if "affine" in placed else placed["scale"][1])
    )
    # each time is a volume of its own; without their own axis they would lie below each other
    lead = [(1.0, "pixel", "t"), (step, placed["units"][-1], "z")] if len(values) > 1 else [(step, placed["units"][-1], "z")]
    for size, unit, label in reversed(lead):
        placed = _with_axis(placed, size, unit, label)
    return values if len(values) > 1 else values[0], _options(role, contrast(values[0]), placed), "image"


def lay_partly(images_yx: list[NDArray[Any]], pixel_nm: float, question: Question, frames: Any | None) -> LayerData:
    """Show the first images of a series that was stopped."""
    data, options, kind = _lay(np.stack(images_yx), SHARP, pixel_nm, question, frames)
    return data, {**options, "name": f"{NAMES[SHARP]} (stopped after {len(images_yx)})"}, kind


def lay_retouched(image: NDArray[Any], images: StructuredImages, question: Question, frames: Any | None) -> LayerData:
    """Show one image (y, x) or volume (z, y, x) with other settings."""
    if images.plane_nm is not None:
        return lay_volumes(image[None], RETOUCHED, images, (question, frames))
    return _lay(image[None], RETOUCHED, images.pixel_nm, question, frames)


def lay_evidence(picture_yxc: NDArray[np.uint8], frames: Any | None) -> LayerData:
    """Show the evidence beside the frames, its pixels as large as theirs."""
    right = (frames.data.shape[-1] + 10.0) if frames is not None else 0.0
    placed = place_grid(frames, 1.0, (1.0, 1.0), (0.0, right))
    return picture_yxc, {"name": "Evidence of the patterns", "rgb": True, "metadata": mark(EVIDENCE), **placed}, "image"


def contrast(values: NDArray[Any]) -> tuple[float, float]:
    """Return contrast limits: black is no light (a reconstruction also goes below), white all but the brightest."""
    low, high = np.percentile(values[:: max(1, len(values) // 4), ::2, ::2], (1.0, 99.8))
    return max(0.0, float(low)), max(float(high), float(low) + 1e-3)


def _lay(values_tyx: NDArray[Any], role: str, pixel_nm: float, question: Question, frames: Any | None) -> LayerData:
    values_tyx, corner = _upright(values_tyx, pixel_nm, question)
    placed = place_grid(frames, question.instrument.pixel_nm(), (pixel_nm, pixel_nm), corner)
    limits = contrast(values_tyx)
    if len(values_tyx) == 1:
        data = values_tyx[0]
    else:
        data = values_tyx
        placed = _along_frames(placed, frames, question.plan)
    return data, _options(role, limits, placed), "image"


def _options(role: str, limits: tuple[float, float], placed: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": NAMES[role],
        "colormap": "gray",
        "contrast_limits": limits,
        "visible": role in (SHARP, RETOUCHED),
        "metadata": mark(role),
        **placed,
    }


def _upright(values_yx: NDArray[Any], pixel_nm: float, question: Question) -> tuple[NDArray[Any], tuple[float, float]]:
    """Images as the frames are shown, and where their first sample lies in nm."""
    if not question.plan.flip_y:
        return values_yx, (0.0, 0.0)
    # the frames' last row lies at the last sample but zoom - 1
    return values_yx[..., ::-1, :], (pixel_nm - question.instrument.pixel_nm(), 0.0)


def frames_per_image(plan: StructuredPlan) -> int:
    """How many raw images one image was made from; a mosaic holds them all."""
    return plan.chosen_geometry.frame_count if plan.montage == "none" else 1


def image_of_frame(frame: int, plan: StructuredPlan, images: int) -> int:
    """Number of the image that a raw image belongs to, among those of the chosen times."""
    each = frames_per_image(plan)
    return min(max(frame // each - plan.first_time * plan.planes, 0), images - 1)


def _along_frames(placed: dict[str, Any], frames: Any | None, plan: StructuredPlan) -> dict[str, Any]:
    """Add the axis of time: image n spans the frames that it was made from."""
    first, size, unit = 0.0, 1.0, "pixel"
    if frames is not None and frames.ndim > 2:
        first, size, unit = float(frames.translate[0]), float(frames.scale[0]), str(frames.units[0])
    step = frames_per_image(plan)
    start = first + size * (plan.first_time * plan.planes * step + (step - 1) / 2)
    return _with_axis(placed, size * step, unit, "t", start)


def _with_axis(placed: dict[str, Any], size: float, unit: str, label: str, start: float = 0.0) -> dict[str, Any]:
    """Add an axis before the others: the size of its steps, and where it starts."""
    more: dict[str, Any] = {"units": (unit, *placed["units"]), "axis_labels": (label, *placed["axis_labels"])}
    if "affine" in placed:
        count = len(placed["affine"])
        affine = np.eye(count + 1)
        affine[1:, 1:] = placed["affine"]
        affine[0, 0], affine[0, count] = size, start
        return {**more, "affine": affine}
    return {**more, "scale": (size, *placed["scale"]), "translate": (start, *placed.get("translate", (0.0, 0.0)))}
