"""One small table of molecules for all formats, and a spot whose pixel is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.molecules import COLUMNS, Localizations

PIXEL_NM = 110.0


def draw_molecules(count: int, pixel_nm: float | None = PIXEL_NM) -> Localizations:
    random = np.random.default_rng(7)
    columns = {name: random.uniform(1, 900, count) for name, (kind, _) in COLUMNS.items() if kind == "float64"}
    columns["y_nm"] = random.uniform(-50, 30_000, count)
    columns["x_nm"] = random.uniform(-50, 50_000, count)
    columns["z_nm"] = random.uniform(-700, 4_000, count)
    columns["probability"] = random.random(count)
    columns |= {
        "frame": np.sort(random.integers(0, 40, count)),
        "converged": random.random(count) < 0.5,
        "channel": random.integers(0, 3, count),
        "group": random.integers(-1, 9, count),
        "id": np.arange(count) + 100,
        "asymmetry": random.normal(size=count).astype(np.float32),
        "neighbours": random.integers(0, 5, count).astype(np.int32),
    }
    return Localizations(
        columns=columns,
        z_reference="coverslip",
        pixel_nm=pixel_nm,
        frame_count=50,
        shape_yx_px=(280, 460),
        provenance={"plan": {"minimum_photons": 300.5}, "versions": {"napari-volumetric-smlm": "0.1"}, "words": 'µm, "quoted", \n'},
    )


@pytest.fixture(scope="session")
def made_of_rows():
    """Return a function: number of molecules -> table with every column."""
    return draw_molecules


@pytest.fixture(scope="session")
def molecules() -> Localizations:
    return draw_molecules(200)


@pytest.fixture(scope="session")
def spot() -> Localizations:
    """Return one molecule on the centre of row 3, column 7, in the first frame, pixels of 110 nm."""
    columns = {"frame": [0], "z_nm": [250.0], "y_nm": [3 * PIXEL_NM], "x_nm": [7 * PIXEL_NM], "photons": [1500.0]}
    errors = {"sigma_z_nm": [33.0], "sigma_y_nm": [11.0], "sigma_x_nm": [11.0]}
    return Localizations(columns=columns | errors, z_reference="focus", pixel_nm=PIXEL_NM, shape_yx_px=(16, 32))
