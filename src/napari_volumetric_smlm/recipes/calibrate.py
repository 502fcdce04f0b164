"""Bead stacks to a calibrated instrument, with the evidence for it.

Each view's pupil is fitted twice: once without the held-out slices, which then score it, and once with all slices, from there, for the
instrument. The scoring fit is polished with both directions of z by the same steps, so that both scores are worth the same.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.images import RawStack
from ..domain.instrument import CalibrationRecord, Instrument
from ..domain.plans import CalibrationPlan
from ..domain.runs import Calibration, Progress
from ..engine.retrieve.counts import estimate_counts
from ..engine.retrieve.fit import Step, best_start, fit, pixel_stage, polish_stage, zernike_stage
from ..engine.retrieve.gauge import reversed_z, settle
from ..engine.retrieve.model import BeadImages, PupilModel
from ..engine.retrieve.score import correlations, neighbour_correlations
from ..engine.retrieve.starts import retrieval_pupil, starting_models
from ..errors import CalibrationError
from .bead_stacks import CutBeads, check_bead_stacks, cut_beads, smallest_spot_px, survey
from .calibrated_instrument import FittedView, calibrated_instrument, nominal_focus
from .calibration_bounds import isolated_bounds
from .devices import chosen_device
from .verdict import Evidence, verdict_in_words

PAUSE_S = 0.2  # between two signs of life


def calibrate(stacks: Sequence[RawStack], instrument: Instrument, plan: CalibrationPlan) -> Generator[Progress, None, Calibration]:
    """Retrieve the pupil of every view from bead stacks.

    Parameters
    ----------
    stacks : scans of beads, each with one array per camera; equal numbers of slices.
    instrument : the microscope as far as it is known; a mask or aberrations in it are one of the starts.

    Yields
    ------
    Progress
        Several times a second: numbers loss, and correlation once it is known; preview a picture (y, x), measured beside fitted.

    Returns
    -------
    Calibration
        The instrument with phase and amplitude maps that are complete in themselves (no mask), blur, registration and a record.

    Raises
    ------
    PlanError, StackError
        If stacks, instrument and plan do not fit each other.
    CalibrationError
        If no bead can be used, or the fit fails.
    """
    started = time.perf_counter()
    check_bead_stacks(stacks, instrument, plan)
    device = chosen_device(plan.device)
    beads = yield from _paced(cut_beads(stacks, instrument, plan))
    fitted = []
    for v in range(len(instrument.views)):
        fitted.append((yield from _fit_view(beads, instrument, plan, v, device)))
    calibrated = calibrated_instrument(instrument, fitted, beads)
    yield Progress(stage="Cramér-Rao bound")
    bound = isolated_bounds(calibrated)
    seen = fitted[0].images.seen_k
    turned = [f.reversed_scores_k for f in fitted if f.reversed_scores_k is not None]
    evidence = Evidence(
        scores_k=np.mean([f.scores_k for f in fitted], axis=0),
        opposite_k=np.mean(turned, axis=0) if turned else None,
        neighbours_k=np.mean([neighbour_correlations(f.images.counts_bkyx[0].cpu().numpy()) for f in fitted], axis=0),
        held_k=~seen if not seen.all() else np.ones_like(seen),
    )
    used, left_out = len(beads.positions_yx_px), len(beads.left_out)
    verdict = verdict_in_words(evidence, plan.z_step_nm, unseen=not seen.all())
    verdict += f" {used} bead{'s' * (used > 1)} used" + (f", {left_out} left out." if left_out else ".")
    record = CalibrationRecord(
        bead_sources=tuple(source for stack in stacks for source in stack.source),
        z_step_nm=plan.z_step_nm,
        bead_diameter_nm=plan.bead_diameter_nm,
        correlation_fitted=float(evidence.scores_k[seen].mean()),
        correlation_held_out=evidence.mean,
        correlation_opposite_sign=evidence.opposite_mean,
        verdict=verdict,
    )
    measured, images = zip(*(_above_background(f) for f in fitted), strict=True)
    return Calibration(
        instrument=calibrated.model_copy(update={"calibration": record}),
        plan=plan,
        measured_vzyx=np.stack(measured),
        fitted_vzyx=np.stack(images),
        correlation_z=evidence.scores_k,
        held_out_z=~seen,
        neighbour_correlation_z=evidence.neighbours_k,
        bound_nm=bound,
        bead_positions_yx_px=beads.positions_yx_px,
        focus_z_nm=nominal_focus(instrument, fitted[0]).cpu().double().numpy(),
        opposite_correlation_held_out=evidence.opposite_mean,
        verdict=verdict,
        passed=evidence.passed,
        seconds=time.perf_counter() - started,
    )


def find_beads(stack: RawStack, instrument: Instrument, crop_px: int | None = None) -> tuple[tuple[float, float], ...]:
    """Centres (row, column) of the beads that `calibrate` would use, in pixels of the first view's camera.

    Raises
    ------
    CalibrationError, StackError
        As `calibrate`.
    """
    from ..engine.retrieve.beads import find_beads as find
    from . import finish

    field = finish(survey(stack, instrument, instrument.views[0].camera))
    beads = find(field, crop_px, smallest_spot_px(instrument))
    return tuple((float(row), float(column)) for row, column in beads.positions_yx_px)


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


def _fit_view(
    beads: CutBeads, instrument: Instrument, plan: CalibrationPlan, view: int, device: torch.device
) -> Generator[Progress, None, FittedView]:
    yield Progress(stage="Noise and start")
    counts = beads.counts_vbkyx[view]
    if not float(counts.max()) > float(counts.min()):
        raise CalibrationError(f"all pixels of the beads in view {view} have the value {counts.max():g}: there is nothing to fit")
    crop = counts.shape[-1]
    height = plan.bead_diameter_nm / 2 if plan.bead_height_nm is None else plan.bead_height_nm
    pupil = retrieval_pupil(instrument, view, crop, "scalar").to(device)
    images = BeadImages(
        counts_bkyx=torch.from_numpy(counts).to(device),
        noise=estimate_counts(counts.reshape(-1, crop, crop)),
        seen_k=~held_out(plan, counts.shape[1]),
        step_nm=plan.z_step_nm,
        focus_slice=(counts.shape[1] - 1) / 2,
        bead_nm=(height, plan.bead_diameter_nm),
        camera=(crop, instrument.pixel_nm(view), instrument.pixel_model == "integrated"),
    )
    amplitude = plan.fit_amplitude
    model = yield from _shown(best_start(starting_models(instrument, view, pupil, images), amplitude, plan.seed), view)
    yield from _shown(fit(model, zernike_stage(amplitude=amplitude), plan.seed), view, model)
    if plan.pixel_wise:
        yield from _shown(fit(model, pixel_stage(amplitude=amplitude), plan.seed), view, model)
    model = settle(model, plan.focus_slice)
    if instrument.wave_model == "vectorial":
        # the scalar pupil is a close start for the vectorial one, at a sixth of the cost
        model = model.with_pupil(retrieval_pupil(instrument, view, crop).to(device))
    turned = reversed_z(model, replace(images, step_nm=-images.step_nm)) if plan.try_both_signs else None
    polish = polish_stage("Polishing", amplitude=amplitude, pixel_wise=plan.pixel_wise)
    yield from _shown(fit(model, polish, plan.seed), view, model)
    yield Progress(stage="Scoring")
    scores, reversed_scores = _scores(model), None
    if turned is not None:
        yield from _shown(fit(turned, replace(polish, name="Opposite direction of z"), plan.seed), view, turned)
        reversed_scores = _scores(turned)
    final = model.with_unseen_filled().copy(replace(images, seen_k=np.ones_like(images.seen_k)))
    yield from _shown(fit(final, replace(polish, name="All slices"), plan.seed), view, final)
    if not all(bool(torch.isfinite(value).all()) for value in final.parameters().values()):
        raise CalibrationError("the fit ran away: values that are not finite; check pixel size, wavelength and numerical aperture")
    return FittedView(images, model, settle(final, plan.focus_slice), scores, reversed_scores)


def _scores(model: PupilModel) -> NDArray[np.float64]:
    """Correlation per slice, mean over the beads."""
    fitted = model.fitted_counts().cpu().numpy()
    measured = model.images.counts_bkyx.cpu().numpy()
    return np.mean([correlations(m, f) for m, f in zip(measured, fitted, strict=True)], axis=0)


def _above_background(view: FittedView) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Counts of the first bead and the scoring fit's, both (K, n, n); less the fitted background where the stack still has one."""
    measured, fitted = view.images.counts_bkyx[0].cpu().numpy(), view.scored.fitted_counts()[0].cpu().numpy()
    if view.images.noise.clipped:
        return measured, fitted
    background = view.scored.with_unseen_filled().background_counts_bk()[0].cpu().numpy()[:, None, None]
    return measured - background, fitted - background


def _paced(steps: Generator[Progress, None, CutBeads]) -> Generator[Progress, None, CutBeads]:
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


def _shown(steps: Generator[Step, None, object], view: int, model: PupilModel | None = None) -> Generator[Progress, None, PupilModel]:
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
