"""Results as they stream in: the molecules so far, and a picture that grows with them. numpy only: it runs in the GUI's thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..domain.images import Volume
from ..domain.molecules import Localizations

# adding to and redrawing a larger picture would be felt
LARGEST_LIVE_SIDE_PX = 2048
FINEST_LIVE_PIXEL_NM = 20.0


class LivePicture:
    """A histogram of positions that batches are added to.

    Parameters
    ----------
    low_yx_nm, high_yx_nm
        Edges of the field of view.
    pixel_nm
        Pixel wished for; it is made larger where the picture would have more than 2048 pixels on a side.
    """

    def __init__(self, low_yx_nm: tuple[float, float], high_yx_nm: tuple[float, float], pixel_nm: float = FINEST_LIVE_PIXEL_NM):
        extent = max(high_yx_nm[0] - low_yx_nm[0], high_yx_nm[1] - low_yx_nm[1], 1.0)
        self.pixel_nm = max(pixel_nm, extent / LARGEST_LIVE_SIDE_PX)
        self.low_yx_nm = low_yx_nm
        shape = [max(1, int(np.ceil((high - low) / self.pixel_nm))) for low, high in zip(low_yx_nm, high_yx_nm, strict=True)]
        self.counts_yx: NDArray[np.float32] = np.zeros(shape, np.float32)

    def add(self, table: Localizations) -> None:
        """Add one to the pixel of each molecule; those outside are left out."""
        row, column = (
            np.floor((table[name] - low) / self.pixel_nm).astype(np.int64)
            for name, low in zip(("y_nm", "x_nm"), self.low_yx_nm, strict=True)
        )
        rows, columns = self.counts_yx.shape
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        np.add.at(self.counts_yx, (row[inside], column[inside]), 1.0)

    @property
    def volume(self) -> Volume:
        """The picture so far."""
        origin = (0.0, self.low_yx_nm[0] + self.pixel_nm / 2, self.low_yx_nm[1] + self.pixel_nm / 2)
        return Volume(
            values_zyx=self.counts_yx[None],
            voxel_zyx_nm=(self.pixel_nm,) * 3,
            origin_zyx_nm=origin,
            quantity="molecules",
        )


def quick_picture(table: Localizations) -> Volume:
    """Return a histogram of a whole table: its field of view where it knows it, else the molecules' extent."""
    if table.shape_yx_px is not None and table.pixel_nm is not None:
        rows, columns = table.shape_yx_px
        picture = LivePicture((-table.pixel_nm / 2,) * 2, ((rows - 0.5) * table.pixel_nm, (columns - 0.5) * table.pixel_nm))
    else:
        margin = FINEST_LIVE_PIXEL_NM
        (y_low, y_high), (x_low, x_high) = ((float(table[n].min()) - margin, float(table[n].max()) + margin) for n in ("y_nm", "x_nm"))
        picture = LivePicture((y_low, x_low), (y_high, x_high))
    picture.add(table)
    return picture.volume


class StreamedTable:
    """Molecules in the batches in which they came."""

    def __init__(self) -> None:
        self.batches: list[Localizations] = []
        self.count = 0

    def add(self, batch: Localizations) -> None:
        """Append a batch; empty ones are left out."""
        if len(batch):
            self.batches.append(batch)
            self.count += len(batch)

    def of_frame(self, frame: int) -> Localizations:
        """Return the molecules of one frame found so far."""
        found = [batch.select(batch["frame"] == frame) for batch in self.batches if batch["frame"].min() <= frame <= batch["frame"].max()]
        return Localizations.joined(found) if found else Localizations.empty()

    def joined(self) -> Localizations:
        """Return one table of all batches."""
        return Localizations.joined(self.batches) if self.batches else Localizations.empty()


def rows_of_frames(table: Localizations, first: int, last: int) -> NDArray[np.int64]:
    """Return the rows whose frame lies in first..last; fast for a table sorted by frame, as ours are."""
    frame = table["frame"]
    if len(frame) and bool(np.all(frame[1:] >= frame[:-1])):
        start, stop = np.searchsorted(frame, (first, last + 1))
        return np.arange(start, stop, dtype=np.int64)
    return np.flatnonzero((frame >= first) & (frame <= last))
