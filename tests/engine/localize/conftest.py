"""Small worlds for the localizer: a one-view and a two-view microscope, patches drawn from a table, a state of three molecules."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from napari_volumetric_smlm.domain.instrument import Instrument, View
from napari_volumetric_smlm.engine.localize.background import CosineBackground
from napari_volumetric_smlm.engine.localize.localizer import Localizer
from napari_volumetric_smlm.engine.localize.refine import Refiner
from napari_volumetric_smlm.engine.localize.scene import Patches, State, padding
from napari_volumetric_smlm.engine.optics.table import PsfTable

WINDOW_PX = 13
SHAPE_YX = (30, 26)


@pytest.fixture(scope="session")
def two_views(toy_instrument) -> Instrument:
    """Return a microscope whose second view is turned by 4 degrees, shifted, focused elsewhere and sees 60 % of the light."""
    c, s = math.cos(math.radians(4)), math.sin(math.radians(4))
    second = View(zernike_noll_rad={5: 0.8}, focus_shift_nm=200, photon_fraction=1.5, affine_yx=((c, -s, 130.0), (s, c, -275.0)))
    return Instrument.model_validate({**dict(toy_instrument), "views": (toy_instrument.views[0], second)})


@pytest.fixture(scope="session")
def one_view_table(toy_instrument) -> PsfTable:
    return PsfTable(toy_instrument, WINDOW_PX)


@pytest.fixture(scope="session")
def two_view_table(two_views) -> PsfTable:
    return PsfTable(two_views, WINDOW_PX)


@pytest.fixture(scope="session")
def blurred_table(toy_instrument) -> PsfTable:
    return PsfTable(toy_instrument, WINDOW_PX, blur_nm=(40.0, 160.0))


@pytest.fixture(scope="session")
def make_state() -> Callable[[PsfTable, int], tuple[State, CosineBackground]]:
    """Return a maker of states: in each of n patches three molecules whose windows overlap, and a background that slopes."""

    def make(table: PsfTable, patches: int) -> tuple[State, CosineBackground]:
        background = CosineBackground(SHAPE_YX, padding(table.window_px), 15.0, table.device)
        pixel, views = table.pixel_v[0], len(table.pixel_v)
        place = torch.tensor([[300.0, 11.3, 9.7], [620.0, 15.8, 12.2], [480.0, 14.1, 17.6]])
        place[:, 1:] *= pixel
        drift = torch.arange(patches).repeat_interleave(3)[:, None] * torch.tensor([15.0, 60.0, -45.0])
        ground = torch.zeros((patches, views, background.count))
        ground[..., 0], ground[..., 1], ground[..., 3] = 20.0, 2.0, -1.5
        state = State(
            patch_m=torch.arange(patches).repeat_interleave(3),
            position_m3=place.repeat(patches, 1) + drift,
            photons_m=torch.tensor([4000.0, 2500.0, 3200.0]).repeat(patches),
            blur_m=torch.tensor([80.0, 100.0, 120.0]).repeat(patches),
            coefficients_tvn=ground,
            strength_tv=torch.full((patches, views), 300.0),
        )
        return state, background

    return make


@pytest.fixture(scope="session")
def make_patches() -> Callable[[PsfTable, State, CosineBackground], Patches]:
    """Return a drawer of noisy patches from a state, with read noise that varies and a few pixels that do not count."""

    def make(table: PsfTable, state: State, background: CosineBackground, noise: bool = True) -> Patches:
        generator = torch.Generator().manual_seed(7)
        count, views = state.coefficients_tvn.shape[:2]
        pad = padding(table.window_px)
        canvas = (SHAPE_YX[0] + 2 * pad, SHAPE_YX[1] + 2 * pad)
        seen = torch.nn.functional.pad(torch.ones((count, views, *SHAPE_YX)), (pad, pad, pad, pad))
        seen[:, :, pad + 12, pad + 9 : pad + 12] = 0
        variance = torch.linspace(1.0, 9.0, canvas[1]).expand(count, views, *canvas)
        shift = table.shift_v2.expand(count, -1, -1)
        empty = Patches(torch.zeros((count, views, *canvas)), variance, seen, shift, table.pixel_v, pad)
        mean = Refiner(table, background, table.blur2_knots is not None).mean(empty, state)[0]
        photons = mean
        if noise:
            photons = torch.poisson(mean.clamp(min=0), generator=generator) + variance.sqrt() * torch.randn(mean.shape, generator=generator)
        return Patches(photons, variance, seen, shift, table.pixel_v, pad)

    return make


@pytest.fixture(scope="session")
def state_of() -> Callable[[Localizer, list[tuple[float, ...]]], State]:
    """Make states of one patch with a flat background; molecules are z (nm), y, x (px), photons."""

    def make(localizer: Localizer, molecules: list[tuple[float, ...]]) -> State:
        rows = torch.tensor(molecules).reshape(-1, 4)
        position = rows[:, :3].clone()
        position[:, 1:] *= localizer.table.pixel_v[0]
        ground = torch.zeros((1, 1, localizer.background.count))
        ground[..., 0] = 10.0
        return State(torch.zeros(len(rows)).long(), position, rows[:, 3].clone(), torch.zeros(len(rows)), ground, torch.ones((1, 1)))

    return make


@pytest.fixture(scope="session")
def frame_of() -> Callable[[Localizer, State], Patches]:
    """Draw states of one patch of 40 x 40 pixels, with Poisson noise."""

    def draw(localizer: Localizer, truth: State) -> Patches:
        pad = padding(localizer.table.window_px)
        side = 40 + 2 * pad
        seen = torch.zeros((1, 1, side, side))
        seen[..., pad:-pad, pad:-pad] = 1
        patches = Patches(seen.clone(), torch.ones_like(seen), seen, torch.zeros((1, 1, 2)), localizer.table.pixel_v, pad)
        mean = localizer.refiner.mean(patches, truth)[0]
        patches.photons_tvyx = torch.poisson(mean.clamp(min=0), generator=torch.Generator().manual_seed(0)) * seen
        return patches

    return draw
