"""The one place that says how each table format counts: pixel origin, first frame, axes, units and names of columns.

Our own rule: positions in nm, the centre of pixel (0, 0) is 0, frames count from 0, x runs along columns and y along rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .labels import split_label

Evidence = Literal["ours", "verified", "source", "unverified"]


@dataclass(frozen=True)
class Column:
    """One of our columns and what a format calls it.

    theirs : labels in order of preference; the first is the one that is written. Case, outer blanks and a unit in brackets do not
        matter for finding it; a unit in brackets counts for more than `unit`.
    unit : the unit where the label says none; empty for plain numbers.
    """

    ours: str
    theirs: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Format:
    """A kind of table file and its conventions.

    origin_px : where their coordinates put the centre of pixel (0, 0), in pixels.
    first_frame : number of the first frame.
    origin_evidence, frame_evidence : `verified` by running the package on a drawn spot, read in its `source`, or `unverified`.
    evidence : where the claims come from, and about the axes and the sign of z what is known.
    carries_others : whether columns without a name of theirs are written under ours.
    """

    name: str
    display_name: str
    suffixes: tuple[str, ...]
    module: str
    writable: bool
    origin_px: float
    first_frame: int
    columns: tuple[Column, ...]
    origin_evidence: Evidence
    frame_evidence: Evidence
    evidence: str
    carries_others: bool = False
    readable: bool = True

    @property
    def suffix(self) -> str:
        """The usual end of a file name of this kind."""
        return self.suffixes[0]

    @property
    def axes(self) -> str:
        """Whether their x runs along columns, as ours does."""
        y_names = next(column.theirs for column in self.columns if column.ours == "y_nm")
        return "x runs along rows (swapped)" if split_label(y_names[0])[0].startswith("x") else "x runs along columns"


OWN = tuple(
    Column(name, (name,), "nm" if name.endswith("_nm") else "")
    for name in ("frame", "z_nm", "y_nm", "x_nm", "sigma_z_nm", "sigma_y_nm", "sigma_x_nm", "psf_width_nm")
)
THUNDERSTORM = (
    Column("id", ("id",)),
    Column("frame", ("frame",)),
    Column("x_nm", ("x [nm]",)),
    Column("y_nm", ("y [nm]",)),
    Column("z_nm", ("z [nm]",)),
    # their sigma is the width of the PSF, ours is an uncertainty
    Column("psf_width_nm", ("sigma [nm]",)),
    Column("psf_width_x_nm", ("sigma1 [nm]",)),
    Column("psf_width_y_nm", ("sigma2 [nm]",)),
    Column("photons", ("intensity [photon]",)),
    Column("background_photons", ("offset [photon]",)),
    Column("background_std_photons", ("bkgstd [photon]",)),
    Column("chi2", ("chi2",)),
    Column("sigma_y_nm", ("uncertainty_xy [nm]", "uncertainty [nm]")),
    Column("sigma_x_nm", ("uncertainty_xy [nm]", "uncertainty [nm]")),
    Column("sigma_z_nm", ("uncertainty_z [nm]",)),
    Column("detections", ("detections",)),
)
CHALLENGE = (
    Column("id", ("Ground-truth",)),
    Column("frame", ("frame",)),
    Column("x_nm", ("xnano",), "nm"),
    Column("y_nm", ("ynano",), "nm"),
    Column("z_nm", ("znano",), "nm"),
    Column("photons", ("intensity",)),
)
PICASSO = (
    Column("frame", ("frame",)),
    Column("x_nm", ("x",), "px"),
    Column("y_nm", ("y",), "px"),
    Column("z_nm", ("z",), "nm"),
    Column("photons", ("photons",)),
    Column("psf_width_x_nm", ("sx",), "px"),
    Column("psf_width_y_nm", ("sy",), "px"),
    Column("background_photons", ("bg",)),
    Column("sigma_x_nm", ("lpx",), "px"),
    Column("sigma_y_nm", ("lpy",), "px"),
    Column("sigma_z_nm", ("lpz",), "nm"),
    Column("group", ("group",)),
)
DECODE = (
    Column("frame", ("frame_ix",)),
    Column("y_nm", ("x",), "px"),
    Column("x_nm", ("y",), "px"),
    Column("z_nm", ("z",), "nm"),
    Column("sigma_y_nm", ("x_sig",), "px"),
    Column("sigma_x_nm", ("y_sig",), "px"),
    Column("sigma_z_nm", ("z_sig",), "nm"),
    Column("photons", ("phot",)),
    Column("sigma_photons", ("phot_sig",)),
    Column("background_photons", ("bg",)),
    Column("sigma_background_photons", ("bg_sig",)),
    Column("probability", ("prob",)),
    Column("id", ("id",)),
)
SMAP = (
    Column("frame", ("frame",)),
    Column("x_nm", ("xnm",), "nm"),
    Column("y_nm", ("ynm",), "nm"),
    Column("z_nm", ("znm",), "nm"),
    Column("photons", ("phot",)),
    Column("background_photons", ("bg",)),
    Column("sigma_x_nm", ("xnmerr", "locprecnm"), "nm"),
    Column("sigma_y_nm", ("ynmerr", "locprecnm"), "nm"),
    Column("sigma_z_nm", ("locprecznm", "zerr"), "nm"),
    Column("sigma_photons", ("photerr", "phot_err")),
    Column("sigma_background_photons", ("bgerr",)),
    Column("psf_width_x_nm", ("PSFxnm",), "nm"),
    Column("psf_width_y_nm", ("PSFynm",), "nm"),
    Column("probability", ("prob",)),
    Column("channel", ("channel",)),
    Column("group", ("groupindex",)),
)
SMLM = (
    Column("frame", ("frame",)),
    Column("x_nm", ("x", "x_position", "position_x", "x_nm_"), "nm"),
    Column("y_nm", ("y", "y_position", "position_y", "y_nm_"), "nm"),
    Column("z_nm", ("z", "z_position", "position_z", "z_nm_"), "nm"),
    Column("sigma_x_nm", ("x_precision", "uncertainty_x", "uncertainty_xy_nm_", "uncertainty_nm_"), "nm"),
    Column("sigma_y_nm", ("y_precision", "uncertainty_y", "uncertainty_xy_nm_", "uncertainty_nm_"), "nm"),
    Column("sigma_z_nm", ("z_precision", "uncertainty_z", "uncertainty_z_nm_"), "nm"),
    Column("photons", ("intensity", "intensity_photon_"), "?"),
    Column("background_photons", ("background", "local_background", "offset_photon_"), "?"),
    Column("psf_width_nm", ("width", "sigma_nm_"), "nm"),
    Column("id", ("id", "original_index")),
    Column("channel", ("channel",)),
    Column("group", ("cluster",)),
)
RAPIDSTORM = (
    Column("frame", ("ImageNumber-0-0",)),
    Column("x_nm", ("Position-0-0",), "nm"),
    Column("y_nm", ("Position-1-0",), "nm"),
    Column("z_nm", ("Position-2-0",), "nm"),
    Column("sigma_x_nm", ("Position-0-0-uncertainty",), "nm"),
    Column("sigma_y_nm", ("Position-1-0-uncertainty",), "nm"),
    Column("photons", ("Amplitude-0-0",), "adu"),
    Column("background_photons", ("LocalBackground-0-0",), "adu"),
)
ELYRA = (
    Column("id", ("Index",)),
    Column("frame", ("First Frame",)),
    Column("x_nm", ("Position X [nm]",), "nm"),
    Column("y_nm", ("Position Y [nm]",), "nm"),
    Column("z_nm", ("Position Z [nm]",), "nm"),
    Column("sigma_x_nm", ("Precision [nm]",), "nm"),
    Column("sigma_y_nm", ("Precision [nm]",), "nm"),
    Column("sigma_z_nm", ("Precision Z [nm]",), "nm"),
    Column("photons", ("Number Photons",)),
    # half of which width it does not say, so it is not called psf_width_nm
    Column("psf_half_width_nm", ("PSF half width [nm]",), "nm"),
    Column("channel", ("Channel",)),
)
NANOIMAGER = (
    Column("channel", ("Channel",)),
    Column("frame", ("Frame",)),
    Column("x_nm", ("X (nm)",), "nm"),
    Column("y_nm", ("Y (nm)",), "nm"),
    Column("z_nm", ("Z (nm)",), "nm"),
    Column("sigma_x_nm", ("X precision (nm)",), "nm"),
    Column("sigma_y_nm", ("Y precision (nm)",), "nm"),
    Column("photons", ("Photons",)),
    Column("background_photons", ("Background",)),
)

# fmt: off
_ENTRIES = (
    Format(
        "vsmlm-csv", "napari-volumetric-smlm CSV", (".csv",), "text_formats", True, 0.0, 0, OWN, "ours", "ours",
        "our own rule; z_reference and provenance stand in a JSON file beside the table", True,
    ),
    Format(
        "parquet", "Apache Parquet", (".parquet",), "parquet", True, 0.0, 0, OWN, "ours", "ours",
        "our own rule; units, z_reference and provenance stand in the schema's metadata", True,
    ),
    Format(
        "thunderstorm", "ThunderSTORM CSV", (".csv",), "text_formats", True, 0.5, 1, THUNDERSTORM, "source", "source",
        "its MultipleLocationsImageFitting adds 0.5 px to every fit; frames are ImageJ slice numbers; the sign of z is the user's",
    ),
    Format(
        "challenge", "SMLM challenge CSV", (".csv",), "text_formats", True, 0.5, 1, CHALLENGE, "unverified", "source",
        "DECODE's published transformation subtracts one frame, 0.5 px in x and 1.5 px in y, and turns the sign of z; the extra pixel "
        "in y belongs to its calibration, so 0.5 px is taken for both; z is kept as it stands",
    ),
    Format(
        "picasso", "Picasso HDF5 + YAML", (".hdf5",), "picasso", True, 0.0, 0, PICASSO, "verified", "verified",
        "picassosr 0.11.3 fitted a spot drawn on the centre of row 10, column 17 of frame 0 as x 17.000, y 10.000, frame 0", True,
    ),
    Format(
        "smap-csv", "SMAP CSV", (".csv",), "text_formats", True, 1.0, 1, SMAP, "source", "source",
        "its fitters give positions in MATLAB's pixel numbers, which are 1 at the centre of the first pixel; its own exports to formats "
        "that count from 0 subtract one frame; not run on a drawn spot",
    ),
    Format(
        "smap-mat", "SMAP MATLAB file", (".mat",), "smap", False, 1.0, 1, SMAP, "source", "source",
        "as smap-csv; positions also count the corner of the camera's region of interest, which is subtracted",
    ),
    Format(
        "decode", "DECODE HDF5", (".h5",), "decode", True, 0.0, 0, DECODE, "source", "source",
        "its frames extend from -0.5 px; its x is the first axis of the frame, the row, and SMAP swaps x and y when it reads DECODE; "
        "z as its calibration has it; it takes no columns but its own",
    ),
    Format(
        "smlm", "SMLM (ShareLoc)", (".smlm",), "smlm", True, 0.0, 0, SMLM, "unverified", "unverified",
        "the specification 0.2 is silent; files converted from others keep the numbers of those", True,
    ),
    Format(
        "rapidstorm", "rapidSTORM text", (".txt",), "text_formats", False, 0.0, 0, RAPIDSTORM, "unverified", "source",
        "the header gives 0 as the smallest position and the smallest frame",
    ),
    Format(
        "elyra", "Zeiss Elyra text", (".txt",), "text_formats", False, 0.0, 1, ELYRA, "unverified", "unverified",
        "no document found; a sample file begins with frame 1",
    ),
    Format(
        "nanoimager", "ONI Nanoimager CSV", (".csv",), "text_formats", False, 0.0, 0, NANOIMAGER, "unverified", "unverified",
        "no document found; a sample file holds frame 0",
    ),
)
# fmt: on
FORMATS: dict[str, Format] = {entry.name: entry for entry in _ENTRIES}
