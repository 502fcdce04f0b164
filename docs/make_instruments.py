"""Make the example instruments of resources/instruments: python docs/make_instruments.py [FOLDER].

Each is a plausible microscope of its kind, without aberrations, to start from or to simulate with; a calibration from beads
replaces its pupil by the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, PhaseMask, View
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.instruments import save_instrument

FOLDER = Path(__file__).resolve().parents[1] / "src" / "napari_volumetric_smlm" / "resources" / "instruments"
OIL, WATER, RED_NM = 1.518, 1.33, 670.0

# Phases of cos(2 phi): Noll 6, 12, 24, 38, 58. Found by minimising the mean Cramér-Rao bound of (z, y, x) over 0 to 4 um for
# 3,000 photons on 20 photons of background a pixel, from four starts that agree; the minimum is the Tetrapod (Shechtman et al.,
# Phys. Rev. Lett. 113, 133902, 2014). Coefficients in rad over NA 1.45.
TETRAPOD = {6: 0.83, 12: 2.31, 24: -0.50, 38: -0.62, 58: -0.32}

SCMOS = Camera(name="sCMOS", pixel_um=11.0, quantum_efficiency=0.95, gain_e_per_count=0.8, offset_counts=100.0, read_noise_e=1.6)
SCMOS = SCMOS.model_copy(update={"saturation_counts": 65535.0})
EMCCD = Camera(
    name="EMCCD", pixel_um=16.0, quantum_efficiency=0.9, gain_e_per_count=15.0, offset_counts=400.0, read_noise_e=70.0, em_gain=200
)
EMCCD = EMCCD.model_copy(update={"saturation_counts": 65535.0})


def _lens(numerical_aperture: float) -> Objective:
    return Objective(numerical_aperture=numerical_aperture, magnification=100, immersion_index=OIL)


def _double_helix(zones: int = 4, samples: int = 129, aperture: float = 1.4) -> NDArray[np.float16]:
    """Spiral phase whose charge grows by two from zone to zone of equal area: two lobes that turn with depth.

    psi = (2 l - 1) phi in zone l = 1 ... zones, sqrt((l - 1) / zones) <= rho < sqrt(l / zones); rho is scaled to the index of water,
    beyond which no light passes (Prasad, Opt. Lett. 38, 585, 2013, for one lobe).
    """
    s = np.linspace(-aperture, aperture, samples) / WATER
    y, x = s[:, None], s[None, :]
    zone = np.minimum(np.floor(zones * (y**2 + x**2)), zones - 1) + 1
    return _on_modulator_levels((2 * zone - 1) * np.arctan2(y, x))


def _tetrapod_mask(angle_rad: float, pixel_um: float, lens_mm: float, pixels: int) -> PhaseMask:
    """The Tetrapod as a pixelated mask, turned by an angle, in 256 levels of 0 to 2 pi."""
    na, magnification = 1.45, 100
    u = (np.arange(pixels) - pixels // 2) * pixel_um * 1e-3 * magnification / lens_mm / na
    y, x = u[:, None], u[None, :]
    r2 = y**2 + x**2
    # radial polynomials of orders 2 to 10 with m = 2, divided by r^2
    radial = {
        6: np.sqrt(6) * np.ones_like(r2),
        12: np.sqrt(10) * (4 * r2 - 3),
        24: np.sqrt(14) * (15 * r2**2 - 20 * r2 + 6),
        38: np.sqrt(18) * (56 * r2**3 - 105 * r2**2 + 60 * r2 - 10),
        58: np.sqrt(22) * (210 * r2**4 - 504 * r2**3 + 420 * r2**2 - 140 * r2 + 15),
    }
    angular = (x**2 - y**2) * np.cos(2 * angle_rad) + 2 * x * y * np.sin(2 * angle_rad)
    phase = sum(value * radial[j] for j, value in TETRAPOD.items()) * angular
    phase = np.where(r2 < 1.05, phase, 0)
    return PhaseMask(
        phase_rad_yx=_on_modulator_levels(phase), mask_pixel_um=pixel_um, fourier_lens_mm=lens_mm, source="docs/make_instruments.py"
    )


def _on_modulator_levels(phase_rad: NDArray[np.float64]) -> NDArray[np.float16]:
    # few values compress well, and it is what a modulator of 8 bits shows
    levels = np.round(phase_rad / (2 * np.pi) * 256) % 256
    return (levels * (2 * np.pi / 256)).astype(np.float16)


def _turned(
    degrees: float, scale: float, shift_yx_nm: tuple[float, float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    c, s = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return ((round(c, 6), round(-s, 6), shift_yx_nm[0]), (round(s, 6), round(c, 6), shift_yx_nm[1]))


def _light_field() -> Instrument:
    """Three lenses behind an oil objective, with the optics of Nat. Commun. 16, 10960 (2025) and the pixel that its code uses.

    The sample has the immersion's index, so that depth is measured from the focus; gain and read noise are a data sheet's.
    """
    microscope = Instrument(
        name="Fourier light field, three lenses (sCMOS)",
        objective=Objective(numerical_aperture=1.45, magnification=100, immersion_index=1.515),
        cameras=(SCMOS.model_copy(update={"pixel_um": 6.5, "quantum_efficiency": 0.82, "gain_e_per_count": 0.46}),),
        emission_nm=680,
        sample_index=1.515,
        depth_range_nm=(-2000, 2000),
    )
    array = MicrolensArray(
        pitch_mm=3.25, focal_length_mm=117, fourier_lens_mm=275, native_magnification=100, frame_yx_px=(1024, 1024), pixel_nm=145
    )
    return light_field_instrument(array, microscope)


def make_instruments() -> dict[str, Instrument]:
    """Return the example instruments by file name."""
    astigmatic = Instrument(
        name="Astigmatic (cylindrical lens, EMCCD)",
        objective=_lens(1.45),
        cameras=(EMCCD,),
        views=(View(name="astigmatic", zernike_noll_rad={6: 1.2}),),
        emission_nm=RED_NM,
        sample_index=WATER,
        focal_plane_nm=500,
        depth_range_nm=(0, 900),
    )
    tetrapod = Instrument(
        name="Tetrapod, 4 um (phase mask, sCMOS)",
        objective=_lens(1.45),
        cameras=(SCMOS,),
        views=(View(name="tetrapod", zernike_noll_rad=TETRAPOD),),
        emission_nm=RED_NM,
        sample_index=WATER,
        focal_plane_nm=2300,
        depth_range_nm=(0, 4000),
    )
    double_helix = Instrument(
        name="Double helix, 2 um (phase mask, sCMOS)",
        objective=_lens(1.4),
        cameras=(SCMOS,),
        views=(View(name="double helix", phase_rad_yx=_double_helix()),),
        emission_nm=RED_NM,
        sample_index=WATER,
        focal_plane_nm=1400,
        depth_range_nm=(0, 2200),
    )
    biplane = Instrument(
        name="Biplane (two sCMOS cameras)",
        objective=_lens(1.4),
        cameras=(SCMOS.model_copy(update={"name": "near"}), SCMOS.model_copy(update={"name": "far"})),
        views=(
            View(name="near plane", camera=0),
            View(name="far plane", camera=1, focus_shift_nm=500, affine_yx=_turned(0.6, 1.004, (240.0, -130.0))),
        ),
        emission_nm=RED_NM,
        sample_index=WATER,
        focal_plane_nm=350,
        depth_range_nm=(0, 1000),
    )
    masks = [_tetrapod_mask(angle, pixel_um=24.0, lens_mm=150.0, pixels=185) for angle in (0.0, np.pi / 4)]
    two_camera = Instrument(
        name="Two cameras, two Tetrapod masks turned by 45 degrees",
        objective=_lens(1.45),
        cameras=(SCMOS.model_copy(update={"name": "transmitted"}), SCMOS.model_copy(update={"name": "reflected"})),
        views=(
            View(name="upright Tetrapod", camera=0, mask=masks[0]),
            View(name="turned Tetrapod", camera=1, mask=masks[1], photon_fraction=0.85, affine_yx=_turned(-1.1, 0.997, (-310.0, 420.0))),
        ),
        emission_nm=RED_NM,
        sample_index=WATER,
        focal_plane_nm=2300,
        depth_range_nm=(0, 4000),
    )
    return {
        "astigmatic.json": astigmatic,
        "biplane.json": biplane,
        "double_helix.json": double_helix,
        "light_field_3.json": _light_field(),
        "tetrapod.json": tetrapod,
        "two_camera.json": two_camera,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, instrument in make_instruments().items():
        path = save_instrument(instrument, folder / name)
        print(f"{path.name}: {path.stat().st_size / 1024:.1f} KiB, fingerprint {instrument.fingerprint}")
