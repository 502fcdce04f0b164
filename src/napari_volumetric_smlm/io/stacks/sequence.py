"""Image sequences: a folder or pattern of TIFF files, one after the other in natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...errors import StackError
from .frames import ChainedFrames, FrameArray
from .opened import OpenedFile
from .tiff import open_tiff

SUFFIXES = {".tif", ".tiff"}
# files of a recording that was split by size; more of them with several frames each is a folder of recordings
MOST_MULTI_FRAME_FILES = 1000


class SingleImages(FrameArray):
    """Frames that are files of one image each; a file is opened when its frame is read."""

    def __init__(self, paths: Sequence[Path], shape_yx: tuple[int, int], dtype: Any, source: str) -> None:
        super().__init__((len(paths), *shape_yx), dtype, source)
        self._paths = list(paths)

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        path = self._paths[frame]
        try:
            with tifffile.TiffFile(path) as tiff:
                if len(tiff.pages) > 1:
                    raise StackError(
                        f"{path}: {len(tiff.pages)} images, but the first file of the sequence has one; put them in separate folders"
                    )
                image = np.asarray(tiff.pages.first.asarray())
        except StackError:
            raise
        except Exception as error:
            raise StackError(
                f"{path}: frame {frame} cannot be read ({error}); copy the file again or remove it from the sequence"
            ) from error
        if image.shape != self.shape[1:] or image.dtype.newbyteorder("=") != self.dtype:
            raise StackError(
                f"{path}: frame {frame} has shape {image.shape} and type {image.dtype}, the first file {self.shape[1:]} and {self.dtype}; "
                "a sequence has images of one size and type"
            )
        return image[low:high]


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that counts: image2 before image10."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


def find_images(folder: Path) -> list[Path]:
    """TIFF files of a folder in natural order, hidden files left out."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()]
    return sorted(found, key=natural_key)


def open_sequence(paths: Sequence[Path], source: str) -> OpenedFile:
    """Open files as one stack, in natural order.

    Files of one image each are only listed; their sizes and types are checked as they are read. Files of several frames
    (a recording split by size) are opened and laid end to end.

    Raises
    ------
    StackError
        If there are no files, or the first cannot be opened.
    """
    files = sorted(paths, key=natural_key)
    if not files:
        raise StackError(f"{source}: no TIFF images there; a folder or pattern of .tif files was expected")
    opened = open_tiff(files[0])
    if len(files) == 1 or len(opened.files) > 1:  # the first file names the others itself (OME, Micro-Manager)
        return opened
    first = opened.cameras[0]
    if len(opened.cameras) > 1:
        raise StackError(f"{source}: each file has {len(opened.cameras)} channels; open one file, or convert to one file a camera")
    if len(first) == 1:
        opened.cameras = [SingleImages(files, first.shape[1:], first.dtype, source)]
    elif len(files) > MOST_MULTI_FRAME_FILES:
        raise StackError(f"{source}: {len(files)} files of several frames each; choose the files of one recording with a pattern")
    else:
        parts = [first]
        for path in files[1:]:
            part = open_tiff(path)
            parts.extend(part.cameras)
            opened.warnings.extend(warning for warning in part.warnings if warning not in opened.warnings)
        opened.cameras = [ChainedFrames(parts, source)]
    opened.metadata["axes"] = {"T": len(opened.cameras[0])}
    opened.metadata["file_count"] = len(files)
    opened.files = list(files)
    opened.format = f"sequence of {len(files)} TIFF files"
    return opened
