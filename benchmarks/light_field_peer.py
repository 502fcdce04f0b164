"""PySMLFM beside us: its command-line program in a process and an environment of its own (GPL-3), fed with two-dimensional fits.

It finds no molecules itself: it takes places on the sensor, tells the views apart and fits depth from parallax. It is given two lists:

- "perfect": every true molecule's apparent place in every view, with normal noise of the Cramér-Rao bound of that view alone (place,
  photons and background unknown). Nothing is missed, nothing overlaps: better than any program can find. The apparent place is what a view
  tells best: it moves in proportion to depth (p + s z with s = F_pp^-1 F_pz of the Fisher information).
- "fitted": what our own fit finds in each view alone, overlapping molecules together, with the image of a molecule in focus. With the
  whole depth-dependent image a single view leaves depth open, and more molecules are missed.

Its depth comes out in a scale of its own, so it is scored as it is and with the factor that bright single molecules give, read through the
same kind of list. A constant shift against the truth is taken out.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import theilslopes

from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.instrument import IDENTITY_AFFINE, Instrument
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.plans import EvaluatePlan, ReconstructPlan
from napari_volumetric_smlm.engine.assemble.score import constant_offset, match
from napari_volumetric_smlm.engine.localize.footprint import choose_window
from napari_volumetric_smlm.engine.optics.psf import camera_images
from napari_volumetric_smlm.engine.optics.pupil import view_pupil
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.reconstruct import reconstruct
from napari_volumetric_smlm.recipes.split_views import split_views

Array = NDArray[np.float64]
# a triangle of its lattice, whose lens centres are 1 apart: its centroid, and the direction of one of its lenses from there
TRIANGLE_CENTRE = (math.sqrt(3) / 6, 0.5)
PITCH_MM, TUBE_LENS_MM = 3.25, 200.0
# the best of seven that were tried on perfect lists; its own (1, 0.3, 8, 0.1, 0.5) are for seven views and larger errors
TOLERANCES = {"angle_tolerance": 0.1, "threshold": 0.1, "disparity_max": 3.0, "disparity_step": 0.05, "dist_search": 0.1}
DEPTHS_NM = np.linspace(-1900.0, 1900.0, 9)
SLOPES_OF = (1000.0, 5.0)  # photons and background: they hardly matter
IN_FOCUS_NM = (-20.0, 20.0)
WIDE = EvaluatePlan(gate="cylinder", gate_lateral_nm=400.0, gate_axial_nm=1500.0)


@dataclass(frozen=True)
class Spots:
    """Places (n, 2) of y and x in nm as the first view's pixels count, with frame, view and photons of each."""

    frame: NDArray[np.int64]
    view: NDArray[np.int64]
    place_yx: Array
    photons: Array

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Peer:
    """PySMLFM for one instrument with three lenses; program = its `smlfm-cli`."""

    program: Path
    instrument: Instrument

    def __post_init__(self) -> None:
        array = self.instrument.microlenses
        if array is None or array.layout != "triangle":
            raise ValueError("the peer is set up for an array of three lenses in a triangle")

    @cached_property
    def slopes(self) -> Array:
        """Apparent shift (v, 2) per depth, rows and columns, mean over depths."""
        return self._single_views(*SLOPES_OF)[0].mean(1)

    @cached_property
    def lens_uv(self) -> Array:
        """Lens centres (v, 2) in its units: rows and columns, 1 at the pupil's edge; the array stands on its head in the pupil."""
        return np.array([[-c for c in view.aperture.centre_na_yx] for view in self.instrument.views]) / self._aperture

    @property
    def _lengths_mm(self) -> tuple[float, float, float]:
        """Pitch, microlenses' and Fourier lens's focal length, all larger by one factor: the same pupil with room between the views."""
        array = self.instrument.microlenses
        return tuple(length * PITCH_MM / array.pitch_mm for length in (array.pitch_mm, array.focal_length_mm, array.fourier_lens_mm))

    @property
    def _aperture(self) -> float:
        return self.instrument.objective.numerical_aperture

    def _single_views(self, photons: float, background: float) -> tuple[Array, Array]:
        """Apparent shift per depth, and the standard error of the apparent place, (v, depth, 2) each, in each view alone.

        F = Fisher information of place p (with photons and background) and depth z: dp/dz = F_pp^-1 F_pz, var p = F_pp^-1.
        """
        pixel, side = self.instrument.pixel_nm(), choose_window(self.instrument) + 20
        place = torch.zeros((len(DEPTHS_NM), 3), dtype=torch.float64)
        place[:, 0] = torch.as_tensor(DEPTHS_NM)
        noise, total = float(np.asarray(self.instrument.cameras[0].read_noise_e)), sum(v.photon_fraction for v in self.instrument.views)
        step, slopes, errors = torch.eye(3, dtype=torch.float64), [], []
        for v, view in enumerate(self.instrument.views):
            pupil, n = view_pupil(self.instrument, v, torch.float64), photons * view.photon_fraction / total
            shape = camera_images(pupil, place, (side, pixel, True))
            moved = [[camera_images(pupil, place + sign * step[a], (side, pixel, True)) for sign in (1, -1)] for a in range(3)]
            z, y, x = (n * (ahead - behind) / 2 for ahead, behind in moved)
            jacobian = torch.stack([y, x, shape, torch.ones_like(shape), z], 1).flatten(2)
            variance = (n * shape + background + noise**2).flatten(1)
            fisher = torch.einsum("mpk,mqk->mpq", jacobian / variance[:, None], jacobian)
            covariance = torch.linalg.inv(fisher[:, :4, :4])
            slopes.append((covariance @ fisher[:, :4, 4:])[:, :2, 0].numpy())
            errors.append(covariance.diagonal(dim1=1, dim2=2)[:, :2].sqrt().numpy())
        return np.stack(slopes), np.stack(errors)

    def bound(self, z_nm: Array, photons: float, background: float) -> Array:
        """Standard error (n, v, 2) of the apparent y and x in each view alone."""
        errors = self._single_views(photons, background)[1]
        return np.stack([[np.interp(z_nm, DEPTHS_NM, each[:, a]) for a in (0, 1)] for each in errors]).transpose(2, 0, 1)

    def perfect(self, truth: Localizations, photons: float, background: float, seed: int) -> Spots:
        """Apparent places of all molecules in all views, as exactly as the light allows."""
        place = truth.position_zyx_nm
        seen = place[:, None, 1:] + place[:, :1, None] * self.slopes
        seen = seen + np.random.default_rng(seed).normal(size=seen.shape) * self.bound(place[:, 0], photons, background)
        views = seen.shape[1]
        light = np.full(seen.shape[:2], photons / views)
        return Spots(np.repeat(truth["frame"], views), np.tile(np.arange(views), len(truth)), seen.reshape(-1, 2), light.ravel())

    def fitted(self, stack: RawStack) -> Spots:
        """What our fit finds in every view alone, with the image of a molecule in focus."""
        cut, instrument = split_views(stack, self.instrument)
        # cut views count from their own first pixel; the first view's lies at its corner of the frame
        corner = np.array(self.instrument.views[0].region_yx_px[:2]) * self.instrument.pixel_nm()
        parts = []
        for v, view in enumerate(instrument.views):
            alone = view.model_copy(update={"affine_yx": IDENTITY_AFFINE, "camera": 0, "photon_fraction": 1.0})
            update = {"views": (alone,), "cameras": (instrument.cameras[v],), "depth_range_nm": IN_FOCUS_NM}
            part = RawStack(counts_tyx=(cut.counts_tyx[v],), kind="frames")
            found = finish(
                reconstruct(part, instrument.model_copy(update=update), ReconstructPlan(device="cpu", processes=1))
            ).localizations
            shift = np.array([view.affine_yx[0][2], view.affine_yx[1][2]])
            parts.append(Spots(found["frame"], np.full(len(found), v), found.position_zyx_nm[:, 1:] - shift + corner, found["photons"]))
        return Spots(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def localize(self, spots: Spots, z_factor: float = 1.0) -> tuple[Localizations, float]:
        """Its molecules, and the seconds of processor time of its process."""
        native = self.instrument.microlenses.native_magnification
        _, microlens_mm, fourier_mm = self._lengths_mm
        scale_um = (1000 * self._aperture * fourier_mm / native) / (native * microlens_mm / fourier_mm)
        # our views lie where the sensor has room; on its sensor they lie under their lenses
        sensor_um = spots.place_yx / 1000 + self.lens_uv[spots.view] * scale_um
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            rows = np.column_stack([spots.frame + 1, sensor_um[:, ::-1] * 1000, np.full(len(spots), 250.0), spots.photons,
                                    np.zeros(len(spots)), np.full(len(spots), 20.0)])  # fmt: skip
            np.savetxt(
                where / "spots.csv", rows, "%d,%.4f,%.4f,%.1f,%.1f,%.1f,%.1f", header="frame,x,y,sigma,intensity,background,uncertainty"
            )
            (where / "config.json").write_text(json.dumps(self._configuration(where)))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [str(self.program), "config.json"], cwd=where, capture_output=True, text=True, check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
            )  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            results = list(where.glob("*/locs3D.csv"))
            if done.returncode or not results:
                raise RuntimeError(f"{self.program} failed: {done.stderr[-2000:] or done.stdout[-2000:]}")
            # x, y, z, photons, frame; it cuts numbers off after 17 letters, so that one in e-18 loses its end and cannot be read
            found = np.atleast_2d(np.genfromtxt(results[0], delimiter=",", usecols=(0, 1, 2, 6, 7)))
            found = found[np.isfinite(found).all(1)]
        # it takes the mean of all places for its origin
        y, x = (found[:, [1, 0]] * 1000 + sensor_um.mean(0) * 1000).T
        columns = {
            "frame": found[:, 4].astype(int) - 1,
            "z_nm": found[:, 2] * 1000 * z_factor,
            "y_nm": y,
            "x_nm": x,
            "photons": found[:, 3],
        }
        return Localizations(columns=columns, z_reference=self.instrument.z_reference), seconds

    def z_factor(self, spots: Spots, truth: Localizations) -> float:
        """Depth over its depth, from bright molecules that stand alone."""
        found, _ = self.localize(spots)
        found = found.moved(-constant_offset(truth, found, WIDE))
        left, right = match(truth, found, WIDE)
        return float(theilslopes(truth["z_nm"][left], found["z_nm"][right])[0])

    def _configuration(self, folder: Path) -> dict[str, Any]:
        array, eye = self.instrument.microlenses, self.instrument.objective
        (v, u), (pitch_mm, microlens_mm, fourier_mm) = self.lens_uv[0], self._lengths_mm
        fit = {"frame_min": -1, "frame_max": -1, "z_calib": 1.0, "min_views": 2, **TOLERANCES}
        return {
            "csv_file": str(folder / "spots.csv"), "csv_format": "THUNDERSTORM", "mla_type": "HEXAGONAL", "mla_lens_pitch": pitch_mm * 1000,
            "mla_optic_size": 4000 * pitch_mm, "mla_centre": TRIANGLE_CENTRE, "mla_rotation": math.degrees(math.atan2(v, u)),
            "focal_length_mla": microlens_mm, "focal_length_obj_lens": TUBE_LENS_MM / array.native_magnification,
            "focal_length_fourier_lens": fourier_mm, "focal_length_tube_lens": TUBE_LENS_MM,
            "num_aperture": eye.numerical_aperture, "ref_idx_immersion": eye.immersion_index,
            "ref_idx_medium": self.instrument.sample_index, "pixel_size_camera": self.instrument.cameras[0].pixel_um,
            "alpha_model": "SPHERE", "save_dir": str(folder), "show_graphs": False, "confirm_mla_alignment": False,
            # several of its processes fit the frames at the edges of their blocks twice
            "max_workers": 1, "fit_params_full": fit, "fit_params_aberration": fit,
            "aberration_params": {"axial_window": 1.0, "photon_threshold": 1, "min_views": 2},
        }  # fmt: skip
