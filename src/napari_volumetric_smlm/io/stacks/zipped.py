"""A recording as a ZIP archive of TIFF files with one frame each, read without unpacking the archive."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...errors import StackError
from .frames import LARGEST_FRAME_BYTES, FrameArray
from .opened import OpenedFile, require_camera_type
from .sequence import SUFFIXES, natural_key


class ZippedImages(FrameArray):
    """Frames that are files of an archive; a file is unpacked, into memory, when its frame is read."""

    def __init__(self, archive: Path, names: list[str], first: NDArray[Any]) -> None:
        super().__init__((len(names), *first.shape), require_camera_type(first.dtype, str(archive)), str(archive))
        self._archive, self._names = archive, names

    def _read_frame(self, frame: int, low: int, high: int) -> NDArray[Any]:
        image = read_image(self._archive, self._names[frame])
        if image.shape != self.shape[1:] or image.dtype.newbyteorder("=") != self.dtype:
            raise StackError(
                f"{self._archive}: {self._names[frame]} has shape {image.shape} and type {image.dtype}, the first image {self.shape[1:]} "
                f"and {self.dtype}; a sequence has images of one size and type"
            )
        return image[low:high]


def holds_images(path: Path) -> bool:
    """Tell whether an archive has TIFF images in it, from its directory alone; errors are those of `zipfile`."""
    return any(_is_image(name) for name in _files_in(path))


def open_zipped(path: Path) -> OpenedFile:
    """Open an archive of TIFF images as one stack, in natural order of the names; only the first image is read.

    Raises
    ------
    StackError
        If it is no ZIP archive or damaged, or holds no TIFF files, or files of several frames.
    """
    try:
        files = _files_in(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise StackError(f"{path}: damaged or no ZIP archive ({error}); copy the file again") from error
    images = [name for name in files if _is_image(name)]
    if not images:
        listed = ", ".join(name.name for name in files[:4]) or "nothing"
        raise StackError(f"{path}: no TIFF images in the archive; found {listed}")
    names = [
        str(name) for name in sorted(images, key=lambda name: ([natural_key(Path(p)) for p in name.parent.parts], natural_key(Path(name))))
    ]
    opened = OpenedFile([ZippedImages(path, names, read_image(path, names[0]))], [path], f"ZIP archive of {len(names)} TIFF files")
    opened.metadata["file_count"] = len(names)
    return opened


def _files_in(path: Path) -> list[PurePosixPath]:
    with zipfile.ZipFile(path) as archive:
        return [PurePosixPath(info.filename) for info in archive.infolist() if not info.is_dir()]


def _is_image(name: PurePosixPath) -> bool:
    # macOS adds a hidden file to each
    return name.suffix.lower() in SUFFIXES and not name.name.startswith(".")


def read_image(archive: Path, name: str) -> NDArray[Any]:
    """Read one image of an archive.

    Raises
    ------
    StackError
        If it cannot be read, has several frames or colours, or would be larger than any camera's frame.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            size = opened.getinfo(name).file_size
            if size > LARGEST_FRAME_BYTES:
                raise StackError(f"{archive}: {name} has {size / 2**20:,.0f} MiB, more than a frame; unpack the archive and open that file")
            data = opened.read(name)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages, image = len(tiff.pages), np.asarray(tiff.pages.first.asarray())
    except StackError:
        raise
    except Exception as error:  # zlib, zipfile and tifffile raise many types on damaged files
        raise StackError(f"{archive}: {name} cannot be read ({error}); copy the archive again") from error
    if pages > 1 or image.ndim != 2:
        raise StackError(f"{archive}: {name} holds {pages} images of shape {image.shape}; unpack the archive and open its files")
    return image
