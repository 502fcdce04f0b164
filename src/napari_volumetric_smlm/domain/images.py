"""Pictures: raw stacks as the cameras wrote them, point-spread functions, volumes."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, PositiveFloat, field_serializer, field_validator, model_validator

from .noun import Array, Noun

StackKind = Literal["frames", "beads", "light_field", "structured"]


@runtime_checkable
class LazyArray(Protocol):
    """What a camera's counts must offer: an array, a memory map or a dask, zarr or own lazy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames, rows, columns."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the counts."""
        ...

    def __getitem__(self, key: Any) -> Any: ...


class RawStack(Noun):
    """Frames of one acquisition, one lazy array (t, y, x) per camera; a bead stack has z steps in place of times.

    kind : what the stack is; None = not known yet, and nobody may guess silently.
    pixel_nm, z_step_nm, frame_interval_ms : from the file's metadata where it has them.
    warnings : words for the user about metadata that contradict each other or look wrong.
    """

    counts_tyx: tuple[Any, ...] = Field(min_length=1)
    kind: StackKind | None = None
    source: tuple[str, ...] = ()
    fingerprint: str = ""
    pixel_nm: PositiveFloat | None = None
    z_step_nm: float | None = None
    frame_interval_ms: PositiveFloat | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @field_validator("counts_tyx")
    @classmethod
    def _have_three_axes(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for counts in value:
            if not isinstance(counts, LazyArray) or len(counts.shape) != 3:
                raise ValueError(f"a stack has the axes (t, y, x); found shape {getattr(counts, 'shape', None)}")
            if 0 in counts.shape:
                raise ValueError(f"the stack is empty: shape {tuple(counts.shape)}")
        lengths = {counts.shape[0] for counts in value}
        if len(lengths) > 1:
            raise ValueError(f"the cameras' stacks differ in length: {sorted(lengths)} frames")
        return value

    @field_serializer("counts_tyx", when_used="json")
    def _describe_counts(self, value: tuple[Any, ...]) -> list[dict[str, Any]]:
        # pixels never go into JSON; the fingerprint stands for them
        return [{"shape": list(counts.shape), "dtype": str(counts.dtype)} for counts in value]

    def __eq__(self, other: object) -> bool:
        """Compare by fingerprint and metadata; stacks in memory, without a fingerprint, are equal only when their arrays are the same."""
        if not isinstance(other, RawStack):
            return NotImplemented
        same = len(self.counts_tyx) == len(other.counts_tyx) and all(a is b for a, b in zip(self.counts_tyx, other.counts_tyx, strict=True))
        return (same or bool(self.fingerprint)) and self.model_dump_json() == other.model_dump_json()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def frame_count(self) -> int:
        """Number of frames (or z steps)."""
        return int(self.counts_tyx[0].shape[0])


class StackNote(Noun):
    """What the raw file itself does not say, kept in a small JSON file beside it; what stands here wins over the file's own metadata.

    kind : what the stack is. instrument : path of the instrument's JSON file, relative to the note.
    offset_counts to saturation_counts : as in `Camera`, one number for all cameras of the stack.
    """

    schema_version: Literal["vsmlm-stack-1"] = "vsmlm-stack-1"
    kind: StackKind | None = None
    pixel_nm: PositiveFloat | None = None
    z_step_nm: float | None = None
    frame_interval_ms: PositiveFloat | None = None
    instrument: str | None = None
    camera_name: str | None = None
    offset_counts: float | None = None
    gain_e_per_count: PositiveFloat | None = None
    read_noise_e: float | None = Field(None, ge=0)
    em_gain: float | None = Field(None, ge=1)
    saturation_counts: PositiveFloat | None = None


class PSF(Noun):
    """A point-spread function sampled on a grid, centred at index n // 2 of y and x; plane k lies at z = first_z_nm + k dz."""

    intensity_vzyx: Array
    voxel_zyx_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    first_z_nm: float
    origin: Literal["simulated", "measured", "fitted"]

    @model_validator(mode="after")
    def _has_four_axes(self) -> PSF:
        if self.intensity_vzyx.ndim != 4:
            raise ValueError(f"a PSF has the axes (view, z, y, x); found shape {self.intensity_vzyx.shape}")
        return self


class Volume(Noun):
    """Values on a regular grid; voxel (0, 0, 0) has its centre at origin_zyx_nm."""

    values_zyx: Array
    voxel_zyx_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    origin_zyx_nm: tuple[float, float, float]
    quantity: str


class DepthPicture(Noun):
    """A projection with colours for depth, ready for a screen; pixel (0, 0) has its centre at origin_yx_nm.

    depth_range_nm : depths of the first and the last colour.
    """

    rgb_yxc: Array
    pixel_nm: PositiveFloat
    origin_yx_nm: tuple[float, float]
    depth_range_nm: tuple[float, float]
