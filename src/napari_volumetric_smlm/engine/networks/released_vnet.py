"""The published V-Net with the weights that its authors released (ShuJiaLab/VLM, MIT licence; Zenodo 10.5281/zenodo.17064480).

Their network sees what their program makes of a raw frame: halved to 290 nm pixels, in counts of which the brightest was 100 to 300 in
training, standardised by two numbers of their data, each view enlarged 145/65-fold to 130 nm. It answers on those pixels, in planes of
65 nm and without a scale of brightness. All of that is done here, so that it stands for any other network of volumes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import interpolate, pad

from ...errors import ModelError
from .published_vnet import PublishedVNet
from .vnet import Exposure

PIXEL_NM, FINE_NM, PLANE_NM = 145.0, 130.0, 65.0
USUAL_COUNTS = 200.0  # of the brightest pixel, in the middle of what the training drew
# names of the authors' layers -> ours
LAYERS = (
    (re.compile(r"deconv\.0\."), "stem.0."),
    (re.compile(r"deconv\.1\."), "stem.1."),
    (re.compile(r"deconv\.3\.down_path\.(\d+)\.block\."), r"down.\1."),
    (re.compile(r"deconv\.3\.up_path\.(\d+)\.up\."), r"rise.\1."),
    (re.compile(r"deconv\.3\.up_path\.(\d+)\.conv_block\.block\."), r"up.\1."),
    (re.compile(r"deconv\.3\.last\.0\."), "leave."),
)


class ReleasedVNet(PublishedVNet):
    """Views (T, v, y, x) on pixels of 145 nm to volumes (T, z, y, x) on the same pixels, planes 65 nm apart.

    Parameters
    ----------
    counts : mean and standard deviation by which the authors standardised their frames.
    """

    def __init__(self, views: int, planes: int, levels: int, width: int, counts: tuple[float, float]) -> None:
        super().__init__(views, planes, levels, width)
        self.mean_counts, self.sd_counts = counts

    def forward(self, views_tvyx: Tensor, exposure: Exposure) -> Tensor:
        """Volumes, in the exposure's unit, whose planes hold as much light in the mean as the views."""
        height, width = views_tvyx.shape[-2:]
        above = views_tvyx.clamp(min=0)
        even = pad(above, (0, width % 2, 0, height % 2), mode="replicate")
        halved = interpolate(even, scale_factor=0.5, mode="bilinear", antialias=True)
        counts = halved * (USUAL_COUNTS / halved.amax((1, 2, 3), keepdim=True).clamp(min=1e-12))
        enlarged = interpolate(counts, scale_factor=2 * PIXEL_NM / FINE_NM, mode="bilinear")
        volume = self.through((enlarged - self.mean_counts) / self.sd_counts)
        on_pixels = interpolate(volume, size=even.shape[-2:], mode="bilinear", antialias=True)[..., :height, :width]
        light = above.sum((1, 2, 3)) / on_pixels.sum((2, 3)).mean(1).clamp(min=1e-12)
        return on_pixels * (light / exposure.unit_t)[:, None, None, None]


def released_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' weights by the names of our layers.

    Their stem's volume is repeated to equal channels; the first layer's weights for them are added up, which gives the same sums.

    Raises
    ------
    ModelError
        If a weight belongs to no layer of the published network, or there is none at all.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        short = name.removeprefix("module.")
        ours = next((pattern.sub(to, short, count=1) for pattern, to in LAYERS if pattern.match(short)), None)
        if ours is None:
            raise ModelError(f"weights {name!r} belong to no layer of the published V-Net (deconv.0, deconv.3.down_path, ...)")
        found[ours] = value.float()
    if not found:
        raise ModelError("there are no weights in it; those of the published V-Net (deconv.0, deconv.3.down_path, ...) were expected")
    first = found.get("down.0.0.weight")
    if first is not None:
        found["down.0.0.weight"] = first.sum(1, keepdim=True)
    return found


def size_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Arguments of the network that weights by our names belong to.

    Raises
    ------
    ModelError
        If the first or last layer is missing.
    """
    try:
        planes, views = weights["stem.0.weight"].shape[:2]
        width = weights["leave.weight"].shape[1]
    except (KeyError, ValueError, IndexError) as problem:
        raise ModelError(f"the published V-Net's first or last layer is missing ({problem}); is this a whole checkpoint?") from problem
    levels = 1 + max((int(name.split(".")[1]) for name in weights if name.startswith("down.")), default=-1)
    return {"views": int(views), "planes": int(planes), "levels": levels, "width": int(width)}
