"""Molecules by way of a volume of the views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan
from napari_volumetric_smlm.engine.assemble.score import match
from napari_volumetric_smlm.engine.localize.scene import Patches
from napari_volumetric_smlm.engine.networks import published_lnet
from napari_volumetric_smlm.engine.networks.published_lnet import PublishedLNet
from napari_volumetric_smlm.engine.networks.vnet import CompactVNet
from napari_volumetric_smlm.engine.simulate.phantoms import Phantom
from napari_volumetric_smlm.engine.simulate.planes import DepthGrid
from napari_volumetric_smlm.engine.simulate.volumes import VolumeScene
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.recipes import finish, volume_start
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.split_views import cut_instrument
from napari_volumetric_smlm.recipes.volume_start import VolumeLocalizer

GATES = EvaluatePlan(gate="cylinder", gate_lateral_nm=250, gate_axial_nm=500)


def found(array_movie, lens_array, **choices):
    return finish(reconstruct(array_movie.stack, lens_array, ReconstructPlan(device="cpu", processes=1, **choices))).localizations


def test_both_starts_end_at_the_same_molecules(array_movie, lens_array, array_table):
    direct, volume = array_table, found(array_movie, lens_array, start="volume")
    left, right = match(direct, volume, GATES)
    assert len(left) == len(direct) == len(volume)
    # the fit ends in the same maximum of the likelihood, far below an error bar
    distance = (volume.position_zyx_nm[right] - direct.position_zyx_nm[left]) / direct.sigma_zyx_nm[left]
    assert np.abs(distance).max() < 0.2


def test_the_volume_alone_places_molecules_between_its_voxels(array_movie, lens_array):
    alone = found(array_movie, lens_array, start="volume", refine=False)
    assert set(alone.columns) == {"frame", "z_nm", "y_nm", "x_nm", "confidence"}
    left, right = match(array_movie.truth, alone, GATES)
    assert len(left) >= 0.9 * len(array_movie.truth)
    error = np.sqrt(((alone.position_zyx_nm[right] - array_movie.truth.position_zyx_nm[left]) ** 2).mean(0))
    # voxels of 125 x 145 x 145 nm: places on their grid would be wrong by 36 and 42 nm
    assert error[0] < 36
    assert error[1:].max() < 25


def test_empty_frames_make_no_volume(lens_array, array_movie, monkeypatch):
    dark = np.random.default_rng(0).poisson(8.2 / 0.46, (2, 1024, 1024)) + 100

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a volume was made of an empty frame")

    monkeypatch.setattr(volume_start, "Deconvolution", refuse)
    stack = RawStack(counts_tyx=(dark.astype(np.uint16),), kind="frames")
    assert len(finish(reconstruct(stack, lens_array, ReconstructPlan(device="cpu", start="volume", refine=False))).localizations) == 0
    with pytest.raises(AssertionError, match="a volume was made"):
        found(array_movie, lens_array, start="volume", refine=False)


def test_one_view_has_no_volume(toy_instrument):
    stack = RawStack(counts_tyx=(np.full((1, 40, 40), 110, np.uint16),), kind="frames")
    with pytest.raises(PlanError, match="'toy' has one view: volumes need the parallax"):
        finish(reconstruct(stack, toy_instrument, ReconstructPlan(device="cpu", start="volume")))


def test_pursuit_takes_no_volume():
    with pytest.raises(ValueError, match=r"pursuit.*start is 'volume'"):
        ReconstructPlan(method="pursuit", start="volume")


POINTS = Phantom(
    torch.tensor([[-700.0, 3100.0, 4000.0], [150.0, 6020.0, 2900.0], [900.0, 4500.0, 6400.0]]), torch.tensor([4000.0, 6000.0, 5000.0])
)
SIDE = 64


@pytest.fixture(scope="module")
def drawn(lens_array):
    """Return the cut instrument, its views of three points on a dark ground, and their wide-field volume."""
    instrument = cut_instrument(lens_array)
    views, wide = VolumeScene(instrument, DepthGrid.of(instrument, 125.0), (SIDE, SIDE), 61).draw(POINTS)
    pad = 3
    seen = torch.nn.functional.pad(torch.ones((1, 3, SIDE, SIDE)), (pad,) * 4)
    photons = torch.nn.functional.pad(views[None] + 2, (pad,) * 4)
    shift = torch.tensor([[[view.affine_yx[0][2], view.affine_yx[1][2]] for view in instrument.views]])
    return instrument, Patches(photons, 0.1 * seen, seen, shift, [instrument.pixel_nm()] * 3, pad), wide


def check_against_points(found, largest_nm, photons_off):
    distance, nearest = torch.cdist(POINTS.position_n3, found.position_m3).min(1)
    assert (distance < largest_nm).all()
    assert torch.allclose(found.photons_m[nearest], POINTS.weight_n, rtol=photons_off)


def test_peaks_of_a_deconvolution_have_the_points_places_and_photons(drawn):
    instrument, patches, _ = drawn
    check_against_points(VolumeLocalizer(instrument, None, 25)(patches), 60, 0.25)


def test_peaks_of_a_networks_wide_field_volume_have_the_points_places_and_photons(drawn, monkeypatch):
    instrument, patches, wide = drawn
    network = CompactVNet(torch.zeros((3, wide.shape[0], 2)), 4, (1,), 3)
    asked = []

    def perfect(_, summed, __):
        asked.append(summed)
        yield from ()
        return wide

    monkeypatch.setattr(volume_start, "volume_of_views", perfect)
    check_against_points(VolumeLocalizer(instrument, network, 12)(patches), 60, 0.25)
    # the network gets the views as they are, without the patches' padding
    assert torch.allclose(asked[0].views_vyx, patches.photons_tvyx[0, :, 3:-3, 3:-3])
    assert asked[0].background_v == pytest.approx([2.0] * 3, abs=0.6)


class Brightest(PublishedLNet):
    """Answers as a trained network would, but only to a voxel: where a voxel is the brightest around, with its height."""

    def forward(self, volumes_tzyx):
        top = (volumes_tzyx == torch.nn.functional.max_pool3d(volumes_tzyx, 5, 1, 2)) & (volumes_tzyx > 0.3)
        fine = volumes_tzyx.new_zeros([1, *(4 * n for n in volumes_tzyx.shape[1:])])
        for t, z, y, x in top.nonzero().tolist():
            fine[t, 4 * z + 1 : 4 * z + 3, 4 * y + 1 : 4 * y + 3, 4 * x + 1 : 4 * x + 3] = volumes_tzyx[t, z, y, x]
        return fine


def test_a_network_that_reads_volumes_places_molecules_as_it_answers(drawn, monkeypatch):
    monkeypatch.setattr(published_lnet, "FINE_PX", 80)
    instrument, patches, _ = drawn
    found = VolumeLocalizer(instrument, Brightest((4, 4, 4), 2), 12)(patches)
    # half a voxel's diagonal
    check_against_points(found, 125, 0.2)


def test_a_network_that_has_nothing_to_do_with_volumes_is_refused(drawn):
    with pytest.raises(PlanError, match="neither makes volumes nor reads them"):
        VolumeLocalizer(drawn[0], torch.nn.Identity(), 12)
