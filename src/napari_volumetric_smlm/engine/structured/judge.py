"""Whether found patterns can be trusted, in words: no single number proves a pattern, so several must agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...domain.illumination import Orientation, Verdict
from .choose import Choice

# chance of a false maximum that is accepted where a wave stands alone (the tail of real frames is heavier than the exponential law's),
# and where others expect it; how far a wave must stand above the next best when it stands alone
FALSE_ALARM, EXPECTED_FALSE_ALARM, LEAST_OVER_RIVAL = 1e-4, 0.01, 1.2
# trial wave vectors that the expectation from other orientations leaves open
EXPECTED_CELLS = 100
MOST_PENALTY = 6.0
# share of the evidence that must be each orientation's own
LEAST_APART = 0.4
WEAK_MODULATION, LARGE_STEP_ERROR_RAD = 0.1, 0.35


def judge(choice: Choice, scores: tuple[Sequence[float], Sequence[float]], cells: int, orientations: Sequence[Orientation]) -> Verdict:
    """Weigh strength, rivals and agreement of the lines.

    scores : evidence of each line at its chosen wave vector, and where it should have none. cells : trial wave vectors.
    """
    scores_l, cross_l = scores
    alone = [
        score > math.log(cells / FALSE_ALARM) and score > LEAST_OVER_RIVAL * rival
        for score, rival in zip(scores_l, choice.rival_l, strict=True)
    ]
    together = [
        any(alone[:n] + alone[n + 1 :]) and score > math.log(EXPECTED_CELLS / EXPECTED_FALSE_ALARM) and penalty < MOST_PENALTY
        for n, (score, penalty) in enumerate(zip(scores_l, choice.penalty_l, strict=True))
    ]
    held = [a or t for a, t in zip(alone, together, strict=True)]
    # the lines of a hexagonal pattern make one orientation, which needs them all
    per_orientation = len(held) // len(orientations)
    passed = tuple(all(held[a * per_orientation : (a + 1) * per_orientation]) for a in range(len(orientations)))
    remarks = _remarks(orientations, passed)
    if not any(passed):
        return Verdict(
            colour="red",
            passed=passed,
            words="No pattern was found: no wave stands out above chance. Check the number and order of the frames, pixel size, wavelength "
            "and numerical aperture; average more time points if the frames are dim. A wide-field image is all that these frames give.",
        )
    trusted = [(score, max(score - cross, 0.0)) for score, cross, good in zip(scores_l, cross_l, held, strict=True) if good]
    if sum(own for _, own in trusted) < LEAST_APART * sum(score for score, _ in trusted):
        return Verdict(
            colour="red",
            passed=(False,) * len(passed),
            words="Every orientation shows the waves of the others too: the frames are in another order than was stated. Leave the order "
            "open to have it found, or check the numbers of orientations, phases and planes.",
        )
    if not all(passed):
        missing = ", ".join(str(a) for a, good in enumerate(passed) if not good)
        words = (
            f"Unsure: {sum(passed)} of {len(passed)} orientations were found, not orientation {missing} (counted from 0). "
            "Average more time points, or enter known patterns."
        )
        return Verdict(colour="amber", passed=passed, words=" ".join([words, *remarks]))
    words = f"All {len(passed)} orientations were found." if len(passed) > 1 else "The pattern was found."
    return Verdict(colour="amber" if remarks else "green", passed=passed, words=" ".join([words, *remarks]))


def _remarks(orientations: Sequence[Orientation], passed: Sequence[bool]) -> list[str]:
    remarks = []
    for number, (orientation, good) in enumerate(zip(orientations, passed, strict=True)):
        if not good:
            continue
        strongest = max(wave.modulation for wave in orientation.waves)
        if strongest < WEAK_MODULATION:
            remarks.append(
                f"Orientation {number} is weakly modulated ({strongest:.2f}): check polarisation, alignment and out-of-focus light."
            )
        if orientation.step_deviation_rad > LARGE_STEP_ERROR_RAD:
            degrees = math.degrees(orientation.step_deviation_rad)
            remarks.append(
                f"The phase steps of orientation {number} are up to {degrees:.0f} degrees off equal ones; measured ones are used."
            )
    return remarks
