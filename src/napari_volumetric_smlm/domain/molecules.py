"""Molecules as a table of columns; the column names are those of the files and of napari's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, field_validator, model_validator

from .noun import Noun

ZReference = Literal["coverslip", "focus", "unknown", "none"]

# name -> type and meaning; other numeric columns are kept as they come
COLUMNS: dict[str, tuple[str, str]] = {
    "frame": ("int64", "frame of the raw stack, from 0"),
    "z_nm": ("float64", "depth; z_reference says from where; grows into the sample"),
    "y_nm": ("float64", "row position; 0 is the centre of pixel (0, 0)"),
    "x_nm": ("float64", "column position; 0 is the centre of pixel (0, 0)"),
    "sigma_z_nm": ("float64", "standard error of z_nm (Cramér-Rao at the fit)"),
    "sigma_y_nm": ("float64", "standard error of y_nm"),
    "sigma_x_nm": ("float64", "standard error of x_nm"),
    "photons": ("float64", "detected photons over all views"),
    "sigma_photons": ("float64", "standard error of photons"),
    "background_photons": ("float64", "background per pixel at the molecule, first view"),
    "sigma_background_photons": ("float64", "standard error of background_photons"),
    "probability": ("float64", "probability that the molecule is real, 0 to 1"),
    "log_likelihood_ratio": ("float64", "log-likelihood with the molecule minus without it"),
    "converged": ("bool", "whether the fit reached its minimum"),
    "psf_width_nm": ("float64", "width of the PSF (foreign tables call it sigma)"),
    "channel": ("int64", "colour channel"),
    "group": ("int64", "linked molecule, cluster or pick"),
    "id": ("int64", "row number in the file that it came from"),
}
REQUIRED = ("frame", "z_nm", "y_nm", "x_nm")


class Localizations(Noun):
    """A table of molecules.

    columns : name -> values, all of one length, read-only; `COLUMNS` gives the meaning of the known names.
    z_reference : coverslip, focus (nominal focal plane), unknown (a foreign file that does not say) or none (2D; z_nm is 0).
    provenance : plan, versions, source, instrument fingerprint and so on, ready for JSON.
    """

    columns: dict[str, Any]
    z_reference: ZReference = "unknown"
    pixel_nm: PositiveFloat | None = None
    frame_count: int | None = Field(None, ge=0)
    shape_yx_px: tuple[int, int] | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_agree(cls, value: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        missing = [name for name in REQUIRED if name not in value]
        if missing:
            raise ValueError(f"a table of molecules needs the columns {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
        columns: dict[str, NDArray[Any]] = {}
        for name, values in value.items():
            array = np.array(values, dtype=COLUMNS[name][0] if name in COLUMNS else None)
            if array.ndim != 1 or array.dtype.kind not in "fiub":
                raise ValueError(f"column {name} must be one-dimensional numbers; found shape {array.shape}, type {array.dtype}")
            array.flags.writeable = False
            columns[name] = array
        lengths = {name: len(array) for name, array in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")
        return columns

    @model_validator(mode="after")
    def _positions_are_finite(self) -> Localizations:
        for name in REQUIRED[1:]:
            bad = int((~np.isfinite(self.columns[name])).sum())
            if bad:
                raise ValueError(f"{bad} of {len(self)} values of {name} are not finite; remove those rows first")
        return self

    def __eq__(self, other: object) -> bool:
        """Compare by content: names, types and values of the columns (NaN equals NaN), and what is said about them."""
        if not isinstance(other, Localizations):
            return NotImplemented
        same_words = self.model_dump(exclude={"columns"}) == other.model_dump(exclude={"columns"})
        return (
            same_words
            and list(self.columns) == list(other.columns)
            and all(
                mine.dtype == theirs.dtype and np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
                for mine, theirs in zip(self.columns.values(), other.columns.values(), strict=True)
            )
        )

    def __hash__(self) -> int:
        return hash((len(self), *self.columns, self.z_reference, self.pixel_nm))

    def __len__(self) -> int:
        return len(self.columns["frame"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]  # type: ignore[no-any-return]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def position_zyx_nm(self) -> NDArray[np.float64]:
        """Positions, shape (n, 3)."""
        return np.stack([self.columns[c] for c in ("z_nm", "y_nm", "x_nm")], axis=1)

    @property
    def sigma_zyx_nm(self) -> NDArray[np.float64] | None:
        """Standard errors, shape (n, 3), or None when the table has none."""
        names = ("sigma_z_nm", "sigma_y_nm", "sigma_x_nm")
        return np.stack([self.columns[c] for c in names], axis=1) if all(c in self.columns for c in names) else None

    def select(self, rows: NDArray[Any] | slice) -> Localizations:
        """Return the table with only these rows (boolean mask, indices or slice), in that order."""
        return self.model_copy(update={"columns": {name: _locked(array[rows]) for name, array in self.columns.items()}})

    def moved(self, shift_zyx_nm: NDArray[Any]) -> Localizations:
        """Return the table with a constant (z, y, x) in nm added to all positions."""
        names = zip(("z_nm", "y_nm", "x_nm"), shift_zyx_nm, strict=True)
        return self.model_copy(update={"columns": {**self.columns, **{name: _locked(self.columns[name] + step) for name, step in names}}})

    @classmethod
    def empty(cls, z_reference: ZReference = "unknown") -> Localizations:
        """Return a table without molecules."""
        return cls(columns={name: [] for name in REQUIRED}, z_reference=z_reference)

    @classmethod
    def joined(cls, tables: Sequence[Localizations]) -> Localizations:
        """Return one table of the rows of several, in their order; columns that not all of them have are left out, the rest is the first's.

        Raises
        ------
        ValueError
            If there is no table, or their depths are measured from different places.
        """
        if not tables:
            raise ValueError("at least one table is needed")
        references = {table.z_reference for table in tables if len(table)}
        if len(references) > 1:
            raise ValueError(f"z is measured from {' and '.join(sorted(references))}: such tables cannot be joined")
        filled = [table for table in tables if len(table)] or list(tables[:1])
        names = [name for name in filled[0].columns if all(name in table for table in filled)]
        columns = {name: _locked(np.concatenate([table[name] for table in filled])) for name in names}
        return filled[0].model_copy(update={"columns": columns})


def _locked(array: NDArray[Any]) -> NDArray[Any]:
    array = np.array(array)
    array.flags.writeable = False
    return array
