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


def reconstruct_in_python(paths: list[str], instrument: Path, plan: ReconstructPlan, output: str = "molecules.csv") -> str:
    """Return a script that does what the Reconstruct button did and writes the table."""
    return "\n".join(
        [
            "from napari_volumetric_smlm.domain.plans import ReconstructPlan",
            "from napari_volumetric_smlm.io.instruments import load_instrument",
            "from napari_volumetric_smlm.io.stacks import open_stack",
            "from napari_volumetric_smlm.io.tables import write_table",
            "from napari_volumetric_smlm.recipes import finish",
            "from napari_volumetric_smlm.recipes.reconstruct import reconstruct",
            "",
            f"stack = open_stack({paths!r}, kind='frames')",
            f"instrument = load_instrument({str(instrument)!r})",
            f"plan = {spell_plan(plan)}",
            "result = finish(reconstruct(stack, instrument, plan))",
            f"write_table(result.localizations, {output!r})",
            "",
        ]
    )


def calibrate_in_python(paths: list[str], instrument: Path, plan: CalibrationPlan, output: str = "calibration.json") -> str:
    """Return a script that does what the Calibrate button did and writes the calibration."""
    return "\n".join(
        [
            "from napari_volumetric_smlm.domain.plans import CalibrationPlan",
            "from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument",
            "from napari_volumetric_smlm.io.stacks import open_stack",
            "from napari_volumetric_smlm.recipes import finish",
            "from napari_volumetric_smlm.recipes.calibrate import calibrate",
            "",
            f"stack = open_stack({paths!r}, kind='beads')",
            f"instrument = load_instrument({str(instrument)!r})",
            f"plan = {spell_plan(plan)}",
            "result = finish(calibrate([stack], instrument, plan))",
            f"save_instrument(result.instrument, {output!r})",
            "",
        ]
    )


def train_in_python(paths: list[str], instrument: Path, plan: TrainPlan, output: str = "model.safetensors") -> str:
    """Return a script that does what the Train button did and writes the model; it reads no images."""
    return "\n".join(
        [
            "from napari_volumetric_smlm.domain.plans import TrainPlan",
            "from napari_volumetric_smlm.io.instruments import load_instrument",
            "from napari_volumetric_smlm.io.models import write_model_weights",
            "from napari_volumetric_smlm.recipes import finish",
            "from napari_volumetric_smlm.recipes.train import train",
            "",
            f"instrument = load_instrument({str(instrument)!r})",
            f"plan = {spell_plan(plan)}",
            "result = finish(train(instrument, plan))",
            f"write_model_weights(result.weights, result.card.model_dump(mode='json'), {output!r})",
            "",
        ]
    )


def structured_in_python(paths: list[str], instrument: Path, plan: StructuredPlan, output: str = "sharp.tif") -> str:
    """Return a script that does what the button of structured illumination did and writes the image."""
    return "\n".join(
        [
            "from napari_volumetric_smlm.domain.structured_plans import StructuredPlan",
            "from napari_volumetric_smlm.io.instruments import load_instrument",
            "from napari_volumetric_smlm.io.results import write_structured",
            "from napari_volumetric_smlm.io.stacks import open_stack",
            "from napari_volumetric_smlm.recipes import finish",
            "from napari_volumetric_smlm.recipes.structured import reconstruct_structured",
            "",
            f"stack = open_stack({paths!r}, kind='structured')",
            f"instrument = load_instrument({str(instrument)!r})",
            f"plan = {spell_plan(plan)}",
            "result = finish(reconstruct_structured(stack, instrument, plan))",
            f"write_structured(result.images_tyx, result, {output!r})",
            "",
        ]
    )


def volumes_in_python(paths: list[str], instrument: Path, plan: ViewsPlan, output: str = "volumes.tif") -> str:
    """Return a script that makes and writes the volume of every frame."""
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            f"from napari_volumetric_smlm.domain.volume_plans import {type(plan).__name__}",
            "from napari_volumetric_smlm.io.instruments import load_instrument",
            "from napari_volumetric_smlm.io.stacks import open_stack",
            "from napari_volumetric_smlm.recipes import finish",
            "from napari_volumetric_smlm.recipes.volume_series import write_volumes",
            "",
            f"stack = open_stack({paths!r}, kind='frames')",
            f"instrument = load_instrument({str(instrument)!r})",
            f"plan = {spell_plan(plan)}",
            f"finish(write_volumes(stack, instrument, plan, Path({output!r})))",
            "",
        ]
    )


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
