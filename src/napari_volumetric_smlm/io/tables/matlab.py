"""Numbers in MATLAB files before version 7.3, alone or inside structures, read in plain Python.

SciPy's compiled reader was seen to crash the whole process on a damaged file, which would take the user's session along; here every
length is checked against what is there. Layout: MAT-File Format, MathWorks, "Level 5".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import TableError
from .limits import refuse_bomb

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
STRUCTURE, OBJECT, FIRST_NUMBER, LAST_NUMBER = 2, 3, 6, 15
COMPLEX = 0x0800
CHUNK_BYTES = 2**18
HEAD_BYTES = 4096
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


Order = Literal["<", ">"]


class _DamagedError(Exception):
    """A length or kind that cannot be."""


def read_members(path: Path, variable: str, branches: tuple[str, ...]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
    """Return the arrays of real numbers below some branches of a structure, and the names of all variables.

    Parameters
    ----------
    branches
        Paths like `file/info`. Of an array of structures the first one is read.

    Returns
    -------
    dict and list
        `loc/xnm` -> values, one-dimensional in MATLAB's order; names of the variables up to the one that was sought.

    Raises
    ------
    TableError
        If the file is cut off, damaged, or would expand without end.
    """
    names = []
    found: dict[str, NDArray[np.generic]] = {}
    try:
        for matrix in _variables(path):
            names.append(matrix.name)
            if matrix.name == variable:
                _walk(matrix, "", branches, found)
                break
    except (_DamagedError, zlib.error, struct.error) as problem:
        raise TableError(
            f"{path}: damaged or cut off, not a whole MATLAB file ({problem}); nothing was read; take a fresh copy"
        ) from problem
    return found, names


def has_variable(path: Path, variable: str) -> bool:
    """Tell whether there is a variable of this name, from the heads of the variables alone.

    Raises
    ------
    TableError
        If the file is damaged so that its variables cannot be told apart.
    """
    try:
        return any(matrix.name == variable for matrix in _variables(path, most=HEAD_BYTES))
    except (_DamagedError, zlib.error, struct.error) as problem:
        raise TableError(f"{path}: damaged or cut off, not a whole MATLAB file ({problem})") from problem


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of real numbers, from the heads of the variables alone.

    Raises
    ------
    TableError
        If the file is damaged so that its variables cannot be told apart.
    """
    try:
        return {m.name: m.shape for m in _variables(path, most=HEAD_BYTES) if FIRST_NUMBER <= m.kind <= LAST_NUMBER and not m.is_complex}
    except (_DamagedError, zlib.error, struct.error) as problem:
        raise TableError(f"{path}: damaged or cut off, not a whole MATLAB file ({problem})") from problem


def read_array(path: Path, variable: str) -> NDArray[np.generic]:
    """Return an array of real numbers, its axes in MATLAB's order.

    Raises
    ------
    TableError
        If the file is cut off or damaged, or has no such array.
    """
    found, _ = read_members(path, variable, ())
    if "" not in found:
        raise TableError(f"{path}: there is no array of real numbers called {variable!r}")
    return found[""].reshape(array_shapes(path)[variable], order="F")


def _variables(path: Path, most: int | None = None) -> Iterator[_Matrix]:
    """Yield every variable, unpacked; only its first bytes where `most` is given."""
    size_on_disk = path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
        order: Order = ">" if header[126:128] == b"MI" else "<"
        if len(header) < HEADER_BYTES or header[126:128] not in (b"MI", b"IM"):
            raise _DamagedError("no mark of the byte order in the header")
        while tag := stream.read(8):
            kind, size = struct.unpack(order + "II", tag)
            end = stream.tell() + size
            if end > size_on_disk:
                raise _DamagedError(f"{end - size_on_disk} bytes are missing at its end")
            view = memoryview(stream.read(size if most is None else min(size, most)))
            stream.seek(end)
            if kind == COMPRESSED:
                view = memoryview(_inflate(path, bytes(view), size_on_disk, most))
                kind = struct.unpack_from(order + "I", view)[0]
                # the tag of what was packed goes before it
                view = view[8:]
            if kind == MATRIX:
                yield _Matrix(view, 0, len(view), order)


def _inflate(path: Path, data: bytes, size_on_disk: int, most: int | None) -> bytes:
    expander = zlib.decompressobj()
    if most is not None:
        return expander.decompress(data, most)
    whole = bytearray()
    while data and not expander.eof:
        whole += expander.decompress(data, CHUNK_BYTES)
        refuse_bomb(path, len(whole), size_on_disk)
        data = expander.unconsumed_tail
    if not expander.eof:
        raise _DamagedError("a compressed part ends too soon")
    return bytes(whole)


def _element(view: memoryview, at: int, order: Order) -> tuple[int, int, int, int]:
    """Return kind, start, size and the place of the next element."""
    if at + 8 > len(view):
        raise _DamagedError("an element is cut off")
    first, size = struct.unpack_from(order + "II", view, at)
    if first >> 16:
        # up to four bytes stand in the tag itself
        if first >> 16 > 4:
            raise _DamagedError("a short element is too long")
        return first & 0xFFFF, at + 4, first >> 16, at + 8
    if at + 8 + size > len(view):
        raise _DamagedError("an element is longer than what it is in")
    return first, at + 8, size, at + 8 + size + -size % 8


class _Matrix:
    """The head of an array: class, size, name, and where its values begin."""

    def __init__(self, view: memoryview, start: int, size: int, order: Order) -> None:
        self.order, self.view = order, view[start : start + size]
        self.kind = 0
        self.name = ""
        self.count = 0
        self.shape: tuple[int, ...] = ()
        if size == 0:
            return
        _, at, length, following = _element(self.view, 0, order)
        if length < 8:
            raise _DamagedError("an array without flags")
        flags = struct.unpack_from(order + "I", self.view, at)[0]
        self.kind, self.is_complex = flags & 0xFF, bool(flags & COMPLEX)
        _, at, length, following = _element(self.view, following, order)
        self.count = 1
        self.shape = struct.unpack_from(f"{order}{length // 4}i", self.view, at)
        for extent in self.shape:
            if extent < 0:
                raise _DamagedError(f"an array with {extent} rows")
            self.count *= extent
        _, at, length, self.values_at = _element(self.view, following, order)
        self.name = bytes(self.view[at : at + length]).decode("latin-1").rstrip("\x00")


def _walk(matrix: _Matrix, place: str, branches: tuple[str, ...], found: dict[str, NDArray[np.generic]]) -> None:
    if matrix.count == 0:
        return
    if matrix.kind in (STRUCTURE, OBJECT):
        for name, child in _members(matrix):
            below = f"{place}/{name}" if place else name
            if any((branch + "/").startswith(below + "/") or below.startswith(branch + "/") for branch in branches):
                _walk(child, below, branches, found)
    elif FIRST_NUMBER <= matrix.kind <= LAST_NUMBER and not matrix.is_complex:
        kind, start, size, _ = _element(matrix.view, matrix.values_at, matrix.order)
        if kind not in NUMBERS:
            raise _DamagedError(f"{place} has numbers of the unknown kind {kind}")
        stored = np.dtype(NUMBERS[kind]).newbyteorder(matrix.order)
        if size != matrix.count * stored.itemsize:
            raise _DamagedError(f"{place} has {size} bytes where {matrix.count} numbers need {matrix.count * stored.itemsize}")
        found[place] = np.frombuffer(matrix.view[start : start + size], stored).astype(NUMBERS[kind])


def _members(matrix: _Matrix) -> Iterator[tuple[str, _Matrix]]:
    """Yield the fields of the first structure."""
    at = matrix.values_at
    if matrix.kind == OBJECT:
        at = _element(matrix.view, at, matrix.order)[3]
    _, start, size, at = _element(matrix.view, at, matrix.order)
    width = struct.unpack_from(matrix.order + "i", matrix.view, start)[0]
    _, start, size, at = _element(matrix.view, at, matrix.order)
    if width < 1 or size % width:
        raise _DamagedError(f"names of fields of {width} bytes in {size}")
    labels = bytes(matrix.view[start : start + size])
    for index in range(size // width):
        kind, inner, inner_size, at = _element(matrix.view, at, matrix.order)
        if kind != MATRIX:
            raise _DamagedError(f"a field of the kind {kind}")
        name = labels[index * width : (index + 1) * width].partition(b"\x00")[0].decode("latin-1")
        yield name, _Matrix(matrix.view, inner, inner_size, matrix.order)
