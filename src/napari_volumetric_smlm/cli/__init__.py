"""The command line `vsmlm`: the same recipes and settings as the widgets; never imports napari or Qt into its own process."""

from .program import main, parser

__all__ = ["main", "parser"]
