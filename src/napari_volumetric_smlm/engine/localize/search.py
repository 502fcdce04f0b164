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
from .scene import SMALLEST_VARIANCE, Patches


@dataclass
class Candidates:
    """Places (patch, z, y, x) with their photons and gain, best first within a patch."""

    patch_m: Tensor
    position_m3: Tensor
    photons_m: Tensor
    gain_m: Tensor

    def only(self, mask: Tensor) -> Candidates:
        """Some of them."""
        return Candidates(self.patch_m[mask], self.position_m3[mask], self.photons_m[mask], self.gain_m[mask])

    def of_patches(self, index: Tensor) -> Candidates:
        """Those of some patches, which are counted anew in the order of `index` (rising)."""
        these = self.only(torch.isin(self.patch_m, index))
        return Candidates(torch.searchsorted(index, these.patch_m), these.position_m3, these.photons_m, these.gain_m)


@dataclass
class Weighed:
    """What the noise alone says of a molecule at every depth and pixel.

    share_v : mean of its image under its window, (T, d, y, x) for every view. denominator : sum of h^2 / v over all views, (T, d, y, x).
    """

    share_v: list[Tensor]
    denominator: Tensor


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
        self._slide_d2 = _slide(kernel[:, 0], table.pixel_v[0]) if len(table.pixel_v) == 1 else None
        self.padded = (fast_length(shape_yx[0] + table.window_px), fast_length(shape_yx[1] + table.window_px))
        self._kernel = correlation_spectrum(kernel, self.padded)
        self._square = correlation_spectrum(kernel**2, self.padded)
        self._window = correlation_spectrum(torch.ones_like(kernel[:1, :1]), self.padded)

    def gains_beyond(self, patches: Patches, mean_tvyx: Tensor, known: Weighed | None = None) -> tuple[Tensor, Tensor]:
        """Gain and photons of one more molecule anywhere, (T, d, y, x), where the padded canvases show `mean_tvyx` so far.

        `known` is what `weigh_beyond` gave for nearly this mean; with it a third of the work remains.
        """
        inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
        score = (patches.photons_tvyx[inner] - mean_tvyx[inner]) * _weight(patches, mean_tvyx)
        return self.gains(patches, score, self.weigh_beyond(patches, mean_tvyx) if known is None else known)

    def weigh_beyond(self, patches: Patches, mean_tvyx: Tensor) -> Weighed:
        """What the noise says where the padded canvases show `mean_tvyx`."""
        return self.weigh(patches, _weight(patches, mean_tvyx))

    def gains(self, patches: Patches, score_tvyx: Tensor, known: Weighed) -> tuple[Tensor, Tensor]:
        """Gain and photons of a molecule at every depth and pixel of the first view: (T, d, y, x) each; score = (n - mu) / v."""
        gain = self.numerator(patches, score_tvyx, known)
        photons = gain / known.denominator
        # in place where it can be: these maps are the largest arrays of a localization
        return gain.mul_(photons.clamp(min=0)).mul_(0.5), photons

    def numerator(self, patches: Patches, score_tvyx: Tensor, known: Weighed) -> Tensor:
        """Sum of r h / v over all views, for a molecule at every depth and pixel of the first view: (T, d, y, x)."""
        total = None
        for v, share in enumerate(known.share_v):
            spectrum = image_spectrum(score_tvyx[:, v], self.padded)
            part = self._correlate(spectrum, self._kernel[:, v]).addcmul_(share, self._correlate(spectrum, self._window[:, 0]), value=-1)
            total = part if total is None else total.add_(self._to_first_view(part, v, patches))
        if total is None:
            raise ValueError("an instrument without views has no molecules to find")
        return total

    def weigh(self, patches: Patches, weight_tvyx: Tensor) -> Weighed:
        """Sum of h^2 / v over all views, and what projects the constant out."""
        shares, total = [], None
        for v in range(len(patches.pixel_v)):
            spectrum = image_spectrum(weight_tvyx[:, v], self.padded)
            under = self._correlate(spectrum, self._window[:, 0]).clamp_(min=1e-9)
            light = self._correlate(spectrum, self._kernel[:, v])
            share = light / under
            part = self._correlate(spectrum, self._square[:, v]).addcmul_(share, light, value=-1).clamp_(min=0)
            total = part if total is None else total.add_(self._to_first_view(part, v, patches))
            shares.append(share)
        if total is None:
            raise ValueError("an instrument without views has no molecules to find")
        return Weighed(shares, total.clamp_(min=1e-12))

    def told_apart(self, found: Candidates, apart_nm: float) -> Candidates:
        """Leave out places whose image in the only view is where the image of a better one is.

        One view beside the axis sees a molecule at other depths only as one at other places: its gain is a ridge across depths, longer
        than the distance within which maxima silence each other, and the molecule would be added twice. Of two that share its light
        neither is worth its place, so both would be judged away, again and again. Several views tell the ridge's ends apart.
        """
        slide = self._slide_d2
        if slide is None or float((slide.amax(0) - slide.amin(0)).norm()) < apart_nm:
            return found
        depth = (found.position_m3[:, :1] - self.z_nm).abs().argmin(1)
        seen = found.position_m3[:, 1:] + slide[depth]
        near = ((seen[:, None] - seen).norm(dim=2) < apart_nm) & (found.patch_m[:, None] == found.patch_m)
        kept: list[int] = []
        for k in range(len(seen)):
            if not bool(near[k, kept].any()):
                kept.append(k)
        rows = torch.tensor(kept, dtype=torch.long, device=seen.device)
        return Candidates(found.patch_m[rows], found.position_m3[rows], found.photons_m[rows], found.gain_m[rows])

    def _correlate(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        return correlate(spectrum[:, None], kernel[None], self.padded, self.shape_yx)

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


def _slide(image_dyx: Tensor, pixel_nm: float) -> Tensor:
    """Where the bright part of a molecule's image is at every depth, (d, 2): y, x in nm from the molecule."""
    light = image_dyx**2  # the tails are cut by the window
    step = (torch.arange(light.shape[-1], device=light.device) - light.shape[-1] // 2) * pixel_nm
    return torch.stack([(light.sum(2) * step).sum(1), (light.sum(1) * step).sum(1)], 1) / light.sum((1, 2))[:, None]


def _weight(patches: Patches, mean_tvyx: Tensor) -> Tensor:
    """1 / v on the patches without padding."""
    inner = (..., slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
    return patches.seen_tvyx[inner] / (mean_tvyx[inner] + patches.read_variance_tvyx[inner]).clamp(min=SMALLEST_VARIANCE)


def local_maxima(gain: Tensor, photons: Tensor, z_nm: Tensor, pixel_nm: float, limits: tuple[Tensor, float]) -> Candidates:
    """Local maxima of the gain in (z, y, x).

    Parameters
    ----------
    limits : smallest gain of each patch (T,), and the lateral distance (nm) within which a better maximum silences others.
    """
    smallest_t, apart_nm = limits
    t, d, y, x = _peaks(gain, gain > smallest_t[:, None, None, None])
    value = gain[t, d, y, x]
    order = torch.argsort(value, descending=True)
    order = order[torch.argsort(t[order], stable=True)]
    t, d, y, x, value = t[order], d[order], y[order], x[order], value[order]
    position = torch.stack([z_nm[d], y * pixel_nm, x * pixel_nm], 1)
    kept: list[int] = []
    places, patch = position[:, 1:].tolist(), t.tolist()
    for k in range(len(patch)):
        near = (i for i in reversed(kept) if patch[i] == patch[k])
        if all((places[i][0] - places[k][0]) ** 2 + (places[i][1] - places[k][1]) ** 2 >= apart_nm**2 for i in near):
            kept.append(k)
    rows = torch.tensor(kept, dtype=torch.long, device=gain.device)
    return Candidates(t[rows], position[rows], photons[t[rows], d[rows], y[rows], x[rows]], value[rows])


def _peaks(gain: Tensor, above: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Indices of the places above the limit that no neighbour in (z, y, x) exceeds."""
    t, d, y, x = above.nonzero(as_tuple=True)
    value, highest = gain[t, d, y, x], torch.ones_like(t, dtype=torch.bool)
    _, depths, height, width = gain.shape
    for dz in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = gain[t, (d + dz).clamp(0, depths - 1), (y + dy).clamp(0, height - 1), (x + dx).clamp(0, width - 1)]
                highest &= near <= value
    return t[highest], d[highest], y[highest], x[highest]
