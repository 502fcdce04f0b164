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
from ..engine.retrieve.fit import best_start, fit, pixel_stage, polish_stage, zernike_stage
from ..engine.retrieve.gauge import reversed_z, settle
from ..engine.retrieve.score import neighbour_correlations
from ..engine.retrieve.starts import retrieval_pupil, starting_models
from .bead_stacks import CutBeads, check_bead_stacks, cut_beads, part_of, smallest_spot_px, survey
from .calibrated_instrument import FittedView, calibrated_instrument, nominal_focus
from .calibration_bounds import isolated_bounds
from .devices import chosen_device
from .fit_steps import bead_images, check_finite, paced, scores, shown
from .fit_together import fit_together
from .verdict import Evidence, verdict_in_words


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
    beads = yield from paced(cut_beads(stacks, instrument, plan))
    fitted: list[FittedView] = []
    remark = ""
    if instrument.microlenses is not None and len(instrument.views) > 1:
        instrument, fitted, remark = yield from fit_together(beads, instrument, plan, device)
    else:
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
    verdict += remark + f" {used} bead{'s' * (used > 1)} used" + (f", {left_out} left out." if left_out else ".")
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

    field, corner = part_of(finish(survey(stack, instrument, instrument.views[0].camera)), instrument.views[0])
    beads = find(field, crop_px, smallest_spot_px(instrument))
    return tuple((float(row), float(column)) for row, column in beads.positions_yx_px + corner)


def _fit_view(
    beads: CutBeads, instrument: Instrument, plan: CalibrationPlan, view: int, device: torch.device
) -> Generator[Progress, None, FittedView]:
    yield Progress(stage="Noise and start")
    images = bead_images(beads, instrument, plan, view, device)
    crop = images.camera[0]
    pupil = retrieval_pupil(instrument, view, crop, "scalar").to(device)
    amplitude = plan.fit_amplitude
    model = yield from shown(best_start(starting_models(instrument, view, pupil, images), amplitude, plan.seed), view)
    yield from shown(fit(model, zernike_stage(amplitude=amplitude), plan.seed), view, model)
    if plan.pixel_wise:
        yield from shown(fit(model, pixel_stage(amplitude=amplitude), plan.seed), view, model)
    model = settle(model, plan.focus_slice)
    if instrument.wave_model == "vectorial":
        # the scalar pupil is a close start for the vectorial one, at a sixth of the cost
        model = model.with_pupil(retrieval_pupil(instrument, view, crop).to(device))
    turned = reversed_z(model, replace(images, step_nm=-images.step_nm)) if plan.try_both_signs else None
    polish = polish_stage("Polishing", amplitude=amplitude, pixel_wise=plan.pixel_wise)
    yield from shown(fit(model, polish, plan.seed), view, model)
    yield Progress(stage="Scoring")
    score_k, reversed_k = scores(model), None
    if turned is not None:
        yield from shown(fit(turned, replace(polish, name="Opposite direction of z"), plan.seed), view, turned)
        reversed_k = scores(turned)
    final = model.with_unseen_filled().copy(replace(images, seen_k=np.ones_like(images.seen_k)))
    yield from shown(fit(final, replace(polish, name="All slices"), plan.seed), view, final)
    check_finite(final)
    return FittedView(images, model, settle(final, plan.focus_slice), score_k, reversed_k)


def _above_background(view: FittedView) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Counts of the first bead and the scoring fit's, both (K, n, n); less the fitted background where the stack still has one."""
    measured, fitted = view.images.counts_bkyx[0].cpu().numpy(), view.scored.fitted_counts()[0].cpu().numpy()
    if view.images.noise.clipped:
        return measured, fitted
    background = view.scored.with_unseen_filled().background_counts_bk()[0].cpu().numpy()[:, None, None]
    return measured - background, fitted - background
