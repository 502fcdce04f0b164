"""Commands of the menus."""

from __future__ import annotations

from typing import Any

from .layers import noun_of

RECONSTRUCT, CALIBRATE, TRAIN = "Reconstruct", "Instrument and calibration", "Train"
STRUCTURED, VOLUMES = "Structured illumination", "Volumes"
DISPLAY_NAME = "Volumetric SMLM"


def _reconstruct() -> Any:
    from .widgets.reconstruct import ReconstructWidget

    return ReconstructWidget


def _calibrate() -> Any:
    from .widgets.calibrate import CalibrateWidget

    return CalibrateWidget


def _train() -> Any:
    from .widgets.train import TrainWidget

    return TrainWidget


def _structured() -> Any:
    from .widgets.structured import StructuredWidget

    return StructuredWidget


def _volumes() -> Any:
    from .widgets.volumes import VolumesWidget

    return VolumesWidget


WIDGETS = {STRUCTURED: _structured, VOLUMES: _volumes, RECONSTRUCT: _reconstruct, CALIBRATE: _calibrate, TRAIN: _train}


def open_widget(viewer: Any, name: str = RECONSTRUCT) -> Any:
    """Open one of our widgets, or bring the open one to the front; return it."""
    from qtpy.QtWidgets import QDockWidget

    # the name under which the Plugins menu looks for it: one dock, however it was opened
    title = f"{name} ({DISPLAY_NAME})"
    widget = viewer.window.dock_widgets.get(title)
    if widget is None:
        widget = WIDGETS[name]()(viewer)
        # one above the other there would be no room for either
        viewer.window.add_dock_widget(widget, name=title, area="right", tabify=True)
    dock = widget
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parent()
    if dock is not None:
        dock.show()
        dock.raise_()
    return widget


def import_file() -> None:
    """Ask for a file and open it, whatever it holds."""
    viewer = _viewer()
    if viewer is not None:
        open_widget(viewer).importer.ask()


def export_table() -> None:
    """Ask for a name and write the table of the selected layer, else the last result."""
    viewer = _viewer()
    if viewer is not None and _take_selected(viewer):
        open_widget(viewer).share.ask()


def draw_selected() -> None:
    """Draw the table of the selected layer, else the last result."""
    viewer = _viewer()
    if viewer is not None and _take_selected(viewer):
        open_widget(viewer).draw()


def show_selected_in_space() -> None:
    """Show the table of the selected layer, else the last result, in three dimensions."""
    viewer = _viewer()
    if viewer is not None and _take_selected(viewer):
        open_widget(viewer).show_space()


def _take_selected(viewer: Any) -> bool:
    from .session import session_of

    session = session_of(viewer)
    active = viewer.layers.selection.active
    table = noun_of(active, "table") if active is not None else None
    if table is not None and table is not session.table:
        session.keep_table(table)
    if session.table is None:
        from napari.utils.notifications import show_warning

        show_warning("There are no molecules yet: select a layer with molecules, import a table, or reconstruct frames first.")
    return session.table is not None


def _viewer() -> Any:
    import napari

    return napari.current_viewer()
