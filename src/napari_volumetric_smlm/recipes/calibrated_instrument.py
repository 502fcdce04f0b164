"""What the fits of all views say, as an instrument."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.instrument import Instrument, View
from ..engine.retrieve.gauge import weight_yx
from ..engine.retrieve.model import NM, BeadImages, PupilModel
from ..engine.retrieve.register import fit_affine, rows_of
from ..engine.retrieve.together import places_nm
from .bead_stacks import CutBeads

SHARE_OF_FIELD = 0.5


@dataclass(frozen=True)
class FittedView:
    """One view after its fits.

    scored : model without the held-out slices. final : model of all slices. reversed_scores_k : correlations with z reversed, or None.
    """

    images: BeadImages
    scored: PupilModel
    final: PupilModel
    scores_k: NDArray[np.float64]
    reversed_scores_k: NDArray[np.float64] | None


def calibrated_instrument(instrument: Instrument, fitted: list[FittedView], beads: CutBeads) -> Instrument:
    """The instrument with what the final fits say about its views."""
    places = places_nm([f.final for f in fitted]) + beads.centre_vb2_nm
    focus_k = nominal_focus(instrument, fitted[0])
    light = [float(f.final.log_photons_bk.exp().mean()) * _photons_per_count(instrument, v) for v, f in enumerate(fitted)]
    views = []
    for v, (scene, one) in enumerate(zip(instrument.views, fitted, strict=True)):
        final = one.final
        update: dict[str, object] = {
            "mask": None,
            "zernike_noll_rad": {},
            "phase_rad_yx": final.phase_rad_yx.cpu().numpy(),
            "amplitude_yx": _amplitude(final),
            "blur_nm": abs(float(final.blur)) * NM,
        }
        if v:
            affine = fit_affine(places[0], places[v], np.asarray(scene.affine_yx, dtype=float), _least_spread(instrument))
            update |= {
                "affine_yx": rows_of(affine),
                "focus_shift_nm": float((final.focus_bk_nm()[0] - focus_k).mean()),
                "photon_fraction": instrument.views[0].photon_fraction * light[v] / light[0],
            }
        views.append(View.model_validate(scene.model_copy(update=update).model_dump()))
    return instrument.model_copy(update={"views": tuple(views)})


def _least_spread(instrument: Instrument) -> float:
    """Spread of beads (nm) from which on they tell how a view is turned and stretched.

    Lenses of one array hardly differ in that, and errors of beads that lie close together would grow over the whole field.
    """
    region = instrument.views[0].region_yx_px
    return 0.0 if region is None else SHARE_OF_FIELD * min(region[2] - region[0], region[3] - region[1]) * instrument.pixel_nm()


def nominal_focus(instrument: Instrument, first: FittedView) -> torch.Tensor:
    """Focal plane of every slice, (K,), without the first view's own shift."""
    return first.final.focus_bk_nm()[0] - instrument.views[0].focus_shift_nm


def _amplitude(model: PupilModel) -> NDArray[np.float32]:
    """Relative amplitude, scaled so that the mean light over the pupil stays."""
    amplitude, base = model.relative_amplitude_yx(), (model.pupil.amplitude_pyx.abs() ** 2).sum(0)
    scale = torch.sqrt(base.sum() / weight_yx(model).sum())
    return (amplitude * scale).cpu().numpy()


def _photons_per_count(instrument: Instrument, view: int) -> float:
    """Photons that reach a view's camera for each count: a view's share is one of light, whatever its camera makes of it."""
    camera = instrument.cameras[instrument.views[view].camera]
    return float(np.mean(np.asarray(camera.gain_e_per_count))) / (camera.em_gain * camera.quantum_efficiency)
