"""Peaks of a volume, fitted by Gaussians."""

from __future__ import annotations

import pytest
import torch

from napari_volumetric_smlm.engine.localize.gaussians import fit_peaks, peak_limit

SHAPE = (25, 60, 60)


def volume_of(place_n3: torch.Tensor, width=(2.0, 1.1, 1.3), height=50.0, noise=1.0, seed=0) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij"), -1)
    shapes = [height * torch.exp(-0.5 * (((grid - place) / torch.tensor(width)) ** 2).sum(-1)) for place in place_n3]
    return sum(shapes) + 5 + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def apart(seed: int) -> torch.Tensor:
    """Nine places far apart, each somewhere in its voxel."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.cartesian_prod(torch.tensor([12.0]), torch.arange(3) * 18.0 + 10, torch.arange(3) * 18.0 + 10)
    return corner + torch.rand((9, 3), generator=generator) - 0.5


def test_places_between_voxels_and_widths_are_found_as_exactly_as_the_errors_say():
    errors, sigmas = [], []
    for seed in range(12):
        truth = apart(seed)
        found = fit_peaks(volume_of(truth, seed=seed)[None])
        assert len(found.index_n3) == 9
        distance, nearest = torch.cdist(truth, found.index_n3).min(1)
        assert distance.max() < 0.2
        errors.append(found.index_n3[nearest] - truth)
        sigmas.append(found.sigma_n3[nearest])
        assert torch.allclose(found.width_n3.mean(0), torch.tensor([2.0, 1.1, 1.3]), rtol=0.03)
    ratio = torch.cat(errors) / torch.cat(sigmas)
    # 108 draws: the spread of a normal variable is known to 7 %
    assert torch.allclose(ratio.std(0), torch.ones(3), atol=0.22)
    assert ratio.mean(0).abs().max() < 0.35


def test_positions_do_not_stick_to_the_voxels():
    truth = apart(3)
    moved = fit_peaks(volume_of(truth + torch.tensor([0.25, 0.25, 0.25]), noise=0.01)[None]).index_n3
    still = fit_peaks(volume_of(truth, noise=0.01)[None]).index_n3
    nearest = torch.cdist(truth, still).argmin(1), torch.cdist(truth, moved).argmin(1)
    assert torch.allclose(moved[nearest[1]] - still[nearest[0]], torch.full((9, 3), 0.25), atol=0.01)


def test_the_light_of_a_peak_is_the_sum_of_its_voxels():
    truth = apart(0)[4:5]
    volume = volume_of(truth, noise=0.0)
    assert float(fit_peaks(volume[None]).light_n) == pytest.approx(float((volume - 5).sum()), rel=0.01)


def test_noise_alone_holds_hardly_any_peak():
    noise = torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(1))
    assert len(fit_peaks(noise).volume_n) <= 2
    assert float(peak_limit(noise).min()) > 5.5


def test_a_volume_beside_others_gives_what_it_gives_alone():
    volumes = torch.stack([volume_of(apart(seed), seed=seed) for seed in (0, 1)])
    together, alone = fit_peaks(volumes), fit_peaks(volumes[1:])
    rows = together.volume_n == 1
    assert torch.allclose(together.index_n3[rows], alone.index_n3, atol=1e-5)


def test_an_empty_volume_holds_nothing():
    assert len(fit_peaks(torch.zeros((1, *SHAPE))).index_n3) == 0
