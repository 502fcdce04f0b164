"""From bead stacks to the beads that a calibration uses: read slice by slice, found in every view, cut out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..domain.images import RawStack
from ..domain.instrument import Instrument, View
from ..domain.plans import CalibrationPlan
from ..domain.runs import Progress
from ..engine.retrieve.beads import BeadField, Beads, cut_window, find_beads, given_beads
from ..engine.retrieve.register import match_beads
from ..errors import CalibrationError, PlanError, StackError
from ..io.stacks import check_frames, full_counts
from .split_views import check_frame

FEWEST_SLICES = 7
MOST_BEADS = 6  # more add time to read, not much to the pupil
VIEW_TOLERANCE_PX = 8.0  # of a bead from where another view says it should be


@dataclass(frozen=True)
class CutBeads:
    """Beads of all stacks in all views.

    counts_vbkyx : counts (V, B, K, n, n). centre_vb2_nm : place of each crop's centre pixel on its view's camera.
    positions_yx_px : centres of the beads on the first view's camera. left_out : words on beads that were not used.
    """

    counts_vbkyx: NDArray[np.float32]
    centre_vb2_nm: NDArray[np.float64]
    positions_yx_px: tuple[tuple[float, float], ...]
    left_out: tuple[str, ...]


def check_bead_stacks(stacks: Sequence[RawStack], instrument: Instrument, plan: CalibrationPlan) -> None:
    """Check that stacks, instrument and plan fit each other.

    Raises
    ------
    PlanError, StackError
        With the numbers that differ.
    """
    if not stacks:
        raise PlanError("no bead stack was given; at least one is needed")
    if not plan.fit_pupil and (instrument.microlenses is None or len(instrument.views) < 2):
        raise PlanError(f"fit_pupil is off, but {instrument.name!r} has no views of microlenses whose images could be moved: fit the pupil")
    for stack in stacks:
        if len(stack.counts_tyx) != len(instrument.cameras):
            raise PlanError(
                f"the instrument has {len(instrument.cameras)} camera(s), but the bead stack has {len(stack.counts_tyx)}; "
                "open one file per camera, in the instrument's order"
            )
        if stack.kind not in (None, "beads"):
            raise StackError(f"this stack is marked as {stack.kind}, a bead stack was expected; choose another file or change its kind")
        if instrument.microlenses is not None and instrument.views[0].region_yx_px is not None:
            check_frame(instrument.microlenses, (int(stack.counts_tyx[0].shape[1]), int(stack.counts_tyx[0].shape[2])))
    slices = sorted({stack.frame_count for stack in stacks})
    if len(slices) > 1:
        raise StackError(f"the bead stacks differ in their number of slices ({', '.join(map(str, slices))}); calibrate from equal scans")
    if slices[0] < FEWEST_SLICES:
        raise StackError(
            f"the bead stack has {slices[0]} slice(s), at least {FEWEST_SLICES} are needed: "
            "was a stack of images along z chosen, and is z its first axis?"
        )
    wrong = [k for k in plan.held_out_slices or () if not 0 <= k < slices[0]]
    if wrong:
        raise PlanError(f"held_out_slices names slice {wrong[0]}, but the stack has slices 0 to {slices[0] - 1}")


def survey(stack: RawStack, instrument: Instrument, camera: int) -> Generator[Progress, None, BeadField]:
    """Look through all slices of one camera.

    Raises
    ------
    StackError
        If a slice holds values that are not finite.
    """
    counts, eye = stack.counts_tyx[camera], instrument.cameras[camera]
    shape = counts.shape[1:]
    total, largest = np.zeros(shape), np.full(shape, -np.inf)
    for k in range(stack.frame_count):
        image = np.asarray(counts[k : k + 1])
        check_frames(image, k, eye.saturation_counts)
        values = image[0].astype(np.float64)
        total += values - np.median(values)
        np.maximum(largest, values, out=largest)
        yield Progress(stage="Reading the bead stack", done=k + 1, total=stack.frame_count)
    return BeadField(total / stack.frame_count, largest, full_counts(eye, counts.dtype))


def part_of(field: BeadField, view: View) -> tuple[BeadField, NDArray[np.int_]]:
    """What a camera shows of one view, and the first pixel of that: other views' beads are not this one's."""
    if view.region_yx_px is None:
        return field, np.zeros(2, dtype=int)
    # a region may reach beyond the frame; negative numbers would count from the other side
    top, left, bottom, right = (max(0, n) for n in view.region_yx_px)
    inside = (slice(top, bottom), slice(left, right))
    return BeadField(field.mean_yx[inside], field.largest_yx[inside], field.saturation_counts), np.array([top, left])


def smallest_spot_px(instrument: Instrument) -> float:
    """Standard deviation of an in-focus image, in pixels of the first view."""
    return 0.21 * instrument.emission_nm / instrument.objective.numerical_aperture / instrument.pixel_nm(0)


def cut_beads(stacks: Sequence[RawStack], instrument: Instrument, plan: CalibrationPlan) -> Generator[Progress, None, CutBeads]:
    """Find the beads of every stack in every view and cut them out, all with one crop.

    Raises
    ------
    CalibrationError
        If no bead can be used.
    StackError
        If a slice holds values that are not finite.
    """
    surveys: list[tuple[RawStack, list[BeadField]]] = []
    for stack in stacks:
        fields = []
        for camera in range(len(instrument.cameras)):
            fields.append((yield from survey(stack, instrument, camera)))
        surveys.append((stack, fields))
    yield Progress(stage="Looking for beads")
    found, problems = [], []
    for stack, fields in surveys:
        try:
            found.append((stack, fields, *_in_all_views(fields, instrument, plan)))
        except CalibrationError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    crop = min(beads.crop_px for _, _, beads, _ in found)
    counts: list[NDArray[np.float32]] = []
    centres: list[NDArray[np.float64]] = []
    positions: list[tuple[float, float]] = []
    left_out: list[str] = []
    for stack, _, beads, places_vb2 in found:
        left_out += list(beads.left_out)
        some = slice(0, MOST_BEADS - len(positions))
        positions += [(float(row), float(column)) for row, column in beads.positions_yx_px[some]]
        cuts = []
        for view, places in enumerate(places_vb2):
            cuts.append((yield from _cut(stack, instrument, view, places[some], crop)))
        counts.append(np.stack([cut for cut, _ in cuts]))
        centres.append(np.stack([centre for _, centre in cuts]))
    return CutBeads(np.concatenate(counts, 1), np.concatenate(centres, 1), tuple(positions), tuple(left_out))


def _in_all_views(fields: list[BeadField], instrument: Instrument, plan: CalibrationPlan) -> tuple[Beads, list[NDArray[np.float64]]]:
    """Beads of the first view, and their places (n, 2) in pixels on every view's camera."""
    spot = smallest_spot_px(instrument)
    first = instrument.views[0].camera
    if plan.bead_positions_yx_px:
        beads = given_beads(fields[first], np.asarray(plan.bead_positions_yx_px, dtype=float), plan.crop_px)
    else:
        part, corner = part_of(fields[first], instrument.views[0])
        found = find_beads(part, plan.crop_px, spot)
        beads = replace(found, positions_yx_px=found.positions_yx_px + corner)
    kept = np.arange(len(beads.positions_yx_px))
    places: list[NDArray[np.float64]] = [beads.positions_yx_px]
    for v, view in enumerate(instrument.views[1:], start=1):
        part, corner = part_of(fields[view.camera], view)
        others = find_beads(part, beads.crop_px, spot).positions_yx_px + corner
        affine = np.asarray(view.affine_yx, dtype=float)
        scale = instrument.pixel_nm(v)
        # only beads found in both: a place that merely ought to have a bead would spoil the fit
        one, two = match_beads(
            beads.positions_yx_px * instrument.pixel_nm(0),
            others * scale,
            affine,
            VIEW_TOLERANCE_PX * scale,
            free_shift=view.camera != first,
        )
        if not len(one):
            raise CalibrationError(
                f"{len(beads.positions_yx_px)} bead(s) in the first view and {len(others)} in view {v} ({view.name}), but none in both: "
                "check the order of the cameras and the view's affine_yx"
            )
        place = np.full_like(beads.positions_yx_px, np.nan)
        place[one] = others[two]
        places.append(place)
        kept = np.intersect1d(kept, one)
    if not len(kept):
        raise CalibrationError("no bead was found in all views: take a field with beads that every view sees")
    return Beads(beads.positions_yx_px[kept], beads.crop_px, beads.left_out), [place[kept] for place in places]


def _cut(
    stack: RawStack, instrument: Instrument, view: int, places_b2: NDArray[np.float64], crop: int
) -> Generator[Progress, None, tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Counts (B, K, n, n) around beads, and where the centre pixel of each crop lies (B, 2), in nm on the camera."""
    counts, pixel = stack.counts_tyx[instrument.views[view].camera], instrument.pixel_nm(view)
    height, width = (int(n) for n in counts.shape[1:])
    if crop > min(height, width):
        raise CalibrationError(f"the crop is {crop} pixels wide, but the frames are {height} x {width} pixels; choose a smaller crop_px")
    corners = [cut_window(place, crop, (height, width)) for place in places_b2]
    cuts = np.empty((len(corners), stack.frame_count, crop, crop), np.float32)
    for k in range(stack.frame_count):
        image = np.asarray(counts[k : k + 1])[0]
        for b, (top, left) in enumerate(corners):
            cuts[b, k] = image[top : top + crop, left : left + crop]
        yield Progress(stage="Cutting out beads", done=k + 1, total=stack.frame_count)
    return cuts, (np.array(corners, dtype=float).reshape(-1, 2) + crop // 2) * pixel
