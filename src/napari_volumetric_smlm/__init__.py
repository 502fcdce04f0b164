"""Raw camera frames to molecules in three dimensions, in napari, on the command line and in Python."""

__version__ = "0.1.0"
