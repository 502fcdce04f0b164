"""What all nouns share: frozen, no unknown keys, arrays read-only and compressed in JSON."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

# A pupil of 1024 x 1024 float64 takes 8 MiB; a camera map of 4096 x 4096 float32 64 MiB. More is a damaged or hostile file.
LARGEST_ARRAY_BYTES = 256 * 2**20


class Noun(BaseModel):
    """Base of every noun."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def __eq__(self, other: object) -> bool:
        """Compare by content: arrays are equal when shape and all values are."""
        if type(self) is not type(other):
            return NotImplemented
        return self.model_dump_json() == other.model_dump_json()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def pack_array(array: NDArray[Any]) -> dict[str, Any]:
    """Write an array as shape, type and zlib-compressed base64 text (little-endian)."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode("ascii")
    return {"shape": list(array.shape), "dtype": little.dtype.str, "zlib_base64": data}


def unpack_array(value: Any) -> NDArray[Any]:
    """Read what `pack_array` wrote, or take an array or nested lists as they are; the result is read-only.

    Raises
    ------
    ValueError
        If the text is damaged, expands to more than its shape says, or is not a real number type.
    """
    try:
        array = _to_array(value)
    except (TypeError, zlib.error) as error:  # neither is a ValueError, which is what pydantic turns into words
        raise ValueError(f"a damaged packed array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of real numbers was expected, found type {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("an array holds values that are not finite (NaN or infinity)")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _to_array(value: Any) -> NDArray[Any]:
    if isinstance(value, dict):
        unknown = set(value) ^ {"shape", "dtype", "zlib_base64"}
        if unknown:
            raise ValueError(f"a packed array has the keys shape, dtype and zlib_base64; found a difference in {sorted(unknown)}")
        dtype = np.dtype(value["dtype"])
        size = int(np.prod([int(n) for n in value["shape"]], dtype=np.int64)) * dtype.itemsize
        if dtype.kind not in "fiub" or not 0 < size <= LARGEST_ARRAY_BYTES:
            limit = LARGEST_ARRAY_BYTES >> 20
            raise ValueError(f"a packed array of type {dtype} and {size} bytes is outside 1 byte to {limit} MiB of real numbers")
        expander = zlib.decompressobj()
        data = expander.decompress(base64.b64decode(value["zlib_base64"], validate=True), size + 1)
        if len(data) != size:
            more = " or more" if len(data) > size else ""
            raise ValueError(f"a packed array of shape {value['shape']} needs {size} bytes, its text holds {len(data)}{more}")
        return np.frombuffer(data, dtype).reshape(value["shape"])
    return np.array(value)


Array = Annotated[
    NDArray[Any],
    BeforeValidator(unpack_array),
    PlainSerializer(pack_array, when_used="json"),
    WithJsonSchema({"type": "object", "required": ["shape", "dtype", "zlib_base64"]}),
]
