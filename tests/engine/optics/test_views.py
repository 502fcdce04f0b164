"""From a microlens array to views: geometry, derived numbers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.views import light_field_instrument, light_field_numbers
from napari_volumetric_smlm.errors import InstrumentError
from napari_volumetric_smlm.io.examples import load_example

OPTICS = {"pitch_mm": 3.25, "focal_length_mm": 117, "fourier_lens_mm": 275, "native_magnification": 100, "frame_yx_px": (1024, 1024)}
# of the published instrument, on the 512 x 512 grid of 290 nm
PUBLISHED_CENTRES = ((148, 384), (364, 254), (150, 132))


@pytest.fixture(scope="module")
def published() -> Instrument:
    return load_example("light_field_3")


def behind(microscope: Instrument, **changes) -> Instrument:
    return light_field_instrument(MicrolensArray(**{**OPTICS, **changes}), microscope)


def test_the_derived_numbers_are_those_of_the_published_instrument(published):
    found = light_field_numbers(published)
    assert found.pupil_diameter_mm == pytest.approx(7.975, abs=0.001)
    assert found.magnification == pytest.approx(42.55, abs=0.01)
    assert found.nominal_pixel_nm == pytest.approx(152.8, abs=0.1)
    assert found.pixel_nm == pytest.approx(145)
    assert found.occupancy == pytest.approx(2.454, abs=0.001)
    assert found.lateral_resolution_nm == pytest.approx(575, abs=1)
    assert found.samples_a_resolution == pytest.approx(3.77, abs=0.01)
    assert found.axial_resolution_nm == pytest.approx(843, abs=1)
    assert found.depth_of_field_nm == pytest.approx(4410, abs=10)
    assert found.field_um == pytest.approx(76.4, abs=0.1)
    assert found.lens_na == pytest.approx(0.591, abs=0.001)
    for v in range(3):
        assert found.centre_na_v[v] == pytest.approx(0.682, abs=0.001)
        assert found.edges_na_v[v] == pytest.approx((0.091, 1.273), abs=0.004)
        assert found.chief_slope_v[v] == pytest.approx(0.504, abs=0.001)
        assert math.hypot(*found.slope_yx_v[v]) == pytest.approx(0.627, rel=0.005)
    assert sum(found.energy_share_v) == pytest.approx(0.39, abs=0.005)


def test_the_same_optics_see_steeper_rays_in_water(published):
    wet = light_field_numbers(published.model_copy(update={"sample_index": 1.33}))
    assert wet.chief_slope_v[0] == pytest.approx(0.598, abs=0.001)
    assert math.hypot(*wet.slope_yx_v[0]) == pytest.approx(0.917, rel=0.02)
    assert wet.edges_na_v[0][1] < 1.33


def test_seamless_sectors_pass_all_the_light_and_three_discs_two_fifths(published):
    assert sum(light_field_numbers(behind(published, outline="sector")).energy_share_v) == pytest.approx(1, abs=0.01)
    hexagons = light_field_numbers(behind(published, outline="hexagon")).energy_share_v
    # a hexagon has 2 sqrt(3) / pi = 1.10 times the area of the disc in it
    assert sum(hexagons) == pytest.approx(0.39 * 1.10, rel=0.03)


@pytest.mark.parametrize(("z_nm", "radial_nm", "tangential_nm"), [(0, 590, 590), (1000, 603, 584), (2000, 691, 566)])
def test_a_view_is_as_wide_as_independent_computations_say(published, z_nm, radial_nm, tangential_nm):
    # through the lens below the axis, radial is along rows
    step, size = 20.0, 301
    image = camera_images(view_pupil(published, 0), torch.tensor([[float(z_nm), 0.0, 0.0]]), (size, step, False))[0]
    row, column = divmod(int(image.argmax()), size)
    assert full_width(image[:, column]) * step == pytest.approx(radial_nm, rel=0.02)
    assert full_width(image[row]) * step == pytest.approx(tangential_nm, rel=0.02)


@pytest.mark.parametrize(("z_nm", "lag_nm"), [(500, 30), (1000, 70), (1500, 110), (2000, 150)])
def test_the_brightest_point_of_a_view_lags_behind_its_light(published, z_nm, lag_nm):
    step, size = 10.0, 401
    image = camera_images(view_pupil(published, 0), torch.tensor([[float(z_nm), 0.0, 0.0]]), (size, step, False))[0]
    row = int(image.argmax()) // size - size // 2
    slope = math.hypot(*light_field_numbers(published).slope_yx_v[0])
    assert slope * z_nm - abs(row) * step == pytest.approx(lag_nm, abs=12)


def full_width(profile: torch.Tensor) -> float:
    """Full width at half maximum of one peak, in samples."""
    half, p = float(profile.max()) / 2, profile.numpy()
    above = np.flatnonzero(p >= half)
    first, last = above[0], above[-1]
    return float(last - first + (p[last] - half) / (p[last] - p[last + 1]) + (p[first] - half) / (p[first] - p[first - 1]))


def test_layouts_have_their_number_of_lenses_at_their_pitch():
    for layout, count in (("triangle", 3), ("hexagon", 7), ("square", 9)):
        centres = MicrolensArray(**OPTICS, layout=layout).layout_yx_mm
        apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
        assert len(centres) == count
        assert apart[np.triu_indices(count, 1)].min() == pytest.approx(3.25)
        assert centres.mean(0) == pytest.approx(0, abs=1e-12)


def test_a_turned_layout_turns_from_x_towards_y():
    straight, turned = (MicrolensArray(**OPTICS, layout="hexagon", rotation_rad=a).layout_yx_mm for a in (0.0, 0.2))
    assert straight[1] == pytest.approx([0, 3.25])
    assert turned[1] == pytest.approx([3.25 * math.sin(0.2), 3.25 * math.cos(0.2)])


def test_a_lens_sees_the_opposite_side_of_the_pupil_where_the_relay_puts_it(published):
    for view, lens in zip(published.views, published.microlenses.layout_yx_mm, strict=True):
        assert np.array(view.aperture.centre_na_yx) == pytest.approx(-lens * 100 / 275, abs=1e-6)


def test_measured_centres_in_any_order_place_views_and_apertures(published):
    measured = tuple((2 * row + 0.5, 2 * column + 0.5) for row, column in PUBLISHED_CENTRES)
    one = behind(published, sensor_centres_yx_px=measured, pixel_nm=145)
    other = behind(published, sensor_centres_yx_px=measured[::-1], pixel_nm=145)
    assert one.views[0].aperture == other.views[2].aperture
    shift = np.array([row[2] for row in one.views[1].affine_yx])
    assert shift == pytest.approx((np.array(measured[1]) - measured[0]) * 145)
    radius = np.hypot(*np.array([view.aperture.centre_na_yx for view in one.views]).T)
    assert radius == pytest.approx(0.682, rel=0.02)


def test_views_share_no_pixel_and_lie_in_the_frame(published):
    for changes in ({}, {"layout": "hexagon", "pitch_mm": 2.0}, {"layout": "square", "pitch_mm": 1.9}, {"rotation_rad": 0.3}):
        instrument = behind(published, **changes)
        count = np.zeros(OPTICS["frame_yx_px"], int)
        for view in instrument.views:
            top, left, bottom, right = view.region_yx_px
            count[top:bottom, left:right] += 1
            assert (bottom - top) * (right - left) == count[top:bottom, left:right].size
        assert count.max() == 1
        first = instrument.views[0].region_yx_px
        assert (count > 0).sum() == len(instrument.views) * (first[2] - first[0]) * (first[3] - first[1])


def test_new_centres_keep_the_phase_that_a_calibration_gave_each_view(published):
    views = tuple(view.model_copy(update={"zernike_noll_rad": {5: 0.1 * v}}) for v, view in enumerate(published.views))
    again = light_field_instrument(published.microlenses, published.model_copy(update={"views": views}))
    assert [view.zernike_noll_rad for view in again.views] == [view.zernike_noll_rad for view in views]
    assert again.objective == published.objective


def test_the_middle_lens_of_seven_gets_less_light_than_the_outer_ones(published):
    fractions = [view.photon_fraction for view in behind(published, layout="hexagon", pitch_mm=2.6).views]
    assert max(fractions[1:]) == 1
    assert fractions[0] < 0.85


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sensor_centres_yx_px": ((100, 100), (300, 300))}, "2 lens centres were measured.*'triangle' has 3"),
        ({"sensor_centres_yx_px": ((296, 768), (728, 508), (300, 1264))}, "column 1264 lies outside the frame of 1024 x 1024"),
        ({"layout": "explicit", "centres_yx_mm": ((0, 0), (0, 2.9))}, "2.900 mm apart, the pitch is 3.25 mm: they overlap"),
        ({"layout": "explicit"}, "centres_yx_mm belongs to the layout 'explicit'"),
        ({"layout": "square", "outline": "hexagon"}, "overlap on a square grid"),
        ({"layout": "hexagon", "outline": "sector"}, "lie on a ring at equal angles; found 7"),
    ],
)
def test_an_array_that_cannot_be_is_explained(changes, words):
    with pytest.raises(ValidationError, match=words):
        MicrolensArray(**{**OPTICS, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"field_yx_px": (600, 600)}, "views 1 and 2 overlap: their centres are 433 rows and 250 columns apart.*600 x 600"),
        ({"frame_yx_px": (500, 500)}, "lies at row 538.*outside the frame of 500 x 500"),
        ({"sensor_centres_yx_px": ((148, 384), (364, 254), (150, 132))}, "1.60 mm apart on the sensor.*expects 3.25 mm"),
        ({"fourier_lens_mm": 16}, "lens 1 sees nothing of the pupil of NA 1.45, which is 0.46 mm wide"),
    ],
)
def test_an_array_that_does_not_fit_its_microscope_is_explained(published, changes, words):
    with pytest.raises(InstrumentError, match=words):
        behind(published, **changes)


def test_an_instrument_without_array_has_no_such_numbers(published):
    with pytest.raises(InstrumentError, match="has no microlens array"):
        light_field_numbers(published.model_copy(update={"microlenses": None}))


def test_where_a_view_lies_does_not_change_the_fingerprint_but_its_aperture_does(published):
    moved = tuple(view.model_copy(update={"region_yx_px": (0, 0, 9, 9)}) for view in published.views)
    assert published.model_copy(update={"views": moved}).fingerprint == published.fingerprint
    assert behind(published, outline="hexagon", pixel_nm=145).fingerprint != published.fingerprint


def test_an_empty_part_of_the_frame_is_refused():
    with pytest.raises(ValidationError, match=r"region_yx_px .* is empty"):
        View(region_yx_px=(10, 10, 10, 20))
