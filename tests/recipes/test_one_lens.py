"""One lens of an array alone: what a single view beside the axis can find."""

from __future__ import annotations

import numpy as np

from napari_volumetric_smlm.domain.plans import ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import cut_instrument


def test_one_view_of_the_array_finds_every_molecule_once_over_the_full_depth():
    # where the depths are is another matter: a mirrored one explains such dim images as well, to a few units of log-likelihood
    array = cut_instrument(load_example("light_field_3"))
    one = array.model_copy(update={"views": array.views[:1], "cameras": array.cameras[:1], "microlenses": None})
    plan = SimulatePlan(frame_count=1, shape_yx_px=(100, 100), density_per_um2=0.05, mean_on_frames=0, photons=(2000.0, 2000.0),
                        background_photons=(10.0, 10.0), seed=5, device="cpu")  # fmt: skip
    movie = finish(simulate(one, plan))
    found = finish(reconstruct(movie.stack, one, ReconstructPlan(device="cpu", processes=1, detection_threshold=30.0))).localizations
    assert len(found) == len(movie.truth) == 9
    assert found["log_likelihood_ratio"].min() > 100
    # the light of a view moves by 0.565 of the depth along y: places are compared where the view shows them
    seen, true = (np.stack([t["y_nm"] - 0.565 * t["z_nm"], t["x_nm"]], 1) for t in (found, movie.truth))
    assert np.linalg.norm(seen[:, None] - true, axis=2).min(0).max() < 150
