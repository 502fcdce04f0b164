"""Raw light-field frames: views found, cut and put back together."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import InstrumentError, StackError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.split_views import cut_instrument, place_views, split_views

PLAN = SimulatePlan(
    frame_count=2, shape_yx_px=(1024, 1024), density_per_um2=0.05, photons=(8000, 9000), background_photons=(5, 5), device="cpu"
)


@pytest.fixture(scope="module")
def turned():
    """Return the shipped light field with its array turned by 4 degrees."""
    shipped = load_example("light_field_3")
    return light_field_instrument(shipped.microlenses.model_copy(update={"rotation_rad": 0.07}), shipped)


@pytest.fixture(scope="module")
def movie(turned):
    return finish(simulate(turned, PLAN))


def numbered(instrument, frames=3) -> RawStack:
    """Frames in which each pixel says where it is."""
    rows, columns = instrument.microlenses.frame_yx_px
    frame = (np.arange(rows)[:, None] * columns + np.arange(columns)).astype(np.uint32)
    return RawStack(counts_tyx=(np.stack([frame + 7 * t for t in range(frames)]),), kind="light_field", fingerprint="f")


def test_views_are_cut_where_they_lie(turned):
    raw = numbered(turned)
    stack, split = split_views(raw, turned)
    assert len(stack.counts_tyx) == len(split.cameras) == 3
    assert stack.kind == "frames"
    assert not stack.warnings
    for cut, view in zip(stack.counts_tyx, turned.views, strict=True):
        top, left, bottom, right = view.region_yx_px
        assert (cut[2] == raw.counts_tyx[0][2, top:bottom, left:right]).all()
        assert (cut[:, 5:9, 3] == raw.counts_tyx[0][:, top + 5 : top + 9, left + 3]).all()


def test_an_instrument_is_cut_alike_without_a_stack(turned):
    assert cut_instrument(turned) == split_views(numbered(turned), turned)[1]
    with pytest.raises(InstrumentError, match="is cut already"):
        cut_instrument(cut_instrument(turned))


def test_a_molecule_keeps_its_place_in_every_view(turned):
    _, split = split_views(numbered(turned), turned)
    pixel = turned.pixel_nm()
    place = np.array([600.3, 500.8]) * pixel  # in the raw frame, first view
    first = np.array(turned.views[0].region_yx_px[:2]) * pixel
    for before, after in zip(turned.views, split.views, strict=True):
        affine, cut = np.array(before.affine_yx), np.array(after.affine_yx)
        raw = affine[:, :2] @ place + affine[:, 2]
        seen = cut[:, :2] @ (place - first) + cut[:, 2]
        assert seen + np.array(before.region_yx_px[:2]) * pixel == pytest.approx(raw, abs=0.01)
        # a crop starts at a whole pixel: less than one is left for the affine
        assert np.abs(cut[:, 2]).max() <= pixel


def test_the_views_of_molecules_are_where_the_cut_instrument_says(turned, movie):
    stack, split = split_views(movie.stack, turned)
    first = np.array(turned.views[0].region_yx_px[:2]) * turned.pixel_nm()
    near = np.abs(movie.truth["z_nm"]) < 150
    place = np.stack([movie.truth["y_nm"], movie.truth["x_nm"]], 1)[near] - first
    frame = movie.truth["frame"][near]
    for v, view in enumerate(split.views):
        affine = np.array(view.affine_yx)
        row, column = np.rint((place @ affine[:, :2].T + affine[:, 2]) / turned.pixel_nm()).astype(int).T
        counts = stack.counts_tyx[v][:]
        there, ground = counts[frame, row, column].astype(float), np.median(counts)
        assert np.median(there) > ground + 10 * np.sqrt(ground)


def test_maps_of_the_camera_are_cut_with_the_frames(turned):
    offset = np.arange(1024 * 1024, dtype=np.float32).reshape(1024, 1024)
    camera = turned.cameras[0].model_copy(update={"offset_counts": offset})
    _, split = split_views(numbered(turned), turned.model_copy(update={"cameras": (camera,)}))
    for view, cut in zip(turned.views, split.cameras, strict=True):
        top, left, bottom, right = view.region_yx_px
        assert (cut.offset_counts == offset[top:bottom, left:right]).all()
        assert cut.read_noise_e == camera.read_noise_e


def test_a_view_that_reaches_beyond_the_sensor_loses_its_rim_in_all_views_with_a_warning(turned):
    near_edge = ((700.0, 500.0), (267.0, 247.0), (280.0, 750.0))
    array = turned.microlenses.model_copy(update={"sensor_centres_yx_px": near_edge, "field_yx_px": (410, 499), "pixel_nm": 145.0})
    instrument = light_field_instrument(array, turned)
    raw = numbered(instrument)
    stack, split = split_views(raw, instrument)
    assert [view.region_yx_px[1] for view in instrument.views][1] == -2
    assert [cut.shape for cut in stack.counts_tyx] == [(3, 410, 497)] * 3
    assert "2 columns on the left" in stack.warnings[0]
    top, left, _, _ = instrument.views[2].region_yx_px
    assert stack.counts_tyx[2][0, 0, 0] == raw.counts_tyx[0][0, top, left + 2]
    assert np.abs(np.array(split.views[1].affine_yx)[:, 2]).max() <= instrument.pixel_nm()


def test_frames_of_another_size_and_views_that_are_cut_already_are_refused(turned):
    binned = RawStack(counts_tyx=(np.zeros((1, 512, 512), np.uint16),))
    with pytest.raises(StackError, match=r"512 x 512 pixels.*raw frames of 1024 x 1024: were they binned"):
        split_views(binned, turned)
    with pytest.raises(StackError, match="binned"):
        finish(place_views(binned, turned))
    with pytest.raises(StackError, match="2 stacks were given for 1 camera"):
        split_views(RawStack(counts_tyx=numbered(turned).counts_tyx * 2), turned)
    stack, split = split_views(numbered(turned), turned)
    with pytest.raises(InstrumentError, match="is cut already"):
        split_views(stack, split)
    with pytest.raises(InstrumentError, match="has no microlens array"):
        finish(place_views(stack, load_example("biplane")))


def test_hardly_any_common_field_is_refused(turned):
    views = [view.model_copy(update={"region_yx_px": (-400, 0, 10, 300)}) for view in turned.views]
    with pytest.raises(StackError, match="of a field of 410 x 300 pixels only 10 x 300 lie on the sensor"):
        split_views(numbered(turned), turned.model_copy(update={"views": tuple(views)}))


def test_views_are_found_in_a_movie_of_molecules_although_the_file_says_otherwise(turned, movie):
    placed = finish(place_views(movie.stack, load_example("light_field_3")))
    found, true = (np.array([[row[2] for row in view.affine_yx] for view in i.views]) / 145 for i in (placed, turned))
    # molecules at all depths, whose views are not symmetric: 1.5 pixels of 500
    assert np.abs(found - true).max() < 1.5
    for view, expected in zip(placed.views, turned.views, strict=True):
        assert view.aperture.centre_na_yx == pytest.approx(expected.aperture.centre_na_yx, abs=0.01)


def test_the_views_of_a_real_frame_are_found_where_they_were_put(shared_data):
    path = shared_data / "light_field" / "three_view_mitochondria" / "views.tif"
    if not path.is_file():
        pytest.skip(f"{path.name} with three real views is not there")
    views = tifffile.imread(path).astype(float)
    array = MicrolensArray(
        pitch_mm=3.25, focal_length_mm=120, fourier_lens_mm=300, native_magnification=100, frame_yx_px=(1024, 1024), rotation_rad=0.03
    )
    instrument = light_field_instrument(array, load_example("light_field_3"))
    raw = np.full((1024, 1024), float(np.quantile(views, 0.02)))
    corners = []
    for image, view in zip(views, instrument.views, strict=True):
        top, left, bottom, right = view.region_yx_px
        corners.append(((top + bottom - image.shape[0]) // 2, (left + right - image.shape[1]) // 2))
        raw[corners[-1][0] : corners[-1][0] + image.shape[0], corners[-1][1] : corners[-1][1] + image.shape[1]] = image
    raw = np.round(raw / views.max() * 5000).astype(np.uint16)
    straight = light_field_instrument(array.model_copy(update={"rotation_rad": 0.0}), instrument)
    placed = finish(place_views(RawStack(counts_tyx=(raw[None],), kind="light_field"), straight))
    found = np.array([[row[2] for row in view.affine_yx] for view in placed.views]) / placed.pixel_nm()
    # the views of a thick sample are not pure shifts of each other
    assert np.abs(found - (np.array(corners) - corners[0])).max() < 12
    stack, _ = split_views(RawStack(counts_tyx=(raw[None],)), placed)
    assert [cut.shape[0] for cut in stack.counts_tyx] == [1, 1, 1]
