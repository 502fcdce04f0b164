"""Movies of known molecules, for the recipes that read movies; one through a microlens array, with the table made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import ReconstructPlan, SimulatePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.engine.simulate.camera import expose
from napari_volumetric_smlm.engine.simulate.molecules import Emissions
from napari_volumetric_smlm.engine.simulate.scene import Scene
from napari_volumetric_smlm.engine.training import average
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes import finish, train, train_lean
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.simulate import Simulation, simulate

Rows = list[tuple[int, float, float, float, float]]


@pytest.fixture(scope="session")
def film() -> Callable[..., RawStack]:
    """Return a maker of movies from rows (frame, z nm, row px, column px, photons before the sensor)."""

    def make(instrument: Instrument, rows: Rows, shape: tuple[int, int], frames: int, background: float = 20.0, seed: int = 1) -> RawStack:
        generator = torch.Generator().manual_seed(seed)
        table = torch.tensor(sorted(rows), dtype=torch.float32).reshape(-1, 5)
        count, pixel = len(table), instrument.pixel_nm()
        emissions = Emissions(
            table[:, 0].long(), torch.arange(count), torch.stack([table[:, 1], table[:, 2] * pixel, table[:, 3] * pixel], 1),
            table[:, 4], torch.ones(count), torch.zeros(count),
        )  # fmt: skip
        mean = Scene(instrument, shape).draw(emissions, frames) + background
        counts = [expose(mean[:, c], camera, generator).numpy().astype(np.uint16) for c, camera in enumerate(instrument.cameras)]
        return RawStack(counts_tyx=tuple(counts), kind="frames")

    return make


@pytest.fixture(scope="session")
def lens_array() -> Instrument:
    """Return the shipped light field with views of 70 x 80 pixels."""
    shipped = load_example("light_field_3")
    return light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (70, 80)}), shipped)


@pytest.fixture(scope="session")
def array_movie(lens_array) -> Simulation:
    """Return three raw frames of molecules of one brightness, each on for a whole frame."""
    plan = SimulatePlan(
        frame_count=3, shape_yx_px=(1024, 1024), density_per_um2=0.12, border_px=14, photons=(6000, 6000), mean_on_frames=0,
        background_photons=(5, 5), seed=3, device="cpu",
    )  # fmt: skip
    return finish(simulate(lens_array, plan))


@pytest.fixture(scope="session")
def array_table(lens_array, array_movie) -> Localizations:
    """Return the molecules that are found in them without a model."""
    return finish(reconstruct(array_movie.stack, lens_array, ReconstructPlan(device="cpu"))).localizations


@pytest.fixture(autouse=True)
def one_thread():
    """Compute in one thread: the times that tests measure are those of one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_training(monkeypatch):
    """Let the quick preset be a network and batches that take milliseconds."""
    monkeypatch.setitem(train_lean.PRESETS, "quick", train_lean.Preset(40, 4, 5, 8, (1, 2)))
    monkeypatch.setattr(train, "TEST_FRAMES", 4)
    monkeypatch.setattr(average, "HELD_OUT_FRAMES", 2)
