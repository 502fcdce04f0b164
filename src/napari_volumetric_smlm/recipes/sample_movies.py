"""Sample movies that are simulated when they are asked for: microtubules and mitochondria through three lenses."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from ..domain.instrument import Instrument
from ..domain.plans import SimulatePlan
from ..domain.runs import Progress, Simulation
from ..errors import StackError
from ..io.samples import sample_instrument
from .frame_size import with_frame_size
from .simulate import simulate

FIELD_BACKGROUND = 6.0
COMMON = SimulatePlan(frame_count=20, border_px=12, photons=(4000, 12000), background_photons=(0, 0), device="cpu")
# mitochondria are so crowded that single molecules overlap: what volumes are for
MOVIES = {
    "light_field_microtubules": COMMON.model_copy(update={"structure": "microtubules", "density_per_um2": 0.04, "seed": 11}),
    "light_field_mitochondria": COMMON.model_copy(update={"structure": "mitochondria", "density_per_um2": 0.15, "seed": 12}),
}


def sample_movie(name: str) -> Generator[Progress, None, Simulation]:
    """Simulate a sample movie with the microscope of the shipped light-field sample.

    Raises
    ------
    StackError
        If there is no such sample; the others are named.
    """
    if name not in MOVIES:
        raise StackError(f"no movie of this name is made: {name!r}; there are {', '.join(MOVIES)}")
    return (yield from movie_behind_field_stop(sample_instrument("light_field"), MOVIES[name], FIELD_BACKGROUND))


def movie_behind_field_stop(instrument: Instrument, plan: SimulatePlan, background_photons: float) -> Generator[Progress, None, Simulation]:
    """Simulate whole light-field frames with a background that ends at the edges of the fields, as a field stop makes it.

    The edges are what tells where the lenses' common centre is. The plan's own background must be 0.
    """
    plan = with_frame_size(plan, instrument)
    dark = yield from simulate(instrument, plan)
    (camera,) = instrument.cameras
    lit = np.zeros(plan.shape_yx_px)
    for view in instrument.views:
        top, left, bottom, right = view.region_yx_px or (0, 0, *plan.shape_yx_px)
        lit[top:bottom, left:right] = background_photons * camera.quantum_efficiency
    # a sum of two Poisson numbers is one
    electrons = np.random.default_rng(plan.seed).poisson(lit, (plan.frame_count, *plan.shape_yx_px))
    counts = dark.stack.counts_tyx[0] + np.rint(electrons / camera.gain_e_per_count).astype(np.uint16)
    background = np.full(len(dark.truth), background_photons * camera.quantum_efficiency)
    truth = dark.truth.model_copy(update={"columns": {**dark.truth.columns, "background_photons": background}})
    return dark.model_copy(update={"stack": dark.stack.model_copy(update={"counts_tyx": (counts,)}), "truth": truth})
