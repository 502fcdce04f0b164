"""Recognising a table is quick, never fails, and does not load torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from napari_volumetric_smlm.io.tables import sniff_format

NO_TABLES = {
    "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "stack.tif": b"II*\x00" + bytes(50),
    "notes.txt": b"first I went there, then back\nit was late, and cold\n",
    "points.csv": b"index,axis-0,axis-1,axis-2\n0,1,2,3\n",
    "shop.csv": b"item;price\nbread;3,20\n",
    "x.csv": b"x,y\n1,2\n",
    "hdf.h5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "parquet.parquet": b"PAR1" + bytes(20) + b"PAR1",
    "matlab.mat": b"MATLAB 5.0 MAT-file" + bytes(200),
    "zip.smlm": b"PK\x03\x04" + bytes(60),
    "one.csv": b"\n",
    "quotes.csv": b'"""\n"',
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_other_files_are_none_of_ours(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(NO_TABLES[name])
    assert sniff_format(path) is None


def test_an_ordinary_zip_is_none_of_ours(tmp_path):
    path = tmp_path / "a.smlm"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    assert sniff_format(path) is None


def test_noise_is_none_of_ours_and_raises_nothing(tmp_path):
    random = np.random.default_rng(0)
    starts = [b"", b"PK\x03\x04", b"PAR1", b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 ", b"MATLAB 5.0 ", b"# <localizations", b'"x [nm]","y [nm]']
    for number in range(80):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(starts[number % 8] + random.bytes(300))
        assert sniff_format(path) in (None, "rapidstorm")


def test_reading_a_table_loads_no_torch(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("frame,x_nm,y_nm\n0,1,2\n")
    code = (
        "import sys; from napari_volumetric_smlm.io.tables import sniff_format; "
        f"assert sniff_format({str(path)!r}) == 'vsmlm-csv'; "
        "assert not {'torch', 'h5py', 'pyarrow', 'scipy'} & set(sys.modules), 'sniffing is heavy'; "
        "from napari_volumetric_smlm.io.tables import read_table; "
        f"assert len(read_table({str(path)!r})) == 1; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
