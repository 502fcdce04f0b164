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
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import RawStack
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


@pytest.fixture(scope="session")
def bead_scan() -> Callable[..., RawStack]:
    """Return a maker of bead stacks: the focal plane moves from `first_nm` by `step_nm`, the beads stay at the coverslip."""
    import torch

    from napari_volumetric_smlm.engine.optics.psf import camera_images
    from napari_volumetric_smlm.engine.optics.pupil import view_pupil

    def make(
        instrument: Instrument,
        beads_yx_nm: Sequence[tuple[float, float]],
        shape_yx: tuple[int, int],
        focus_nm: Sequence[float],
        photons: float = 50000.0,
        background: float = 20.0,
        drift_nm: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> RawStack:
        random, focus = np.random.default_rng(seed), torch.tensor(focus_nm, dtype=torch.float32)
        mean = [np.full((len(focus), *shape_yx), background) for _ in instrument.cameras]
        for v, view in enumerate(instrument.views):
            pupil, pixel, affine = view_pupil(instrument, v), instrument.pixel_nm(v), np.asarray(view.affine_yx)
            size = min(61, min(shape_yx) - 1 + min(shape_yx) % 2)
            for bead in beads_yx_nm:
                place = affine[:, :2] @ bead + affine[:, 2]
                middle = np.clip(np.round(place / pixel).astype(int), size // 2, np.array(shape_yx) - 1 - size // 2)
                position = torch.zeros((len(focus), 3))
                position[:, 1:] = torch.tensor(place - middle * pixel) + torch.linspace(0, 1, len(focus))[:, None] * torch.tensor(drift_nm)
                plane = focus + view.focus_shift_nm
                images = camera_images(pupil, position, (size, pixel, True), view.blur_nm, focus_nm=plane).numpy()
                top, left = middle - size // 2
                mean[view.camera][:, top : top + size, left : left + size] += photons * view.photon_fraction * images
        counts = [np.round(random.poisson(m) + random.normal(0, 2, m.shape) + 100).clip(0, 65535).astype(np.uint16) for m in mean]
        return RawStack(counts_tyx=tuple(counts), kind="beads")

    return make
