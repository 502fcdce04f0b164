r"""What every test may use: one toy microscope and the folder of shared data.

    z ^   molecules, 0 to 1000 nm, in water (1.33)
      |      .  *     .       *
500 - | - - - - - focal plane - - - - -
      |   *      .       *        .
  0 ==|======== coverslip ==============
             oil (1.518)
           ___________
          /  NA 1.4   \        objective, 100 x
          \___________/
                |
          (  Noll 6   )        pupil: 1.0 rad of astigmatism
                |
          [ | | | | | ]        camera: 11 um, so 110 nm in the sample; 600 nm light
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective, View

# before anything imports napari: tests must not touch the settings of whoever runs them
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp(prefix="vsmlm-napari-")) / "settings.yaml"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of third-party data beside the checkout, or skip: the project neither ships nor needs it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with third-party data is not there")
    return folder


@pytest.fixture(scope="session")
def toy_instrument() -> Instrument:
    """Return the astigmatic microscope drawn above."""
    return Instrument(
        name="toy",
        objective=Objective(numerical_aperture=1.4, magnification=100, immersion_index=1.518),
        cameras=(Camera(pixel_um=11.0),),
        views=(View(zernike_noll_rad={6: 1.0}),),
        emission_nm=600,
        sample_index=1.33,
        focal_plane_nm=500,
        depth_range_nm=(0, 1000),
    )
