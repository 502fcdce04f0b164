"""The frames of a raw structured-illumination stack, time by time, as tensors without offset."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.structured_plans import FramesPlan
from ..engine.structured.arrange import cut_mosaic, frame_numbers
from ..errors import PlanError, StackError

SMALLEST_SIDE_PX = 32
FEWEST_PLANES = 5
# a camera's Nyquist frequency over the cut-off of the lens: outside, the pixel size is wrong rather than unusual
PLAUSIBLE_SAMPLING = (0.55, 8.0)
WORRYING_SATURATED_SHARE = 1e-3


class FrameSource:
    """Reads frames as (orientation, phase, plane, row, column).

    Raises
    ------
    StackError
        If the frames are too small or do not make whole time points.
    PlanError
        If the chosen times are not there.
    """

    def __init__(self, stack: RawStack, instrument: Instrument, plan: FramesPlan, device: torch.device) -> None:
        self.geometry, self.plan = plan.chosen_geometry, plan
        self._counts, self._camera, self._device = stack.counts_tyx[0], instrument.cameras[0], device
        images, height, width = self._counts.shape
        self._frames_an_image = 1
        if plan.montage != "none":
            self._frames_an_image = self.geometry.frame_count
            tile = cut_mosaic(np.zeros((1, height, width), np.uint8), self.geometry, plan.montage)
            height, width = tile.shape[-2:]
        if min(height, width) < SMALLEST_SIDE_PX:
            raise StackError(f"frames of {height} x {width} pixels; at least {SMALLEST_SIDE_PX} on each side are needed to see a pattern")
        self.shape_yx = (int(height), int(width))
        self.frame_count = images * self._frames_an_image
        self.planes, self._z_step_nm = plan.planes, plan.z_step_nm or abs(stack.z_step_nm or 0.0)
        if self.geometry.axial:
            self._settle_planes()
        times = len(frame_numbers(self.frame_count, self.geometry, self.planes, "apz"))
        last = times - 1 if plan.last_time is None else plan.last_time
        if not plan.first_time <= last < times:
            raise PlanError(f"times {plan.first_time} to {last} were chosen, the stack has times 0 to {times - 1}: choose others")
        self.times = range(plan.first_time, last + 1)
        self.saturated_share = 0.0

    @property
    def z_step_nm(self) -> float:
        """Distance of the planes.

        Raises
        ------
        PlanError
            If neither the plan nor the stack says it.
        """
        if not self._z_step_nm:
            raise PlanError("neither the file nor the settings say how far apart the planes are: state z_step_nm")
        return self._z_step_nm

    def frames(self, time: int, order: str, planes: list[int] | None = None) -> Tensor:
        """Frames (a, p, z, y, x) of one time and some planes (None = all), camera offset taken off."""
        numbers = frame_numbers(self.frame_count, self.geometry, self.planes, order)[time]
        numbers = numbers if planes is None else numbers[:, :, planes]
        return self._read(numbers.flatten()).reshape(*numbers.shape, *self.shape_yx)

    def averaged(self, times: range, order: str, planes: list[int] | None = None) -> Tensor:
        """Mean frames (a, p, z, y, x) over several times."""
        total = self.frames(times[0], order, planes)
        for time in times[1:]:
            total = total + self.frames(time, order, planes)
        return total / len(times)

    def _settle_planes(self) -> None:
        if self.planes == 1 and self.frame_count % self.geometry.frame_count == 0:
            self.planes = self.frame_count // self.geometry.frame_count
        if self.planes < FEWEST_PLANES:
            raise StackError(
                f"a volume of {self.planes} planes; at least {FEWEST_PLANES} are needed to tell depths: state the planes, or choose 2d-3x5 "
                "to reconstruct plane by plane"
            )
        _ = self.z_step_nm

    def _read(self, numbers: np.ndarray) -> Tensor:
        images = [np.asarray(self._counts[int(image)]) for image in np.unique(numbers // self._frames_an_image)]
        block = np.stack(images)
        if self.plan.montage != "none":
            block = np.asarray(cut_mosaic(block, self.geometry, self.plan.montage))
        order = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")
        limit = self._camera.saturation_counts or (np.iinfo(block.dtype).max if block.dtype.kind in "iu" else np.inf)
        self.saturated_share = max(self.saturated_share, float(np.mean(block >= limit)))
        values = block[order].astype(np.float32)
        if not np.isfinite(values).all():
            raise StackError(f"frames {numbers.min()} to {numbers.max()} hold values that are not finite; replace them or leave them out")
        values -= np.asarray(self._camera.offset_counts, np.float32)
        if self.plan.flip_y:
            values = values[..., ::-1, :]
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def remarks(self) -> list[str]:
        """What looks wrong in the frames that were read so far."""
        if self.saturated_share <= WORRYING_SATURATED_SHARE:
            return []
        return [f"{self.saturated_share:.1%} of the pixels are saturated: the pattern is cut off there and leaves stripes; use less light"]


def check_sampling(cutoff_per_um: float, pixel_um: float) -> None:
    """Refuse pixel sizes that no camera behind this lens can have.

    Raises
    ------
    PlanError
        With both numbers.
    """
    nyquist = 1 / (2 * pixel_um)
    low, high = PLAUSIBLE_SAMPLING
    if not low * cutoff_per_um <= nyquist <= high * cutoff_per_um:
        fitting = 1000 / (4 * cutoff_per_um)
        raise PlanError(
            f"pixels of {1000 * pixel_um:g} nm in the sample do not fit a lens that passes {cutoff_per_um:.2f} cycles per um "
            f"(pixels of about {fitting:.0f} to {2 * fitting:.0f} nm are usual): "
            "check pixel size, numerical aperture and wavelength and their units"
        )
