"""Disk full, read-only folder, a folder in the way: the older files stay as they were and nothing half-written is left."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from napari_volumetric_smlm.errors import OutputError
from napari_volumetric_smlm.io.tables import FORMATS, read_table, write_table

WRITABLE = [name for name, entry in FORMATS.items() if entry.writable]


def older(folder, name, made_of_rows):
    """Write an older table and return the bytes of all its files."""
    write_table(made_of_rows(3), folder / f"m{FORMATS[name].suffix}", name)
    return {path: path.read_bytes() for path in folder.iterdir()}


def unchanged(before, folder):
    return {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", WRITABLE)
def test_a_disk_that_fills_up_while_writing_leaves_the_older_table(name, tmp_path, made_of_rows):
    resource = pytest.importorskip("resource", reason="the operating system cannot limit file sizes")
    before = older(tmp_path, name, made_of_rows)
    large = made_of_rows(20_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # every write beyond 100 kB fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(OutputError, match=r"cannot write .*nothing was changed"):
            write_table(large, tmp_path / f"m{FORMATS[name].suffix}", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert unchanged(before, tmp_path)
    assert len(read_table(tmp_path / f"m{FORMATS[name].suffix}")) == 3


@pytest.mark.parametrize("name", WRITABLE)
def test_a_full_disk_is_called_full(name, tmp_path, monkeypatch, made_of_rows):
    before = older(tmp_path, name, made_of_rows)

    def full(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="the disk is full; free some space or choose another disk; nothing was changed"):
        write_table(made_of_rows(9), tmp_path / f"m{FORMATS[name].suffix}", name)
    monkeypatch.undo()
    assert unchanged(before, tmp_path)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_read_only_folder_is_called_read_only(name, tmp_path, monkeypatch, made_of_rows):
    before = older(tmp_path, name, made_of_rows)

    def locked(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", locked)
    with pytest.raises(OutputError, match="the folder or file is read-only; choose a folder that you may write to"):
        write_table(made_of_rows(9), tmp_path / f"m{FORMATS[name].suffix}", name)
    monkeypatch.undo()
    assert unchanged(before, tmp_path)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_missing_folder_or_a_folder_in_the_way(name, tmp_path, made_of_rows):
    with pytest.raises(OutputError, match=r"the folder .* does not exist; make it or choose another one"):
        write_table(made_of_rows(3), tmp_path / "none" / "m", name)
    taken = tmp_path / f"m{FORMATS[name].suffix}"
    taken.mkdir()
    with pytest.raises(OutputError, match="a folder has this name; choose another file name"):
        write_table(made_of_rows(3), taken, name)
    assert list(tmp_path.iterdir()) == [taken]


def test_notes_that_cannot_be_placed_leave_the_older_table(tmp_path, monkeypatch, made_of_rows):
    before = older(tmp_path, "vsmlm-csv", made_of_rows)
    place = Path.replace

    def open_in_a_spreadsheet(self, target):
        if str(target).endswith("m.csv"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return place(self, target)

    monkeypatch.setattr(Path, "replace", open_in_a_spreadsheet)
    with pytest.raises(OutputError, match="read-only"):
        write_table(made_of_rows(9), tmp_path / "m.csv")
    monkeypatch.undo()
    assert unchanged(before, tmp_path)


def test_a_file_of_another_kind_with_the_stem_of_the_table_is_not_touched(tmp_path, made_of_rows):
    instrument = tmp_path / "cal.json"
    instrument.write_text("{}")
    written = write_table(made_of_rows(3), tmp_path / "cal.csv")
    assert instrument.read_text() == "{}"
    assert [path.name for path in written] == ["cal.csv", "cal.csv.json"]
