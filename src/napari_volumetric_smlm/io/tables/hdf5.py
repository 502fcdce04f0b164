"""Plain numbers out of HDF5 files, and nothing else: no objects, no links to other files, no endless fill values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import TableError
from .limits import refuse_bomb

LARGEST_TEXT_BYTES = 16 * 2**20


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Yield the open file; what HDF5 cannot read becomes words.

    Raises
    ------
    TableError
        If the file is no HDF5, cut off, or damaged inside.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as problem:
        raise TableError(f"{path}: damaged or cut off, not a whole HDF5 file ({problem}); nothing was read; take a fresh copy") from problem


def dataset(path: Path, file: Any, name: str, whole: bool = True) -> Any:
    """Return a dataset that lies in this very file and holds numbers.

    Parameters
    ----------
    whole
        Whether it will be read at once, and must therefore not expand without end.

    Raises
    ------
    TableError
        If it is missing, a link, a group, stored elsewhere, or of a type that can hide objects.
    """
    place = file
    parts = name.strip("/").split("/")
    for part in parts:
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            raise TableError(f"{path}: no dataset {name}; found {', '.join(_names(file)) or 'nothing'}; this is another kind of HDF5 file")
        if not isinstance(link, h5py.HardLink):
            raise TableError(f"{path}: {name} is a link to another place; a table in the file itself was expected, so it was refused")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise TableError(
            f"{path}: {name} is a group with {', '.join(list(place)[:5])}, as pandas and PyTables write it; it can hold Python objects and "
            "was refused; save the table again with the program that it belongs to"
        )
    if place.external or place.is_virtual:
        raise TableError(f"{path}: {name} keeps its values in other files; a table in the file itself was expected, so it was refused")
    kinds = [place.dtype[field] for field in place.dtype.names] if place.dtype.names else [place.dtype]
    hidden = [str(kind) for kind in kinds if kind.kind not in "fiub" or kind.hasobject or kind.subdtype]
    if hidden:
        raise TableError(
            f"{path}: {name} holds {', '.join(sorted(set(hidden))[:3])} (objects, references or text) where plain numbers were expected; "
            "it could hide code and was refused"
        )
    if not _is_standard(place):
        raise TableError(f"{path}: {name} holds numbers of an unusual layout ({place.dtype}); the file is damaged; take a fresh copy")
    if whole:
        refuse_bomb(path, 0 if place.shape is None else place.size * place.dtype.itemsize, place.id.get_storage_size())
    return place


def _is_standard(place: Any) -> bool:
    """Tell whether the numbers lie as they do in memory; HDF5 writes past its buffers when a damaged header says otherwise."""
    stored = place.id.get_type()
    if stored.get_class() != h5py.h5t.COMPOUND:
        return _is_standard_number(stored, place.dtype)
    end = 0
    for index in range(stored.get_nmembers()):
        kind, offset = place.dtype.fields[place.dtype.names[index]][:2]
        if offset < end or offset != stored.get_member_offset(index) or not _is_standard_number(stored.get_member_type(index), kind):
            return False
        end = offset + kind.itemsize
    return bool(end <= place.dtype.itemsize == stored.get_size())


def _is_standard_number(stored: Any, kind: np.dtype[Any]) -> bool:
    if kind.kind == "b":
        return bool(stored.get_size() == 1)
    return bool(stored.get_size() == kind.itemsize and stored.equal(h5py.h5t.py_create(kind)))


def numbers(path: Path, file: Any, name: str) -> NDArray[Any] | None:
    """Return the values of a dataset in native byte order, or None where it is an empty one."""
    place = dataset(path, file, name)
    return None if place.shape is None else native(place[()])


def text(path: Path, file: Any, name: str) -> str | None:
    """Return one short text, or None where there is none."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        return None
    place = file[name]
    if place.shape != () or place.dtype.kind not in "OS" or place.id.get_storage_size() > LARGEST_TEXT_BYTES:
        return None
    value = place[()]
    words = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return words if isinstance(words, str) and len(words) <= LARGEST_TEXT_BYTES else None


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in the byte order of this computer."""
    return np.asarray(values).astype(np.asarray(values).dtype.newbyteorder("="), copy=False)


def _names(file: Any) -> list[str]:
    return [str(name) for name in list(file)[:8]]
