"""The Cramér-Rao curve of a calibrated instrument: what a molecule of ordinary brightness could at best be located to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.instrument import Instrument
from ..engine.localize.bounds import isolated_bound
from ..engine.localize.footprint import choose_depth_step, choose_window
from ..engine.optics.table import PsfTable

PHOTONS, BACKGROUND_PHOTONS = 5000.0, 10.0
DEPTHS = 25


@torch.no_grad()
def isolated_bounds(instrument: Instrument) -> NDArray[np.float64]:
    """Columns z, sigma_z, sigma_y, sigma_x in nm over the depth range, for `PHOTONS` over all views on `BACKGROUND_PHOTONS` a pixel."""
    table = PsfTable(instrument, choose_window(instrument), choose_depth_step(instrument))
    z = torch.linspace(*instrument.depth_range_nm, DEPTHS)
    position = torch.stack([z, torch.zeros_like(z), torch.zeros_like(z)], 1)
    background = torch.full((len(instrument.views),), BACKGROUND_PHOTONS)
    sigma = isolated_bound(table, position, torch.full_like(z, PHOTONS), background)
    return torch.cat([z[:, None], sigma[:, :3]], 1).double().numpy()
