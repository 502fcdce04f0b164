"""A light-field microscope against theory: python benchmarks/light_field_psf.py [--instrument FILE] [--json FILE].

Three tables for three lenses behind an oil objective (the shipped `light_field_3`, or any instrument with a microlens array):

1. What follows from the optics, beside the same numbers worked out by hand from the published focal lengths and pitch.
2. The point-spread function twice: each view as a sub-pupil, which everything else uses, and the wave through the whole array to the
   camera. Per plane over +-2 um, the least favourable of the views: normalised correlation, distance of the centroids and largest
   difference in shares of the peak, on the camera's pixels in a window of 8.8 um.
3. The Cramér-Rao bound of an isolated molecule beside figures from separate computations: z, y, x unknown, photons and background known,
   photons counted in the window of 29 x 29 pixels; and the same with photons and one background a view unknown too.

The hand-made columns hold for the shipped instrument only. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.engine.localize.bounds import fisher_information, standard_errors
from napari_volumetric_smlm.engine.optics.microlenses import array_images
from napari_volumetric_smlm.engine.optics.psf import sampled_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.engine.optics.table import PsfTable
from napari_volumetric_smlm.engine.optics.views import light_field_numbers
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument

LEAST_CORRELATION, LARGEST_CENTROID_NM, LARGEST_BOUND_ERROR = 0.98, 10.0, 0.10
DEPTHS_NM = torch.linspace(-2000, 2000, 17)
WINDOW_PX, BOUND_WINDOW_PX = 61, 29
# value and tolerance, from the published focal lengths and pitch
EXPECTED = {
    "pupil_diameter_mm": (7.975, 0.001),
    "magnification": (42.55, 0.01),
    "nominal_pixel_nm": (152.8, 0.1),
    "pixel_nm": (145.0, 0.01),
    "occupancy": (2.454, 0.001),
    "lateral_resolution_nm": (575, 1),
    "samples_a_resolution": (3.77, 0.01),
    "axial_resolution_nm": (843, 1),
    "depth_of_field_nm": (4410, 10),
    "field_um": (76.4, 0.1),
    "lens_na": (0.591, 0.001),
    "centre_na": (0.682, 0.001),
    "inner_edge_na": (0.091, 0.004),
    "outer_edge_na": (1.273, 0.004),
    "chief_slope": (0.504, 0.001),
    "mean_slope": (0.627, 0.003),
    "energy_share": (0.39, 0.005),
}
# (photons, background, read noise) -> depth in nm -> standard errors xy, z in nm; positions unknown, the rest known
BOUNDS = {
    (1000, 0, 0.0): {0: (6.6, 11.7), 1000: (8.5, 15.6), 2000: (12.7, 25.0)},
    (1000, 2, 1.6): {0: (12.0, 21.3), 1000: (14.5, 26.5), 2000: (25.6, 50.0)},
    (1000, 10, 1.6): {0: (16.2, 28.8), 1000: (19.8, 36.0), 2000: (37.0, 71.0)},
    (2000, 5, 1.6): {0: (8.1, 14.4), 1000: (9.8, 18.0), 2000: (17.1, 33.7)},
    (2000, 10, 1.6): {0: (9.2, 16.4), 1000: (11.2, 20.4), 2000: (20.1, 39.2)},
    (3000, 10, 1.6): {0: (6.8, 12.0), 1000: (8.2, 15.0), 2000: (14.4, 28.3)},
    (3000, 20, 1.6): {0: (7.9, 14.1), 1000: (9.7, 17.6), 2000: (17.5, 33.9)},
    (5000, 10, 1.6): {0: (4.7, 8.3), 1000: (5.7, 10.4), 2000: (9.7, 19.2)},
}


def derived(instrument: Instrument) -> dict[str, float]:
    """Numbers of the first view's optics, named as in EXPECTED."""
    n = light_field_numbers(instrument)
    own = {name: getattr(n, name) for name in EXPECTED if hasattr(n, name)}
    return own | {
        "centre_na": n.centre_na_v[0],
        "inner_edge_na": n.edges_na_v[0][0],
        "outer_edge_na": n.edges_na_v[0][1],
        "chief_slope": n.chief_slope_v[0],
        "mean_slope": math.hypot(*n.slope_yx_v[0]),
        "energy_share": sum(n.energy_share_v),
    }


def compare_models(instrument: Instrument, samples: int) -> list[dict[str, float]]:
    """Both models plane by plane; the worst view counts."""
    pixel = instrument.pixel_nm()
    grid = (WINDOW_PX, pixel, pixel)
    share = torch.tensor([view.photon_fraction for view in instrument.views])
    share = share / share.sum()
    pupils = [view_pupil(instrument, v) for v in range(len(share))]
    x = (torch.arange(WINDOW_PX) - WINDOW_PX // 2) * pixel
    rows = []
    for z in DEPTHS_NM:
        position = torch.tensor([[float(z), 0.0, 0.0]])
        wave = array_images(instrument, position, grid, samples)[0]
        blurs = [view.blur_nm for view in instrument.views]
        fast = torch.stack([sampled_images(p, position, grid, b)[0] * s for p, b, s in zip(pupils, blurs, share, strict=True)])
        correlation = (wave * fast).sum((1, 2)) / (wave.square().sum((1, 2)) * fast.square().sum((1, 2))).sqrt()
        centres = [torch.stack([(i.sum(2) @ x), (i.sum(1) @ x)]) / i.sum((1, 2)) for i in (wave, fast)]
        rows.append(
            {
                "z_nm": float(z),
                "correlation": float(correlation.min()),
                "centroid_nm": float(torch.hypot(*(centres[0] - centres[1])).max()),
                "peak_error": float(((wave - fast).abs().amax((1, 2)) / fast.amax((1, 2))).max()),
            }
        )
    return rows


def compare_bounds(instrument: Instrument) -> list[dict[str, Any]]:
    """Bounds with the definition of the figures in BOUNDS, and with all parameters unknown."""
    table = PsfTable(instrument, BOUND_WINDOW_PX, depth_step_nm=25.0)
    rows = []
    for (photons, background, read_noise), by_depth in BOUNDS.items():
        for z, expected in by_depth.items():
            position = torch.tensor([[float(z), 0.0, 0.0]])
            images = table.images(position[:, None].expand(-1, len(instrument.views), -1), derivatives=False).value
            emitted = torch.tensor([photons / float(images.sum())])
            fisher = fisher_information(table, position, emitted, torch.tensor([float(background)]), read_noise**2)
            known, unknown = standard_errors(fisher[:, :3, :3])[0], standard_errors(fisher)[0]
            row: dict[str, Any] = {"photons": photons, "background": background, "read_noise_e": read_noise, "z_nm": z}
            for name, errors in (("known", known), ("unknown", unknown)):
                row[name] = (math.hypot(float(errors[1]), float(errors[2])) / math.sqrt(2), float(errors[0]))
            row["expected"] = expected
            row["ratio"] = tuple(found / wanted for found, wanted in zip(row["known"], expected, strict=True))
            rows.append(row)
    return rows


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--instrument", type=Path, help="instrument file with a microlens array; empty = the shipped one")
    parser.add_argument("--samples", type=int, default=1025, help="samples across the pupil for the wave through the array")
    parser.add_argument("--json", type=Path, default=Path("benchmark-output/light_field_psf.json"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    instrument = load_example("light_field_3") if args.instrument is None else load_instrument(args.instrument)
    shipped = args.instrument is None
    missed = []

    numbers = derived(instrument)
    print(f"{'number':>22} {'found':>9} {'by hand':>9}")
    for name, (expected, tolerance) in EXPECTED.items():
        wrong = shipped and abs(numbers[name] - expected) > tolerance
        missed += [name] if wrong else []
        by_hand = f"{expected:9.5g}" if shipped else f"{'-':>9}"
        print(f"{name:>22} {numbers[name]:9.5g} {by_hand}{' !' if wrong else ''}")

    planes = compare_models(instrument, args.samples)
    print(f"\n{'z nm':>7} {'correlation':>12} {'centroids nm':>13} {'of the peak':>12}")
    for row in planes:
        wrong = row["correlation"] < LEAST_CORRELATION or row["centroid_nm"] > LARGEST_CENTROID_NM
        missed += [f"plane {row['z_nm']:.0f}"] if wrong else []
        print(f"{row['z_nm']:7.0f} {row['correlation']:12.5f} {row['centroid_nm']:13.2f} {row['peak_error']:12.2%}{' !' if wrong else ''}")

    bounds = compare_bounds(instrument) if shipped else []
    if bounds:
        print("\nCramér-Rao bound xy / z in nm, window 29 px; ratio to the separate computation; photons and backgrounds unknown")
        print(f"{'photons':>7} {'ground':>6} {'read':>5} {'z nm':>5} {'found':>13} {'expected':>13} {'ratio':>13} {'unknown':>13}")
    for row in bounds:
        wrong = max(abs(ratio - 1) for ratio in row["ratio"]) > LARGEST_BOUND_ERROR
        missed += [f"bound {row['photons']}, {row['background']}, {row['z_nm']}"] if wrong else []
        cells = [f"{row[k][0]:5.1f} / {row[k][1]:5.1f}" for k in ("known", "expected", "unknown")]
        ratio = f"{row['ratio'][0]:5.3f} / {row['ratio'][1]:5.3f}"
        print(
            f"{row['photons']:7d} {row['background']:6d} {row['read_noise_e']:5.1f} {row['z_nm']:5d} {cells[0]:>13} {cells[1]:>13} "
            f"{ratio:>13} {cells[2]:>13}{' !' if wrong else ''}"
        )
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall bars met")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"numbers": numbers, "planes": planes, "bounds": bounds, "missed": missed}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
