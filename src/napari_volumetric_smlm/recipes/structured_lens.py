"""The lens as structured illumination sees it: in focus, and through focus where stacks of planes become volumes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..domain.illumination import Illumination, RadialOTF
from ..domain.instrument import Instrument
from ..domain.structured_plans import USUAL_EXCITATION
from ..engine.structured.estimate import Optics
from ..engine.structured.otf import transfer_from, transfer_of
from ..engine.structured.volume_otf import FocusSeries, focus_series
from ..engine.structured.volume_reconstruct import period_of
from ..errors import PlanError
from .structured_frames import check_sampling

# planes that follow each other more closely than this are nobody's wish: the step is in another unit
SMALLEST_STEP_NM = 10.0


@dataclass(frozen=True)
class Lens:
    """optics : in focus, on the device. instrument : what it was computed from."""

    optics: Optics
    instrument: Instrument

    @staticmethod
    def of(instrument: Instrument, damping: float, otf: RadialOTF | None, device: torch.device) -> Lens:
        """The lens of an instrument, with a measured OTF or with that of its pupil, damped.

        Raises
        ------
        PlanError
            If the pixel size cannot belong to the lens.
        """
        transfer = transfer_from(otf) if otf is not None else transfer_of(instrument).damped(damping)
        pixel_um = instrument.pixel_nm() * 1e-3
        check_sampling(transfer.cutoff_per_um, pixel_um)
        return Lens(Optics(transfer, pixel_um).to(device), instrument)

    def through_focus(self, z_step_nm: float, planes: int) -> FocusSeries:
        """The lens at each distance from focus, for a stack of so many planes.

        Raises
        ------
        PlanError
            If the planes are too far apart to tell depths, or much too close.
        """
        series = focus_series(self.instrument, self.optics.transfer, z_step_nm * 1e-3, period_of(planes))
        farthest = 500 / series.axial_cutoff_per_um
        if not SMALLEST_STEP_NM <= z_step_nm <= farthest:
            raise PlanError(
                f"planes {z_step_nm:g} nm apart; this lens needs steps of {SMALLEST_STEP_NM:g} to {farthest:.0f} nm to tell depths: "
                "check z_step_nm and its unit, or choose 2d-3x5 to reconstruct plane by plane"
            )
        return series

    def excitation_per_um(self, excitation_nm: float | None) -> float:
        """Refractive index over the wavelength of the laser."""
        return 1000 * self.instrument.sample_index / (excitation_nm or USUAL_EXCITATION * self.instrument.emission_nm)


def coarse_steps(illumination: Illumination, series: FocusSeries) -> list[str]:
    """A sentence when the planes are too far apart for what the pattern brings along z."""
    axial = max((wave.axial_per_um for o in illumination.orientations for wave in o.waves), default=0.0)
    needed = 0.5 / (series.axial_cutoff_per_um + axial)
    if series.plane_um <= needed:
        return []
    return [
        f"The planes are {1000 * series.plane_um:.0f} nm apart; the pattern brings details along z that need {1000 * needed:.0f} nm or "
        "less: expect false structure along z."
    ]
