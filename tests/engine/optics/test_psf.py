"""The physics of an image, as a specification."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_volumetric_smlm.domain.instrument import Aperture, View
from napari_volumetric_smlm.engine.optics.psf import camera_images, oversampling, point_images
from napari_volumetric_smlm.engine.optics.pupil import Pupil, view_pupil
from napari_volumetric_smlm.errors import EngineError

OIL, WATER = 1.518, 1.33


def at(*zyx: tuple[float, float, float]) -> Tensor:
    return torch.tensor(zyx, dtype=torch.float64)


def exact(instrument, view: int = 0, samples: int | None = None) -> Pupil:
    return view_pupil(instrument, view, torch.float64, samples)


def centroid(image_yx: Tensor, step_nm: float) -> Tensor:
    """Mean position (y, x) in nm from the grid's centre."""
    n = image_yx.shape[-1]
    x = (torch.arange(n, dtype=image_yx.dtype) - n // 2) * step_nm
    share = image_yx / image_yx.sum((-1, -2), keepdim=True)
    return torch.stack([(share.sum(-1) * x).sum(-1), (share.sum(-2) * x).sum(-1)], -1)


def whole_period(pupil: Pupil, fine: int = 1) -> tuple[int, float]:
    """Samples and step of the whole plane that the pupil's grid can tell apart, at `fine` times the intensity's Nyquist rate."""
    n = 2 * len(pupil.na_n) * fine
    return n, pupil.wavelength_nm / float(pupil.na_n[1] - pupil.na_n[0]) / n


def spectrum(image_yx: Tensor, step_nm: float) -> tuple[Tensor, Tensor]:
    """Modulus of the optical transfer function and the frequency (1/nm) of each sample."""
    frequency = torch.fft.fftfreq(image_yx.shape[-1], step_nm, dtype=image_yx.dtype)
    return torch.fft.fft2(image_yx).abs(), torch.hypot(frequency[:, None], frequency[None, :])


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
@pytest.mark.parametrize("supercritical", [False, True])
def test_the_light_in_the_whole_plane_is_one(microscope, model, supercritical):
    instrument = microscope(
        wave_model=model, supercritical=supercritical, numerical_aperture=1.45, views=(View(zernike_noll_rad={6: 1, 8: 2}),)
    )
    pupil = exact(instrument)
    images = point_images(pupil, at((0, 0, 0), (900, 130, -40)), whole_period(pupil))
    assert torch.allclose(images.sum((1, 2)), torch.ones(2, dtype=torch.float64), atol=1e-9)


def test_light_outside_the_crop_counts_as_lost(microscope):
    pupil = exact(microscope())
    inside = [float(camera_images(pupil, at((900, 0, 0)), (n, 110.0, True)).sum()) for n in (7, 15, 31, 61)]
    assert inside[0] < 0.9
    assert inside == sorted(inside)
    # what leaves near the critical angle lands micrometres away
    assert 0.9 < inside[-1] < 1


def test_blur_and_pixel_area_keep_the_light(microscope):
    pupil = exact(microscope())
    sharp = camera_images(pupil, at((500, 0, 0)), (61, 110.0, False)).sum()
    blurred = camera_images(pupil, at((500, 0, 0)), (61, 110.0, True), blur_nm=120.0).sum()
    assert abs(float(blurred - sharp)) < 2e-3


def test_the_image_moves_with_the_molecule(microscope):
    pupil, step = exact(microscope()), 50.0
    here, there = point_images(pupil, at((700, 0, 0), (700, -3 * step, 5 * step)), (101, step))
    assert torch.allclose(there[:-3, 5:], here[3:, :-5], atol=1e-12)


def test_a_grid_wider_than_the_pupils_period_is_refused(microscope):
    pupil = exact(microscope(), samples=33)  # period 600 nm * 16 / 1.4 = 6857 nm
    camera_images(pupil, at((0, 0, 0)), (61, 110.0, True))
    with pytest.raises(EngineError, match=r"13310 nm.*repeats every 6857 nm.*at least 63 samples"):
        camera_images(pupil, at((0, 0, 0)), (121, 110.0, True))
    camera_images(exact(microscope(), samples=63), at((0, 0, 0)), (121, 110.0, True))


@pytest.mark.parametrize("shift", [(0.0, 27.0), (-41.0, 13.0), (55.0, -55.0)])
def test_the_centroid_moves_by_fractions_of_a_pixel_without_bias(microscope, shift):
    # a smooth pupil edge keeps the tails, and with them the error of a cropped centroid, small
    pupil = exact(microscope(numerical_aperture=1.2, views=(View(amplitude_yx=soft_disc()),), focal_plane_nm=0))
    still, moved = camera_images(pupil, at((0, 0, 0), (0, *shift)), (41, 110.0, True))
    assert torch.allclose(centroid(moved, 110.0) - centroid(still, 110.0), torch.tensor(shift, dtype=torch.float64), atol=0.1)


def soft_disc(n: int = 65):
    s = torch.linspace(-1, 1, n, dtype=torch.float64)
    return torch.exp(-4 * (s[:, None] ** 2 + s**2)).numpy()


@pytest.mark.parametrize(("sample_index", "edge_na"), [(OIL, 1.4), (WATER, WATER)])
def test_no_frequency_beyond_twice_the_aperture_passes(microscope, sample_index, edge_na):
    pupil = exact(microscope(sample_index=sample_index))
    n, step = whole_period(pupil, fine=2)
    transfer, frequency = spectrum(point_images(pupil, at((300, 0, 0)), (n, step))[0], step)
    # the soft rim of the sampled pupil reaches half a sample beyond the edge
    cutoff = 2 * (edge_na + float(pupil.na_n[1] - pupil.na_n[0])) / 600
    assert transfer[frequency > cutoff].max() < 1e-9
    assert transfer[(frequency > 0.8 * cutoff) & (frequency < 0.9 * cutoff)].max() > 1e-3


def test_the_pixels_area_equals_a_sum_of_finer_pixels(microscope):
    pupil, pixel = exact(microscope()), 110.0
    whole = camera_images(pupil, at((800, 20, -35)), (21, pixel, True))[0]
    # with the molecule a quarter pixel on, half pixels 22 and 23 together cover what pixel 10 covers
    half = camera_images(pupil, at((800, 20 + pixel / 4, -35 + pixel / 4)), (44, pixel / 2, True))[0]
    binned = half[2:, 2:].unflatten(0, (21, 2)).unflatten(2, (21, 2)).sum((1, 3))
    assert (binned - whole).abs().max() < 0.002 * whole.max()


def test_a_coarse_camera_sees_what_a_fine_one_would_add_up(microscope):
    pupil, pixel, fine = exact(microscope()), 260.0, 13
    assert oversampling(pupil, pixel) > 1
    coarse = camera_images(pupil, at((800, 40, 10)), (9, pixel, True))[0]
    points = point_images(pupil, at((800, 40, 10)), (9 * fine, pixel / fine))[0]
    added = points.unflatten(0, (9, fine)).unflatten(2, (9, fine)).sum((1, 3))
    assert (added - coarse).abs().max() < 0.003 * coarse.max()


@pytest.mark.parametrize("pixel", [40.0, 73.0, 110.0])
def test_any_pixel_size_shows_the_same_light(microscope, pixel):
    pupil = exact(microscope())
    density = camera_images(pupil, at((300, 0, 0)), (15, pixel, False))[0] / pixel**2
    reference = point_images(pupil, at((300, 0, 0)), (15, pixel))[0] / pixel**2
    assert torch.allclose(density, reference, atol=2e-3 * float(reference.max()))


def test_blur_adds_its_variance(microscope):
    pupil = exact(microscope(numerical_aperture=1.2, views=(View(amplitude_yx=soft_disc()),), focal_plane_nm=0))
    x = (torch.arange(41) - 20) * 110.0

    def variance(blur: float) -> float:
        image = camera_images(pupil, at((0, 0, 0)), (41, 110.0, True), blur_nm=blur)[0]
        return float((image.sum(0) * x**2).sum() / image.sum())

    assert variance(150.0) - variance(0.0) == pytest.approx(150.0**2, rel=0.01)


def test_many_molecules_give_the_images_that_each_gives_alone(microscope):
    pupil = exact(microscope(wave_model="vectorial"))
    position, blur = at((0, 0, 0), (400, 30, -80), (1000, -200, 90)), torch.tensor([0.0, 60.0, 140.0], dtype=torch.float64)
    focus = torch.tensor([500.0, 300.0, 700.0], dtype=torch.float64)
    together = camera_images(pupil, position, (17, 110.0, True), blur, focus)
    for k in range(3):
        alone = camera_images(pupil, position[k : k + 1], (17, 110.0, True), blur[k], focus[k : k + 1])
        assert torch.allclose(together[k], alone[0], atol=2e-6)


def test_single_precision_is_enough(microscope):
    instrument = microscope(wave_model="vectorial")
    double = camera_images(exact(instrument), at((1000, 30, 200)), (31, 110.0, True))
    single = camera_images(view_pupil(instrument), at((1000, 30, 200)).float(), (31, 110.0, True))
    assert (single.double() - double).abs().max() < 1e-4 * double.max()


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
def test_gradients_are_exact_for_position_focus_phase_and_amplitude(microscope, model):
    pupil = exact(microscope(wave_model=model, supercritical=True, numerical_aperture=1.45), samples=9)
    generator = torch.Generator().manual_seed(1)
    phase = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    gain = 1 + 0.2 * torch.randn(9, 9, generator=generator, dtype=torch.float64)

    def image(position: Tensor, focus: Tensor, blur: Tensor, phase: Tensor, gain: Tensor) -> Tensor:
        return camera_images(pupil, position, (4, 110.0, True), blur, focus, phase, pupil.amplitude_pyx * gain) * 100

    given = [
        at((250, 40, -70), (600, 0, 15)),
        torch.tensor([300.0, 450.0], dtype=torch.float64),
        torch.tensor([50.0, 90.0], dtype=torch.float64),
    ]
    assert torch.autograd.gradcheck(image, [v.requires_grad_() for v in (*given, phase, gain)], eps=1e-4, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("index", [OIL, WATER])
def test_a_biplane_view_sees_the_first_views_image_at_another_depth(microscope, index):
    views = (View(name="near"), View(name="far", focus_shift_nm=400.0))
    instrument = microscope(views=views, sample_index=index, immersion_index=index, numerical_aperture=1.2)
    grid = (25, 60.0)
    near = point_images(exact(instrument, 0, 65), at((-150, 0, 0), (250, 0, 0)), grid)
    far = point_images(exact(instrument, 1, 65), at((250, 0, 0)), grid)
    # a focal plane farther into the sample shows there what the first view shows that much nearer
    assert torch.allclose(far[0], near[0], atol=1e-12)
    assert (far[0] - near[1]).abs().max() > 0.1 * near[1].max()


def sharpest_depth(pupil: Pupil, focus_nm: float) -> float:
    z = torch.linspace(0.5 * focus_nm, 1.5 * focus_nm, 401, dtype=torch.float64)
    position = torch.zeros((len(z), 3), dtype=torch.float64)
    position[:, 0] = z
    peak = point_images(pupil, position, (1, 10.0), torch.full_like(z, focus_nm))[:, 0, 0]
    return float(z[peak.argmax()])


def test_at_low_aperture_the_focus_lies_where_paraxial_optics_puts_it(microscope):
    # a focal plane f in oil is reached by a molecule at z with z n_oil / n_water = f
    pupil = exact(microscope(numerical_aperture=0.5, views=(View(),)), samples=65)
    assert sharpest_depth(pupil, 20_000.0) == pytest.approx(20_000 * WATER / OIL, rel=0.01)


def test_at_high_aperture_the_focus_lies_between_the_paraxial_and_the_marginal_one(microscope):
    na, focus = 1.2, 5000.0
    pupil = exact(microscope(numerical_aperture=na, views=(View(),)), samples=129)
    paraxial = focus * WATER / OIL
    marginal = focus * math.sqrt((WATER**2 - na**2) / (OIL**2 - na**2))
    assert marginal < sharpest_depth(pupil, focus) < paraxial


def test_without_mismatch_the_focus_is_where_it_is_said_to_be(microscope):
    pupil = exact(microscope(sample_index=OIL, views=(View(),)), samples=97)
    assert sharpest_depth(pupil, 2000.0) == pytest.approx(2000, abs=6)


def test_a_bead_scan_and_a_moving_molecule_are_not_the_same(microscope):
    pupil = exact(microscope())
    moved = point_images(pupil, at((800, 0, 0)), (25, 60.0), torch.tensor([500.0], dtype=torch.float64))[0]
    scanned = point_images(pupil, at((0, 0, 0)), (25, 60.0), torch.tensor([500.0 - 800 * OIL / WATER], dtype=torch.float64))[0]
    assert (moved - scanned).abs().max() > 0.05 * moved.max()


def beyond_critical_angle(pupil: Pupil, z_nm: float) -> float:
    """Share of the transfer function's power beyond twice the sample's index, where only supercritical light reaches."""
    n, step = whole_period(pupil)
    transfer, frequency = spectrum(point_images(pupil, at((z_nm, 0, 0)), (n, step))[0], step)
    beyond = frequency > 2 * (WATER + float(pupil.na_n[1] - pupil.na_n[0])) / 600
    return float((transfer[beyond] ** 2).sum() / (transfer**2).sum())


def test_supercritical_light_comes_only_from_molecules_near_the_coverslip(microscope):
    flat = (View(),)
    kept = exact(microscope(supercritical=True, numerical_aperture=1.49, views=flat))
    cut = exact(microscope(supercritical=False, numerical_aperture=1.49, views=flat))
    assert beyond_critical_angle(kept, 0) > 1e-5
    assert beyond_critical_angle(kept, 1000) < 1e-3 * beyond_critical_angle(kept, 0)
    assert beyond_critical_angle(cut, 0) < 1e-15


def test_the_evanescent_wave_decays_with_its_own_length(microscope):
    pupil = exact(microscope(supercritical=True, numerical_aperture=1.49, views=(View(),)))
    at_na = 1.45
    column = int((pupil.na_n - at_na).abs().argmin())
    found = float(pupil.kz_sample_yx[len(pupil.na_n) // 2, column].imag)
    s = float(pupil.na_n[column])
    assert found == pytest.approx(2 * math.pi / 600 * math.sqrt(s**2 - WATER**2), rel=1e-9)
    assert float(pupil.kz_sample_yx[len(pupil.na_n) // 2, column].real) == pytest.approx(0, abs=1e-12)


def test_far_from_the_coverslip_supercritical_light_makes_no_difference(microscope):
    kept = exact(microscope(supercritical=True, numerical_aperture=1.49, views=(View(),)), samples=257)
    cut = exact(microscope(supercritical=False, numerical_aperture=1.49, views=(View(),)), samples=257)
    depths = at((0, 0, 0), (8000, 0, 0))
    focus = torch.tensor([300.0, 9000.0], dtype=torch.float64)
    with_it, without = (point_images(pupil, depths, (31, 60.0), focus) for pupil in (kept, cut))
    near, far = ((with_it - without).abs().amax((1, 2)) / without.amax((1, 2))).tolist()
    assert near > 0.1
    assert far < 0.03


@pytest.mark.parametrize(("u_y", "u_x"), [(0.0, 0.6), (-0.5, 0.3)])
@pytest.mark.parametrize("z", [-1500.0, 1500.0])
def test_a_decentred_aperture_shifts_a_molecule_in_proportion_to_its_depth(microscope, u_y, u_x, z):
    view = View(aperture=Aperture(centre_na_yx=(u_y, u_x), radius_na=0.12))
    pupil = exact(microscope(sample_index=OIL, views=(view,)), samples=161)
    images = point_images(pupil, at((0, 0, 0), (z, 0, 0)), (101, 110.0))
    shift = centroid(images[1], 110.0) - centroid(images[0], 110.0)
    slope = z / math.sqrt(OIL**2 - u_y**2 - u_x**2)
    # x - x0 = z u / sqrt(n^2 - u^2), the mean over a disc of finite radius differs by a few per cent
    assert torch.allclose(shift, torch.tensor([u_y, u_x], dtype=torch.float64) * slope, rtol=0.04, atol=10)


def test_a_freely_rotating_dipole_looks_the_same_from_four_sides(microscope):
    pupil = exact(microscope(wave_model="vectorial", views=(View(),)))
    image = point_images(pupil, at((800, 0, 0)), (25, 60.0))[0]
    assert torch.allclose(image, image.T, atol=1e-14)
    assert torch.allclose(image, image.flip(0), atol=1e-14)


def test_at_low_aperture_the_vectorial_model_becomes_the_scalar_one(microscope):
    images = {
        (model, na): point_images(
            exact(microscope(wave_model=model, numerical_aperture=na, views=(View(),), focal_plane_nm=0), samples=65),
            at((0, 0, 0)),
            (31, 60.0),
        )[0]
        for model in ("scalar", "vectorial")
        for na in (0.3, 1.3)
    }
    apart = {na: float((images["scalar", na] - images["vectorial", na]).abs().max() / images["scalar", na].max()) for na in (0.3, 1.3)}
    assert apart[0.3] < 0.02
    assert apart[1.3] > 0.1
