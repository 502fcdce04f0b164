"""Noise and clipping are read from the images, and the likelihood knows what a clipped pixel says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_volumetric_smlm.engine.retrieve.counts import CountModel, estimate_counts


def blurred_spots(slices=20, size=80, light=40000.0):
    images = np.zeros((slices, size, size))
    images[:, size // 2, size // 2] = light
    return np.stack([ndimage.gaussian_filter(image, 3 + 0.5 * abs(k - slices // 2)) for k, image in enumerate(images)])


def test_gain_and_read_noise_come_from_the_images():
    random, gain = np.random.default_rng(0), 2.0
    light = blurred_spots() + 40
    counts = gain * random.poisson(light) + random.normal(0, 6, light.shape)
    found = estimate_counts(counts)
    mean = torch.tensor([80.0, 400.0, 1500.0])
    assert found.variance(mean).numpy() == pytest.approx(gain * mean.numpy() + 36, rel=0.2)
    assert not found.clipped


def test_an_unknown_offset_does_not_spoil_the_variance():
    random = np.random.default_rng(1)
    light = blurred_spots() + 40
    found = estimate_counts(random.poisson(light) + random.normal(0, 6, light.shape) + 300)
    mean = torch.tensor([340.0, 700.0])
    assert found.variance(mean).numpy() == pytest.approx(mean.numpy() - 300 + 36, rel=0.2)


def test_a_stack_cut_at_a_threshold_is_recognised():
    random = np.random.default_rng(2)
    light = blurred_spots()
    counts = np.round(random.poisson(light) + random.normal(0, 5, light.shape))
    counts[counts < 12] = 0
    found = estimate_counts(counts)
    assert (found.floor, found.threshold) == (0.0, 11.5)


def test_a_stack_with_camera_noise_is_not_taken_for_clipped():
    assert estimate_counts(np.random.default_rng(3).poisson(100, (10, 60, 60)).astype(float)).threshold is None


def test_expected_counts_after_clipping_match_drawn_ones():
    model, random = CountModel(1.0, 25.0, 25.0, 0.0, 12.0), np.random.default_rng(4)
    for mean in (-3.0, 5.0, 12.0, 30.0):
        drawn = random.normal(mean, np.sqrt(max(mean, 0) + 25.0), 400_000)
        drawn[drawn < 12] = 0
        assert float(model.expected(torch.tensor(mean))) == pytest.approx(drawn.mean(), abs=0.05)


def test_the_likelihood_of_clipped_counts_is_highest_at_the_truth():
    model, random = CountModel(1.0, 25.0, 25.0, 0.0, 12.0), np.random.default_rng(5)
    drawn = random.normal(8.0, np.sqrt(33.0), 200_000)
    drawn[drawn < 12] = 0
    counts = torch.from_numpy(drawn)
    trial = torch.linspace(2, 14, 49, dtype=torch.float64)
    nll = torch.stack([model.negative_log_likelihood(counts, torch.full_like(counts, float(m))).mean() for m in trial])
    assert float(trial[nll.argmin()]) == pytest.approx(8.0, abs=0.3)
    # taken as zeros, the same pixels would lie
    plain = CountModel(1.0, 25.0, 25.0)
    nll = torch.stack([plain.negative_log_likelihood(counts, torch.full_like(counts, float(m))).mean() for m in trial])
    assert float(trial[nll.argmin()]) < 6


def test_the_likelihood_does_not_depend_on_the_unit_of_counts():
    counts, mean = torch.tensor([5.0, 300.0]), torch.tensor([8.0, 280.0])
    photons = CountModel(1.0, 25.0, 25.0).negative_log_likelihood(counts, mean, 0.1)
    scaled = CountModel(3.0, 225.0, 225.0).negative_log_likelihood(3 * counts, 3 * mean, 0.1)
    assert scaled.numpy() == pytest.approx(photons.numpy(), rel=1e-5)
