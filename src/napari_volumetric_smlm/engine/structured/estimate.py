"""Find the patterns in raw frames, without knowing where to look: all orientations and orders together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.illumination import Geometry, Illumination, Orientation, Wave
from ..fourier import spectrum
from .bands import equalized, field_window, nominal_steps, separate, separation
from .choose import Choice, Ring, choose, rival_of
from .judge import judge
from .measure import Doubt, Measured, measure, noise_power, phase_of, refine
from .otf import Transfer
from .overlap import Overlap, SearchGrid, light_of, overlap, sample_map, search_grid
from .steps import frame_correlations, measured_steps

# how near to another wave vector a score counts as that wave's, in samples
CROSSING_PX = 1.5


@dataclass(frozen=True)
class Optics:
    """What estimation and reconstruction need to know of the microscope."""

    transfer: Transfer
    pixel_um: float

    def to(self, device: torch.device | str) -> Optics:
        """Return the same on another device."""
        return Optics(self.transfer.to(device), self.pixel_um)


@dataclass(frozen=True)
class Search:
    """Where patterns are looked for: lowest and highest frequency of the finest wave over the cut-off, and whether steps are measured."""

    geometry: Geometry
    lowest: float = 0.5
    highest: float = 1.35
    measure_steps: bool = True


@dataclass(frozen=True)
class Line:
    """Waves that share one wave vector up to a factor. ratios : of each wave's vector to the finest one."""

    orientation: int
    waves: tuple[int, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Found:
    """The choice on the grid with all that led to it. noise_ab : of the bands.

    rivals_lw : largest score of each wave elsewhere. cross_l : largest score of a line where it should have none.
    """

    grid: SearchGrid
    noise_ab: list[list[float]]
    overlaps: list[list[Overlap]]
    ring: Ring
    choice: Choice
    rivals_lw: list[list[float]]
    scores_l: tuple[float, ...]
    cross_l: tuple[float, ...]

    @property
    def contrast(self) -> float:
        """Evidence that these frames belong together: with frames mixed up, every line has the maxima of all lines."""
        return sum(max(score - cross, 0.0) for score, cross in zip(self.scores_l, self.cross_l, strict=True))


def lines_of(geometry: Geometry) -> list[Line]:
    """Lines of a geometry: one an orientation with its orders, or the three crossing waves of a hexagonal pattern."""
    if geometry.hexagonal:
        return [Line(0, (w,), (1.0,)) for w in range(len(geometry.wave_steps))]
    top = max(map(abs, geometry.wave_steps))
    waves = tuple(range(len(geometry.wave_steps)))
    return [Line(a, waves, tuple(step / top for step in geometry.wave_steps)) for a in range(geometry.orientations)]


def find(frames_apyx: Tensor, optics: Optics, search: Search) -> Found:
    """Look for all wave vectors on the grid of frequencies.

    Parameters
    ----------
    frames_apyx : without camera offset; of one plane, or (z, a, p, y, x) of several, whose evidence is taken together.
    """
    geometry = search.geometry
    ready = equalized(frames_apyx if frames_apyx.ndim == 5 else frames_apyx[None])
    shape = (ready.shape[-2], ready.shape[-1])
    ready = (ready - ready.mean((-3, -2, -1), keepdim=True)) * field_window(shape, ready)
    matrix = separation(nominal_steps(geometry.phases, ready), geometry.wave_steps)
    spectra = spectrum(separate(ready, matrix))
    low, high = (share * optics.transfer.cutoff_per_um for share in (search.lowest, search.highest))
    grid = search_grid(shape, optics.pixel_um, optics.transfer, high)
    ring = _ring(grid, low, high)
    noise = [noise_power(spectra[:, a], grid, optics.pixel_um) for a in range(geometry.orientations)]
    lights = [light_of(spectra[:, a, 0], grid, levels[0]) for a, levels in enumerate(noise)]
    overlaps, scores, each_lwn = [], [], []
    for line in lines_of(geometry):
        bands = spectra[:, line.orientation]
        pairs = list(zip(line.waves, line.ratios, strict=True))
        mine = [overlap(lights[line.orientation], bands[:, 1 + w], (low * ratio, high * ratio)) for w, ratio in pairs]
        overlaps.append(mine)
        each = [sample_map(o.score_yx, ring.row_n * r, ring.column_n * r) for o, r in zip(mine, line.ratios, strict=True)]
        each_lwn.append(each)
        scores.append(torch.stack(each).sum(0))
    scores_ln = torch.stack(scores)
    choice = choose(scores_ln, ring)
    chosen = tuple(float(scores_ln[n, i]) for n, i in enumerate(choice.index_l))
    rivals = [[rival_of(score, ring, i) for score in each] for each, i in zip(each_lwn, choice.index_l, strict=True)]
    return Found(grid, noise, overlaps, ring, choice, rivals, chosen, _crossings(scores_ln, ring, choice))


def estimate(frames_apyx: Tensor, optics: Optics, search: Search) -> Illumination:
    """Patterns of all orientations, with a verdict.

    Parameters
    ----------
    frames_apyx : (orientations, phases, rows, columns), without camera offset; averaged over time where there are many.
    """
    return measure_all(frames_apyx, optics, search, find(frames_apyx, optics, search))


def measure_all(frames_apyx: Tensor, optics: Optics, search: Search, found: Found) -> Illumination:
    """From the choice on the grid to measured waves."""
    geometry = search.geometry
    lines = lines_of(geometry)
    waves: dict[tuple[int, int], Measured] = {}
    samples = frames_apyx.shape[-3] * frames_apyx.shape[-2] * frames_apyx.shape[-1]
    for n, line in enumerate(lines):
        place = found.choice.index_l[n]
        start = (float(found.ring.ky_n[place]), float(found.ring.kx_n[place]))
        k = refine(found.overlaps[n], list(line.ratios), start)
        noise = found.noise_ab[line.orientation]
        for w, ratio, laid, rival in zip(line.waves, line.ratios, found.overlaps[n], found.rivals_lw[n], strict=True):
            at = (k[0] * ratio, k[1] * ratio)
            doubt = Doubt(noise[1 + w], rival, math.log(len(found.ring.ky_n)), samples)
            waves[line.orientation, w] = measure(laid, at, doubt)
    orientations = []
    for a in range(geometry.orientations):
        mine = [waves[a, w] for w in range(len(geometry.wave_steps))]
        steps = _steps(mine, found, search, a)
        orientations.append(
            Orientation(
                waves=tuple(
                    Wave(
                        frequency_yx_per_um=wave.k_yx,
                        modulation=min(2 * abs(wave.strength), 2.0),
                        phase_rad=phase_of(wave.strength),
                        step=step,
                        evidence=wave.evidence,
                    )
                    for wave, step in zip(mine, geometry.wave_steps, strict=True)
                ),
                steps_rad=steps,
            )
        )
    verdict = judge(found.choice, (found.scores_l, found.cross_l), len(found.ring.ky_n), orientations)
    return Illumination(geometry=geometry, orientations=tuple(orientations), verdict=verdict)


def _steps(waves: list[Measured], found: Found, search: Search, orientation: int) -> tuple[float, ...]:
    geometry = search.geometry
    nominal = tuple(2 * math.pi * n / geometry.phases for n in range(geometry.phases))
    if not search.measure_steps:
        return nominal
    laid = [o for line, mine in zip(lines_of(geometry), found.overlaps, strict=True) if line.orientation == orientation for o in mine]
    correlations = frame_correlations(laid, [wave.k_yx for wave in waves], geometry.wave_steps, geometry.phases)
    scores = [0.5 / wave.evidence.sigma_phase_rad**2 for wave in waves]
    return tuple(float(step) for step in measured_steps(correlations, geometry.wave_steps, scores))


def _ring(grid: SearchGrid, low: float, high: float) -> Ring:
    length = torch.hypot(*grid.k_yx)
    row, column = ((length >= low) & (length <= high)).nonzero(as_tuple=True)
    ky, kx = grid.k_yx[0][row, 0], grid.k_yx[1][0, column]
    return Ring((row - grid.padded_yx[0] // 2).to(ky.dtype), (column - grid.padded_yx[1] // 2).to(kx.dtype), ky, kx)


def _crossings(scores_ln: Tensor, ring: Ring, choice: Choice) -> tuple[float, ...]:
    """Largest score of each line where only frames that are mixed up have one: near other lines' wave vectors, and the opposite of its own.

    Planes in place of phases show both directions of a wave alike; planes in place of orientations show one wave in all lines.
    """
    found = []
    for n in range(len(choice.index_l)):
        largest = 0.0
        for m, other in enumerate(choice.index_l):
            for sign in (1, -1):
                if m == n and sign == 1:
                    continue
                away = torch.hypot(ring.row_n - sign * ring.row_n[other], ring.column_n - sign * ring.column_n[other])
                near = away <= CROSSING_PX
                if bool(near.any()):
                    largest = max(largest, float(scores_ln[n][near].max()))
        found.append(largest)
    return tuple(found)
