"""Other programs for structured illumination, each in an environment of its own and as a process of its own.

They get the same frames (without offset) and the same numbers of the lens, and supplied patterns in their own words:

    napari-sim-processor   waves in units of NA / wavelength, of the opposite sign; phase at sample N // 2; p = -phase
    pyfairsim              waves in samples of frequency (1 / field); phase of every frame at sample 0; x first

pyfairsim is run by its command line; nothing of it is imported.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_volumetric_smlm.domain.illumination import Illumination
from napari_volumetric_smlm.domain.structured_plans import Microscope

HERE = Path(__file__).resolve().parent
# as its widget starts, but for the pixel, which stands for itself
PROCESSOR_SETTINGS: dict[str, Any] = {
    "magnification": 1.0, "n": 1.518, "alpha": 0.5, "beta": 0.98, "w": 0.2, "eta": 0.65, "usePhases": True, "a_type": "none", "a": 0.25,
}  # fmt: skip
# the values that it calls usual, and the damping of the OTF that fairSIM starts with
FAIRSIM_SETTINGS: dict[str, Any] = {
    "wiener_filter_parameter": 0.05, "apodization_cutoff": 2, "apodization_bend": 0.9, "otf_correction": 0.3, "otf_type": "EXPONENTIAL",
    "otf_before_shift": True, "attenuation_strength": 0.99, "attenuation_fwhm": 1.2, "use_attenuation": True, "fit_band": 1,
    "fit_exclude": 0.6,
}  # fmt: skip


@dataclass(frozen=True)
class Raw:
    """Frames (a, p, y, x) without offset, and the lens."""

    frames_apyx: NDArray[Any]
    lens: Microscope

    @property
    def flat_tyx(self) -> NDArray[np.float32]:
        """The frames of an orientation behind each other."""
        return np.ascontiguousarray(self.frames_apyx.reshape(-1, *self.frames_apyx.shape[-2:]), np.float32)


@dataclass(frozen=True)
class Answer:
    """An image on the grid of half the pixel, and how long its two steps took."""

    image_yx: NDArray[np.float64]
    estimate_s: float
    reconstruct_s: float


def environment(name: str, root: Path) -> Path:
    """Python of the environment of a program, made from its list of packages where it is not there."""
    python = root / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # an installation that was cut off must not pass for one
    done = root / name / "installed.txt"
    if not done.is_file():
        print(f"making an environment for {name} in {root / name}", flush=True)
        venv.create(root / name, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / f"{name}.txt")]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            raise SystemExit(f"could not install {HERE / name}.txt in {root / name}: look at what is said above")
        done.write_text((HERE / f"{name}.txt").read_text())
    return python


@dataclass(frozen=True)
class Processor:
    """napari-sim-processor, waiting for requests."""

    process: subprocess.Popen[str]
    folder: Path

    def __call__(self, raw: Raw, known: Illumination | None = None, **settings: Any) -> Answer:
        """Calibrate and reconstruct.

        settings : attributes of the processor; also mode (as in its widget) and refined (it may adjust known patterns, as its widget does).
        """
        frames, output = self.folder / "processor.npy", self.folder / "processor_image.npy"
        np.save(frames, raw.flat_tyx)
        chosen = PROCESSOR_SETTINGS | {"pixelsize": raw.lens.pixel_nm * 1e-3, "NA": raw.lens.numerical_aperture} | settings
        chosen["wavelength"] = raw.lens.emission_nm * 1e-3
        request = {
            "frames": str(frames), "output": str(output), "angles": raw.frames_apyx.shape[0], "phases": raw.frames_apyx.shape[1],
            "mode": chosen.pop("mode", "SIM"), "supplied": None,
        }  # fmt: skip
        refined = chosen.pop("refined", True)
        if known is not None:
            request["supplied"] = {"refined": refined} | processor_patterns(raw, known)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request | {"settings": chosen}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"napari-sim-processor ended: {(self.folder / 'processor.log').read_text()[-800:]}")
        found = json.loads(line)
        return Answer(np.load(output).astype(float), found["estimate_s"], found["reconstruct_s"])


@contextmanager
def processor(python: Path, folder: Path, acceleration: str, threads: int) -> Iterator[Processor]:
    """napari-sim-processor with numpy's transforms, pyfftw's or torch, as long as it is needed."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    own = os.environ | dict.fromkeys(names, str(threads)) | {"QT_QPA_PLATFORM": "offscreen", "MPLBACKEND": "Agg"}
    command = [str(python), str(HERE / "napari_sim_processor_run.py"), acceleration]
    with (folder / "processor.log").open("w") as log, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=own
    ) as process:  # fmt: skip
        try:
            yield Processor(process, folder)
        finally:
            process.terminate()


def processor_patterns(raw: Raw, known: Illumination) -> dict[str, list[float]]:
    """Waves of the first order as napari-sim-processor states them."""
    found: dict[str, list[float]] = {"kx": [], "ky": [], "p": [], "ampl": []}
    unit = raw.lens.emission_nm * 1e-3 / raw.lens.numerical_aperture
    for orientation in known.orientations:
        wave = orientation.waves[0]
        ky, kx = wave.frequency_yx_per_um
        # sample N // 2 of an even number lies half a pixel behind the centre
        phase = wave.phase_rad + 2 * math.pi * (ky + kx) * 0.5 * raw.lens.pixel_nm * 1e-3
        for name, value in (("kx", -kx * unit), ("ky", -ky * unit), ("p", -phase), ("ampl", wave.modulation)):
            found[name].append(value)
    return found


@dataclass(frozen=True)
class FairSim:
    """pyfairsim's command line. The seconds are those that it reports: without starting, reading and the transforms of the frames."""

    python: Path
    folder: Path

    def __call__(self, raw: Raw, known: Illumination | None = None, **settings: Any) -> Answer:
        """Estimate where no patterns are known, and reconstruct."""
        stack, written, output = (self.folder / name for name in ("fairsim.tif", "fairsim.json", "fairsim_image.tif"))
        tifffile.imwrite(stack, raw.flat_tyx)
        written.write_text(json.dumps(fairsim_settings(raw, known, FAIRSIM_SETTINGS | settings)))
        estimate_s = self.run("parameter_estimation", stack, written, written) if known is None else 0.0
        reconstruct_s = self.run("reconstruction", stack, written, output)
        return Answer(tifffile.imread(output).astype(float), estimate_s, reconstruct_s)

    def run(self, module: str, stack: Path, settings: Path, output: Path) -> float:
        """Seconds that one of its modules reports."""
        command = [str(self.python), "-m", f"pyfairsim.{module}", "-f", str(stack), "-s", str(settings), "-o", str(output)]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = re.search(r"done in ([\d.]+) s", ended.stderr)
        if ended.returncode or seconds is None:
            raise RuntimeError(f"pyfairsim.{module} failed: {ended.stderr[-800:]}")
        return float(seconds[1])


def fairsim_settings(raw: Raw, known: Illumination | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """Its settings file."""
    count, phases, height, width = raw.frames_apyx.shape
    bands = 3 if phases >= 5 else 2
    pixel_um = raw.lens.pixel_nm * 1e-3
    directions = []
    for a in range(count):
        steps = [2 * math.pi * n / phases for n in range(phases)]
        direction = {"px": -1.0, "py": -1.0, "phases": steps, "modulations": [1.0] * bands}
        if known is not None:
            orientation = known.orientations[a]
            wave = orientation.waves[0]
            ky, kx = wave.frequency_yx_per_um
            corner = wave.phase_rad - math.pi * (ky * (height - 1) + kx * (width - 1)) * pixel_um
            direction = {
                "px": kx * width * pixel_um, "py": ky * height * pixel_um, "phases": [corner + step for step in orientation.steps_rad],
                "modulations": [1.0] + [wave.modulation for wave in orientation.waves],
            }  # fmt: skip
        more = {"number_bands": bands, "number_phases": phases, "angle_intensity_factor": 1.0, "phase_intensity_factors": [1.0] * phases}
        directions.append(direction | more)
    filters = ("wiener_filter_parameter", "apodization_cutoff", "apodization_bend")
    lens = raw.lens
    return {
        "directions": directions,
        "microscope_parameters": {"pixel_size": lens.pixel_nm, "na": lens.numerical_aperture, "wavelength": lens.emission_nm},
        "sim_parameters": {name: value for name, value in chosen.items() if name not in filters} | {"otf_file_location": None},
        "filter_parameters": {name: chosen[name] for name in filters},
        # what it calls paz is what we call apz
        "image_parameters": {"image_shape": [height, width], "ordering": "paz", "z_slice": 0, "background": 0.0, "tile_size": 32},
    }
