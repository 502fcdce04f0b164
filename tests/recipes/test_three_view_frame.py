"""The one public three-view light-field frame: it opens, and a volume comes out of it. Nothing is known of its truth."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Camera, Instrument, Objective
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.volume_plans import DeconvolvePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.stacks import compare_with_instrument, open_stack, sniff_stack
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.deconvolve import deconvolve
from napari_volumetric_smlm.recipes.split_views import cut_instrument

SIDE = 121
ORDER = (2, 0, 1)  # of the pages, as lenses at 90, 210 and 330 degrees: their parallax allows no other
DEPTHS_NM = (300.0, 1300.0)  # above or below focus: the shifts of 5 to 6 pixels between the views over their slopes of parallax


@pytest.fixture(scope="module")
def place(shared_data):
    path = shared_data / "light_field" / "three_view_mitochondria" / "views.tif"
    if not path.is_file():
        pytest.skip(f"{path.name} with the three-view frame is not there")
    return path


@pytest.fixture(scope="module")
def instrument() -> Instrument:
    """Return the microscope as its source states it, with views as large as the part that is looked at."""
    array = MicrolensArray(
        pitch_mm=3.25,
        focal_length_mm=120,
        fourier_lens_mm=300,
        native_magnification=100,
        frame_yx_px=(1024, 1024),
        field_yx_px=(SIDE, SIDE),
    )
    microscope = Instrument(
        objective=Objective(numerical_aperture=1.4, magnification=100, immersion_index=1.515),
        cameras=(Camera(pixel_um=6.5),), emission_nm=510, sample_index=1.515, depth_range_nm=(-2400, 2400),
    )  # fmt: skip
    return cut_instrument(light_field_instrument(array, microscope))


def test_the_three_view_frame_opens_and_a_volume_comes_out_at_the_depth_of_its_parallax(place, instrument):
    assert sniff_stack(place)
    pages = open_stack(place).counts_tyx[0]
    assert pages.shape == (3, 351, 351)
    inner = slice((351 - SIDE) // 2, (351 + SIDE) // 2)
    views = np.asarray(pages[:])[list(ORDER), inner, inner]
    stack = RawStack(counts_tyx=tuple(view[None] for view in views), kind="frames")
    assert compare_with_instrument(stack, instrument) == ()
    volume = finish(deconvolve(stack, instrument, DeconvolvePlan(iterations=8, depth_step_nm=400, window_px=61, device="cpu")))
    light = volume.values_zyx.sum((1, 2))
    z = volume.origin_zyx_nm[0] + volume.voxel_zyx_nm[0] * np.arange(len(light))
    assert np.isfinite(volume.values_zyx).all()
    assert DEPTHS_NM[0] <= abs(z[light.argmax()]) <= DEPTHS_NM[1]
