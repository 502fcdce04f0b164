"""Reconstructed planes of a stage that moves at an angle to them, as a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..domain.structured_plans import StructuredPlan
from ..engine.structured.deskew import deskewed, rows_to_add, shear_of
from ..errors import PlanError
from .structured_frames import FrameSource


@dataclass(frozen=True)
class Shear:
    """From the planes of one time to a volume. plane_nm : distance of its planes. origin_yx_nm : of its first sample, in the frames."""

    shift_px: float
    columns: bool
    plane_nm: float
    origin_yx_nm: tuple[float, float]

    @staticmethod
    def of(plan: StructuredPlan, source: FrameSource, pixel_nm: float) -> Shear | None:
        """What the plan asks for, None for planes that lie straight above each other. pixel_nm : of the reconstruction.

        Raises
        ------
        PlanError
            If the planes cannot be sheared.
        """
        if not plan.deskew_rad:
            return None
        if source.geometry.axial or source.planes < 2 or plan.flip_y:
            raise PlanError(
                f"deskew_rad is for several planes of a flat geometry, not turned upside down; found geometry {plan.geometry}, "
                f"{source.planes} planes, flip_y {plan.flip_y}: state the planes, leave deskew_rad empty, or turn its sign"
            )
        shift_nm, plane_nm = shear_of(source.z_step_nm, plan.deskew_rad)
        # the angle's sign says which way the stage goes
        shift = shift_nm / pixel_nm if plan.deskew_rad > 0 else -shift_nm / pixel_nm
        before = -pixel_nm * rows_to_add(source.planes, shift) if shift < 0 else 0.0
        columns = plan.deskew_axis == "x"
        return Shear(shift, columns, plane_nm, (0.0, before) if columns else (before, 0.0))

    def apply(self, images_zyx: np.ndarray) -> np.ndarray:
        """Planes of one time, laid over each other."""
        return deskewed(torch.from_numpy(images_zyx), self.shift_px, self.columns).numpy()
