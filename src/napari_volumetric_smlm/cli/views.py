"""vsmlm views: where the views of a microlens array lie in raw light-field frames."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..domain.images import RawStack, StackNote
from ..domain.instrument import Instrument
from ..domain.microlenses import MicrolensArray
from ..errors import InstrumentError, PlanError
from ..io.instruments import load_instrument, save_instrument
from ..io.json_files import read_noun
from ..io.lens_centres import read_lens_centres
from ..io.results import write_image
from ..io.stacks import write_note
from .files import check_output, instrument_file, open_frames
from .progress import carry_out

TEXT_SUFFIXES = (".txt", ".csv", ".tsv")
NAME = "views"
SUMMARY = "Find the views of a microlens array in raw light-field frames, and cut them out."
DETAILS = (
    "All views show the same molecules, so the frames repeat themselves at the distances of the lenses. Writes the instrument with its "
    "lens centres (rows and columns in pixels, from 0). Views are cut at whole pixels, nothing is resampled."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("frames", type=Path, metavar="FRAMES.tif", help="Raw frames of molecules, beads or a sample.")
    parser.add_argument(
        "--instrument", type=instrument_file, required=True, metavar="I.json", help="The microscope, with its microlens array."
    )
    parser.add_argument("--array", type=Path, metavar="ARRAY.json", help="A microlens array to put behind a microscope that has none.")
    parser.add_argument("--output", type=Path, required=True, metavar="PLACED.json", help="The instrument with the views where they are.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--look-for",
        choices=("repeats", "spots"),
        default="repeats",
        help="What tells the lenses: frames that repeat themselves, or spots of one point at the field's centre (default: repeats).",
    )
    how.add_argument(
        "--centres", type=_point, nargs="+", metavar="ROW,COLUMN", help="Lens centres that you know, in pixels; nothing is looked for."
    )
    how.add_argument(
        "--centres-from",
        type=Path,
        metavar="FILE",
        help="A text file with a row and a column on each line, or a point-spread function (.mat, .tif) with a spot for each lens.",
    )
    parser.add_argument(
        "--cut", type=Path, metavar="VIEWS.tif", help="Also write the views: VIEWS_lens1.tif, ... and VIEWS_instrument.json."
    )


def run(args: argparse.Namespace) -> None:
    """Find, write, tell where they are."""
    for output in (args.output, args.cut):
        if output is not None:
            check_output(output, [args.frames, *(path for path in (args.array, args.centres_from) if path is not None)])
    if args.output.suffix.lower() != ".json":
        raise PlanError(f"--output {args.output}: an instrument is a .json file")
    if args.cut is not None and args.cut.suffix.lower() not in (".tif", ".tiff"):
        raise PlanError(f"--cut {args.cut}: views are written as .tif")
    instrument = load_instrument(args.instrument)
    stack = open_frames(args, [args.frames], instrument, "light_field")
    from ..engine.optics.views import light_field_instrument
    from ..recipes.split_views import place_views, put_views, split_views

    if args.array is not None:
        instrument = light_field_instrument(read_noun(args.array, MicrolensArray, InstrumentError), instrument)
    if args.centres is not None:
        placed = put_views(instrument, tuple(args.centres))
    elif args.centres_from is not None and args.centres_from.suffix.lower() in TEXT_SUFFIXES:
        if instrument.microlenses is None:
            raise PlanError(f"the instrument {instrument.name!r} has no microlens array: give one with --array")
        centres = read_lens_centres(args.centres_from, instrument.microlenses, instrument.cameras[0].pixel_um)
        placed = put_views(instrument, centres)
    elif args.centres_from is not None:
        measured = open_frames(args, [args.centres_from], instrument, "beads")
        placed = carry_out(place_views(measured, instrument, "spots"), args.quiet)
    else:
        placed = carry_out(place_views(stack, instrument, args.look_for), args.quiet)
    # cut first: views that reach beyond the sensor are then told before anything is written
    cut = split_views(stack, placed) if args.cut is not None else None
    save_instrument(placed, args.output)
    print("\n".join(lines(placed)))
    written = [args.output, *(write_views(args.cut, *cut) if cut is not None else ())]
    for words in cut[0].warnings if cut is not None else ():
        print(f"Note: {words}")
    print(f"Written: {', '.join(map(str, written))}")


def lines(placed: Instrument) -> list[str]:
    """Return where the views are, in words."""
    rows = []
    centres = placed.microlenses.sensor_centres_yx_px if placed.microlenses is not None else None
    for view, (row, column) in zip(placed.views, centres or (), strict=True):
        top, left, bottom, right = view.region_yx_px or (0, 0, 0, 0)
        rows.append(f"{view.name}: centre at row {row:.1f}, column {column:.1f}; rows {top} to {bottom - 1}, columns {left} to {right - 1}")
    return rows


def write_views(place: Path, stack: RawStack, instrument: Instrument) -> list[Path]:
    """Write one stack a view and the instrument that they belong to, each with a note that leads to it."""
    saved = save_instrument(instrument, place.with_name(f"{place.stem}_instrument.json"))
    names = []
    for v, counts in enumerate(stack.counts_tyx):
        pixel_nm = instrument.pixel_nm(v)
        path = place.with_name(f"{place.stem}_lens{v + 1}{place.suffix}")
        names.append(write_image(np.asarray(counts[:]), path, (1.0, pixel_nm, pixel_nm), axes="TYX"))
        write_note(path, StackNote(kind="frames", instrument=saved.name))
    return [*names, saved]


def _point(word: str) -> tuple[float, float]:
    """Read `10.5,20`."""
    parts = word.split(",")
    try:
        row, column = (float(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no row and column with a comma between them, as 512.5,300") from None
    return row, column
