"""What reaches the cameras: every molecule's image in every view, added up on the cameras' frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...domain.instrument import IDENTITY_AFFINE, Instrument
from ..optics.psf import camera_images, period_nm
from ..optics.pupil import view_pupil
from ..optics.table import PsfTable
from .molecules import Emissions

# A window ends where a pixel of its edge receives less than this share of a molecule's photons: 0.2 photons of 10,000.
FAINT = 2e-5
WIDEST_WINDOW_PX = 161
MOLECULES_AT_ONCE = 64
NARROWEST_BLUR_RANGE_NM = 20.0


class Scene:
    """Draws molecules as the views of an instrument show them, without background or noise.

    Parameters
    ----------
    shape_yx : rows and columns of every camera's frames.
    blur_nm : lowest and highest extra Gaussian blur of the molecules, nm.
    window_px : side of the window that is drawn around each molecule; None = chosen for each view, so that what is cut off is faint.
        Light outside the window is left out: molecules keep the brightness that they have, none is moved into the window.

    Attributes
    ----------
    fraction_v : share of a molecule's photons in each view.
    """

    def __init__(
        self,
        instrument: Instrument,
        shape_yx: tuple[int, int],
        blur_nm: tuple[float, float] = (0.0, 0.0),
        window_px: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.instrument, self.shape_yx, self.device = instrument, shape_yx, torch.device(device)
        total = sum(view.photon_fraction for view in instrument.views)
        self.fraction_v = [view.photon_fraction / total for view in instrument.views]
        self._blurred = blur_nm[1] > 0
        self._tables = []
        for v, view in enumerate(instrument.views):
            # a table of its own for each view: window and blur differ between views
            alone = instrument.model_copy(update={"views": (view.model_copy(update={"affine_yx": IDENTITY_AFFINE}),)})
            window = choose_window_px(instrument, v, shape_yx) if window_px is None else window_px
            # the table's blur replaces the view's own, and it needs two different ends
            ends = math.hypot(view.blur_nm, blur_nm[0]), math.hypot(view.blur_nm, max(blur_nm[1], blur_nm[0] + NARROWEST_BLUR_RANGE_NM))
            knots = ends if self._blurred else None
            self._tables.append(PsfTable(alone, window, blur_nm=knots, device=self.device))

    def draw(self, emissions: Emissions, frames: int) -> Tensor:
        """Expected photons on the cameras, (frames, cameras, y, x); the emissions' frames count from 0."""
        cameras = len(self.instrument.cameras)
        canvas = torch.zeros((frames, cameras, *self.shape_yx), device=self.device)
        for v, table in enumerate(self._tables):
            canvas[:, self.instrument.views[v].camera] += self._draw_view(v, table, emissions, frames)
        return canvas

    def _draw_view(self, v: int, table: PsfTable, emissions: Emissions, frames: int) -> Tensor:
        view, pixel, half = self.instrument.views[v], self.instrument.pixel_nm(v), table.window_px // 2
        affine = torch.tensor(view.affine_yx, device=self.device)
        yx = emissions.position_n3[:, 1:] @ affine[:, :2].T + affine[:, 2]
        nearest = torch.round(yx / pixel)
        height, width = self.shape_yx
        # padding by a whole window on each side, so that every window that touches the frame fits
        padded = torch.zeros((frames, height + 4 * half + 1, width + 4 * half + 1), device=self.device)
        corner = nearest.long() + half
        size = torch.tensor(padded.shape[1:], device=self.device)
        touching = ((corner >= 0) & (corner + table.window_px <= size)).all(1).nonzero()[:, 0]
        step = torch.arange(table.window_px, device=self.device)
        for rows in touching.split(MOLECULES_AT_ONCE):
            offset = yx[rows] - nearest[rows] * pixel
            position = torch.cat([emissions.position_n3[rows, :1], offset], 1)[:, None]
            blur = torch.hypot(emissions.blur_n[rows], torch.tensor(view.blur_nm, device=self.device)) if self._blurred else None
            images = table.images(position, blur, derivatives=False).value[:, 0]
            light = images * (emissions.photons_n[rows] * self.fraction_v[v])[:, None, None]
            top, left = corner[rows, 0, None] + step, corner[rows, 1, None] + step
            index = (emissions.frame_n[rows, None, None] * size[0] + top[:, :, None]) * size[1] + left[:, None, :]
            padded.view(-1).index_add_(0, index.flatten(), light.flatten())
        return padded[:, 2 * half : 2 * half + height, 2 * half : 2 * half + width].clamp(min=0)


def choose_window_px(instrument: Instrument, view: int, shape_yx: tuple[int, int], faint: float = FAINT) -> int:
    """Smallest odd window at whose edge a pixel receives, averaged along the edge, less than `faint` of the photons at every depth."""
    pupil, pixel = view_pupil(instrument, view), instrument.pixel_nm(view)
    # a window beyond twice the frame shows nothing more, one beyond the pupil's period shows the molecule twice
    widest = min(WIDEST_WINDOW_PX, 2 * max(shape_yx) - 1, math.floor(period_nm(pupil) / pixel) - 4)
    widest -= 1 - widest % 2
    z = torch.linspace(*instrument.depth_range_nm, 5)
    position = torch.nn.functional.pad(z[:, None], (0, 2))
    images = camera_images(pupil, position, (widest, pixel, True), instrument.views[view].blur_nm)
    for half in range(4, widest // 2):
        ring = torch.cat([image.flatten() for image in _edge(images, widest // 2, half)]).reshape(4, len(z), -1)
        if ring.mean((0, 2)).max() < faint:
            return 2 * half + 1
    return widest


def _edge(images: Tensor, centre: int, half: int) -> Iterator[Tensor]:
    span = slice(centre - half, centre + half + 1)
    for side in (centre - half, centre + half):
        yield images[:, side, span]
        yield images[:, span, side]
