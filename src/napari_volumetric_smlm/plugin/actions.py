"""Commands of the menus."""

from __future__ import annotations

from typing import Any

from .layers import noun_of
from .session import Session, session_of

RECONSTRUCT = "Reconstruct"
PLUGIN = "napari-volumetric-smlm"


def open_widget(viewer: Any, name: str = RECONSTRUCT) -> Any:
    """Open one of our widgets, or bring the open one to the front; return it."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
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
    if viewer is not None and _take_selected(session_of(viewer), viewer):
        open_widget(viewer).share.ask()


def draw_selected() -> None:
    """Draw the table of the selected layer, else the last result."""
    viewer = _viewer()
    if viewer is not None and _take_selected(session_of(viewer), viewer):
        open_widget(viewer).draw()


def show_selected_in_space() -> None:
    """Show the table of the selected layer, else the last result, in three dimensions."""
    viewer = _viewer()
    if viewer is not None and _take_selected(session_of(viewer), viewer):
        open_widget(viewer).show_space()


def _take_selected(session: Session, viewer: Any) -> bool:
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
