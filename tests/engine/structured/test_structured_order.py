"""The order of frames, found from the strength of the pattern."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.illumination import GEOMETRIES, Geometry
from napari_volumetric_smlm.engine.structured.arrange import cut_mosaic, frame_numbers, possible_orders
from napari_volumetric_smlm.engine.structured.estimate import Search, estimate
from napari_volumetric_smlm.engine.structured.order import find_order
from napari_volumetric_smlm.engine.structured.simulate import frames_of
from napari_volumetric_smlm.errors import StackError


@pytest.mark.parametrize("order", ["apz", "azp", "paz", "pza", "zap", "zpa"])
def test_every_order_is_taken_apart_as_it_was_put_together(order):
    geometry, planes, times = GEOMETRIES["3d-3x5"], 4, 2
    lengths = {"a": 3, "p": 5, "z": planes}
    written = []
    for time in range(times):
        for index in np.ndindex(*(lengths[axis] for axis in order)):
            place = dict(zip(order, index, strict=True))
            written.append((time, place["a"], place["p"], place["z"]))
    numbers = frame_numbers(len(written), geometry, planes, order)
    assert numbers.shape == (times, 3, 5, planes)
    for place in np.ndindex(numbers.shape):
        assert written[numbers[place]] == place


def test_a_wrong_number_of_frames_is_refused_with_both_numbers():
    with pytest.raises(StackError, match=r"10 frames are not a multiple of 9 \(3 orientations x 3 phases\)"):
        frame_numbers(10, GEOMETRIES["2d-3x3"], 1, "apz")


def test_axes_of_length_one_give_no_further_orders():
    assert sorted(possible_orders(GEOMETRIES["2d-3x3"], 1)) == ["apz", "paz"]
    assert len(list(possible_orders(GEOMETRIES["3d-3x5"], 7))) == 6
    assert list(possible_orders(GEOMETRIES["lattice-1x5"], 1)) == ["paz"]


@pytest.mark.parametrize(("rows", "expected"), [("ap", 1 * 5 + 2), ("pa", 2 * 3 + 1)])
def test_a_mosaic_is_cut_row_by_row(rows, expected):
    geometry = Geometry(orientations=3, phases=5, wave_steps=(1,))
    image = np.zeros((3 * 4, 5 * 6)) if rows == "ap" else np.zeros((5 * 4, 3 * 6))
    row, column = (1, 2) if rows == "ap" else (2, 1)
    image[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6] = 7
    frames = cut_mosaic(image[None], geometry, rows)
    assert frames.shape == (15, 4, 6)
    assert np.flatnonzero(frames.mean((1, 2))).tolist() == [expected]


def test_a_mosaic_that_does_not_divide_is_refused():
    with pytest.raises(StackError, match="sides must be multiples"):
        cut_mosaic(np.zeros((1, 10, 9)), GEOMETRIES["2d-3x3"], "ap")


@pytest.mark.parametrize("geometry", ["2d-3x3", "2d-3x5"])
@pytest.mark.parametrize("true", ["apz", "paz"])
def test_orientations_and_phases_are_told_apart(record, geometry, true):
    raw, known = record(geometry), GEOMETRIES[geometry]
    numbers = frame_numbers(known.frame_count, known, 1, true)[0, :, :, 0]
    file = torch.zeros((known.frame_count, *raw.frames.shape[-2:]))
    file[torch.tensor(numbers).flatten()] = raw.frames.flatten(0, 1)
    orders = list(possible_orders(known, 1))
    found = find_order(lambda order: file[frame_numbers(len(file), known, 1, order)[0, :, :, 0]], orders, raw.optics, Search(known))
    assert found.order == true
    assert found.sure


@pytest.mark.parametrize("true", ["apz", "azp", "paz", "pza", "zap", "zpa"])
def test_planes_are_told_apart_as_well(record, optics, true):
    # as many planes as orientations and phases: nothing but the pattern can tell
    known, count = GEOMETRIES["2d-3x3"], 3
    raws = [record(shape=(96, 96), seed=seed, photons=100.0) for seed in range(count)]
    pattern = raws[0].illumination
    generator = torch.Generator().manual_seed(0)
    clean = [100 * frames_of(raw.sample, pattern, optics) for raw in raws]
    haze = sum(frames.mean((0, 1)) for frames in clean)
    planes = torch.poisson(torch.stack(clean, 2) + 0.5 * haze, generator=generator)
    numbers = torch.from_numpy(frame_numbers(27, known, count, true)[0])
    file = torch.zeros((27, 96, 96))
    file[numbers.flatten()] = planes.flatten(0, 2)
    orders = list(possible_orders(known, count))
    middle = count // 2
    found = find_order(lambda order: file[frame_numbers(27, known, count, order)[0, :, :, middle]], orders, optics, Search(known))
    assert found.order == true
    assert found.sure


def test_a_wrong_order_is_named_by_the_verdict(record):
    raw = record()
    verdict = estimate(raw.frames.transpose(0, 1).contiguous(), raw.optics, Search(GEOMETRIES["2d-3x3"])).verdict
    assert verdict.colour == "red"
    assert not any(verdict.passed)


def test_frames_without_a_pattern_leave_the_order_open(record):
    raw, known = record(), GEOMETRIES["2d-3x3"]
    mean = raw.frames.mean((0, 1)).clamp(min=0)
    file = torch.poisson(mean.expand(9, *mean.shape).contiguous(), generator=torch.Generator().manual_seed(3))
    orders = list(possible_orders(known, 1))
    found = find_order(lambda order: file[frame_numbers(9, known, 1, order)[0, :, :, 0]], orders, raw.optics, Search(known))
    assert not found.sure
