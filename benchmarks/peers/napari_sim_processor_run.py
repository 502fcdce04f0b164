"""Answers requests with napari-sim-processor; runs in an environment of its own, which `structured_programs.py` makes.

A request is one line of JSON on standard input: "frames" (path of a .npy, the frames of an orientation behind each other), "settings"
(attributes of the processor), "angles", "phases", "mode" (as in its widget: SIM or SIM3D), "supplied" (null, or lists kx, ky, p, ampl
in the processor's units) and "output" (path of the .npy to write). The answer is one line: seconds of both steps, and what was found.
With supplied patterns the search is skipped; "refined" says whether the processor may still adjust them, as its widget does.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

ACCELERATION = sys.argv[1]
# the processor takes what it can import
for name, wanted in (("pyfftw", "pyfftw"), ("torch", "torch"), ("cv2", None), ("cupy", None)):
    if wanted != ACCELERATION:
        sys.modules[name] = None  # type: ignore[assignment]
answers, sys.stdout = sys.stdout, sys.stderr

import numpy as np  # noqa: E402
from napari_sim_processor.processors.convSimProcessor import ConvSimProcessor, ConvSimProcessor3D  # noqa: E402

KEPT: dict[str, Any] = {}


def processor(request: dict[str, Any]) -> Any:
    """The processor of the last request where it can be used again: its arrays are made only once."""
    key = json.dumps([request["mode"], request["angles"], request["phases"], request["frames"]])
    if key not in KEPT:
        KEPT.clear()
        kind = ConvSimProcessor3D if request["mode"] == "SIM3D" else ConvSimProcessor
        KEPT[key] = kind(angleSteps=request["angles"], phaseSteps=request["phases"])
    made = KEPT[key]
    made.debug = False
    for name, value in request["settings"].items():
        setattr(made, name, value)
    return made


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Calibrate and reconstruct."""
    frames = np.load(request["frames"]).astype(np.float32)
    made, given = processor(request), request["supplied"]
    if given is not None:
        for name in ("kx", "ky", "p", "ampl"):
            setattr(made, name, np.array(given[name], np.single)[:, None])
        if not given["refined"]:
            waves = iter(range(len(given["kx"])))

            def as_given(*_: Any) -> tuple[float, ...]:
                wave = next(waves)
                return tuple(given[name][wave] for name in ("kx", "ky", "p", "ampl"))

            made._refineCarrier = as_given
    started = time.perf_counter()
    (made.calibrate_pytorch if ACCELERATION == "torch" else made.calibrate)(frames, given is None)
    calibrated = time.perf_counter()
    image = (made.reconstruct_pytorch if ACCELERATION == "torch" else made.reconstruct_rfftw)(frames)
    ended = time.perf_counter()
    if given is not None and not given["refined"]:
        del made._refineCarrier
    np.save(request["output"], np.asarray(image, np.float32))
    found = {name: np.ravel(getattr(made, name)).tolist() for name in ("kx", "ky", "p", "ampl")}
    return {"estimate_s": calibrated - started, "reconstruct_s": ended - calibrated, **found}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
