"""Views of the same beads that move with one stage, brought together: one drift, one focal plane, each view its own place.

shift_vbk = place_vb + drift_bk,   focus_vb = focus_b

A view that is fitted alone may drift from slice to slice as it likes, and takes its parallax along: what it moves with depth is then
called drift. Between views of one stage all that moves differently is parallax, and it is left to the pupils.
"""

from __future__ import annotations

import numpy as np
import torch

from ..optics.pupil import Pupil
from .model import NM, PupilModel, light_centres


def start_at_the_light(models: list[PupilModel]) -> float:
    """Put each image where its light is, slice by slice, all with one focal plane, and say how fast views move against each other.

    Returns
    -------
    float
        Movement of the views against each other over that of the models: 1 where step, pixel and refractive index are right, -1 where
        the stack runs the other way.
    """
    seen, expected = [], []
    focus = torch.stack([model.focus_b for model in models]).mean(0)
    for model in models:
        model.focus_b = focus.clone()
        still = model.copy()
        still.shift_bk2 = torch.zeros_like(model.shift_bk2)
        measured = light_centres(model.images.counts_bkyx, model.images.camera)[1]
        drawn = light_centres(still.fitted_counts(), model.images.camera)[1]
        model.shift_bk2 = measured - drawn
        seen.append(measured)
        expected.append(drawn)
    s, e = (_against_each_other(torch.stack(part)) for part in (seen, expected))
    return float((s * e).sum() / (e * e).sum().clamp(min=1e-12))


def tie(models: list[PupilModel]) -> list[PupilModel]:
    """Return models that share one drift and one focal plane, the mean of theirs, as the same tensors."""
    filled = [model.with_unseen_filled() for model in models]
    shift = torch.stack([model.shift_bk2 + model.place_b2[:, None] for model in filled])
    place = shift.mean(2)
    drift = (shift - place[:, :, None]).mean(0)
    focus = torch.stack([model.focus_b for model in filled]).mean(0)
    for model, own in zip(filled, place, strict=True):
        model.shift_bk2, model.place_b2, model.focus_b = drift, own.clone(), focus
    return filled


def image_shifts(models: list[PupilModel]) -> list[np.ndarray]:
    """What each view's images are shifted by beyond their model, depth by depth: rows (z, y, x) in nm of rising z, one array a view.

    What all views share is the stage's drift. The mean over the beads counts, and the place in the mean is that of the view.
    """
    filled = [model.with_unseen_filled() for model in models]
    shift = torch.stack([model.shift_bk2 + model.place_b2[:, None] for model in filled])
    moving = shift - shift.mean(2, keepdim=True)
    own = ((moving - moving.mean(0)).mean(1) * NM).cpu().double().numpy()
    first = models[0]
    z = first.images.bead_nm[0] - first.focus_bk_nm().mean(0).cpu().double().numpy() + first.pupil.focal_plane_nm
    order = np.argsort(z)
    return [np.column_stack([z, view])[order] for view in own]


def around(model: PupilModel, pupil: Pupil) -> PupilModel:
    """Return a model with the same parameters around another pupil, whose aperture may lie elsewhere, on the same grid."""
    twin = PupilModel(pupil, model.images)
    for name, value in model.parameters().items():
        setattr(twin, name, value.clone())
    return twin


def places_nm(models: list[PupilModel]) -> np.ndarray:
    """Place of every bead in every view, in nm from the centre pixel of its crop, without the drift; (V, B, 2)."""
    return np.stack([(model.shift_bk2.median(1).values + model.place_b2).cpu().double().numpy() * NM for model in models])


def _against_each_other(centre_vbk2: torch.Tensor) -> torch.Tensor:
    """Movement with depth that is not the movement of all views."""
    moving = centre_vbk2 - centre_vbk2.mean(2, keepdim=True)
    return moving - moving.mean(0)
