"""Views of a microlens array that do not see what the others see are told, whatever verb opens the frames."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import save_instrument
from napari_volumetric_smlm.io.results import write_image
from napari_volumetric_smlm.io.stacks import compare_with_instrument
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import split_views

SHAPE = (300, 320)


@pytest.fixture(scope="module")
def instrument() -> Instrument:
    """Return the shipped light field with an array of 0.3 times the size: the same pupils, views of a third of the pixels."""
    shipped = load_example("light_field_3")
    lengths = {name: getattr(shipped.microlenses, name) * 0.3 for name in ("pitch_mm", "focal_length_mm", "fourier_lens_mm")}
    array = MicrolensArray.model_validate(shipped.microlenses.model_dump() | lengths | {"frame_yx_px": SHAPE})
    return light_field_instrument(array, shipped)


@pytest.fixture(scope="module")
def frames(instrument):
    plan = SimulatePlan(
        frame_count=4, shape_yx_px=SHAPE, density_per_um2=0.03, photons=(1500, 4000), background_photons=(4, 6), device="cpu"
    )
    return np.array(finish(simulate(instrument, plan)).stack.counts_tyx[0])


def changed(frames, instrument, view, values) -> RawStack:
    """Frames with other counts in one view."""
    top, left, bottom, right = instrument.views[view].region_yx_px
    counts = np.array(frames)
    counts[:, top:bottom, left:right] = values(counts[:, top:bottom, left:right])
    return RawStack(counts_tyx=(counts,), kind="light_field")


def noise(part):
    return np.random.default_rng(1).normal(105, 3, part.shape).round()


def test_views_that_see_the_same_are_not_complained_of(frames, instrument):
    assert compare_with_instrument(RawStack(counts_tyx=(frames,)), instrument) == ()
    # nothing to be seen in any view says nothing about one
    dark = np.random.default_rng(2).normal(105, 3, frames.shape).round().astype(np.uint16)
    assert compare_with_instrument(RawStack(counts_tyx=(dark,)), instrument) == ()
    # a dimmer view is no dark one
    dim = changed(frames, instrument, 2, lambda part: 104 + (part.astype(float) - 104) * 0.4)
    assert compare_with_instrument(dim, instrument) == ()


@pytest.mark.parametrize("view", [0, 2])
def test_a_dark_view_is_named(frames, instrument, view):
    dark = changed(frames, instrument, view, noise)
    (words,) = compare_with_instrument(dark, instrument)
    assert words.startswith(f"view {view + 1} (lens {view + 1}) is dark: ")
    assert "vsmlm views" in words
    # also when the views have been cut
    assert compare_with_instrument(*split_views(dark, instrument)) == (words,)


def test_saturated_views_are_named_with_their_share(frames, instrument):
    bright = changed(frames, instrument, 1, lambda part: np.where(part > 130, 65535, part))
    (words,) = compare_with_instrument(bright, instrument)
    assert words.startswith("view 2 (lens 2): ")
    assert "% of the sampled pixels are saturated (at least 65535 counts)" in words
    full = changed(frames, instrument, 1, lambda part: np.full_like(part, 65535))
    assert compare_with_instrument(full, instrument)[0].startswith("view 2 (lens 2): all of the sampled pixels are saturated")


def test_reconstruct_tells_of_a_dark_view(frames, instrument, tmp_path, capsys):
    place = write_image(changed(frames[:1], instrument, 1, noise).counts_tyx[0], tmp_path / "m.tif", (1.0, 145.0, 145.0), axes="TYX")
    words = ["reconstruct", str(place), "--instrument", str(save_instrument(instrument, tmp_path / "i.json"))]
    region = [str(n) for n in instrument.views[0].region_yx_px[:2]] + [str(n + 20) for n in instrument.views[0].region_yx_px[:2]]
    assert main([*words, "--output", str(tmp_path / "t.csv"), "--device", "cpu", "--region-yx-px", *region]) == 0
    assert "Note: view 2 (lens 2) is dark" in capsys.readouterr().err
