"""vsmlm doctor: whether everything that is installed fits together."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from typing import Any

from .. import __version__
from ..errors import EngineError
from ..io import napari_version

NAME = "doctor"
SUMMARY = "Tell versions and devices, and what does not fit together."
DETAILS = "Paste its output into a bug report. Ends with 1 when something is wrong. Memory is in GiB."

BINDINGS = {"PySide6": ("PySide6-Essentials", "PySide6"), "PyQt6": ("PyQt6",), "PyQt5": ("PyQt5",), "PySide2": ("PySide2",)}
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pydantic",
    "tifffile",
    "zarr",
    "h5py",
    "pyarrow",
    "safetensors",
    "matplotlib",
    "napari",
    "npe2",
    "magicgui",
    "superqt",
    "qtpy",
    *(name for names in BINDINGS.values() for name in names),
)
PATIENCE_SECONDS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--json", action="store_true", help="Print everything as JSON.")


def run(args: argparse.Namespace) -> None:
    """Look at everything, print it, and fail when something is wrong."""
    facts = examine()
    print(json.dumps(facts, indent=1) if args.json else "\n".join(lines(facts)))
    if facts["problems"]:
        raise EngineError(f"{len(facts['problems'])} of the checks failed; what to do stands above")


def examine() -> dict[str, Any]:
    """Return versions, devices, notes (fine, but good to know) and problems (each with what to do)."""
    versions = {name: found for name in PACKAGES if (found := napari_version.version_of(name)) is not None}
    facts: dict[str, Any] = {
        "napari-volumetric-smlm": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "devices": [],
        "window": {},
        "notes": [],
        "problems": [],
    }
    facts["devices"] = _devices(facts["problems"])
    reason = napari_version.napari_problem()
    if "napari" not in versions:
        facts["notes"].append(reason)
        return facts
    if reason:
        facts["problems"].append(reason)
    else:
        _check_manifest(facts["problems"])
    warning = napari_version.binding_warning()
    if warning:
        facts["problems"].append(warning)
    bindings = [binding for binding, names in BINDINGS.items() if any(name in versions for name in names)]
    if not bindings:
        facts["problems"].append("no Qt binding is installed, napari has no windows without one: pip install PySide6-Essentials")
    elif len(bindings) > 1:
        facts["problems"].append(
            f"{len(bindings)} Qt bindings are installed ({', '.join(bindings)}), which crash when they are mixed: "
            "keep one, pip uninstall the others"
        )
    elif not has_display():
        facts["notes"].append("no display was found: napari's window cannot open here (xvfb-run gives it an invisible one)")
    else:
        _look_at_window(facts)
    return facts


def has_display() -> bool:
    """Whether windows can be shown here."""
    if sys.platform != "linux":
        return True
    if os.environ.get("QT_QPA_PLATFORM", "") in ("offscreen", "minimal"):
        return False
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _devices(problems: list[str]) -> list[str]:
    try:
        import torch
    except Exception as error:  # a broken installation raises anything from ImportError to OSError
        problems.append(f"PyTorch cannot be loaded ({error}): install it anew, see the get-started page of PyTorch")
        return []
    devices = [f"cpu ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(f"cuda:{index} ({torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free)")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _check_manifest(problems: list[str]) -> None:
    words = _ask("-m", "npe2", "validate", "--imports", "napari-volumetric-smlm")
    if words.returncode:
        problems.append(f"napari cannot use our manifest, the plugin would not be listed: {_last_line(words.stderr or words.stdout)}")


def _look_at_window(facts: dict[str, Any]) -> None:
    words = _ask("-m", "napari_volumetric_smlm.plugin.window_check")
    try:
        facts["window"] = json.loads(words.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        facts["problems"].append(f"Qt cannot open a window here: {_last_line(words.stderr)}")
        return
    if not facts["window"].get("opengl"):
        facts["problems"].append("OpenGL does not work, napari would show black pictures: update the graphics driver, or install Mesa")


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {PATIENCE_SECONDS} s")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it ended without a word"])[-1]


def lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines of text."""
    rows = [f"napari-volumetric-smlm {facts['napari-volumetric-smlm']}, Python {facts['python']}, {facts['system']}"]
    rows += [f"  {name} {version}" for name, version in facts["versions"].items()]
    rows.append("Devices: " + (", ".join(facts["devices"]) or "none"))
    if facts["window"]:
        rows.append("Window: " + ", ".join(f"{name} {value}" for name, value in facts["window"].items()))
    rows += [f"Note: {words}" for words in facts["notes"]]
    rows += [f"Problem: {words}" for words in facts["problems"]]
    rows.append("Everything fits together." if not facts["problems"] else "")
    return [row for row in rows if row]
