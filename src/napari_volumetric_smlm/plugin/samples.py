"""Sample data hooks: everything travels with the package or is simulated on the spot, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..io import examples
from ..io.samples import open_sample, sample_instrument, sample_truth
from .actions import CALIBRATE, RECONSTRUCT, STRUCTURED, VOLUMES, open_widget
from .layers import LayerData, lay_stack, lay_table

Hook = Callable[[], list[LayerData]]
# by the kind of a stack; molecules otherwise
WIDGET_FOR = {"beads": CALIBRATE, "structured": STRUCTURED}


def example_instruments() -> dict[str, Path]:
    """Return the instruments that come with the package, by a readable name."""
    return {name.replace("_", " "): path for name, path in examples.example_instruments().items()}


def _stack_hook(name: str, *further: str) -> Hook:
    """Return a hook that opens a sample, the widget for its kind of stack, and further ones; the last one lies on top."""

    def open_layers() -> list[LayerData]:
        stack = open_sample(name)
        for widget in (WIDGET_FOR.get(stack.kind or "", RECONSTRUCT), *further):
            _open_widget_soon(widget)
        return lay_stack(stack, sample_instrument(name))

    open_layers.__doc__ = f"Open the sample {name} and the widget to work on it."
    return open_layers


def _movie_hook(name: str) -> Hook:
    """Return a hook that simulates a light-field movie (about a second, besides loading torch) and opens the widgets to work on it."""

    def open_layers() -> list[LayerData]:
        from ..recipes import finish
        from ..recipes.sample_movies import sample_movie

        simulation = finish(sample_movie(name))
        for widget in (RECONSTRUCT, VOLUMES):
            _open_widget_soon(widget)
        [(counts, options, kind)] = lay_stack(simulation.stack, simulation.instrument)
        return [(counts, {**options, "name": f"{options['name']} · {name}"}, kind)]

    open_layers.__doc__ = f"Simulate the sample {name} and open the widgets to work on it."
    return open_layers


open_tetrapod = _stack_hook("tetrapod")
open_tetrapod_beads = _stack_hook("tetrapod_beads")
open_astigmatic = _stack_hook("astigmatic")
open_biplane = _stack_hook("biplane")
open_light_field = _stack_hook("light_field", VOLUMES)
open_light_field_microtubules = _movie_hook("light_field_microtubules")
open_light_field_mitochondria = _movie_hook("light_field_mitochondria")
open_structured = _stack_hook("structured")


def open_molecules() -> list[LayerData]:
    """Open a table of molecules: the true ones of the astigmatic sample."""
    table = sample_truth("astigmatic")
    return [] if table is None else lay_table(table, "astigmatic_truth.csv", len(table))


def _open_widget_soon(name: str) -> None:
    """Open the widget after the layers are there; without a window (a script, a test of the hook) nothing happens."""
    import napari

    viewer: Any = napari.current_viewer()
    if viewer is None:
        return
    from qtpy.QtCore import QTimer

    # not before this hook has returned and napari has added the layers
    QTimer.singleShot(0, lambda: open_widget(viewer, name))
