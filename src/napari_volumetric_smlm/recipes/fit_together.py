"""Views of a microlens array, calibrated together from one bead scan.

All views share one drift of the stage and one focal plane; each has a place on the sensor and a pupil of its own. So what the views move
against each other with depth must come from their pupils: that is the parallax. The places give the lens centres, and with them the
turn of the array and the apertures. As in a single view, one shift in z, y and x and one net defocus stay open.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch

from ..domain.instrument import Instrument
from ..domain.plans import CalibrationPlan
from ..domain.runs import Progress
from ..engine.retrieve.fit import fit_views, places_stage, polish_stage, together, zernike_stage
from ..engine.retrieve.gauge import settle_together
from ..engine.retrieve.model import PupilModel
from ..engine.retrieve.starts import known_model, retrieval_pupil
from ..engine.retrieve.together import around, image_shifts, places_nm, start_at_the_light, tie
from ..errors import CalibrationError
from .bead_stacks import CutBeads
from .calibrated_instrument import FittedView
from .fit_steps import bead_images, check_finite, scores, shown
from .split_views import put_views

# Views that move otherwise against each other belong to another step, pixel or medium: oil taken for water makes 1.4.
LEAST_PARALLAX, MOST_PARALLAX = 0.8, 1.25
# 33 terms of the whole pupil follow whatever happens in a lens's part of it. Every pixel of it free, a fifth of the light went where no
# crop reaches, and centres were off by a third of a pixel.
ZERNIKE_STEPS = 300


def fit_together(
    beads: CutBeads, instrument: Instrument, plan: CalibrationPlan, device: torch.device
) -> Generator[Progress, None, tuple[Instrument, list[FittedView], str]]:
    """Fit all views.

    Returns
    -------
    Instrument, list of FittedView, str
        The instrument with its lens centres where the beads show them; the views; words about the parallax.

    Raises
    ------
    CalibrationError
        If the views do not move against each other as the instrument says, or a fit runs away.
    InstrumentError
        If the lens centres that the beads show are not those of the array.
    """
    yield Progress(stage="Noise and start")
    count = len(instrument.views)
    images = [bead_images(beads, instrument, plan, v, device) for v in range(count)]
    crop = images[0].camera[0]
    models = [known_model(instrument, v, retrieval_pupil(instrument, v, crop, "scalar").to(device), images[v]) for v in range(count)]
    parallax = start_at_the_light(models)
    _check_parallax(parallax, plan.z_step_nm)
    models = tie(models)
    if not plan.fit_pupil:
        instrument, views = yield from _moved_images(instrument, models, plan)
        return instrument, views, _words(parallax)
    zernike = together(zernike_stage(ZERNIKE_STEPS, plan.fit_amplitude))
    instrument, models = _moved(instrument, models, beads)
    yield from shown(fit_views(models, zernike, plan.seed), 0, models[0])
    # only now are the places known to a tenth of a pixel
    instrument, models = _moved(instrument, models, beads)
    models = tie(settle_together(models, plan.focus_slice))
    if instrument.wave_model == "vectorial":
        models = tie([model.with_pupil(retrieval_pupil(instrument, v, crop).to(device)) for v, model in enumerate(models)])
    polish = together(polish_stage("Polishing", amplitude=plan.fit_amplitude, pixel_wise=False))
    yield from shown(fit_views(models, polish, plan.seed), 0, models[0])
    yield Progress(stage="Scoring")
    score_vk = [scores(model) for model in models]
    seeing = [
        model.with_unseen_filled().copy(replace(im, seen_k=np.ones_like(im.seen_k))) for model, im in zip(models, images, strict=True)
    ]
    finals = tie(seeing)
    yield from shown(fit_views(finals, replace(polish, name="All slices"), plan.seed), 0, finals[0])
    for final in finals:
        check_finite(final)
    finals = settle_together(finals, plan.focus_slice)
    views = [FittedView(*parts, None) for parts in zip(images, models, finals, score_vk, strict=True)]
    return instrument, views, _words(parallax)


def _words(parallax: float) -> str:
    return f" The views move against each other {parallax:.2f} times as far as the instrument had it, which confirms the direction of z."


def _moved_images(
    instrument: Instrument, models: list[PupilModel], plan: CalibrationPlan
) -> Generator[Progress, None, tuple[Instrument, list[FittedView]]]:
    """The published hybrid: the pupils stay, and each view's images move to where the beads show them, plane by plane."""
    stage = places_stage()
    yield from shown(fit_views(models, together(stage), plan.seed), 0, models[0])
    # from here on each view may move as it likes, around one focal plane
    own = replace(stage, rates={name: rate for name, rate in stage.rates.items() if name != "focus_b"})
    models = [model.copy() for model in models]
    yield from shown(fit_views(models, own, plan.seed), 0, models[0])
    views = [
        view.model_copy(update={"image_shift_zyx_nm": rows}) for view, rows in zip(instrument.views, image_shifts(models), strict=True)
    ]
    moved = Instrument.model_validate(instrument.model_copy(update={"views": tuple(views)}).model_dump())
    for model in models:
        check_finite(model)
    finals = tie(models)
    return moved, [FittedView(m.images, m, final, scores(m), None) for m, final in zip(models, finals, strict=True)]


def _moved(instrument: Instrument, models: list[PupilModel], beads: CutBeads) -> tuple[Instrument, list[PupilModel]]:
    """The instrument with the lens centres that the beads show, and the models behind its apertures."""
    placed = _with_centres(instrument, models, beads)
    crop, device = models[0].images.camera[0], models[0].blur.device
    moved = [around(model, retrieval_pupil(placed, v, crop, "scalar").to(device)) for v, model in enumerate(models)]
    return placed, tie(moved)


def _with_centres(instrument: Instrument, models: list[PupilModel], beads: CutBeads) -> Instrument:
    """The instrument with the lens centres that the beads show; the first view's stays."""
    array = instrument.microlenses
    if array is None:
        return instrument
    place = places_nm(models) + beads.centre_vb2_nm
    pixel = instrument.pixel_nm()
    centres = array.centres_on_sensor(instrument.cameras[0].pixel_um)
    for v, view in enumerate(instrument.views):
        affine = np.array(view.affine_yx)
        centres[v] += (place[v] - place[0] @ affine[:, :2].T - affine[:, 2]).mean(0) / pixel
    return put_views(instrument, tuple((float(y), float(x)) for y, x in centres.round(3)))


def _check_parallax(parallax: float, z_step_nm: float) -> None:
    if LEAST_PARALLAX <= parallax <= MOST_PARALLAX:
        return
    if -MOST_PARALLAX <= parallax <= -LEAST_PARALLAX:
        raise CalibrationError(
            f"the views move against each other in the opposite direction: the z step ({z_step_nm:+g} nm) has the wrong sign, or the lens "
            "centres are those of an array turned by 180 degrees"
        )
    raise CalibrationError(
        f"the views move against each other {parallax:.2f} times as far as the instrument says: check z_step_nm ({z_step_nm:g} nm; "
        f"{z_step_nm * parallax:.0f} nm would fit), the pixel in the sample, and sample_index"
    )
