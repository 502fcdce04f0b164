"""What the buttons for views run, in the worker's thread, no Qt."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.microlenses import Point
from ..domain.runs import Progress
from .jobs import prepare_engine
from .settings import Preferences

DEPTHS = 21


def find_lenses_job(stack: RawStack, instrument: Instrument, chosen: Preferences) -> Generator[Progress, None, Instrument]:
    """Find the lens centres in raw frames; returns the instrument with its views there."""
    from ..recipes.split_views import place_views

    prepare_engine(chosen)
    return (yield from place_views(stack, instrument))


def put_lenses_job(instrument: Instrument, centres_yx_px: tuple[Point, ...], chosen: Preferences) -> Generator[Progress, None, Instrument]:
    """Put the views around lens centres."""
    from ..recipes.split_views import put_views

    prepare_engine(chosen)
    yield Progress(stage="Placing the views")
    return put_views(instrument, centres_yx_px)


def rebuild_views_job(instrument: Instrument, chosen: Preferences) -> Generator[Progress, None, Instrument]:
    """Put the microlens array anew behind a changed objective or camera; the magnification that is stated becomes the array's."""
    from ..engine.optics.views import light_field_instrument

    prepare_engine(chosen)
    yield Progress(stage="Placing the views")
    array = instrument.microlenses
    if array is None:
        return instrument
    camera_um, magnification = instrument.cameras[0].pixel_um, instrument.objective.magnification
    if not np.isclose(array.magnification(camera_um), magnification, rtol=1e-9):
        array = array.model_copy(update={"pixel_nm": camera_um * 1000 / magnification})
    return light_field_instrument(array, instrument)


def cut_views_job(stack: RawStack, instrument: Instrument, chosen: Preferences) -> Generator[Progress, None, tuple[RawStack, Instrument]]:
    """Cut raw frames into one stack a view; nothing is read yet."""
    from ..recipes.split_views import split_views

    prepare_engine(chosen)
    yield Progress(stage="Cutting the views")
    return split_views(stack, instrument)


def shifts_job(instrument: Instrument, chosen: Preferences) -> Generator[Progress, None, NDArray[np.float64]]:
    """Where the images of a molecule lie in each view over the instrument's depths, (views, depths, 2) in nm."""
    from ..engine.optics.parallax import image_shifts

    prepare_engine(chosen)
    yield Progress(stage="Computing the parallax")
    return image_shifts(instrument, np.linspace(*instrument.depth_range_nm, DEPTHS))
