"""Make the sample data of resources/samples: python docs/make_samples.py [FOLDER].

Simulated, movies of molecules with the truth in a table. The two Tetrapod stacks come from one microscope with aberrations that its design
(resources/instruments/tetrapod.json) does not have: beads to calibrate it, frames to reconstruct.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_volumetric_smlm.domain.images import StackNote
from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.domain.runs import Simulation
from napari_volumetric_smlm.domain.structured_plans import Microscope, StructuredSimulatePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.engine.simulate.beads import scan_beads
from napari_volumetric_smlm.engine.simulate.camera import expose
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.io.stacks import write_note
from napari_volumetric_smlm.io.tables import write_table
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.sample_movies import FIELD_BACKGROUND, movie_behind_field_stop
from napari_volumetric_smlm.recipes.simulate import simulate
from napari_volumetric_smlm.recipes.structured_simulation import simulate_structured

RESOURCES = Path(__file__).resolve().parents[1] / "src" / "napari_volumetric_smlm" / "resources"

# What is wrong with the real Tetrapod microscope: astigmatism, coma, trefoil and spherical aberration (rad), and a little blur.
ABERRATIONS = {5: 0.25, 7: -0.30, 8: 0.20, 9: 0.20, 10: -0.15, 11: 0.35, 14: -0.15, 16: 0.10}
BLUR_NM = 45.0

# What takes the structured-illumination sample: an oil lens with the losses of real ones, TIRF patterns of 3 directions x 3 phases.
STRUCTURED = Microscope(numerical_aperture=1.49, emission_nm=525, pixel_nm=62, offset_counts=100)

# The light-field sample's array: the three lenses of resources/instruments/light_field_3.json, all lengths times this, so that each lens
# sees the same part of the pupil and a raw frame is small. Its middle is not the frame's.
SMALLER, LENSES_YX_PX = 0.3, ((199.904, 145.0), (70.0, 70.0), (70.0, 220.0))

BEAD_SLICES, BEAD_STEP_NM, BEAD_SHAPE_PX = 41, 100.0, (81, 81)
BEAD_PHOTONS, BEAD_BACKGROUND, BEAD_DIAMETER_NM = 60_000.0, 15.0, 100.0


def real_tetrapod() -> Instrument:
    """Return the microscope that took the Tetrapod stacks."""
    design = load_instrument(RESOURCES / "instruments" / "tetrapod.json")
    (view,) = design.views
    coefficients = dict(view.zernike_noll_rad)
    for j, value in ABERRATIONS.items():
        coefficients[j] = coefficients.get(j, 0.0) + value
    view = view.model_copy(update={"zernike_noll_rad": dict(sorted(coefficients.items())), "blur_nm": BLUR_NM})
    return design.model_copy(update={"name": "Tetrapod sample microscope, as a perfect calibration finds it", "views": (view,)})


def bead_counts(instrument: Instrument) -> np.ndarray:
    """Return one bead on the coverslip, the focal plane moving into the sample."""
    focus = (torch.arange(BEAD_SLICES) - BEAD_SLICES // 2) * BEAD_STEP_NM
    pixel = instrument.pixel_nm()
    # off the centre of its pixel, as a real one is
    bead = torch.tensor([[BEAD_DIAMETER_NM / 2, 40.3 * pixel, 39.8 * pixel]])
    light = scan_beads(instrument, bead, focus, BEAD_SHAPE_PX, BEAD_DIAMETER_NM) * BEAD_PHOTONS + BEAD_BACKGROUND
    counts = expose(light[:, 0], instrument.cameras[0], torch.Generator().manual_seed(1))
    return counts.numpy().astype(np.uint16)


def make_samples(folder: Path) -> None:
    """Write all samples into a folder."""
    real = real_tetrapod()
    save_instrument(real, folder / "tetrapod_microscope.json")
    design = "../instruments/tetrapod.json"
    _write(
        folder / "tetrapod_beads.tif", bead_counts(real), StackNote(kind="beads", z_step_nm=BEAD_STEP_NM, pixel_nm=110, instrument=design)
    )

    plan = SimulatePlan(frame_count=20, density_per_um2=0.065, photons=(6000, 18000), background_photons=(12, 25), seed=7, device="cpu")
    tetrapod = plan.model_copy(update={"structure": "filaments", "background_structure": "perlin", "border_px": 16})
    _write_movie(folder, "tetrapod", finish(simulate(real, tetrapod)), "tetrapod_microscope.json")

    astigmatic = plan.model_copy(update={"structure": "filaments", "photons": (1500.0, 6000.0), "density_per_um2": 0.06, "seed": 8})
    instrument = load_instrument(RESOURCES / "instruments" / "astigmatic.json")
    _write_movie(folder, "astigmatic", finish(simulate(instrument, astigmatic)), "../instruments/astigmatic.json")

    biplane = plan.model_copy(update={"structure": "shells", "photons": (3000.0, 10000.0), "density_per_um2": 0.10, "seed": 9})
    instrument = load_instrument(RESOURCES / "instruments" / "biplane.json")
    _write_movie(folder, "biplane", finish(simulate(instrument, biplane)), "../instruments/biplane.json")

    smaller = light_field_microscope()
    save_instrument(smaller, folder / "light_field_microscope.json")
    _write_movie(folder, "light_field", light_field_movie(smaller), "light_field_microscope.json")

    microscope = structured_microscope()
    save_instrument(microscope, folder / "structured_microscope.json")
    raw = finish(simulate_structured(microscope, structured_plan())).stack
    note = StackNote(kind="structured", pixel_nm=STRUCTURED.pixel_nm, instrument="structured_microscope.json")
    _write(folder / "structured.tif", raw.counts_tyx[0], note)


def structured_microscope() -> Instrument:
    """Return the microscope that took the structured-illumination stack."""
    instrument = STRUCTURED.instrument()
    camera = instrument.cameras[0].model_copy(update={"gain_e_per_count": 2.0, "read_noise_e": 1.5, "saturation_counts": 65535.0})
    return instrument.model_copy(update={"name": "Structured illumination sample microscope", "cameras": (camera,)})


def structured_plan() -> StructuredSimulatePlan:
    """Return what the structured-illumination stack holds: crossing filaments and a weak haze."""
    return StructuredSimulatePlan(
        photons=250,
        background_photons=12,
        emitter_density_per_um2=500,
        otf_damping=0.3,
        modulation=0.7,
        bleaching=0.05,
        seed=3,
        device="cpu",
    )


def light_field_microscope() -> Instrument:
    """Return the microscope that took the light-field movie."""
    shipped = load_instrument(RESOURCES / "instruments" / "light_field_3.json")
    array = shipped.microlenses.model_dump()
    lengths = {name: round(array[name] * SMALLER, 6) for name in ("pitch_mm", "focal_length_mm", "fourier_lens_mm")}
    place = {"frame_yx_px": (270, 290), "sensor_centres_yx_px": LENSES_YX_PX, "field_yx_px": (128, 128)}
    smaller = light_field_instrument(MicrolensArray.model_validate(array | lengths | place), shipped)
    return smaller.model_copy(update={"name": "Fourier light field, three small lenses (sample)"})


def light_field_movie(instrument: Instrument) -> Simulation:
    """Return filaments seen through three lenses; the background ends at the edges of the fields, as a field stop makes it."""
    plan = SimulatePlan(
        frame_count=20,
        density_per_um2=0.03,
        border_px=12,
        photons=(4000, 12000),
        background_photons=(0, 0),
        structure="filaments",
        seed=10,
        device="cpu",
    )
    return finish(movie_behind_field_stop(instrument, plan, FIELD_BACKGROUND))


def _write_movie(folder: Path, name: str, simulation: Simulation, instrument: str) -> None:
    several = len(simulation.stack.counts_tyx) > 1
    for number, counts in enumerate(simulation.stack.counts_tyx, start=1):
        path = folder / (f"{name}_camera{number}.tif" if several else f"{name}.tif")
        note = StackNote(kind="frames", pixel_nm=simulation.instrument.pixel_nm(), instrument=instrument)
        _write(path, counts, note if number == 1 else None)
    write_table(simulation.truth, folder / f"{name}_truth.csv")


def _write(path: Path, counts: np.ndarray, note: StackNote | None) -> None:
    tifffile.imwrite(path, counts, compression="zlib", compressionargs={"level": 9}, photometric="minisblack", metadata={"axes": "TYX"})
    if note is not None:
        write_note(path, note)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else RESOURCES / "samples"
    target.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    make_samples(target)
    for path in sorted(target.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
    print(f"{sum(path.stat().st_size for path in target.iterdir()) / 2**20:.2f} MiB in all")
