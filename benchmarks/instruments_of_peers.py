"""The two microscopes of the DeepSTORM3D test frames as instruments, and the plans that suit them.

Two variants of each setting.

*Written model*: what the data's README says (pixel 110 nm, point sampling, no apodization, supercritical light cut). Frames that are
simulated and fitted with it test the localizer alone.

*As drawn*: what the simulator that drew those frames did. Two properties of its sampled pupil differ from the written model, both
because a grid of N mask pixels was made to fit (`localization.md`, section 13, calls the second one a defect of published code):

1. The pitch of its images is lambda f / (N mask_pixel M), the step that a discrete Fourier transform of N samples gives: 110.18 nm
   (N = 329) and 110.02 nm (N = 203). Positions of the truth count in 110 nm from pixel (0, 0) of a frame whose middle pixel
   (60, 60) is the optical axis, so that a molecule d nm from the middle is drawn d / pitch pixels from it.
2. Its angles span N steps with N samples, so that n sin(theta) is N / (N - 1) too large, while lateral positions belong to the
   nominal grid. Depth acts through the angle, so the written model would find z wrong by -8 to +27 nm over 2 to 6 um (N = 329)
   and by up to 45 nm over 0 to 4 um (N = 203).

Both are kept by a Fourier lens shorter by N / (N - 1) together with a pixel smaller by the same factor; found positions are then
turned back to the truth's nm by `to_truth_nm`. Nothing here is fitted to the truth: N is the size of the mask file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, View
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import ReconstructPlan
from napari_volumetric_smlm.io.instruments import load_phase_mask

PIXEL_NM, MIDDLE_PX, MAGNIFICATION = 110.0, 60, 100.0
BLUR_PX = 1.0


@dataclass(frozen=True)
class PeerSetting:
    """One setting: optics, camera as its frames need it, plan, and the photons below which truth is neutral.

    plan : options that were chosen once for the setting and serve all its rows.
    """

    name: str
    emission_nm: float
    mask_file: str
    mask_pixel_um: float
    fourier_lens_mm: float
    focal_plane_nm: float
    depth_range_nm: tuple[float, float]
    offset_counts: float
    read_noise_e: float
    dim_below_photons: float
    plan: ReconstructPlan

    def instrument(self, data: Path, as_drawn: bool = False) -> Instrument:
        """Read the mask from the folder of the peer's data and build the instrument."""
        mask = load_phase_mask(data / self.mask_file, self.mask_pixel_um, self.fourier_lens_mm)
        pixel_nm = PIXEL_NM
        if as_drawn:
            stretch = self.stretch(len(mask.phase_rad_yx))
            mask = mask.model_copy(update={"fourier_lens_mm": self.fourier_lens_mm / stretch})
            pixel_nm = self.pitch_nm(len(mask.phase_rad_yx)) / stretch
        camera = Camera(pixel_um=pixel_nm * MAGNIFICATION * 1e-3, offset_counts=self.offset_counts, read_noise_e=self.read_noise_e)
        return Instrument(
            name=f"{self.name} ({'as drawn' if as_drawn else 'as written'})",
            objective=Objective(numerical_aperture=1.45, magnification=MAGNIFICATION, immersion_index=1.518),
            cameras=(camera,),
            views=(View(mask=mask, blur_nm=BLUR_PX * pixel_nm),),
            emission_nm=self.emission_nm,
            sample_index=1.33,
            focal_plane_nm=self.focal_plane_nm,
            wave_model="scalar",
            apodization="none",
            pixel_model="point",
            depth_range_nm=self.depth_range_nm,
        )

    def pitch_nm(self, samples: int) -> float:
        """Step of the simulator's images: lambda f / (N mask_pixel M)."""
        return self.emission_nm * self.fourier_lens_mm * 1e3 / (samples * self.mask_pixel_um * MAGNIFICATION)

    @staticmethod
    def stretch(samples: int) -> float:
        """By how much the simulator's n sin(theta) is too large: N / (N - 1)."""
        return 1 + 1 / (samples - 1)

    def to_truth_nm(self, found: Localizations, instrument: Instrument) -> Localizations:
        """Turn positions found with the instrument as drawn into the truth's coordinates."""
        mask = instrument.views[0].mask
        if mask is None:
            raise ValueError("the instrument of a peer's setting has a phase mask")
        pitch, pixel = self.pitch_nm(len(mask.phase_rad_yx)), instrument.pixel_nm()
        moved = {name: (found[name] / pixel - MIDDLE_PX) * pitch + MIDDLE_PX * PIXEL_NM for name in ("y_nm", "x_nm")}
        return found.model_copy(update={"columns": {**found.columns, **moved}})


HIGH_SNR = PeerSetting(
    name="high_snr",
    emission_nm=580.0,
    mask_file="phase_mask_high_snr.mat",
    mask_pixel_um=24.0,
    fourier_lens_mm=150.0,
    focal_plane_nm=4500.0,
    depth_range_nm=(2000.0, 6000.0),
    offset_counts=0.0,
    read_noise_e=0.0,
    dim_below_photons=0.0,
    # background hills are as narrow as 24 px; photons are 10,000 or more
    plan=ReconstructPlan(detection_threshold=50, background_scale_px=9, fit_blur=True, min_photons=8000, device="cpu"),
)
STORM = PeerSetting(
    name="storm",
    emission_nm=670.0,
    mask_file="phase_mask_storm.mat",
    mask_pixel_um=30.0,
    fourier_lens_mm=100.0,
    focal_plane_nm=1500.0,
    depth_range_nm=(0.0, 4000.0),
    offset_counts=30.0,
    read_noise_e=10.0,
    dim_below_photons=6000.0,
    # molecules from 6,000 photons are scored; 0.8 of that leaves room for the error of the fitted photons
    plan=ReconstructPlan(detection_threshold=25, background_scale_px=40, min_photons=4800, device="cpu"),
)
SETTINGS = {setting.name: setting for setting in (HIGH_SNR, STORM)}
