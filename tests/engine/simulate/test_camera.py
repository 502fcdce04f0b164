"""The camera: statistics of counts, as a specification."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Camera
from napari_volumetric_smlm.engine.simulate.camera import expose
from napari_volumetric_smlm.errors import InstrumentError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, frames: int = 40, side: int = 50) -> torch.Tensor:
    return torch.full((frames, side, side), level)


@pytest.mark.parametrize("mean", [3.0, 40.0, 900.0])
def test_the_variance_of_electrons_is_their_mean(mean):
    counts = expose(flat(mean), Camera(pixel_um=10), seeded()).double()
    assert float(counts.mean()) == pytest.approx(mean, rel=0.01)
    # 100,000 pixels: the standard error of the variance is 0.45 %
    assert float(counts.var()) == pytest.approx(mean, rel=0.02)


def test_only_detected_photons_become_electrons():
    counts = expose(flat(100.0), Camera(pixel_um=10, quantum_efficiency=0.7), seeded()).double()
    assert float(counts.mean()) == pytest.approx(70, rel=0.01)
    assert float(counts.var()) == pytest.approx(70, rel=0.02)


@pytest.mark.parametrize("mean", [2.0, 60.0])
def test_a_multiplying_register_doubles_the_variance(mean):
    camera = Camera(pixel_um=16, em_gain=200, gain_e_per_count=10)
    counts = expose(flat(mean), camera, seeded()).double()
    electrons = counts * 10 / 200
    assert float(electrons.mean()) == pytest.approx(mean, rel=0.01)
    assert float(electrons.var() / electrons.mean()) == pytest.approx(camera.excess_noise, rel=0.03)


def test_the_register_multiplies_nothing_where_there_is_no_electron():
    counts = expose(flat(0.1), Camera(pixel_um=16, em_gain=300), seeded())
    assert float((counts == 0).float().mean()) == pytest.approx(math.exp(-0.1), rel=0.01)
    # one electron gives an exponential distribution of mean em_gain
    assert float(counts[counts > 0].double().mean()) == pytest.approx(300 * 0.1 / (1 - math.exp(-0.1)), rel=0.05)


def test_read_noise_follows_its_map_and_comes_after_the_register():
    noise_map = np.linspace(5, 60, 2500).reshape(50, 50)
    for em_gain in (1.0, 300.0):
        camera = Camera(pixel_um=10, offset_counts=400, read_noise_e=noise_map, gain_e_per_count=0.5, em_gain=em_gain)
        counts = expose(flat(0.0, frames=400), camera, seeded()).double()
        measured = counts.std(0).numpy() * 0.5
        # 400 frames: each standard deviation is good to 3.5 %; rounding adds a twelfth of a count squared
        assert np.allclose(measured, noise_map, rtol=0.18)
        assert np.mean(measured / noise_map) == pytest.approx(1, abs=0.005)


def test_the_photon_transfer_curve_gives_back_gain_and_offset():
    gain, offset = 0.46, 101.0
    camera = Camera(pixel_um=6.5, gain_e_per_count=gain, offset_counts=offset, read_noise_e=1.6)
    means, variances = [], []
    for level in (0.0, 50.0, 200.0, 800.0, 2000.0):
        counts = expose(flat(level), camera, seeded(int(level))).double()
        means.append(float(counts.mean()))
        variances.append(float(counts.var()))
    slope = np.polyfit(means, variances, 1)[0]
    assert 1 / slope == pytest.approx(gain, rel=0.02)
    assert means[0] == pytest.approx(offset, abs=0.05)
    assert variances[0] == pytest.approx((1.6 / gain) ** 2, rel=0.03)


def test_gain_and_offset_may_be_maps():
    rng = np.random.default_rng(0)
    gain, offset = rng.uniform(0.4, 0.6, (50, 50)), rng.uniform(90, 110, (50, 50))
    counts = expose(flat(500.0, frames=300), Camera(pixel_um=6.5, gain_e_per_count=gain, offset_counts=offset), seeded()).double()
    assert np.allclose(counts.mean(0).numpy(), 500 / gain + offset, rtol=0.02)


def test_saturation_clips_and_nothing_falls_below_zero():
    counts = expose(flat(1000.0), Camera(pixel_um=10, saturation_counts=1000), seeded())
    assert int(counts.max()) == 1000
    assert float((counts == 1000).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert int(expose(flat(1e6, 2), Camera(pixel_um=10), seeded()).max()) == 65535
    assert int(expose(flat(0.0), Camera(pixel_um=10, read_noise_e=20), seeded()).min()) == 0


def test_counts_are_whole_numbers():
    counts = expose(flat(20.0), Camera(pixel_um=10, read_noise_e=2.5, gain_e_per_count=0.3), seeded())
    assert counts.dtype == torch.int32


def test_the_same_seed_gives_the_same_counts_and_another_one_does_not():
    camera = Camera(pixel_um=10, em_gain=50, read_noise_e=3)
    assert torch.equal(expose(flat(20.0), camera, seeded(5)), expose(flat(20.0), camera, seeded(5)))
    assert not torch.equal(expose(flat(20.0), camera, seeded(5)), expose(flat(20.0), camera, seeded(6)))


def test_a_map_of_another_size_than_the_frames_is_explained():
    camera = Camera(name="left", pixel_um=10, read_noise_e=np.ones((64, 32)))
    with pytest.raises(InstrumentError, match="read_noise_e of camera 'left' is 64 x 32 pixels, the frames are 50 x 50"):
        expose(flat(1.0), camera, seeded())
