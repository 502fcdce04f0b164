"""The exact call that a button made, as Python and as a command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from ..domain.images import RawStack
from ..domain.instrument import Instrument
from ..domain.noun import Noun
from ..domain.plans import CalibrationPlan, ReconstructPlan, TrainPlan
from ..domain.structured_plans import StructuredPlan
from ..domain.volume_plans import ViewsPlan
from ..errors import OutputError
from ..io.instruments import save_instrument
from .forms import write_value

PACKAGE = __name__.partition(".")[0]


def changed_fields(plan: Noun) -> dict[str, Any]:
    """Return the fields of a plan that differ from their defaults."""
    fields = type(plan).model_fields
    return {
        name: getattr(plan, name)
        for name, field in fields.items()
        if field.is_required() or getattr(plan, name) != field.get_default(call_default_factory=True)
    }


def source_paths(stack: RawStack) -> list[str]:
    """Return the files of a stack.

    Raises
    ------
    OutputError
        If the frames are in memory only.
    """
    if not stack.source or not all(Path(path).exists() for path in stack.source):
        raise OutputError("these frames are in memory only: save the layer as a TIFF file and open that, then the call can be repeated")
    return [str(Path(path).resolve()) for path in stack.source]


def instrument_file(instrument: Instrument, path: Path | None, folder: Path) -> Path:
    """Return the instrument's file; one that was only in memory is written into `folder` first.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    if path is not None and path.is_file():
        return path.resolve()
    place = folder / f"instrument-{instrument.fingerprint}.json"
    if not place.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one in the preferences") from error
        save_instrument(instrument, place)
    return place.resolve()


def spell_plan(plan: Noun) -> str:
    """Return the Python expression that makes a plan."""
    return f"{type(plan).__name__}({', '.join(f'{name}={value!r}' for name, value in changed_fields(plan).items())})"


def _script(plan: Noun, instrument: Path, uses: dict[str, str], stack: str, ends: str) -> str:
    """Return a script: imports (what, by module), the stack if there is one, instrument and plan, and what is done with them."""
    module = type(plan).__module__.removeprefix(f"{PACKAGE}.")
    uses = {module: type(plan).__name__, "io.instruments": "load_instrument", "recipes": "finish"} | uses
    if stack:
        uses["io.stacks"] = "open_stack"
    imports = [f"from {PACKAGE}.{name} import {uses[name]}" for name in sorted(uses)]
    made = [f"instrument = load_instrument({str(instrument)!r})", f"plan = {spell_plan(plan)}"]
    return "\n".join([*imports, "", *([stack] if stack else []), *made, ends, ""])


def _opened(paths: list[str], kind: str) -> str:
    return f"stack = open_stack({paths!r}, kind={kind!r})"


def reconstruct_in_python(paths: list[str], instrument: Path, plan: ReconstructPlan, output: str = "molecules.csv") -> str:
    """Return a script that does what the Reconstruct button did and writes the table."""
    uses = {"io.tables": "write_table", "recipes.reconstruct": "reconstruct"}
    ends = f"result = finish(reconstruct(stack, instrument, plan))\nwrite_table(result.localizations, {output!r})"
    return _script(plan, instrument, uses, _opened(paths, "frames"), ends)


def calibrate_in_python(paths: list[str], instrument: Path, plan: CalibrationPlan, output: str = "calibration.json") -> str:
    """Return a script that does what the Calibrate button did and writes the calibration."""
    uses = {"io.instruments": "load_instrument, save_instrument", "recipes.calibrate": "calibrate"}
    ends = f"result = finish(calibrate([stack], instrument, plan))\nsave_instrument(result.instrument, {output!r})"
    return _script(plan, instrument, uses, _opened(paths, "beads"), ends)


def train_in_python(paths: list[str], instrument: Path, plan: TrainPlan, output: str = "model.safetensors") -> str:
    """Return a script that does what the Train button did and writes the model; it reads no images."""
    uses = {"io.models": "write_model_weights", "recipes.train": "train"}
    ends = "result = finish(train(instrument, plan))\n"
    ends += f"write_model_weights(result.weights, result.card.model_dump(mode='json'), {output!r})"
    return _script(plan, instrument, uses, "", ends)


def structured_in_python(paths: list[str], instrument: Path, plan: StructuredPlan, output: str = "sharp.tif") -> str:
    """Return a script that does what the button of structured illumination did and writes the image."""
    uses = {"io.results": "write_structured", "recipes.structured": "reconstruct_structured"}
    ends = "result = finish(reconstruct_structured(stack, instrument, plan))\n"
    ends += f"write_structured(result.images_tyx, result, {output!r})"
    return _script(plan, instrument, uses, _opened(paths, "structured"), ends)


def volumes_in_python(paths: list[str], instrument: Path, plan: ViewsPlan, output: str = "volumes.tif") -> str:
    """Return a script that makes and writes the volume of every frame."""
    ends = f"finish(write_volumes(stack, instrument, plan, Path({output!r})))"
    script = _script(plan, instrument, {"recipes.volume_series": "write_volumes"}, _opened(paths, "frames"), ends)
    return f"from pathlib import Path\n\n{script}"


def on_command_line(verb: str, paths: list[str], instrument: Path, plan: Noun, output: str) -> str:
    """Return the command that does the same."""
    words = ["vsmlm", *verb.split(), *paths, "--instrument", str(instrument)]
    for name, value in changed_fields(plan).items():
        words += spell_option(name, value)
    return " ".join(shlex.quote(word) for word in [*words, "--output", output])


def spell_option(name: str, value: Any) -> list[str]:
    """Return a plan's field as an option of the command line."""
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [option] if value else ["--no-" + option.removeprefix("--")]
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return [option, json.dumps(value)]
        return [option, *(write_value(part) for part in value)]
    return [option, write_value(value)]
