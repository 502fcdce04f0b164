"""Tables of what volumes hold."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.images import Volume
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.recipes.volume_molecules import blobs_in, molecules_in

VOXEL, ORIGIN, SHAPE = (125.0, 145.0, 145.0), (-1500.0, 0.0, 290.0), (25, 60, 60)


def grid_nm():
    return np.stack(np.meshgrid(*(np.arange(n) * v + o for n, v, o in zip(SHAPE, VOXEL, ORIGIN, strict=True)), indexing="ij"), -1)


def as_volume(values):
    return Volume(values_zyx=values.astype(np.float32), voxel_zyx_nm=VOXEL, origin_zyx_nm=ORIGIN, quantity="photons")


def nearest(table, place):
    distance = np.linalg.norm(table.position_zyx_nm - place, axis=1)
    return int(distance.argmin()), float(distance.min())


def test_molecules_have_nanometres_widths_and_light():
    truth = np.array([[-210.0, 3011.0, 2222.0], [333.0, 5500.0, 6123.0]])
    width = np.array([260.0, 150.0, 150.0])
    noise = np.random.default_rng(0).normal(0, 0.5, SHAPE)
    parts = [40 * np.exp(-0.5 * (((grid_nm() - place) / width) ** 2).sum(-1)) for place in truth]
    table = molecules_in(as_volume(sum(parts) + 3 + noise), frame=7)
    assert len(table) == 2
    assert (table["frame"] == 7).all()
    for place, part in zip(truth, parts, strict=True):
        row, distance = nearest(table, place)
        assert distance < 10
        assert np.abs(table.position_zyx_nm[row] - place).max() < 4 * table.sigma_zyx_nm[row].max()
        assert table["psf_width_z_nm"][row] == pytest.approx(260, rel=0.05)
        assert table["psf_width_nm"][row] == pytest.approx(150, rel=0.05)
        assert table["photons"][row] == pytest.approx(part.sum(), rel=0.05)
        assert table["background_photons"][row] == pytest.approx(3, abs=0.5)


def test_blobs_of_different_size_are_found_with_place_size_and_light():
    balls = [((-300.0, 2000.0, 2300.0), 500.0), ((200.0, 6000.0, 3000.0), 900.0), ((0.0, 3500.0, 6500.0), 700.0)]
    values = np.zeros(SHAPE)
    # each voxel filled by the share of it that lies inside
    for shift in np.ndindex(3, 3, 3):
        at = grid_nm() + (np.array(shift) - 1) / 3 * np.array(VOXEL)
        for place, diameter in balls:
            values += (np.linalg.norm(at - place, axis=-1) < diameter / 2) * 20 / 27
    volume = as_volume(values + np.random.default_rng(1).normal(0, 0.5, SHAPE))
    table = blobs_in(volume, (350.0, 1200.0), frame=2)
    assert len(table) == 3
    for place, diameter in balls:
        row, distance = nearest(table, np.array(place))
        assert distance < 30
        assert table["diameter_nm"][row] == pytest.approx(diameter, rel=0.2)
        light = 20 * np.pi / 6 * diameter**3 / np.prod(VOXEL)
        assert table["photons"][row] == pytest.approx(light, rel=0.25)


def test_noise_holds_no_blobs():
    noise = np.random.default_rng(2).normal(5, 1, SHAPE)
    assert len(blobs_in(as_volume(noise), (350.0, 1200.0))) <= 1


def test_blobs_smaller_than_a_voxel_cannot_be_asked_for():
    with pytest.raises(PlanError, match=r"diameter_nm is \(100, 500\).*largest side of a voxel \(145 nm\)"):
        blobs_in(as_volume(np.zeros(SHAPE)), (100.0, 500.0))
