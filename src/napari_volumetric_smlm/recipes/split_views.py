"""Light-field frames: find where the views lie on the sensor, and cut a stack into one stack a view."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from ..domain.images import LazyArray, RawStack
from ..domain.instrument import Camera, Instrument, View
from ..domain.microlenses import MicrolensArray, Point, Region
from ..domain.runs import Progress
from ..engine.optics.views import light_field_instrument
from ..engine.retrieve.lens_centres import LensCentres, centres_from_frame, centres_from_spots
from ..engine.retrieve.lens_count import check_lens_count
from ..errors import InstrumentError, StackError
from ..io.json_files import explain
from ..io.stacks.crops import CroppedFrames

MEAN_OF_FRAMES = 200  # more of them hardly change where the views are
SMALLEST_FIELD_PX = 16
SHARP = 0.9  # of the height of the sharpest frame's spots
MAPS = ("gain_e_per_count", "offset_counts", "read_noise_e")


def place_views(
    stack: RawStack, instrument: Instrument, look_for: Literal["repeats", "spots"] = "repeats"
) -> Generator[Progress, None, Instrument]:
    """Find the lens centres in a raw stack and put the instrument's views there.

    Parameters
    ----------
    look_for : "repeats" in frames of molecules, of many beads or of a sample; "spots" in images of one point at the field's centre.

    Returns
    -------
    Instrument
        With measured centres, new places of the views and apertures that fit them; phases and the rest as they were.

    Raises
    ------
    StackError
        If the frames are not those of the instrument.
    CalibrationError
        If the views are not found.
    """
    array = _array(instrument)
    counts = stack.counts_tyx[0]
    check_frame(array, (int(counts.shape[1]), int(counts.shape[2])))
    mean = yield from _mean_frame(counts, sharp=look_for == "spots")
    yield Progress(stage="search", message="Looking for the views")
    found = _find(torch.from_numpy(mean), array, instrument.cameras[0].pixel_um, look_for)
    placed = put_views(instrument, found.as_measured())
    words = "" if found.edges_seen else "; the edges of the fields are not seen: the field's centre may be elsewhere"
    yield Progress(stage="search", done=1, total=1, message=f"{len(found.yx_px)} views found{words}", numbers={"signal": found.signal})
    return placed


def _mean_frame(counts: LazyArray, sharp: bool) -> Generator[Progress, None, NDArray[np.float64]]:
    """Mean of frames from the whole stack; of a focus scan only of the sharp ones, in which spots are where the lenses' axes are."""
    length = int(counts.shape[0])
    picked = np.unique(np.linspace(0, length - 1, min(MEAN_OF_FRAMES, length)).astype(int))
    mean, best = np.zeros(counts.shape[1:]), 0.0
    added = 0
    for done, frame in enumerate(picked):
        image = np.asarray(counts[int(frame)], dtype=np.float64)
        peak = float((image.max() - np.median(image)) / max(np.std(image), 1e-300)) if sharp else 0.0
        if peak > best / SHARP:
            mean, added = np.zeros_like(mean), 0
        if peak >= best * SHARP:
            mean, added, best = mean + image, added + 1, max(best, peak)
        yield Progress(stage="average", done=done + 1, total=len(picked), message=f"Frame {frame}")
    return mean / added


def put_views(instrument: Instrument, centres_yx_px: tuple[Point, ...]) -> Instrument:
    """Put the instrument's views around measured lens centres (row, column), one a lens in any order.

    Raises
    ------
    InstrumentError
        If there are more or fewer than lenses, one lies outside the frame, views share pixels, or the distances are not the array's.
    """
    array = _array(instrument)
    try:
        measured = MicrolensArray.model_validate(array.model_dump() | {"sensor_centres_yx_px": centres_yx_px})
    except ValidationError as problem:
        raise InstrumentError(f"these lens centres cannot be: {explain(problem, MicrolensArray)}") from problem
    return light_field_instrument(measured, instrument)


def _find(mean_yx: torch.Tensor, array: MicrolensArray, camera_pixel_um: float, look_for: str) -> LensCentres:
    if look_for == "spots":
        return centres_from_spots(mean_yx, array, camera_pixel_um)
    found = centres_from_frame(mean_yx, array, camera_pixel_um)
    check_lens_count(mean_yx, found.yx_px, array, camera_pixel_um)
    return found


def split_views(stack: RawStack, instrument: Instrument) -> tuple[RawStack, Instrument]:
    """Cut a raw light-field stack into one stack a view, and make the instrument that belongs to it: one camera a view.

    Nothing is read or resampled: crops start at whole pixels, the rest of a view's place stays in its affine. Where a view's part of
    the frame reaches beyond the sensor, the same rim is left out of all views, and a warning says so.

    Raises
    ------
    InstrumentError
        If the instrument's views have no part of the frame (they are cut already).
    StackError
        If the frames have another size than the instrument's, or hardly anything is left that all views show.
    """
    _check_parts(instrument)
    if len(stack.counts_tyx) != len(instrument.cameras):
        raise StackError(f"{len(stack.counts_tyx)} stacks were given for {len(instrument.cameras)} cameras: open one stack per camera")
    shapes = [(int(counts.shape[1]), int(counts.shape[2])) for counts in stack.counts_tyx]
    if instrument.microlenses is not None:
        check_frame(instrument.microlenses, shapes[0])
    regions, rim = _common(instrument.views, shapes)
    sources = [f"{view.name} of {stack.source[0] if stack.source else 'stack'}" for view in instrument.views]
    counts = [
        CroppedFrames(stack.counts_tyx[view.camera], region, source)
        for view, region, source in zip(instrument.views, regions, sources, strict=True)
    ]
    warnings = (f"a view reaches beyond the sensor: {rim} are left out of every view",) if rim else ()
    digest = hashlib.sha256(f"{stack.fingerprint}{regions}".encode()).hexdigest()[:16] if stack.fingerprint else ""
    update = {
        "counts_tyx": tuple(counts),
        "kind": "frames" if stack.kind == "light_field" else stack.kind,
        "fingerprint": digest,
        "warnings": stack.warnings + warnings,
    }
    cut = RawStack.model_validate({name: getattr(stack, name) for name in RawStack.model_fields} | update)
    return cut, _cut(instrument, regions)


def cut_instrument(instrument: Instrument) -> Instrument:
    """The instrument of `split_views` without a stack, for frames of the size that its microlens array states: one camera a view.

    Raises
    ------
    InstrumentError
        If the instrument has no microlens array, or is cut already.
    """
    _check_parts(instrument)
    regions, _ = _common(instrument.views, [_array(instrument).frame_yx_px] * len(instrument.cameras))
    return _cut(instrument, regions)


def _cut(instrument: Instrument, regions: list[Region]) -> Instrument:
    """One camera a view, whose first pixel is that of the view's part of the frame."""
    origins = [np.array(region[:2]) * instrument.pixel_nm(v) for v, region in enumerate(regions)]
    views, cameras = [], []
    for v, (view, region) in enumerate(zip(instrument.views, regions, strict=True)):
        affine = np.array(view.affine_yx)
        shift = np.round(affine[:, :2] @ origins[0] + affine[:, 2] - origins[v], 6)
        rows = tuple((float(a), float(b), float(s)) for (a, b, _), s in zip(view.affine_yx, shift, strict=True))
        views.append(view.model_copy(update={"camera": v, "region_yx_px": None, "affine_yx": rows}))
        cameras.append(_cut_camera(instrument.cameras[view.camera], region, view.name))
    return Instrument.model_validate(instrument.model_dump() | {"views": tuple(views), "cameras": tuple(cameras)})


def _check_parts(instrument: Instrument) -> None:
    whole = [view for view in instrument.views if view.region_yx_px is None]
    if whole:
        raise InstrumentError(
            f"view {whole[0].name!r} has no part of the frame (region_yx_px): its stack is cut already, or was never shared"
        )


def _array(instrument: Instrument) -> MicrolensArray:
    if instrument.microlenses is None:
        raise InstrumentError(f"the instrument {instrument.name!r} has no microlens array: choose a light-field instrument")
    return instrument.microlenses


def check_frame(array: MicrolensArray, shape_yx: tuple[int, int]) -> None:
    """Refuse frames of another size than the array's.

    Raises
    ------
    StackError
        With both sizes.
    """
    if shape_yx != array.frame_yx_px:
        raise StackError(
            f"the frames have {shape_yx[0]} x {shape_yx[1]} pixels, the microlens array expects raw frames of {array.frame_yx_px[0]} x "
            f"{array.frame_yx_px[1]}: were they binned, cropped or cut into views? Correct frame_yx_px and the camera's pixel"
        )


def _common(views: tuple[View, ...], shapes: list[tuple[int, int]]) -> tuple[list[Region], str]:
    """The views' parts of their frames without the rim that lies beyond the sensor in any of them, and that rim in words."""
    parts = np.array([view.region_yx_px for view in views])
    sizes = np.array([shapes[view.camera] for view in views])
    first = np.maximum(0, -parts[:, :2]).max(0)
    last = np.maximum(0, parts[:, 2:] - sizes).max(0)
    field = (parts[:, 2:] - parts[:, :2]).min(0)
    rest = field - first - last
    if rest.min() < SMALLEST_FIELD_PX:
        raise StackError(
            f"of a field of {field[0]} x {field[1]} pixels only {max(0, rest[0])} x {max(0, rest[1])} lie on the sensor in all views: "
            "find the lens centres again, or choose a smaller field_yx_px"
        )
    sides = ("rows above", "columns on the left", "rows below", "columns on the right")
    rim = [f"{n} {side}" for n, side in zip([*first, *last], sides, strict=True) if n]
    corners = (parts[:, :2] + first).tolist()
    height, width = rest.tolist()
    regions = [(top, left, top + height, left + width) for top, left in corners]
    return regions, ", ".join(rim)


def _cut_camera(camera: Camera, region: Region, name: str) -> Camera:
    """The camera of one view: its maps are cut as the frames are."""
    top, left, bottom, right = region
    maps: dict[str, NDArray[Any]] = {m: getattr(camera, m) for m in MAPS if isinstance(getattr(camera, m), np.ndarray)}
    return camera.model_copy(update={"name": f"{camera.name}, {name}", **{m: values[top:bottom, left:right] for m, values in maps.items()}})
