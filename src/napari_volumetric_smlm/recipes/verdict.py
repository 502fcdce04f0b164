"""The verdict on a calibration in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.retrieve.score import tells_apart

GOOD_MEAN, GOOD_LEAST, PASSED_MEAN = 0.95, 0.8, 0.9


@dataclass(frozen=True)
class Evidence:
    """Correlations per slice (k,) of the scoring fit, of the fit with z reversed (or None) and of the neighbours' mean.

    held_k : slices that the fit did not see; all, when none was held out.
    """

    scores_k: NDArray[np.float64]
    opposite_k: NDArray[np.float64] | None
    neighbours_k: NDArray[np.float64]
    held_k: NDArray[np.bool_]

    @property
    def mean(self) -> float:
        """Mean score on unseen slices."""
        return float(self.scores_k[self.held_k].mean())

    @property
    def opposite_mean(self) -> float | None:
        """The same with z reversed, when it was tried."""
        return None if self.opposite_k is None else float(self.opposite_k[self.held_k].mean())

    @property
    def passed(self) -> bool:
        """Whether the model may be used at all."""
        return self.mean >= PASSED_MEAN


def verdict_in_words(evidence: Evidence, z_step_nm: float, unseen: bool = True) -> str:
    """Say whether the model can be trusted, and whether the stack tells the direction of z.

    Parameters
    ----------
    unseen : whether slices were held out at all.
    """
    scores = evidence.scores_k[evidence.held_k]
    worst = int(np.flatnonzero(evidence.held_k)[scores.argmin()])
    if evidence.mean >= GOOD_MEAN and scores.min() >= GOOD_LEAST:
        words = "Good: the model predicts slices that it has not seen"
    elif evidence.passed:
        words = "Usable with care: the model predicts most of what it has not seen, but look at the slices with low correlation"
    else:
        words = "Not usable: the model does not predict what it has not seen; check pixel size, z step, wavelength and numerical aperture"
    if not unseen:
        words = words.replace("predicts slices that it has not seen", "matches the slices, but none was held out, so this proves little")
    neighbours = float(evidence.neighbours_k[evidence.held_k].mean())
    words += (
        f" (mean correlation {evidence.mean:.3f}, lowest {scores.min():.3f} in slice {worst}; "
        f"the mean of two neighbouring slices reaches {neighbours:.3f})."
    )
    if evidence.opposite_k is None or evidence.opposite_mean is None:
        return words
    if not tells_apart(scores, evidence.opposite_k[evidence.held_k]):
        return words + (
            f" The stack cannot tell the direction of z: reversed it scores {evidence.opposite_mean:.3f}, no different within its error; "
            f"depths have the sign of the z step that was given ({z_step_nm:+g} nm)."
        )
    if evidence.opposite_mean > evidence.mean:
        return (
            words
            + f" The opposite direction of z fits better ({evidence.opposite_mean:.3f}): check the sign of the z step ({z_step_nm:+g} nm)."
        )
    return words + f" The direction of z that was given is confirmed: reversed it scores {evidence.opposite_mean:.3f}."
