"""Every Python block in README and docs runs, every command line in them is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[pytest.ParameterSet]:
    found = []
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[1] == language:
                line = page.read_text(encoding="utf-8").count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def command_lines() -> list[pytest.ParameterSet]:
    found = []
    for block in blocks("sh"):
        text = str(block.values[0]).replace("\\\n", " ")
        for line in text.splitlines():
            if line.strip().startswith("vsmlm "):
                found.append(pytest.param(line.strip(), id=f"{block.id} {line.strip()[:40]}"))
    return found


def test_there_is_something_to_check():
    assert len(PAGES) > 5
    assert blocks("python")
    assert command_lines()


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "block", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_is_understood(line):
    from napari_volumetric_smlm.cli import parser

    words = shlex.split(line, comments=True)[1:]
    if "--help" in words or "--version" in words:
        with pytest.raises(SystemExit) as stop:
            parser().parse_args(words)
        assert stop.value.code == 0
    else:
        assert parser().parse_args(words).verb == words[0]
