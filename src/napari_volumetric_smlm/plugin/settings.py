"""What the user chose on the Preferences page, and what the plugin remembers from one session to the next."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from ..domain.noun import Noun
from ..errors import SmlmError
from ..io.atomic import replacing
from ..io.json_files import read_json

PLUGIN = "napari-volumetric-smlm"


@dataclass(frozen=True)
class Preferences:
    """The settings of the Preferences page; the defaults are those of the manifest."""

    device: str = "auto"
    threads: int = 0
    point_limit: int = 100_000
    folder: str = ""
    autosave: bool = True

    @property
    def work_folder(self) -> Path:
        """Where results, calibrations and the log are kept."""
        return Path(self.folder).expanduser() if self.folder else settings_folder() / "results"


def preferences() -> Preferences:
    """Return the user's settings, or the defaults where napari does not know this plugin."""
    from napari.settings import get_plugin_settings

    try:
        page = get_plugin_settings(PLUGIN)
    except KeyError:
        return Preferences()
    return Preferences(
        device=str(page.compute.device),
        threads=int(page.compute.threads),
        point_limit=int(page.display.point_limit),
        folder=str(page.results.folder),
        autosave=bool(page.results.autosave),
    )


def settings_folder() -> Path:
    """Return our folder beside napari's own settings (which `NAPARI_CONFIG` may have moved)."""
    from napari.settings import get_settings

    return Path(get_settings().config_path).parent / PLUGIN


class Memory:
    """A small JSON file: last folders, plans by instrument, mappings of columns. A damaged file is forgotten, never an error."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or settings_folder() / "memory.json"
        self._tree: dict[str, Any] = {}
        with contextlib.suppress(SmlmError):
            self._tree = read_json(self.path) if self.path.is_file() else {}

    def recall(self, *keys: str) -> Any:
        """Return what was stored under these keys, or None."""
        tree: Any = self._tree
        for key in keys:
            tree = tree.get(key) if isinstance(tree, dict) else None
        return tree

    def store(self, value: Any, *keys: str) -> None:
        """Store something that JSON knows, at once on disk; a full disk or read-only folder loses only the memory."""
        tree = self._tree
        for key in keys[:-1]:
            inner = tree.get(key)
            tree[key] = inner if isinstance(inner, dict) else {}
            tree = tree[key]
        tree[keys[-1]] = value
        with contextlib.suppress(SmlmError, OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part:
                part.write_text(json.dumps(self._tree, indent=1), encoding="utf-8")

    def recall_plan(self, noun: type[Noun], instrument_fingerprint: str) -> Any:
        """Return the plan last used with an instrument, or None; one that no longer fits is forgotten."""
        tree = self.recall("plans", noun.__name__, instrument_fingerprint)
        try:
            return None if tree is None else noun.model_validate(tree)
        except pydantic.ValidationError:
            return None

    def store_plan(self, plan: Noun, instrument_fingerprint: str) -> None:
        """Remember a plan for an instrument."""
        self.store(plan.model_dump(mode="json"), "plans", type(plan).__name__, instrument_fingerprint)

    def folder(self, purpose: str) -> str:
        """Return the folder last used for a purpose, or an empty text."""
        found = self.recall("folders", purpose)
        return found if isinstance(found, str) and Path(found).is_dir() else ""

    def store_folder(self, purpose: str, path: str | Path) -> None:
        """Remember the folder of a file."""
        self.store(str(Path(path).resolve().parent), "folders", purpose)

    def forget(self) -> None:
        """Go back to the defaults."""
        self._tree = {}
        self.path.unlink(missing_ok=True)
