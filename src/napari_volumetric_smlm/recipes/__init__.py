"""The verbs: generators that yield `Progress` and return a noun, used alike by window, command line and Python."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from ..domain.runs import Progress

Noun = TypeVar("Noun")


def finish(steps: Generator[Progress, None, Noun], report: Callable[[Progress], object] | None = None) -> Noun:
    """Run a recipe to its end and return its result.

    Parameters
    ----------
    steps : a started recipe, for example ``reconstruct(stack, instrument, plan)``.
    report : called with each progress.
    """
    try:
        while True:
            progress = next(steps)
            if report is not None:
                report(progress)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        # an error or Ctrl-C in `report` must still run the recipe's own clean-up
        steps.close()
