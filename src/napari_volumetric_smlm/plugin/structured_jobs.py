"""What the structured-illumination buttons run: the recipes with what the window adds to them. In the worker's thread, no Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.illumination import Illumination, RadialOTF, StructuredEstimate, StructuredImages
from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.runs import Progress
from ..domain.structured_plans import StructuredPlan
from .jobs import on_device, prepare_engine
from .settings import Preferences

PATTERN_STAGE = "patterns"


@dataclass(frozen=True)
class Question:
    """All that a reconstruction follows from. illumination, otf : None = found in the stack, and computed."""

    stack: RawStack
    instrument: Instrument
    plan: StructuredPlan
    illumination: Illumination | None = None
    otf: RadialOTF | None = None


@dataclass(frozen=True)
class Patterns:
    """What is known of the patterns before anything is reconstructed, with its evidence as a picture."""

    estimate: StructuredEstimate
    used: Illumination
    evidence_yxc: NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """Images with the question that they answer; `notes` are sentences for the user."""

    question: Question
    patterns: Patterns
    images: StructuredImages
    notes: tuple[str, ...]


def structured_job(question: Question, chosen: Preferences) -> Generator[Progress, None, Answer]:
    """Find the patterns, show them as a preview, reconstruct all time points."""
    from ..recipes.structured import estimate_patterns, reconstruct_structured
    from ..recipes.structured_picture import evidence_picture

    prepare_engine(chosen)
    plan = on_device(question.plan, chosen)
    found = yield from estimate_patterns(question.stack, question.instrument, plan, question.otf)
    patterns = Patterns(found, question.illumination or found.illumination, evidence_picture(found))
    yield Progress(stage=PATTERN_STAGE, message=patterns_in_words(patterns), preview=patterns)
    # where every time point has patterns of its own, those just found are only the first ones
    known = patterns.used if plan.reuse or question.illumination is not None else None
    ordered = plan.model_copy(update={"order": plan.order or found.order})
    images = yield from reconstruct_structured(question.stack, question.instrument, ordered, known, question.otf)
    notes = found.notes if known is not None else images.notes
    return Answer(question, patterns, images, tuple(dict.fromkeys(notes)))


def retouch_job(answer: Answer, plan: StructuredPlan, image: int, chosen: Preferences) -> Generator[Progress, None, NDArray[Any]]:
    """Reconstruct one image (y, x), or the volume (z, y, x) that it belongs to, again: with the patterns that are known, other settings.

    image : its number in the answer, planes within time points.
    """
    from ..recipes.structured import reconstruct_structured

    prepare_engine(chosen)
    time, plane = divmod(image, answer.images.planes)
    moment = plan.first_time + time
    order = plan.order or answer.patterns.estimate.order
    one = plan.model_copy(update={"first_time": moment, "last_time": moment, "order": order, "compare": False, "reuse": True})
    question = answer.question
    images = yield from reconstruct_structured(
        question.stack, question.instrument, on_device(one, chosen), answer.images.illumination, question.otf
    )
    return np.asarray(images.images_tyx if images.plane_nm is not None else images.images_tyx[plane])


def patterns_in_words(patterns: Patterns) -> str:
    """Say what was found, or that nothing had to be."""
    if patterns.used.verdict is None or patterns.used is not patterns.estimate.illumination:
        return "The patterns were given."
    words = patterns.used.verdict.words
    if not patterns.estimate.order_is_sure:
        words += f" The order of the frames is not certain ({patterns.estimate.order} fits best): state it."
    return words
