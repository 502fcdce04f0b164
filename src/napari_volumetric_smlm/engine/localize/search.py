"""Search: which molecule, added to the present state, would explain the residual best, anywhere in the volume.

For a molecule at a trial place with image h (V views), residual r = n - mu and variance v, the best photon number and the gain are
    N = sum(r h / v) / sum(h^2 / v),    gain = (sum r h / v)^2 / (2 sum h^2 / v)
after a constant under the window is projected out; the gain is the log-likelihood that the molecule adds, to second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fourier import correlate, correlation_spectrum, fast_length, image_spectrum
from ..optics.table import PsfTable
from .scene import Patches

MOST_MAXIMA = 3000  # more are never added in one round; every pair of them is compared


@dataclass
class Candidates:
    """Places (z, y, x) with their photons and gain, best first."""

    position_m3: Tensor
    photons_m: Tensor
    gain_m: Tensor

    def keep(self, rows: Tensor | slice) -> Candidates:
        """Only these rows."""
        return Candidates(self.position_m3[rows], self.photons_m[rows], self.gain_m[rows])


class MatchedFilter:
    """Correlates residuals with the PSF at every depth."""

    def __init__(self, table: PsfTable, shape_yx: tuple[int, int], depth_step_nm: float, blur_nm: float | None = None) -> None:
        self.table, self.shape_yx = table, shape_yx
        low, high = float(table.z_nm[0]), float(table.z_nm[-1])
        planes = max(2, round((high - low) / depth_step_nm) + 1)
        # the outer planes of the table are margin: molecules there are found by their neighbours and move by refinement
        self.z_nm = torch.linspace(low, high, planes, device=table.device)[1:-1]
        position = torch.zeros((len(self.z_nm), len(table.pixel_v), 3), device=table.device)
        position[..., 0] = self.z_nm[:, None]
        blur = None if blur_nm is None else torch.full((len(self.z_nm),), blur_nm, device=table.device)
        kernel = table.images(position, blur, derivatives=False).value  # (d, V, n, n)
        self.padded = (fast_length(shape_yx[0] + table.window_px), fast_length(shape_yx[1] + table.window_px))
        self._kernel = correlation_spectrum(kernel, self.padded)
        self._square = correlation_spectrum(kernel**2, self.padded)
        self._window = correlation_spectrum(torch.ones_like(kernel[:1, :1]), self.padded)

    def gains(self, patches: Patches, score_tvyx: Tensor, weight_tvyx: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and photons of a molecule at every depth and pixel of the first view: (T, d, y, x) each.

        score = (n - mu) / v and weight = 1 / v on the patches without padding.
        """
        numerator, denominator = self._view_sums(score_tvyx[:, 0], weight_tvyx[:, 0], 0)
        for v in range(1, len(patches.pixel_v)):
            more = self._view_sums(score_tvyx[:, v], weight_tvyx[:, v], v)
            numerator += self._to_first_view(more[0], v, patches)
            denominator += self._to_first_view(more[1], v, patches)
        # in place where it can be: these maps are the largest arrays of a localization
        photons = torch.div(numerator, denominator.clamp_(min=1e-12), out=denominator)
        gain = numerator.mul_(photons.clamp(min=0)).mul_(0.5)
        return gain, photons

    def _view_sums(self, score: Tensor, weight: Tensor, v: int) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of one view, (T, d, y, x), with the constant projected out."""
        sums = lambda image, kernel: correlate(image[:, None], kernel[None], self.padded, self.shape_yx)  # noqa: E731
        s, w = image_spectrum(score, self.padded), image_spectrum(weight, self.padded)
        r1, w1 = sums(s, self._window[:, 0]), sums(w, self._window[:, 0]).clamp_(min=1e-9)
        wh = sums(w, self._kernel[:, v])
        share = wh / w1
        denominator = sums(w, self._square[:, v]).addcmul_(share, wh, value=-1).clamp_(min=0)
        return sums(s, self._kernel[:, v]).addcmul_(share, r1, value=-1), denominator

    def _to_first_view(self, image: Tensor, v: int, patches: Patches) -> Tensor:
        """Resample a further view's map so that pixel (y, x) is the place of the first view's pixel (y, x)."""
        height, width = self.shape_yx
        y = torch.arange(height, device=image.device, dtype=image.dtype) * patches.pixel_v[0]
        x = torch.arange(width, device=image.device, dtype=image.dtype) * patches.pixel_v[0]
        (a, b), (c, d) = self.table.linear_v22[v]
        ty, tx = patches.shift_tv2[:, v, 0, None, None], patches.shift_tv2[:, v, 1, None, None]
        rows = (a * y[:, None] + b * x[None] + ty) / patches.pixel_v[v]
        columns = (c * y[:, None] + d * x[None] + tx) / patches.pixel_v[v]
        grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
        return torch.nn.functional.grid_sample(image, grid, align_corners=True, padding_mode="zeros")


def clear_maxima(found: Candidates, share: float, reach_nm: float, apart_nm: float) -> Candidates:
    """Candidates that are no side lobes of better ones.

    Parameters
    ----------
    share : smallest share of the gain of any better candidate within `reach_nm` in y and in x.
    apart_nm : lateral distance within which a better one silences others altogether.
    """
    yx = found.position_m3[:, 1:]
    near = (yx[:, None] - yx[None]).abs().amax(-1) < reach_nm
    best = (near * found.gain_m).amax(1) if len(yx) else found.gain_m
    found = found.keep(found.gain_m >= share * best)
    close = torch.cdist(found.position_m3[:, 1:], found.position_m3[:, 1:]) < apart_nm
    kept = torch.ones(len(close), dtype=torch.bool, device=close.device)
    for k in range(1, len(close)):
        kept[k] = not bool((close[k, :k] & kept[:k]).any())
    return found.keep(kept)


def lateral_maxima(gain: Tensor, photons: Tensor, z_nm: Tensor, pixel_nm: float, smallest: float) -> Candidates:
    """Local maxima in (y, x) of the best gain over all depths, from maps (d, y, x); at most `MOST_MAXIMA`."""
    best, depth = gain.max(0)
    peak = torch.nn.functional.max_pool2d(best[None], 3, 1, 1)[0]
    y, x = ((best == peak) & (best > smallest)).nonzero(as_tuple=True)
    return _candidates(gain, photons, z_nm, pixel_nm, (depth[y, x], y, x)).keep(slice(MOST_MAXIMA))


def local_maxima(gain: Tensor, photons: Tensor, z_nm: Tensor, pixel_nm: float, smallest: float) -> Candidates:
    """Local maxima in (z, y, x) of maps (d, y, x)."""
    d, y, x = (gain > smallest).nonzero(as_tuple=True)
    value, highest = gain[d, y, x], torch.ones_like(d, dtype=torch.bool)
    depths, height, width = gain.shape
    for dz in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = gain[(d + dz).clamp(0, depths - 1), (y + dy).clamp(0, height - 1), (x + dx).clamp(0, width - 1)]
                highest &= near <= value
    return _candidates(gain, photons, z_nm, pixel_nm, (d[highest], y[highest], x[highest]))


def _candidates(gain: Tensor, photons: Tensor, z_nm: Tensor, pixel_nm: float, place: tuple[Tensor, Tensor, Tensor]) -> Candidates:
    """Candidates at voxels, best first."""
    order = torch.argsort(gain[place], descending=True)
    d, y, x = (index[order] for index in place)
    return Candidates(torch.stack([z_nm[d], y * pixel_nm, x * pixel_nm], 1), photons[d, y, x], gain[d, y, x])
