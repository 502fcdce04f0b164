"""Where layers lie, what they carry, and that circles sit on their molecules."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

from napari_volumetric_smlm.domain.images import DepthPicture, RawStack, Volume
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.runs import FrameExplanation
from napari_volumetric_smlm.errors import StackError
from napari_volumetric_smlm.plugin.layers import (
    fill_molecules,
    lay_explanation,
    lay_molecules,
    lay_picture,
    lay_stack,
    lay_table,
    noun_of,
    role_of,
    stack_of,
)
from napari_volumetric_smlm.plugin.live import LivePicture, StreamedTable, quick_picture, rows_of_frames
from napari_volumetric_smlm.plugin.world import place_over, region_of

PIXEL_NM = 110.0


def made(data):
    from napari.layers import Layer

    return Layer.create(*data)


def movie_stack(**options) -> RawStack:
    return RawStack(counts_tyx=(np.arange(3 * 8 * 10, dtype=np.uint16).reshape(3, 8, 10),), kind="frames", **options)


def table(y_px, x_px, frame=0, pixel_nm=PIXEL_NM) -> Localizations:
    y_px, x_px = np.atleast_1d(y_px), np.atleast_1d(x_px)
    columns = {"frame": np.full(len(y_px), frame), "z_nm": np.linspace(0, 500, len(y_px))}
    return Localizations(columns=columns | {"y_nm": y_px * pixel_nm, "x_nm": x_px * pixel_nm}, pixel_nm=pixel_nm)


def test_a_stack_is_laid_in_nanometres_with_named_axes():
    [data] = lay_stack(movie_stack(pixel_nm=PIXEL_NM, source=("movie.tif",)))
    layer = made(data)
    assert tuple(layer.scale) == (1, PIXEL_NM, PIXEL_NM)
    assert [str(unit) for unit in layer.units] == ["pixel", "nanometer", "nanometer"]
    assert layer.axis_labels == ("t", "y", "x")
    assert layer.name == "Frames · movie.tif"
    assert role_of(layer) == "frames"


def test_cameras_are_laid_side_by_side():
    counts = np.zeros((2, 8, 10), np.uint16)
    first, second = (made(data) for data in lay_stack(RawStack(counts_tyx=(counts, counts), kind="frames", pixel_nm=100.0)))
    assert second.translate[-1] >= 10 * 100
    assert stack_of([first, second], "frames") is noun_of(first, "stack")
    assert len(stack_of([second], "frames").counts_tyx) == 1


def test_frames_of_others_become_a_stack_and_nothing_of_them_is_touched():
    layer = Image(np.zeros((4, 5, 6)), name="theirs", scale=(1, 2, 2))
    stack = stack_of([layer], "beads")
    assert stack.kind == "beads"
    assert stack.counts_tyx[0] is layer.data
    assert layer.metadata == {}
    assert stack_of([Image(np.zeros((5, 6)))], "frames").counts_tyx[0].shape == (1, 5, 6)
    with pytest.raises(StackError, match="'theirs' has the shape"):
        stack_of([Image(np.zeros((2, 4, 5, 6)), name="theirs")], "frames")


@pytest.mark.parametrize("transform", [{}, {"scale": (1, 65, 65)}, {"scale": (2, 3, 5), "translate": (0, -7, 11)}, {"rotate": 30.0}])
@pytest.mark.parametrize("place", [(0.0, 0.0), (3.0, 4.0), (2.5, 7.5)])
def test_a_molecule_on_a_pixel_lies_on_it_in_the_world_whatever_the_frames_transform(transform, place):
    if "rotate" in transform:
        transform = {"rotate": np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]), "scale": (1, 90, 90)}
    frames = Image(np.zeros((3, 8, 10)), **transform)
    circles = made(lay_molecules(frames, PIXEL_NM))
    fill_molecules(circles, table(*place), None, (0, 1000))
    expected = np.asarray(frames.data_to_world((0, *place)))[-2:]
    np.testing.assert_allclose(circles.data_to_world(circles.data[0]), expected, atol=1e-9)


def test_the_full_table_travels_with_the_circles_of_one_frame():
    whole, shown = table([1, 2, 3], [4, 5, 6]), table(1, 4)
    circles = made(lay_molecules(None, PIXEL_NM))
    fill_molecules(circles, shown, whole, (0, 500))
    assert len(circles.data) == 1
    assert noun_of(circles, "table") is whole
    assert list(circles.features.columns) == ["frame", "z_nm", "y_nm", "x_nm"]
    fill_molecules(circles, whole, whole, (0, 500))
    assert len(circles.features) == 3
    # depth is a colour: low and high differ
    assert np.abs(circles.border_color[0] - circles.border_color[-1]).max() > 0.3


def test_a_picture_lies_on_the_frames():
    frames = Image(np.zeros((3, 8, 10)), scale=(1, PIXEL_NM, PIXEL_NM))
    values = np.zeros((1, 44, 55), np.float32)
    picture = Volume(values_zyx=values, voxel_zyx_nm=(20, 20, 20), origin_zyx_nm=(0, -45, -45), quantity="molecules")
    layer = made(lay_picture(picture, "picture", frames, PIXEL_NM))
    # the outer edge of the first small pixel is that of the first camera pixel
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), frames.data_to_world((0, -0.5, -0.5))[1:])
    colour = DepthPicture(rgb_yxc=np.zeros((44, 55, 3), np.uint8), pixel_nm=20, origin_yx_nm=(-45, -45), depth_range_nm=(0, 1))
    shown = made(lay_picture(colour, "picture", frames, PIXEL_NM))
    assert shown.rgb
    np.testing.assert_allclose(shown.data_to_world((-0.5, -0.5)), frames.data_to_world((0, -0.5, -0.5))[1:])


def test_a_volume_has_three_axes_in_nanometres():
    volume = Volume(values_zyx=np.ones((3, 4, 5)), voxel_zyx_nm=(50, 20, 20), origin_zyx_nm=(100, 10, 10), quantity="molecules")
    layer = made(lay_picture(volume, "volume"))
    assert layer.axis_labels == ("z", "y", "x")
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), (100, 10, 10))


def test_what_was_found_in_a_region_lies_on_that_region():
    frames = Image(np.zeros((3, 8, 10)), scale=(1, PIXEL_NM, PIXEL_NM))
    part = np.ones((1, 4, 5))
    explanation = FrameExplanation(
        frame=1, localizations=table(3, 4), photons_vyx=part, model_vyx=part, residual_vyx=part, camera_v=(0,), corner_vyx_px=((2, 3),)
    )
    for data in lay_explanation(explanation, [frames], PIXEL_NM):
        np.testing.assert_allclose(made(data).data_to_world((0, 0)), frames.data_to_world((0, 2, 3))[1:])
        # longer names are cut in the list of layers
        assert len(made(data).name) <= len("Found in this frame")


def test_a_large_table_is_shown_as_a_picture_and_few_points():
    rng = np.random.default_rng(0)
    many = table(rng.uniform(0, 100, 5000), rng.uniform(0, 100, 5000))
    picture, points = (made(data) for data in lay_table(many, "many.csv", 500))
    assert isinstance(points, Points)
    assert len(points.data) == 500
    assert "500 of 5,000 shown" in points.name
    assert noun_of(points, "table") is many
    assert picture.data.sum() == 5000


def test_an_empty_table_can_be_shown():
    [points] = lay_table(Localizations.empty(), "empty.csv", 10)
    assert len(made(points).data) == 0


@pytest.mark.parametrize(
    ("corners", "region"),
    [
        ([(2, 3), (2, 6), (5, 6), (5, 3)], (2, 3, 6, 7)),
        ([(-9, -9), (-9, 99), (99, 99), (99, -9)], (0, 0, 8, 10)),
        ([(1.6, 2.6), (1.6, 4.4), (3.4, 4.4), (3.4, 2.6)], (2, 3, 4, 5)),
    ],
)
def test_a_rectangle_becomes_the_pixels_that_it_touches(corners, region):
    frames = Image(np.zeros((3, 8, 10)), scale=(1, PIXEL_NM, PIXEL_NM))
    shapes = Shapes([np.array(corners) * PIXEL_NM], shape_type="rectangle")
    assert region_of(shapes, frames) == region
    # drawn while the slider was on a frame, it has three coordinates
    assert region_of(Shapes([np.c_[np.ones(4), np.array(corners) * PIXEL_NM]], shape_type="rectangle"), frames) == region


def test_a_rectangle_beside_the_frames_is_refused():
    frames = Image(np.zeros((3, 8, 10)))
    with pytest.raises(StackError, match="outside the frames"):
        region_of(Shapes([np.array([(20, 20), (20, 30), (30, 30), (30, 20)])]), frames)
    with pytest.raises(StackError, match="no shape"):
        region_of(Shapes(), frames)


def test_a_live_picture_counts_molecules_in_their_pixels():
    live = LivePicture((0, 0), (100, 200), pixel_nm=10)
    live.add(table([0.5, 0.5, 9.99, 50], [0.1, 0.1, 19.99, 0], pixel_nm=10))
    assert live.counts_yx.shape == (10, 20)
    assert live.counts_yx[0, 0] == 2
    assert live.counts_yx[9, 19] == 1
    assert live.counts_yx.sum() == 3


def test_a_live_picture_of_a_large_field_gets_larger_pixels():
    assert max(LivePicture((0, 0), (1e6, 1e5)).counts_yx.shape) <= 2048


def test_a_quick_picture_holds_every_molecule_without_a_known_field_of_view():
    far = table([-50.0, 3000.0], [10.0, 20.0])
    assert quick_picture(far).values_zyx.sum() == 2


def test_batches_give_the_molecules_of_a_frame_and_one_table():
    streamed = StreamedTable()
    assert len(streamed.joined()) == 0
    streamed.add(table([1, 2], [1, 2], frame=0))
    streamed.add(table(3, 3, frame=1))
    assert len(streamed.of_frame(0)) == 2
    assert len(streamed.of_frame(7)) == 0
    assert streamed.joined()["frame"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_rows_of_frames_are_found_in_sorted_and_unsorted_tables(order):
    frame = np.repeat(np.arange(5), 3)[order]
    some = Localizations(columns={"frame": frame, "z_nm": frame * 1.0, "y_nm": frame * 1.0, "x_nm": frame * 1.0})
    assert sorted(frame[rows_of_frames(some, 1, 2)].tolist()) == [1, 1, 1, 2, 2, 2]
    assert len(rows_of_frames(some, 9, 9)) == 0


def test_our_layers_agree_in_their_units():
    viewer = ViewerModel()
    [frames] = lay_stack(movie_stack(pixel_nm=PIXEL_NM))
    added = viewer.layers.append(made(frames)) or viewer.layers[-1]
    viewer.layers.append(made(lay_molecules(added, PIXEL_NM)))
    viewer.layers.append(made(lay_picture(quick_picture(table([1, 2], [3, 4])), "picture", added, PIXEL_NM)))
    assert viewer.layers.extent.units is not None
    assert viewer.dims.axis_labels == ("t", "y", "x")


def test_overlays_on_frames_without_a_pixel_size_are_in_pixels():
    frames = Image(np.zeros((3, 8, 10)))
    placed = place_over(frames, 110.0)
    assert placed["units"] == ("pixel", "pixel")
    np.testing.assert_allclose(placed["scale"], (1 / 110, 1 / 110))
