"""Reconstruction: physics of the generalised Wiener filter."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from napari_volumetric_smlm.domain.illumination import Verdict
from napari_volumetric_smlm.domain.structured_plans import StructuredPlan
from napari_volumetric_smlm.engine.fourier import spectrum
from napari_volumetric_smlm.engine.structured.bands import equalized
from napari_volumetric_smlm.engine.structured.compare import optical_section, pseudo_confocal, wide_field
from napari_volumetric_smlm.engine.structured.estimate import Optics
from napari_volumetric_smlm.engine.structured.reconstruct import join_edges, reconstructor, wiener_parameter
from napari_volumetric_smlm.engine.structured.simulate import FINE, MARGIN_PX, frames_of

SHARP = StructuredPlan(wiener=0.01, attenuation=0.0, apodization=0.0, least_modulation=0.0)


def rebuilt(raw, plan=SHARP, frames=None):
    frames = raw.frames if frames is None else frames
    made = reconstructor(raw.illumination, raw.optics, tuple(frames.shape[-2:]), plan)
    return made(frames), made


def rings(image, truth, pixel_um, edges):
    """Correlation of two images between frequencies, edge effects windowed away."""
    window = torch.hann_window(image.shape[-1])[:, None] * torch.hann_window(image.shape[-1])
    a, b = (spectrum((part - part.mean()) * window) for part in (image, truth))
    grid = (torch.arange(image.shape[-1]) - image.shape[-1] // 2) / (image.shape[-1] * pixel_um)
    length = torch.hypot(grid[:, None], grid[None, :])
    found = []
    for low, high in itertools.pairwise(edges):
        inside = (length > low) & (length <= high)
        found.append(float((a[inside].conj() * b[inside]).sum().abs() / (a[inside].norm() * b[inside].norm())))
    return found


def true_on_double_grid(raw):
    """The sample itself at the samples of the reconstruction, by its Fourier series."""
    inner = raw.sample[MARGIN_PX * FINE : -MARGIN_PX * FINE, MARGIN_PX * FINE : -MARGIN_PX * FINE]
    count = inner.shape[-1] // FINE
    series = spectrum(inner)
    half = count - 1
    middle = inner.shape[-1] // 2
    cut = series[middle - half : middle + half + 1, middle - half : middle + half + 1]
    k = torch.arange(-half, half + 1.0)
    # fine sample FINE // 2 is the centre of pixel 0
    place = (torch.arange(2 * count) / 2 * FINE + FINE // 2) / inner.shape[-1]
    wave = torch.exp(2j * math.pi * place[:, None] * k[None, :])
    return (wave @ cut @ wave.T).real


@pytest.mark.parametrize("geometry", ["2d-3x3", "2d-3x5", "hexagonal-1x7"])
def test_frequencies_that_no_lens_passes_come_back_true(record, geometry):
    raw = record(geometry, modulation=0.5, photons=20000.0)
    image, _ = rebuilt(raw)
    cutoff = raw.optics.transfer.cutoff_per_um
    edges = [cutoff * share for share in (0.2, 0.8, 1.1, 1.4, 1.6)]
    truth = true_on_double_grid(raw)
    assert min(rings(image, truth, 0.0325, edges)) > 0.95
    wide = wide_field(raw.frames, rebuilt(raw)[1])
    assert max(rings(wide, truth, 0.0325, edges[2:])) < 0.2


def test_a_lattice_of_one_direction_sharpens_along_it_only(record):
    raw = record("lattice-1x3", modulation=0.8, photons=20000.0)
    image, _ = rebuilt(raw, SHARP.model_copy(update={"apodization": 0.9}))
    window = torch.hann_window(256)[:, None] * torch.hann_window(256)
    power = spectrum((image - image.mean()) * window).abs() ** 2
    grid = (torch.arange(256) - 128) / (256 * 0.0325)
    ky, kx = raw.illumination.orientations[0].waves[0].frequency_yx_per_um
    length = math.hypot(ky, kx)
    along = (grid[:, None] * ky + grid[None, :] * kx) / length
    across = (grid[:, None] * kx - grid[None, :] * ky) / length
    outside = torch.hypot(along, across) > 1.1 * raw.optics.transfer.cutoff_per_um
    assert float(power[outside & (along.abs() > 2 * across.abs())].mean()) > 30 * float(
        power[outside & (along.abs() < 0.5 * across.abs())].mean()
    )


def test_brightness_is_kept(record):
    raw = record(photons=2000.0)
    image, made = rebuilt(raw, StructuredPlan(wiener=0.05))
    assert float(image.mean()) == pytest.approx(float(raw.frames.mean()), rel=0.01)
    assert float(wide_field(raw.frames, made).mean()) == pytest.approx(float(raw.frames.mean()), rel=0.01)


def test_a_flat_field_stays_flat(record):
    raw = record()
    image, _ = rebuilt(raw, frames=torch.full((3, 3, 128, 128), 100.0))
    assert torch.allclose(image, torch.full_like(image, 100.0), rtol=1e-3)


def test_measured_steps_are_used(record):
    raw = record(photons=20000.0, step_error=0.3)
    truth, edges = true_on_double_grid(raw), [raw.optics.transfer.cutoff_per_um * share for share in (0.2, 0.9, 1.5)]
    right = rings(rebuilt(raw)[0], truth, 0.0325, edges)
    equal = tuple(
        orientation.model_copy(update={"steps_rad": (0.0, 2 * math.pi / 3, 4 * math.pi / 3)})
        for orientation in raw.illumination.orientations
    )
    raw.illumination = raw.illumination.model_copy(update={"orientations": equal})
    wrong = rings(rebuilt(raw)[0], truth, 0.0325, edges)
    assert all(a > b for a, b in zip(right, wrong, strict=True))
    assert min(right) > 0.95


def test_an_orientation_that_did_not_pass_adds_no_resolution(record):
    raw = record(photons=20000.0)
    verdict = Verdict(colour="red", words="none", passed=(False, False, False))
    raw.illumination = raw.illumination.model_copy(update={"verdict": verdict})
    image, _ = rebuilt(raw)
    grid = (torch.arange(256) - 128) / (256 * 0.0325)
    beyond = torch.hypot(grid[:, None], grid[None, :]) > 1.1 * raw.optics.transfer.cutoff_per_um
    window = torch.hann_window(256)[:, None] * torch.hann_window(256)
    power = spectrum((image - image.mean()) * window).abs() ** 2
    assert float(power[beyond].sum()) < 1e-4 * float(power.sum())


def test_a_batch_is_its_items_and_the_filter_is_linear(record):
    raw = record()
    _, made = rebuilt(raw)
    other = raw.frames.flip(-1)
    both = made(torch.stack([raw.frames, other]))
    assert torch.allclose(both[0], made(raw.frames), atol=1e-3)
    assert torch.allclose(both[1], made(other), atol=1e-3)
    assert torch.allclose(made(raw.frames + 2 * other), both[0] + 2 * both[1], atol=2e-2)


def test_gradients_are_those_of_the_adjoint(record):
    raw = record(shape=(48, 40))
    made = rebuilt(raw)[1]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 3, 48, 40), generator=generator, requires_grad=True)
    direction = torch.randn((3, 3, 48, 40), generator=generator)
    y = torch.randn((96, 80), generator=generator)
    (gradient,) = torch.autograd.grad((made(x) * y).sum(), x)
    assert float((gradient * direction).sum()) == pytest.approx(float((made(direction) * y).sum()), rel=1e-3)


def test_the_wiener_parameter_grows_as_light_fades(record):
    found = [wiener_parameter(equalized(record(photons=photons).frames), record().optics) for photons in (10.0, 100.0, 1000.0)]
    assert found[0] > 1.5 * found[1] > 2 * found[2]


def test_joined_edges_leave_the_frame_alone_and_have_no_step():
    y, x = torch.arange(20.0)[:, None], torch.arange(30.0)[None, :]
    joined = join_edges(y * x, (36, 40))
    assert torch.equal(joined[:20, :30], y * x)
    around = torch.cat([joined, joined[:1]], 0)
    assert float(around[19:].diff(dim=0).abs().max()) < 0.15 * float(joined.max())


def test_coarse_pixels_get_a_finer_grid(optics, record):
    raw = record(frequency=1.0)
    coarse = Optics(optics.transfer, 0.11)
    assert reconstructor(raw.illumination, coarse, (64, 64), SHARP).zoom == 3
    assert reconstructor(raw.illumination, optics, (64, 64), SHARP).zoom == 2


def test_simulated_frames_show_the_pattern_as_the_equation_says(record):
    # a flat sample shows the pattern itself, lowered by the OTF
    raw = record(frequency=0.5)
    flat = torch.ones_like(raw.sample)
    frame = frames_of(flat, raw.illumination, raw.optics)[0, 0]
    wave = raw.illumination.orientations[0].waves[0]
    place = (torch.arange(128) - 63.5) * 0.065
    ky, kx = wave.frequency_yx_per_um
    angle = 2 * math.pi * (ky * place[:, None] + kx * place[None, :]) + wave.phase_rad
    contrast = float(raw.optics.transfer(torch.tensor([wave.frequency_per_um]))[0])
    expected = 1 + wave.modulation * contrast * torch.cos(angle)
    inside = (slice(16, -16), slice(16, -16))
    assert torch.allclose(frame[inside], expected[inside], atol=5e-3)


@pytest.mark.parametrize("section", [optical_section, pseudo_confocal])
def test_sections_keep_what_the_pattern_modulates_and_drop_haze(record, section):
    raw = record(frequency=0.4, photons=5000.0)
    made = rebuilt(raw)[1]
    haze = 3000 * torch.exp(-((torch.arange(128) - 64.0) ** 2) / 800).expand(3, 3, 128, 128)
    assert torch.allclose(section(raw.frames + haze, made), section(raw.frames, made), atol=1.0)
    inside = (slice(20, -20), slice(20, -20))
    wide = wide_field(raw.frames, made)[inside]
    kept = section(raw.frames, made)[inside]
    assert float(torch.corrcoef(torch.stack([wide.flatten(), kept.flatten()]))[0, 1]) > 0.85


def test_unmodulated_haze_is_dropped_and_the_same_light_in_focus_is_kept(record):
    raw = record(frequency=0.4, modulation=0.9)
    inside = slice(24, -24)
    place = (torch.arange(raw.sample.shape[-1]) - raw.sample.shape[-1] // 2) * 0.065 / FINE
    wavy = (1 + torch.cos(2 * math.pi * 0.24 * place)).expand(raw.sample.shape)
    in_focus = frames_of(wavy, raw.illumination, raw.optics)
    out_of_focus = in_focus.mean((0, 1)).expand(in_focus.shape)
    made = rebuilt(raw, StructuredPlan(wiener=0.02))[1]

    def swing(image):
        return float(image[inside, inside].std())

    seen = swing(wide_field(in_focus, made))
    assert swing(made(out_of_focus)) < 0.4 * seen
    assert swing(made(in_focus)) == pytest.approx(seen, rel=0.15)


def test_a_homodyne_section_of_a_flat_sample_is_the_visible_modulation(record):
    raw = record(frequency=0.4)
    frames = frames_of(torch.ones_like(raw.sample), raw.illumination, raw.optics)
    wave = raw.illumination.orientations[0].waves[0]
    contrast = float(raw.optics.transfer(torch.tensor([wave.frequency_per_um]))[0])
    section = optical_section(frames, rebuilt(raw)[1])[32:-32, 32:-32]
    assert float(section.mean()) == pytest.approx(wave.modulation * contrast, rel=0.02)
