"""From photons to counts, as a camera makes them.

electrons e ~ Poisson(quantum_efficiency * photons)
multiplied (EMCCD) m ~ Gamma(shape e, scale em_gain), mean em_gain e, variance em_gain^2 e; without a register m = e
counts = round((m + N(0, read_noise_e)) / gain_e_per_count + offset_counts), clipped to 0 ... saturation
Source of the register's noise: Ulbrich & Isacoff, Nat. Methods 4, 319 (2007).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...domain.instrument import Camera
from ...errors import InstrumentError

LARGEST_COUNT = 65535


def expose(photons_tyx: Tensor, camera: Camera, generator: torch.Generator) -> Tensor:
    """Counts (t, y, x) of whole numbers from 0 to 65,535, as int32, from the expected photons before the sensor.

    Raises
    ------
    InstrumentError
        If a map of the camera has another shape than the frames.
    """
    electrons = torch.poisson(photons_tyx * camera.quantum_efficiency, generator=generator)
    if camera.em_gain > 1:
        # a pixel without electrons stays dark; the clamp only keeps the sampler defined there
        register = torch._standard_gamma(electrons.clamp(min=0.5), generator=generator)
        electrons = torch.where(electrons > 0, register * camera.em_gain, electrons)
    noise = _on_sensor(camera, "read_noise_e", electrons)
    electrons = electrons + torch.randn(electrons.shape, generator=generator, device=electrons.device) * noise
    counts = electrons / _on_sensor(camera, "gain_e_per_count", electrons) + _on_sensor(camera, "offset_counts", electrons)
    limit = LARGEST_COUNT if camera.saturation_counts is None else min(camera.saturation_counts, LARGEST_COUNT)
    return counts.round().clamp(0, limit).to(torch.int32)


def _on_sensor(camera: Camera, name: str, like: Tensor) -> Tensor:
    """Return a number or a map of the camera as a tensor."""
    value = np.asarray(getattr(camera, name))
    if value.ndim and value.shape != tuple(like.shape[-2:]):
        raise InstrumentError(
            f"the map {name} of camera {camera.name!r} is {value.shape[0]} x {value.shape[1]} pixels, the frames are "
            f"{like.shape[-2]} x {like.shape[-1]}: give the frames the size of the map, or cut the map"
        )
    return torch.tensor(value, dtype=like.dtype, device=like.device)
