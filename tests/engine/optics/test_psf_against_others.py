"""The same images from other hands: an independent package, a plain FFT of the published model, and frames of its own simulator."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, PhaseMask, View
from napari_volumetric_smlm.engine.optics.psf import camera_images, point_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil

OIL, WATER, WAVELENGTH = 1.518, 1.33, 600.0
SAMPLES, IMAGE_PX, STEP_NM = 257, 61, 25.0

# Noll index and its coefficient in rad -> index and coefficient in the package's order (OSA, peak 1 for m != 0)
ABERRATIONS = {
    "none": ({}, {}),
    "astigmatism": ({6: 1.0}, {5: 6**0.5}),
    "coma and trefoil": ({8: 0.7, 9: -0.5}, {8: 0.7 * 8**0.5, 6: -0.5 * 8**0.5}),
}


def their_image(model: str, na: float, z_nm: float, osa: dict[int, float], **changes: object) -> np.ndarray:
    """Intensity from psf-generator; by reciprocity a rotating dipole's image is the mean of both focusing polarisations."""
    propagators = pytest.importorskip("psf_generator.propagators", reason="psf-generator is of the test extra")
    coefficients = torch.zeros(15)
    for index, value in osa.items():
        coefficients[index] = value
    settings = {
        "n_pix_pupil": SAMPLES,
        "n_pix_psf": IMAGE_PX,
        "wavelength": WAVELENGTH,
        "na": na,
        "pix_size": STEP_NM * (IMAGE_PX - 1) / IMAGE_PX,  # its image includes both ends of the field
        "n_i": OIL,
        "n_i0": OIL,
        "defocus_step": -2 * z_nm,  # one plane then lies at -defocus_step / 2
        "apod_factor": True,
        "zernike_coefficients": coefficients,
    } | changes
    if model == "scalar":
        makers = [propagators.ScalarCartesianPropagator(**settings)]
    else:
        makers = [propagators.VectorialCartesianPropagator(e0x=x, e0y=1 - x, **settings) for x in (1.0, 0.0)]
    image = sum((maker.compute_focus_field().abs() ** 2).sum(1)[0] for maker in makers)
    return (image / image.sum()).numpy()


def our_image(z_nm: float, **changes: object) -> np.ndarray:
    na = changes.pop("na")
    settings = {
        "objective": Objective(numerical_aperture=na, magnification=100, immersion_index=OIL),
        "cameras": (Camera(pixel_um=11),),
        "emission_nm": WAVELENGTH,
        "sample_index": OIL,
        "depth_range_nm": (-1000, 1000),
    } | changes
    pupil = view_pupil(Instrument(**settings), samples=SAMPLES)
    image = point_images(pupil, torch.tensor([[z_nm, 0.0, 0.0]]), (IMAGE_PX, STEP_NM))[0]
    return (image / image.sum()).numpy()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference as a share of the peak."""
    return float(np.abs(one - other).max() / other.max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("aberration", ABERRATIONS)
@pytest.mark.parametrize("model", ["scalar", "vectorial"])
def test_psf_generator_draws_the_same_image(model, aberration):
    noll, osa = ABERRATIONS[aberration]
    for z_nm in (0.0, 300.0, -700.0):
        ours = our_image(z_nm, na=1.3, wave_model=model, views=(View(zernike_noll_rad=noll),))
        theirs = their_image(model, 1.3, z_nm, osa)
        # what remains is the rim: theirs is a step, ours counts the share of each sample
        assert apart(ours, theirs) < 0.02, z_nm
        if noll:
            assert apart(ours[::-1, ::-1], theirs) > 0.1 or aberration == "astigmatism"
            assert apart(ours.T, theirs) > 0.1 or (aberration == "astigmatism" and z_nm == 0)


def test_the_two_models_differ_by_more_than_the_agreement():
    assert apart(our_image(300.0, na=1.3, wave_model="vectorial"), our_image(300.0, na=1.3, wave_model="scalar")) > 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("z_nm", [0.0, 1500.0, 4000.0])
def test_psf_generators_gibson_lanni_phase_is_our_index_mismatch(z_nm):
    # theirs focuses where paraxial rays of a molecule at z_p meet: our focal plane z_p n_oil / n_water
    theirs = their_image(
        "scalar", 1.2, 0.0, {}, gibson_lanni=True, z_p=z_nm, n_s=WATER, sz_correction=False, apod_factor=False,
        pix_size=STEP_NM * (IMAGE_PX - 1) / IMAGE_PX * OIL / WATER,  # its pixel is scaled by n_s / n_i then
    )  # fmt: skip
    ours = our_image(z_nm, na=1.2, sample_index=WATER, apodization="none", focal_plane_nm=z_nm * OIL / WATER)
    assert apart(ours, theirs) < 0.02
    if z_nm:
        wrong = our_image(z_nm, na=1.2, sample_index=WATER, apodization="none", focal_plane_nm=z_nm)
        assert apart(wrong, theirs) > 0.1


class WrittenModel:
    """The scalar model of Nehme et al. (2020) as written: phase on the mask's grid, one FFT, image pitch lambda f / (N p M)."""

    magnification, lens_nm, mask_pixel_nm, count = 100.0, 1e8, 3e4, 203
    wavelength, na, focal_plane_nm = 670.0, 1.45, 1500.0

    def __init__(self) -> None:
        self.pitch_nm = self.wavelength * self.lens_nm / (self.count * self.mask_pixel_nm * self.magnification)
        u = (np.arange(self.count) - self.count // 2) * self.mask_pixel_nm
        self.uy, self.ux = u[:, None], u[None, :]
        self.direction = np.hypot(self.uy, self.ux) * self.magnification / self.lens_nm  # n sin(theta)
        radius, angle = self.direction / self.na, np.arctan2(self.uy, self.ux)
        # without any symmetry, so that a turn or a mirror shows
        self.mask_rad = (
            2.5 * radius**2 * np.cos(2 * angle) + 2 * (3 * radius**3 - 2 * radius) * np.sin(angle) + 3 * radius**3 * np.cos(3 * angle)
        )

    def image(self, z: float, y: float, x: float) -> np.ndarray:
        sin_oil, sin_water = self.direction / OIL, self.direction / WATER
        passes = (sin_oil < self.na / OIL) & (sin_water < 1)
        k = 2 * np.pi / self.wavelength
        axial = z * k * WATER * np.sqrt(np.clip(1 - sin_water**2, 0, None)) - self.focal_plane_nm * k * OIL * np.sqrt(
            np.clip(1 - sin_oil**2, 0, None)
        )
        lateral = k * self.magnification / self.lens_nm * (x * self.ux + y * self.uy)
        field = passes * np.exp(1j * (self.mask_rad + lateral + axial))
        image = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(field)))) ** 2
        return image / image.sum()

    def instrument(self, mask_rad: np.ndarray) -> Instrument:
        mask = PhaseMask(phase_rad_yx=mask_rad, mask_pixel_um=30, fourier_lens_mm=100)
        return Instrument(
            objective=Objective(numerical_aperture=self.na, magnification=100, immersion_index=OIL),
            cameras=(Camera(pixel_um=11),),
            views=(View(mask=mask),),
            emission_nm=self.wavelength,
            focal_plane_nm=self.focal_plane_nm,
            apodization="none",
            pixel_model="point",
            depth_range_nm=(0, 4000),
        )


def test_a_plain_fft_of_the_published_scalar_model_draws_the_same_image():
    written = WrittenModel()
    pupil = view_pupil(written.instrument(written.mask_rad), dtype=torch.float64)
    assert len(pupil.na_n) == 91
    for z, y, x in ((0, 0, 0), (1000, 310, -150), (3000, -2000, 1000)):
        ours = point_images(pupil, torch.tensor([[z, y, x]], dtype=torch.float64), (written.count, written.pitch_nm))[0].numpy()
        theirs = written.image(z, y, x)
        # its aperture has a stepped rim, which weighs most far from focus
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
        assert apart(ours, theirs) < 0.05
        assert ours.sum() == pytest.approx(1, abs=1e-9)


def test_a_mask_file_turned_or_mirrored_draws_another_image():
    written = WrittenModel()
    theirs = written.image(1000, 0, 0)
    mask = written.mask_rad
    for other in (mask[::-1, ::-1], mask[::-1], mask[:, ::-1], mask.T, -mask):
        pupil = view_pupil(written.instrument(other), dtype=torch.float64)
        image = point_images(pupil, torch.tensor([[1000.0, 0, 0]], dtype=torch.float64), (written.count, written.pitch_nm))[0].numpy()
        assert np.corrcoef(image.ravel(), theirs.ravel())[0, 1] < 0.95


TURNS = {
    "as stored": lambda mask: mask,
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
    "rows reversed": lambda mask: mask[::-1],
    "columns reversed": lambda mask: mask[:, ::-1],
    "transposed": lambda mask: mask.T,
    "turned by 90 degrees": lambda mask: mask[:, ::-1].T,
}


@pytest.mark.parametrize("setting", ["storm", "high_snr"])
def test_frames_of_the_published_simulator_settle_how_a_mask_file_lies(shared_data, setting):
    """The rule in `PhaseMask` (turned by 180 degrees into the pupil) must explain frames that another program drew."""
    import scipy.io
    import tifffile

    folder = shared_data / "peers" / "deepstorm3d"
    frames = tifffile.imread(folder / f"{setting}_01" / "frames.tif").astype(np.float64)
    with (folder / f"{setting}_01" / "truth.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    name, wavelength, mask_pixel, lens, focus = (
        ("mask_tetra_reut", 670, 30, 100, 1500) if setting == "storm" else ("mask_tetra_model", 580, 24, 150, 4500)
    )
    stored = scipy.io.loadmat(folder / f"phase_mask_{setting}.mat")[name]
    scores = {}
    for turn, change in TURNS.items():
        mask = PhaseMask(phase_rad_yx=np.ascontiguousarray(change(stored)), mask_pixel_um=mask_pixel, fourier_lens_mm=lens)
        instrument = Instrument(
            objective=Objective(numerical_aperture=1.45, magnification=100, immersion_index=OIL),
            cameras=(Camera(pixel_um=11),),
            views=(View(mask=mask),),
            emission_nm=wavelength,
            focal_plane_nm=focus,
            apodization="none",
            pixel_model="point",
            depth_range_nm=(0, 6000),
        )
        pupil = view_pupil(instrument)
        found = []
        for row in rows[:6]:
            # the middle of a frame of 121 x 121 pixels is pixel 60
            position = torch.tensor([[float(row["z_nm"]), float(row["y_nm"]) - 6600, float(row["x_nm"]) - 6600]])
            image = camera_images(pupil, position, (121, 110.0, False), blur_nm=110.0)[0].numpy()
            found.append(np.corrcoef(image.ravel(), frames[int(row["frame"])].ravel())[0, 1])
        scores[turn] = float(np.mean(found))
    # the mask of the high-SNR setting looks the same turned by 180 degrees, so only the other one settles that turn
    rivals = {turn: score for turn, score in scores.items() if turn != "as stored" and not np.array_equal(TURNS[turn](stored), stored)}
    assert len(rivals) == (5 if setting == "storm" else 4)
    assert scores["as stored"] > max(rivals.values()) + 0.05, scores
