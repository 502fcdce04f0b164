"""What fits of one view and of views together share: the images, the score, and how they show where they are."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.instrument import Instrument
from ..domain.plans import CalibrationPlan
from ..domain.runs import Progress
from ..engine.retrieve.counts import estimate_counts
from ..engine.retrieve.fit import Step
from ..engine.retrieve.model import BeadImages, PupilModel
from ..engine.retrieve.score import correlations
from ..errors import CalibrationError
from .bead_stacks import CutBeads

PAUSE_S = 0.2  # between two signs of life


def bead_images(beads: CutBeads, instrument: Instrument, plan: CalibrationPlan, view: int, device: torch.device) -> BeadImages:
    """Images of all beads in one view.

    Raises
    ------
    CalibrationError
        If there is nothing in them, or too many slices are held out.
    """
    counts = beads.counts_vbkyx[view]
    if not float(counts.max()) > float(counts.min()):
        raise CalibrationError(f"all pixels of the beads in view {view} have the value {counts.max():g}: there is nothing to fit")
    crop = counts.shape[-1]
    height = plan.bead_diameter_nm / 2 if plan.bead_height_nm is None else plan.bead_height_nm
    return BeadImages(
        counts_bkyx=torch.from_numpy(counts).to(device),
        noise=estimate_counts(counts.reshape(-1, crop, crop)),
        seen_k=~held_out(plan, counts.shape[1]),
        step_nm=plan.z_step_nm,
        focus_slice=(counts.shape[1] - 1) / 2,
        bead_nm=(height, plan.bead_diameter_nm),
        camera=(crop, instrument.pixel_nm(view), instrument.pixel_model == "integrated"),
    )


def held_out(plan: CalibrationPlan, slices: int) -> NDArray[np.bool_]:
    """Slices that score: the plan's, or every third beginning with the second."""
    chosen = np.zeros(slices, bool)
    if plan.held_out_slices is None:
        chosen[1::3] = True
    else:
        chosen[list(plan.held_out_slices)] = True
    if (~chosen).sum() < 3:
        raise CalibrationError(f"{chosen.sum()} of {slices} slices are held out; at least 3 must be left to fit")
    return chosen


def scores(model: PupilModel) -> NDArray[np.float64]:
    """Correlation per slice, mean over the beads."""
    fitted = model.fitted_counts().cpu().numpy()
    measured = model.images.counts_bkyx.cpu().numpy()
    return np.mean([correlations(m, f) for m, f in zip(measured, fitted, strict=True)], axis=0)


def check_finite(model: PupilModel) -> None:
    """Refuse a fit that ran away.

    Raises
    ------
    CalibrationError
        If a value is not finite.
    """
    if not all(bool(torch.isfinite(value).all()) for value in model.parameters().values()):
        raise CalibrationError("the fit ran away: values that are not finite; check pixel size, wavelength and numerical aperture")


def paced(steps: Generator[Progress, None, CutBeads]) -> Generator[Progress, None, CutBeads]:
    """Pass on progress, but not more often than anybody looks."""
    last = -1.0
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if time.perf_counter() - last > PAUSE_S:
            last = time.perf_counter()
            yield progress


def shown(steps: Generator[Step, None, object], view: int, model: PupilModel | None = None) -> Generator[Progress, None, PupilModel]:
    """Steps of a fit as progress, with a picture now and then; returns what the fit returns."""
    last, pictured = -1.0, time.perf_counter()
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            now = time.perf_counter()
            if now - last <= PAUSE_S and step.done < step.total:
                continue
            last, picture = now, None
            if model is not None and now - pictured > 5 * PAUSE_S:
                pictured, picture = now, _picture(model)
            numbers = {"loss": step.loss}
            if picture is not None:
                numbers["correlation"] = float(correlations(picture[None, 0], picture[None, 1])[0])
            stage = step.stage if view == 0 else f"{step.stage}, view {view}"
            yield Progress(
                stage=stage,
                done=step.done,
                total=step.total,
                numbers=numbers,
                preview=None if picture is None else np.hstack(list(picture)),
            )
    finally:
        steps.close()


@torch.no_grad()
def _picture(model: PupilModel) -> NDArray[np.float32]:
    """The middle slice of the first bead, measured and fitted, (2, n, n)."""
    item = torch.tensor([int(np.flatnonzero(model.images.seen_k)[model.images.seen_k.sum() // 2])], device=model.blur.device)
    fitted = model.images.noise.expected(model.mean_counts(item))[0]
    return torch.stack([model.images.counts_bkyx.flatten(0, 1)[item[0]], fitted]).cpu().numpy()
