"""Pupils: grid, aperture, maps and masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Aperture, PhaseMask, View
from napari_volumetric_smlm.engine.optics.aberrations import zernike
from napari_volumetric_smlm.engine.optics.psf import camera_images, nyquist_nm, period_nm
from napari_volumetric_smlm.engine.optics.pupil import MAX_HALF_SAMPLES, MIN_HALF_SAMPLES, view_pupil
from napari_volumetric_smlm.errors import InstrumentError

NUMBERS = np.random.default_rng(3)


def test_the_grid_is_odd_and_has_the_axis_in_its_middle(microscope):
    s = view_pupil(microscope(), dtype=torch.float64).na_n
    assert len(s) % 2 == 1
    assert s[len(s) // 2] == 0
    assert torch.allclose(s, -s.flip(0))
    assert float(s[-1]) == pytest.approx(1.4)


def test_a_deeper_range_needs_a_finer_grid(microscope):
    shallow, deep, deepest = (view_pupil(microscope(depth_range_nm=(0, z))) for z in (600, 2500, 60_000))
    assert len(shallow.na_n) == 2 * MIN_HALF_SAMPLES + 1
    assert len(shallow.na_n) < len(deep.na_n) < len(deepest.na_n) == 2 * MAX_HALF_SAMPLES + 1
    assert period_nm(deep) > 2 * 9 * 2000


def test_the_grid_that_is_chosen_is_fine_enough_for_a_deep_range(microscope):
    instrument = microscope(
        numerical_aperture=1.45, depth_range_nm=(0, 4000), focal_plane_nm=2300, views=(View(zernike_noll_rad={12: 2.3}),)
    )
    position = torch.tensor([[0.0, 0, 0], [2000, 0, 0], [4000, 0, 0]], dtype=torch.float64)
    chosen, much_finer, coarse = (
        camera_images(view_pupil(instrument, dtype=torch.float64, samples=samples), position, (61, 110.0, True))
        for samples in (None, 501, 65)
    )
    error = (chosen - much_finer).abs().amax((1, 2)) / much_finer.amax((1, 2))
    assert error.max() < 0.05
    assert ((coarse - much_finer).abs().amax((1, 2)) / much_finer.amax((1, 2))).max() > 0.1


def test_light_beyond_the_samples_index_is_cut_or_kept_as_asked(microscope):
    cut, kept = (view_pupil(microscope(numerical_aperture=1.45, supercritical=keep)) for keep in (False, True))
    radius = torch.hypot(kept.na_n[:, None], kept.na_n)
    assert (kept.amplitude_pyx[0].abs()[(radius > 1.36) & (radius < 1.4)] > 0.1).all()
    radius = torch.hypot(cut.na_n[:, None], cut.na_n)
    assert (cut.amplitude_pyx[0].abs()[radius > 1.37] == 0).all()
    assert (cut.amplitude_pyx[0].abs()[radius < 1.28] > 0.1).all()


def test_the_area_of_the_sampled_aperture_is_that_of_the_disc(microscope):
    for samples in (33, 64, 129):
        pupil = view_pupil(microscope(apodization="none", sample_index=1.518), dtype=torch.float64, samples=samples)
        area = float(pupil.amplitude_pyx[0].real.sum()) * float(pupil.na_n[1] - pupil.na_n[0]) ** 2
        assert area == pytest.approx(math.pi * 1.4**2, rel=3e-3), samples


def test_an_aplanatic_lens_weighs_with_one_over_the_root_of_the_cosine(microscope):
    pupil = view_pupil(microscope(sample_index=1.518), dtype=torch.float64)
    amplitude = pupil.amplitude_pyx[0].real[len(pupil.na_n) // 2]
    inside = pupil.na_n.abs() < 1.3
    cosine = torch.sqrt(1 - (pupil.na_n / 1.518) ** 2)
    assert torch.allclose(amplitude[inside], 1 / torch.sqrt(cosine)[inside])


def test_an_aperture_of_a_view_is_a_disc_of_the_pupil(microscope):
    view = View(aperture=Aperture(centre_na_yx=(0.5, -0.4), radius_na=0.3))
    pupil = view_pupil(microscope(views=(view,), apodization="none"), dtype=torch.float64, samples=257)
    weight = pupil.amplitude_pyx[0].real
    s = pupil.na_n
    assert float((weight.sum(1) * s).sum() / weight.sum()) == pytest.approx(0.5, abs=1e-3)
    assert float((weight.sum(0) * s).sum() / weight.sum()) == pytest.approx(-0.4, abs=1e-3)
    assert float(weight.sum() * (s[1] - s[0]) ** 2) == pytest.approx(math.pi * 0.09, rel=0.01)


@pytest.mark.parametrize(
    ("outline", "radius", "area", "centre_yx"),
    [
        # inradius r: 2 sqrt(3) r^2
        ("hexagon", 0.3, 2 * math.sqrt(3) * 0.09, (0.2, -0.4)),
        # a third of a disc around the tip, its centroid 2 r sin(60 degrees) / (3 * 60 degrees) along the bisector
        ("sector", 0.6, math.pi * 0.36 / 3, (0.2 + 0.5 * 0.3308, -0.4 + 0.866 * 0.3308)),
    ],
)
def test_a_hexagon_and_a_sector_have_their_area_and_centre(microscope, outline, radius, area, centre_yx):
    aperture = Aperture(outline=outline, centre_na_yx=(0.2, -0.4), radius_na=radius, angle_rad=math.pi / 6)
    pupil = view_pupil(microscope(views=(View(aperture=aperture),), apodization="none"), dtype=torch.float64, samples=257)
    weight, s = pupil.amplitude_pyx[0].real, pupil.na_n
    assert float(weight.sum() * (s[1] - s[0]) ** 2) == pytest.approx(area, rel=0.01)
    assert float((weight.sum(1) * s).sum() / weight.sum()) == pytest.approx(centre_yx[0], abs=0.003)
    assert float((weight.sum(0) * s).sum() / weight.sum()) == pytest.approx(centre_yx[1], abs=0.003)


def test_a_side_of_a_hexagon_faces_its_angle(microscope):
    def passes(angle: float, distance: float) -> bool:
        aperture = Aperture(outline="hexagon", radius_na=0.5, angle_rad=0.3)
        pupil = view_pupil(microscope(views=(View(aperture=aperture),)), samples=257)
        row, column = (int((pupil.na_n - v).abs().argmin()) for v in (distance * math.sin(angle), distance * math.cos(angle)))
        return bool(pupil.amplitude_pyx[0, row, column].abs() > 0.5)

    assert passes(0.3 + math.pi / 6, 0.55)  # towards a corner
    assert not passes(0.3, 0.55)  # towards a side


def test_the_reach_of_an_aperture_decides_how_finely_images_are_sampled(microscope):
    whole = view_pupil(microscope())
    small = view_pupil(microscope(views=(View(aperture=Aperture(centre_na_yx=(0.5, 0.1), radius_na=0.35)),)))
    assert small.reach_na == pytest.approx(0.35)
    assert nyquist_nm(small) == pytest.approx(4 * nyquist_nm(whole))
    # as many samples across the small aperture as across the whole pupil
    assert float((whole.na_n[1] - whole.na_n[0]) / (small.na_n[1] - small.na_n[0])) > 3


def test_zernike_terms_are_scaled_to_the_full_aperture(microscope):
    pupil = view_pupil(microscope(views=(View(zernike_noll_rad={4: 0.5, 8: -1.0}),)), dtype=torch.float64)
    unit = pupil.na_n / 1.4
    assert torch.allclose(pupil.phase_yx, 0.5 * zernike(4, unit[:, None], unit) - zernike(8, unit[:, None], unit))


def test_a_map_on_the_pupils_own_grid_is_taken_as_it_is(microscope):
    phase, amplitude = NUMBERS.normal(size=(41, 41)), NUMBERS.uniform(0.5, 1, (41, 41))
    pupil = view_pupil(microscope(views=(View(phase_rad_yx=phase, amplitude_yx=amplitude),), apodization="none"), dtype=torch.float64)
    assert len(pupil.na_n) == 41
    assert np.allclose(pupil.phase_yx.numpy(), phase, atol=1e-9)
    centre = slice(10, 31)
    assert np.allclose(pupil.amplitude_pyx[0, centre, centre].real.numpy(), amplitude[centre, centre], atol=1e-9)


def test_a_map_on_another_grid_is_interpolated_between_its_neighbours(microscope):
    ramp = np.linspace(-1, 1, 41)[:, None] * np.array([2.0]) + np.linspace(-1, 1, 41)
    pupil = view_pupil(microscope(views=(View(phase_rad_yx=ramp),)), dtype=torch.float64, samples=97)
    unit = pupil.na_n / 1.4
    assert torch.allclose(pupil.phase_yx, 2 * unit[:, None] + unit, atol=1e-6)


def test_a_mask_gives_the_pupil_its_own_pixels_turned_by_180_degrees(microscope):
    phase = NUMBERS.normal(size=(120, 140))
    mask = PhaseMask(phase_rad_yx=phase, mask_pixel_um=30, fourier_lens_mm=100)
    pupil = view_pupil(microscope(views=(View(mask=mask),)), dtype=torch.float64)
    step = 30e-3 * 100 / 100
    half = math.ceil(1.33 / step)
    assert float(pupil.na_n[1] - pupil.na_n[0]) == pytest.approx(step)
    assert len(pupil.na_n) == 2 * half + 1
    # pupil sample (i, j) from the axis is mask pixel (-i, -j) from the centre of pixel n // 2
    for i, j in ((0, 0), (5, -7), (-half, half)):
        assert float(pupil.phase_yx[half + i, half + j]) == phase[60 - i, 70 - j]


def test_mask_zernike_and_map_add_up(microscope):
    mask = PhaseMask(phase_rad_yx=np.full((120, 120), 0.25), mask_pixel_um=30, fourier_lens_mm=100)
    view = View(mask=mask, zernike_noll_rad={1: 1.5}, phase_rad_yx=np.full((41, 41), -0.5))
    assert torch.allclose(view_pupil(microscope(views=(view,))).phase_yx, torch.tensor(1.25))


def test_a_mask_smaller_than_the_pupil_is_explained(microscope):
    mask = PhaseMask(phase_rad_yx=np.zeros((61, 61)), mask_pixel_um=30, fourier_lens_mm=100)
    with pytest.raises(
        InstrumentError, match=r"61 mask pixels wide, the pupil 91: check mask_pixel_um \(30.*fourier_lens_mm \(100.*magnification"
    ):
        view_pupil(microscope(views=(View(mask=mask),)))


def test_an_even_mask_that_just_misses_its_last_row_is_explained(microscope):
    mask = PhaseMask(phase_rad_yx=np.zeros((90, 90)), mask_pixel_um=30, fourier_lens_mm=100)
    with pytest.raises(InstrumentError, match=r"90 x 90 pixels.*91"):
        view_pupil(microscope(views=(View(mask=mask),)))


def test_the_focal_plane_of_a_view_is_the_instruments_plus_its_own_shift(microscope):
    views = (View(), View(focus_shift_nm=-350))
    instrument = microscope(views=views)
    assert [view_pupil(instrument, v).focal_plane_nm for v in (0, 1)] == [500, 150]


def test_a_pupil_moves_to_another_device_whole(microscope):
    moved = view_pupil(microscope()).to("meta")
    assert {value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)} == {"meta"}


def test_a_vectorial_pupil_holds_two_fields_of_three_dipoles(microscope):
    pupil = view_pupil(microscope(wave_model="vectorial", sample_index=1.518), dtype=torch.float64)
    middle = len(pupil.na_n) // 2
    assert pupil.amplitude_pyx.shape[0] == 6
    # on the axis: dipole x feeds field x only, dipole y field y only, dipole z nothing
    assert torch.allclose(pupil.amplitude_pyx[:, middle, middle].real, torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64), atol=1e-9)
    # energy of the three dipoles at direction theta: (1 + cos^2 + sin^2) / cos = 2 / cos, for both fields together
    power = (pupil.amplitude_pyx.abs() ** 2).sum(0)[middle]
    inside = pupil.na_n.abs() < 1.3
    assert torch.allclose(power[inside], 2 / torch.sqrt(1 - (pupil.na_n / 1.518) ** 2)[inside])
