"""When molecules shine: on-times that begin and end inside frames, and how bright they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...domain.plans import SimulatePlan
from .phantoms import WALLS, place_on_walls
from .structures import Box, place_molecules

# On-times are followed from this many mean on-times before the first frame: e^-10 of the molecules were on for longer.
EARLIER_ON_TIMES = 10.0
GAMMA_SHAPE = 3


@dataclass(frozen=True)
class Emissions:
    """Molecules as frames see them: one row for each frame in which a molecule shines, ordered by frame, n rows.

    frame_n : frame. molecule_n : number of the molecule, the same in all its frames.
    position_n3 : z, y, x in nm. photons_n : photons sent to the cameras of all views in this frame.
    on_fraction_n : share of the frame's exposure that the molecule was on. blur_n : extra Gaussian blur in nm.
    """

    frame_n: Tensor
    molecule_n: Tensor
    position_n3: Tensor
    photons_n: Tensor
    on_fraction_n: Tensor
    blur_n: Tensor

    def __len__(self) -> int:
        return len(self.frame_n)

    def in_frames(self, first: int, last: int) -> Emissions:
        """Return the rows of frames first to last (excluded), with frames counted from `first`."""
        ends = torch.searchsorted(self.frame_n, torch.tensor([first, last], device=self.frame_n.device)).tolist()
        rows = slice(*ends)
        return Emissions(
            self.frame_n[rows] - first, self.molecule_n[rows], self.position_n3[rows], self.photons_n[rows],
            self.on_fraction_n[rows], self.blur_n[rows],
        )  # fmt: skip

    def every(self, step: int, first: int) -> Emissions:
        """Return the rows of every `step`-th frame from `first` on, with these frames counted anew."""
        rows = self.frame_n % step == first
        return Emissions(
            self.frame_n[rows] // step, self.molecule_n[rows], self.position_n3[rows], self.photons_n[rows],
            self.on_fraction_n[rows], self.blur_n[rows],
        )  # fmt: skip

    @classmethod
    def joined(cls, movies: Sequence[Emissions], frames: int) -> Emissions:
        """Return the rows of movies of `frames` frames each, one after the other."""
        molecules = [int(movie.molecule_n.max()) + 1 if len(movie) else 0 for movie in movies]
        firsts = [sum(molecules[:k]) for k in range(len(movies))]
        columns = [
            (movie.frame_n + k * frames, movie.molecule_n + first, *list(vars(movie).values())[2:])
            for k, (movie, first) in enumerate(zip(movies, firsts, strict=True))
        ]
        return cls(*(torch.cat(parts) for parts in zip(*columns, strict=True)))

    def to(self, device: torch.device | str) -> Emissions:
        """Return the same rows on another device."""
        return Emissions(*(value.to(device) for value in vars(self).values()))


def blink(plan: SimulatePlan, box: Box, generator: torch.Generator) -> Emissions:
    """Let molecules appear at random times (a Poisson process), stay on for an exponential time and go dark.

    The mean number of molecules that are on at any instant is density_per_um2 times the area of the box, in all frames alike:
    those that were on before the first frame are there too. With mean_on_frames 0 each molecule is on for exactly one frame.
    """
    mean_on = plan.density_per_um2 * box.area_um2
    frames = plan.frame_count
    if plan.mean_on_frames == 0:
        start = torch.randint(frames, (_poisson(mean_on * frames, generator),), generator=generator).double()
        end = start + 1
    else:
        earlier = EARLIER_ON_TIMES * plan.mean_on_frames
        count = _poisson(mean_on / plan.mean_on_frames * (frames + earlier), generator)
        start = torch.rand(count, generator=generator, dtype=torch.float64) * (frames + earlier) - earlier
        end = start + torch.empty(count, dtype=torch.float64).exponential_(1 / plan.mean_on_frames, generator=generator)
        seen = end > 0
        start, end = start[seen], end[seen]
    count = len(start)
    if plan.structure in WALLS:
        position = place_on_walls(count, plan.structure, box, plan.seed, generator)
    else:
        position = place_molecules(count, box, plan.structure, generator)
    brightness = draw_photons(count, plan, generator)
    blur = plan.blur_nm[0] + torch.rand(count, generator=generator) * (plan.blur_nm[1] - plan.blur_nm[0])

    first = start.clamp(min=0).floor().long()
    after = end.clamp(max=frames).ceil().long()
    spans = (after - first).clamp(min=0)
    molecule = torch.repeat_interleave(torch.arange(count), spans)
    frame = torch.arange(len(molecule)) - torch.repeat_interleave(spans.cumsum(0) - spans, spans) + first[molecule]
    on = (torch.minimum(end[molecule], frame + 1.0) - torch.maximum(start[molecule], frame.double())).float()
    rows = torch.argsort(frame, stable=True)
    rows = rows[brightness[molecule[rows]] * on[rows] >= 1]  # less than one photon is no molecule that anyone could miss
    molecule = molecule[rows]
    return Emissions(frame[rows], molecule, position[molecule], brightness[molecule] * on[rows], on[rows], blur[molecule])


def draw_photons(count: int, plan: SimulatePlan, generator: torch.Generator) -> Tensor:
    """Photons (count,) that each molecule sends in a whole frame; gamma (shape 3) and exponential have the mean of the two limits."""
    low, high = plan.photons
    if plan.photon_distribution == "uniform":
        return low + torch.rand(count, generator=generator) * (high - low)
    terms = GAMMA_SHAPE if plan.photon_distribution == "gamma" else 1
    return torch.empty((count, terms)).exponential_(1.0, generator=generator).mean(1) * (low + high) / 2


def _poisson(mean: float, generator: torch.Generator) -> int:
    return int(torch.poisson(torch.tensor(mean, dtype=torch.float64), generator=generator))
