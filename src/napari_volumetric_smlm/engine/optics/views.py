"""From a microlens array to an instrument of V views, and the numbers that follow from its optics."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...domain.instrument import Aperture, Instrument, View
from ...domain.microlenses import LightFieldNumbers, MicrolensArray, Region
from ...errors import InstrumentError
from .pupil import Pupil, view_pupil

# Measured centres that lie farther than this from the pitch, in shares of it, belong to another array, binning or lens.
LARGEST_MISFIT = 0.1
# Samples across the pupil for sums over it: edges are then known to 0.004 of the numerical aperture.
SAMPLES = 401


def light_field_instrument(array: MicrolensArray, microscope: Instrument) -> Instrument:
    """Put a microlens array behind a microscope: one view a lens, all on the microscope's first camera.

    Parameters
    ----------
    microscope : objective, camera, wavelength, sample and depths; its magnification is replaced. The phase, amplitude and blur of
        its view go to all views; those of V views to each its own, so that new lens centres keep a calibration.

    Raises
    ------
    InstrumentError
        If measured centres do not have the array's pitch, two views share pixels, or a lens sees nothing of the pupil.
    """
    camera_pixel_um = microscope.cameras[0].pixel_um
    lenses, sensor = array.centres_in_pupil(camera_pixel_um), array.centres_on_sensor(camera_pixel_um)
    _check_pitch(array, lenses)
    regions = _regions(array, sensor)
    objective = microscope.objective.model_copy(update={"magnification": array.magnification(camera_pixel_um)})
    pixel_nm = camera_pixel_um * 1000 / objective.magnification
    bases = microscope.views if len(microscope.views) == len(lenses) else (microscope.views[0],) * len(lenses)
    views = []
    for v, base in enumerate(bases):
        shift = np.round((sensor[v] - sensor[0]) * pixel_nm, 3)
        changes = {
            "name": f"lens {v + 1}",
            "camera": 0,
            "aperture": _aperture(array, lenses, v, objective.numerical_aperture),
            "affine_yx": ((1.0, 0.0, float(shift[0])), (0.0, 1.0, float(shift[1]))),
            "region_yx_px": regions[v],
        }
        views.append(View.model_validate(base.model_dump() | changes))
    update = {"objective": objective, "cameras": microscope.cameras[:1], "views": tuple(views), "microlenses": array}
    instrument = microscope.model_copy(update=update)
    share = energy_shares(instrument)
    if min(share) <= 0:
        raise InstrumentError(
            f"lens {int(np.argmin(share)) + 1} sees nothing of the pupil of NA {objective.numerical_aperture:g}, which is "
            f"{_pupil_mm(array, objective.numerical_aperture):.2f} mm wide on the array: check pitch_mm, fourier_lens_mm and "
            "native_magnification"
        )
    fractions = [round(s / max(share), 4) for s in share]
    views = [view.model_copy(update={"photon_fraction": f}) for view, f in zip(views, fractions, strict=True)]
    return Instrument.model_validate(instrument.model_copy(update={"views": tuple(views)}).model_dump())


def light_field_numbers(instrument: Instrument) -> LightFieldNumbers:
    """Derived numbers of an instrument with a microlens array.

    Raises
    ------
    InstrumentError
        If the instrument has no microlens array.
    """
    array, eye = instrument.microlenses, instrument.objective
    if array is None:
        raise InstrumentError(f"the instrument {instrument.name!r} has no microlens array")
    camera_pixel_nm, wavelength = instrument.cameras[0].pixel_um * 1000, instrument.emission_nm
    native, ratio = array.native_magnification, array.focal_length_mm / array.fourier_lens_mm
    nominal_pixel = camera_pixel_nm / (native * ratio)
    occupancy = _pupil_mm(array, eye.numerical_aperture) / array.pitch_mm
    lateral = wavelength * occupancy / (2 * eye.numerical_aperture)
    lenses = np.hypot(*array.centres_in_pupil(camera_pixel_nm / 1000).T)
    centre_na = lenses * native / array.fourier_lens_mm
    pupils = [view_pupil(instrument, v, samples=SAMPLES) for v in range(len(instrument.views))]
    return LightFieldNumbers(
        pupil_diameter_mm=_pupil_mm(array, eye.numerical_aperture),
        magnification=native * ratio,
        nominal_pixel_nm=nominal_pixel,
        pixel_nm=instrument.pixel_nm(),
        occupancy=occupancy,
        lateral_resolution_nm=lateral,
        samples_a_resolution=lateral / nominal_pixel,
        axial_resolution_nm=array.pitch_mm * lateral**2 / (wavelength * lenses.max()),
        depth_of_field_nm=2 * (4 + 2 * nominal_pixel / lateral) * lateral**2 / wavelength,
        field_um=array.pitch_mm * 1000 / (native * ratio),
        lens_na=array.pitch_mm / 2 * native / array.fourier_lens_mm,
        centre_na_v=tuple(centre_na.tolist()),
        edges_na_v=tuple(_edges_na(pupil) for pupil in pupils),
        chief_slope_v=tuple((centre_na / np.sqrt(np.maximum(instrument.sample_index**2 - centre_na**2, 1e-12))).tolist()),
        slope_yx_v=tuple(_slope_yx(pupil) for pupil in pupils),
        energy_share_v=tuple(energy_shares(instrument)),
    )


def energy_shares(instrument: Instrument) -> list[float]:
    """Share of the whole pupil's light that each view's aperture passes."""
    total = float(_power(view_pupil(whole_pupil(instrument), samples=SAMPLES)).sum())
    return [float(_power(view_pupil(instrument, v, samples=SAMPLES)).sum()) / total for v in range(len(instrument.views))]


def whole_pupil(instrument: Instrument) -> Instrument:
    """The same microscope with one view, through the whole pupil."""
    first = instrument.views[0]
    return instrument.model_copy(update={"views": (first.model_copy(update={"aperture": None}),)})


def _power(pupil: Pupil) -> Tensor:
    return (pupil.amplitude_pyx.real**2 + pupil.amplitude_pyx.imag**2).sum(0)


def _slope_yx(pupil: Pupil) -> tuple[float, float]:
    """Shift of the image per depth: the ray law x = z s / sqrt(n^2 - s^2), averaged over the light."""
    weight, kz = _power(pupil), pupil.kz_sample_yx.real
    k0 = 2 * math.pi / pupil.wavelength_nm
    tangent = weight * k0 / kz.clamp(min=1e-6 * float(kz.max())) / weight.sum()
    return float((tangent * pupil.na_n[:, None]).sum()), float((tangent * pupil.na_n).sum())


def _edges_na(pupil: Pupil) -> tuple[float, float]:
    """Directions nearest to the axis and farthest from it that pass, to half a sample."""
    radius = torch.hypot(pupil.na_n[:, None], pupil.na_n)
    passing = radius[_power(pupil) > 0.1 * _power(pupil).max()]
    return float(passing.min()), float(passing.max())


def _pupil_mm(array: MicrolensArray, numerical_aperture: float) -> float:
    return 2 * numerical_aperture * array.fourier_lens_mm / array.native_magnification


def _aperture(array: MicrolensArray, lenses_yx_mm: NDArray[np.float64], v: int, numerical_aperture: float) -> Aperture:
    """What lens v sees of the pupil."""
    per_mm = array.direction_per_mm()
    # rounded, so that a file made on another machine is the same
    towards = np.round(lenses_yx_mm[v] * per_mm, 6)
    radius = round(array.pitch_mm / 2 * abs(per_mm), 6)
    if array.outline == "disc":
        return Aperture(centre_na_yx=tuple(towards.tolist()), radius_na=radius)
    if array.outline == "hexagon":
        apart = lenses_yx_mm - lenses_yx_mm[v]
        # a side faces the nearest neighbour
        others = np.delete(apart, v, axis=0)
        near = others[np.argmin(np.hypot(*others.T))] if len(others) else np.array([0.0, 1.0])
        angle = round(math.atan2(near[0], near[1]), 6)
        return Aperture(outline="hexagon", centre_na_yx=tuple(towards.tolist()), radius_na=radius, angle_rad=angle)
    angle = round(math.atan2(towards[0], towards[1]), 6)
    return Aperture(outline="sector", radius_na=numerical_aperture, angle_rad=angle, opening_rad=round(2 * math.pi / len(lenses_yx_mm), 6))


def _check_pitch(array: MicrolensArray, lenses_yx_mm: NDArray[np.float64]) -> None:
    """Compare the distances of measured lens centres with those of the layout."""
    built = array.layout_yx_mm
    pairs = list(combinations(range(len(built)), 2))
    for expected, found, (i, j) in zip(
        _distances(built, pairs), _distances(lenses_yx_mm, pairs), _by_distance(lenses_yx_mm, pairs), strict=True
    ):
        if abs(found - expected) > LARGEST_MISFIT * array.pitch_mm:
            raise InstrumentError(
                f"measured lens centres {i} and {j} are {found:.2f} mm apart on the sensor, the layout {array.layout!r} of pitch "
                f"{array.pitch_mm:g} mm expects {expected:.2f} mm: correct sensor_centres_yx_px, the camera's pixel (binning) or the pitch"
            )


def _by_distance(centres: NDArray[np.float64], pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(pairs, key=lambda pair: math.dist(centres[pair[0]], centres[pair[1]]))


def _distances(centres: NDArray[np.float64], pairs: list[tuple[int, int]]) -> list[float]:
    """Distances of all pairs, rising, so that the order of the lenses does not matter."""
    return sorted(math.dist(centres[i], centres[j]) for i, j in pairs)


def _regions(array: MicrolensArray, sensor_px: NDArray[np.float64]) -> list[Region]:
    """Part of the frame that belongs to each view: equal rectangles around the lens centres that share no pixel."""
    middle = np.rint(sensor_px).astype(int)
    outside = np.flatnonzero(((middle < 0) | (middle >= np.array(array.frame_yx_px))).any(1))
    if len(outside):
        v = int(outside[0])
        raise InstrumentError(
            f"the image of lens {v + 1} lies at row {middle[v, 0]}, column {middle[v, 1]}, outside the frame of {array.frame_yx_px[0]} x "
            f"{array.frame_yx_px[1]} pixels: give the size of whole frames (frame_yx_px), or measured centres (sensor_centres_yx_px)"
        )
    height, width = array.field_yx_px or _largest_field(middle, array.frame_yx_px)
    for i, j in combinations(range(len(middle)), 2):
        rows, columns = abs(middle[i] - middle[j])
        if rows < height and columns < width:
            raise InstrumentError(
                f"views {i + 1} and {j + 1} overlap: their centres are {rows} rows and {columns} columns apart, but field_yx_px is "
                f"{height} x {width} pixels; leave field_yx_px empty for the largest field that fits"
            )
    corner = middle - np.array([height // 2, width // 2])
    return [(int(top), int(left), int(top) + height, int(left) + width) for top, left in corner]


def _largest_field(middle: NDArray[np.int_], frame_yx_px: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the largest equal rectangles around the centres that neither overlap nor leave the frame."""
    room_y, room_x = (2 * min(int(middle[:, a].min()), n - int(middle[:, a].max())) for a, n in enumerate(frame_yx_px))
    apart = np.abs(middle[:, None] - middle[None, :])[np.triu_indices(len(middle), 1)]
    best = (0, 0)
    for height in {room_y, *(min(room_y, int(rows)) for rows in apart[:, 0])}:
        beside = apart[apart[:, 0] < height, 1]
        width = min(room_x, int(beside.min())) if len(beside) else room_x
        if height * width > best[0] * best[1]:
            best = (height, width)
    if best == (0, 0):
        raise InstrumentError("two lens centres fall on one pixel, or one lies on the frame's edge: no view has a field")
    return best
