"""Sample data, simulated on the spot: a bead stack for the calibration, and what a user would know of the microscope before it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..engine.simulate.beads import scan_beads
from ..engine.simulate.camera import expose

BEAD_DIAMETER_NM = 100.0
BEAD_PHOTONS = 60000.0
BACKGROUND_PHOTONS = 10.0
BEAD_SHAPE_PX = (160, 160)
# Far enough apart, and off the centres of their pixels, as real ones are.
BEAD_PLACES_PX = ((44.3, 46.8), (113.6, 109.2))


def sample_beads(instrument: Instrument, z_step_nm: float = 100.0, seed: int = 0) -> Generator[Progress, None, RawStack]:
    """Simulate a stack of two beads on the coverslip, the focal plane moving through the whole depth range of the instrument.

    Parameters
    ----------
    z_step_nm : positive when the focal plane moves into the sample from slice to slice, as in a calibration's plan.
    """
    yield Progress(stage="beads", message="Simulating a bead stack")
    low, high = instrument.depth_range_nm
    # a bead at height 0 looks like a molecule at z when the focal plane is z lower
    focus = np.arange(instrument.focal_plane_nm - high, instrument.focal_plane_nm - low + 1, abs(z_step_nm))
    focus = focus if z_step_nm > 0 else focus[::-1].copy()
    pixel = instrument.pixel_nm()
    position = torch.tensor([(BEAD_DIAMETER_NM / 2, y * pixel, x * pixel) for y, x in BEAD_PLACES_PX])
    generator = torch.Generator().manual_seed(seed)
    light = scan_beads(instrument, position, torch.tensor(focus, dtype=torch.float32), BEAD_SHAPE_PX, BEAD_DIAMETER_NM)
    light = light * BEAD_PHOTONS + BACKGROUND_PHOTONS
    counts = tuple(expose(light[:, c], camera, generator).numpy().astype(np.uint16) for c, camera in enumerate(instrument.cameras))
    return RawStack(counts_tyx=counts, kind="beads", pixel_nm=pixel, z_step_nm=z_step_nm, metadata={"simulated": "two beads"})


def before_calibration(instrument: Instrument) -> Instrument:
    """Return the microscope as its user knows it: everything but the phase and amplitude of the pupil and the blur."""
    plain: dict[str, Any] = {"zernike_noll_rad": {}, "phase_rad_yx": None, "amplitude_yx": None, "blur_nm": 0.0}
    views = tuple(view.model_copy(update=plain) for view in instrument.views)
    return instrument.model_copy(update={"name": f"{instrument.name}, before calibration", "views": views, "calibration": None})
