"""vsmlm render: a table into a super-resolved picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..domain.plans import RenderPlan
from ..errors import PlanError
from ..io.results import write_image, write_png
from .files import add_table_options, check_output, open_table
from .options import add_plan, plan_from

NAME = "render"
SUMMARY = "Draw a table as a super-resolved picture or volume."
DETAILS = "A .tif holds molecules per voxel with its pixel size in nm (OME-TIFF); a .png is a picture for the eye. Sizes are in nm."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("table", type=Path, metavar="TABLE", help="Table of molecules.")
    parser.add_argument("--output", type=Path, required=True, metavar="SR.tif", help="Picture to write, .tif or .png.")
    add_table_options(parser)
    add_plan(parser, RenderPlan)


def run(args: argparse.Namespace) -> None:
    """Draw and write."""
    plan = plan_from(args, RenderPlan)
    check_output(args.output, [args.table])
    if args.output.suffix.lower() not in (".tif", ".tiff", ".png"):
        raise PlanError(f"--output {args.output}: a picture is written as .tif or .png; found the ending {args.output.suffix or '(none)'}")
    if plan.dimensions == "3d" and (plan.color_by_depth or args.output.suffix.lower() == ".png"):
        raise PlanError("--dimensions 3d makes a volume: write it as .tif, without --color-by-depth; colours for depth are for 2d")
    table = open_table(args, args.table)
    from ..recipes.render import render, render_by_depth, shades

    as_png = args.output.suffix.lower() == ".png"
    if plan.color_by_depth:
        picture = render_by_depth(table, plan)
        low, high = picture.depth_range_nm
        extent = f"colours from z = {low:.0f} to {high:.0f} nm"
        values, voxel_zyx_nm = picture.rgb_yxc, (1.0, plan.pixel_nm, plan.pixel_nm)
    else:
        volume = render(table, plan)
        values, voxel_zyx_nm = volume.values_zyx, volume.voxel_zyx_nm
        values = values[0] if plan.dimensions == "2d" else values
        extent = " x ".join(map(str, values.shape)) + " voxels"
        if as_png:
            values = shades(volume)
    if as_png:
        write_png(values, args.output)
    else:
        # a volume covers a part of the frame
        write_image(values, args.output, voxel_zyx_nm, origin_zyx_nm=volume.origin_zyx_nm if plan.dimensions == "3d" else None)
    print(f"{args.output}: {len(table):,} molecules, pixel {plan.pixel_nm:g} nm, {extent}")
