"""Damaged, unsafe and incomplete tables: the words that the user reads, and that the file is left as it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import yaml

from napari_volumetric_smlm.errors import TableError
from napari_volumetric_smlm.io.tables import FORMATS, limits, read_table, sniff_format, write_table

WRITABLE = [name for name, entry in FORMATS.items() if entry.writable]
HEADER = '"id","frame","x [nm]","y [nm]","intensity [photon]"\n'


def refused(path, words, **options):
    """Read, and assert what the user is told and that the folder is as it was."""
    before = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.parent.iterdir()}
    with pytest.raises(TableError, match=words) as caught:
        read_table(path, **options)
    assert path.stem in str(caught.value)
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.parent.iterdir()} == before
    return str(caught.value)


def text_file(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(TableError, match="there is no such file; a table of molecules was expected"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match="this is a folder"):
        read_table(tmp_path)
    assert sniff_format(tmp_path / "none.csv") is None
    assert sniff_format(tmp_path) is None


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".parquet", ".hdf5", ".h5", ".mat", ".smlm", ".json"])
def test_an_empty_file_is_called_empty(suffix, tmp_path):
    path = text_file(tmp_path, b"", f"t{suffix}")
    assert sniff_format(path) is None
    refused(path, "the file is empty")


def test_missing_columns_are_named_beside_those_found(tmp_path):
    path = text_file(tmp_path, '"id","x [nm]","intensity [photon]"\n1,2,3\n')
    words = refused(path, r"needs the columns it calls frame, y \[nm\]", format="thunderstorm")
    assert "the file has id, x [nm], intensity [photon]" in words
    assert "column mapping" in words
    refused(text_file(tmp_path, "frame,x_nm,z_nm\n1,2,3\n", "own.csv"), "needs the columns it calls y_nm", format="vsmlm-csv")


def test_an_unknown_table_is_not_guessed(tmp_path):
    words = refused(text_file(tmp_path, "left,right\n1,2\n"), "no table format that is known; its columns are left, right")
    assert "import it with a column mapping" in words
    refused(text_file(tmp_path, "just words\nand more words\n", "words.txt"), "no table format that is known")


def test_mixed_units_need_the_pixel_size(tmp_path):
    path = text_file(tmp_path, '"frame","x [px]","y [nm]","intensity [photon]"\n1,2.5,300,4\n')
    words = refused(path, r"x in pixels beside y in nm \(mixed units\)")
    assert "give the pixel size in the sample (pixel_nm" in words
    table = read_table(path, pixel_nm=100)
    np.testing.assert_allclose(table.position_zyx_nm, [[0, 250, 200]])


def test_pixels_need_the_pixel_size(tmp_path):
    path = text_file(tmp_path, '"frame","x [px]","y [px]","sigma [px]"\n1,2.5,3.5,1.5\n')
    assert "mixed" not in refused(path, "x, y, psf_width_nm in pixels, and the file does not say how large a pixel is")
    with pytest.raises(TableError, match="pixel_nm is -3; a size above 0 nm was expected"):
        read_table(path, pixel_nm=-3)


def test_lengths_in_an_unknown_unit_are_refused(tmp_path):
    # frames instead of a length: a label that contradicts itself
    path = text_file(tmp_path, '"frame","x [frame]","y [nm]","intensity [photon]"\n1,2,3,4\n')
    refused(path, "x is in 'frame'; expected a length in nm, um", format="thunderstorm")


def test_rows_without_a_position_are_left_out_and_told(tmp_path):
    path = text_file(tmp_path, HEADER + "1,1,10,20,5\n2,1,NaN,20,5\n3,2,30,,5\n4,3,40,50,nan\n5,,40,50,7\n")
    table = read_table(path, pixel_nm=1e-9)
    assert table["id"].tolist() == [1, 4]
    np.testing.assert_allclose(table["x_nm"], [10, 40])
    np.testing.assert_array_equal(table["photons"], [5, np.nan])
    assert table.provenance["notes"] == ["3 of 5 rows have no finite position or frame number (the first is row 2) and were left out"]


def test_a_table_of_nan_only_is_refused(tmp_path):
    refused(text_file(tmp_path, HEADER + "1,1,NaN,20,5\n2,1,NaN,20,5\n"), "none of the 2 rows has a finite position and frame number")


@pytest.mark.parametrize("frame", ["1.5", "-2", "1e300"])
def test_frames_that_are_no_frame_numbers_are_refused(frame, tmp_path):
    words = {"1.5": "frame 1.5 in row 2 is not a whole number", "-2": "frame -2 is negative", "1e300": r"frame number 1e\+300 is too large"}
    refused(text_file(tmp_path, HEADER + f"1,1,10,20,5\n2,{frame},10,20,5\n"), words[frame])


def test_words_among_numbers_are_refused(tmp_path):
    refused(text_file(tmp_path, HEADER + "1,1,ten,20,5\n"), r"the column x \[nm\] holds 'ten', which is not a number")
    late = "".join(f"{n},1,10,20,5\n" for n in range(2000)) + "9,1,oops,20,5\n"
    refused(text_file(tmp_path, HEADER + late, "late.csv"), r"the column x \[nm\] holds 'oops', which is not a number; mend that cell")


def test_a_table_cut_off_in_a_row_is_refused_as_a_whole(tmp_path):
    path = text_file(tmp_path, HEADER + "1,1,10,20,5\n2,1,10")
    assert "nothing was read" in refused(path, "has 3 cells where the header names 5 columns: the file was cut off")


def test_other_kinds_of_file_with_the_name_of_a_table(tmp_path):
    refused(text_file(tmp_path, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "picture.csv"), "this is a binary file, not a text table")
    refused(text_file(tmp_path, "frame,x_nm,y_nm\n1,2,3\n".encode("utf-16"), "utf16.csv"), "text in UTF-16; save it as CSV in UTF-8")
    for suffix, words in {".parquet": "not a whole Parquet file", ".hdf5": "not a whole HDF5 file", ".h5": "not a whole HDF5 file",
                          ".mat": "not a whole MATLAB file|no saveloc", ".smlm": r"not a whole \.smlm file"}.items():  # fmt: skip
        refused(text_file(tmp_path, b"something else altogether\n" * 40, f"t{suffix}"), words)


@pytest.mark.parametrize("name", [name for name in WRITABLE if FORMATS[name].suffix != ".csv"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_file_cut_off_anywhere_is_refused_with_words(name, share, tmp_path, made_of_rows):
    path = write_table(made_of_rows(3000), tmp_path / "m", name)[0]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "fresh copy" in refused(path, "damaged|cut off")
    assert sniff_format(path) in (None, name)


@pytest.mark.parametrize("name", WRITABLE)
def test_damage_anywhere_gives_words_or_a_table_but_never_another_error(name, tmp_path, made_of_rows):
    path = write_table(made_of_rows(300), tmp_path / "m", name)[0]
    data = path.read_bytes()
    random = np.random.default_rng(3)
    # what a damaged header does inside the HDF5 library is not for us to test in this process
    first = 8192 if FORMATS[name].suffix in (".h5", ".hdf5") else 0
    words = []
    for _ in range(60):
        damaged = bytearray(data)
        for at in random.integers(first, len(data), 4):
            damaged[at] = random.integers(0, 256)
        path.write_bytes(bytes(damaged))
        sniff_format(path)
        with contextlib.suppress(TableError):
            try:
                assert len(read_table(path)) <= 300
            except TableError as problem:
                words.append(str(problem))
                raise
    assert all(path.name in told for told in words)


@pytest.fixture
def picasso_file(made_of_rows, tmp_path):
    def write(words):
        path, beside = write_table(made_of_rows(5), tmp_path / "locs.hdf5")
        beside.write_text(words)
        return path

    return write


def test_yaml_that_asks_for_python_is_refused_and_not_obeyed(picasso_file, tmp_path):
    target = tmp_path / "sign"
    touch = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{target}']]"
    path = picasso_file(f"Width: 32\nPixelsize: {touch}\n")
    words = refused(path, r"python/object/apply:pathlib\.Path.* in line 2 asks for a Python object, which could run code, and was refused")
    assert "pixel_nm" in words
    assert not target.exists()
    # not even for the reader who gives the pixel size
    refused(path, "asks for a Python object", pixel_nm=110)


def test_damaged_and_endless_yaml(picasso_file, tmp_path):
    refused(picasso_file("Width: [1, 2\nPixelsize: 3\n"), "damaged YAML")
    lines = [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)]
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(lines)
    path = picasso_file(bomb + "Pixelsize: 130\nHeight: 8\nWidth: 9\n")
    table = read_table(path)
    assert table.pixel_nm == 130
    # 9 ** 10 words never come to life
    assert len(json.dumps(table.provenance)) < 5000
    refused(picasso_file("[" * 4000), "damaged YAML")


def test_picasso_without_a_pixel_size_asks_for_it(tmp_path, made_of_rows):
    path, beside = write_table(made_of_rows(5), tmp_path / "locs.hdf5")
    with h5py.File(path, "a") as file:
        del file["metadata"]
    beside.unlink()
    refused(path, r"in pixels and the pixel size is not known: locs\.yaml is missing; put the YAML file beside the table, or give")
    assert read_table(path, pixel_nm=110).pixel_nm == 110
    beside.write_text("Width: 3\n")
    refused(path, r"locs\.yaml has no Pixelsize")


def smlm_file(tmp_path, rows, data, **changes):
    rules = {"type": "table", "mode": "binary", "columns": 3, "headers": ["frame", "x", "y"], "shape": [1, 1, 1]}
    rules |= {"dtype": ["float32"] * 3, "units": ["", "nm", "nm"]}
    manifest = {"format_version": "0.2", "formats": {"t": rules}}
    manifest["files"] = [{"name": "t.bin", "type": "table", "format": "t", "rows": rows, "offset": {}}]
    manifest |= changes
    path = tmp_path / "t.smlm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("t.bin", data)
    return path


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = smlm_file(tmp_path, 10, bytes(80 * 2**20))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    words = refused(path, r"t\.bin expands beyond the 120 bytes that its 10 declared rows need")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "zip bomb" in words
    assert peak < 8 * 2**20


def test_a_zip_that_lies_about_its_size_is_not_unpacked_either(tmp_path):
    path = smlm_file(tmp_path, 10, bytes(40 * 2**20))
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (120).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    assert zipfile.ZipFile(path).getinfo("t.bin").file_size == 120
    tracemalloc.start()
    refused(path, "expands beyond the 120 bytes|not a whole")
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_a_zip_bomb_whose_manifest_agrees_is_refused_by_its_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HARMLESS_BYTES", 2**20)
    rows = 2**20
    refused(smlm_file(tmp_path, rows, bytes(12 * rows)), "bytes on disk would expand to 0.0 GiB; a real table expands less than 200-fold")


def test_a_manifest_that_never_ends_is_not_unpacked(tmp_path):
    path = tmp_path / "t.smlm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (20 * 2**20))
    refused(path, r"manifest\.json expands beyond 16 MiB")


def test_smlm_files_that_contradict_themselves(tmp_path):
    whole = np.zeros((4, 3), np.float32).tobytes()
    refused(smlm_file(tmp_path, 5, whole), "has 48 bytes where the 5 declared rows need 60: the file was cut off")
    refused(smlm_file(tmp_path, -1, whole), "contradicts itself about t.bin.*-1 rows")
    refused(smlm_file(tmp_path, "many", whole), "the manifest does not say how t.bin is laid out")
    refused(smlm_file(tmp_path, 4, whole, format_version="9.1"), r"\.smlm version 9\.1; version 0\.2 can be read")
    refused(smlm_file(tmp_path, 4, whole, files=[]), "the manifest lists no table")
    refused(smlm_file(tmp_path, 4, whole, formats={}), "the manifest does not say how t.bin is laid out")
    rules = {"mode": "binary", "headers": ["frame", "x", "y"], "dtype": ["float32", "float32", "object"], "shape": [1, 1, 1]}
    refused(smlm_file(tmp_path, 4, whole, formats={"t": rules}), r"contradicts itself.*unknown: object")
    path = tmp_path / "bare.smlm"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "hello")
    refused(path, r"no manifest\.json in the zip; found other\.txt")


def test_columns_of_patches_in_an_smlm_file_are_left_out_and_told(tmp_path):
    rules = {"mode": "binary", "headers": ["frame", "x", "y", "patch"], "dtype": ["float32"] * 4, "shape": [1, "1", [1], [2, 2]]}
    data = np.arange(14, dtype=np.float32)
    table = read_table(smlm_file(tmp_path, 2, data.tobytes(), formats={"t": rules}))
    assert table["x_nm"].tolist() == [1, 8]
    assert table.provenance["notes"] == ["columns with more than one number a row were left out: patch"]


def hdf5_file(tmp_path, build, name="locs.hdf5"):
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        build(file)
    path.with_suffix(".yaml").write_text("Pixelsize: 100\n")
    return path


def test_objects_and_links_in_hdf5_are_refused(tmp_path):
    def objects(file):
        kind = np.dtype([("frame", "u4"), ("x", "f4"), ("y", "f4"), ("secret", h5py.vlen_dtype(np.uint8))])
        file.create_dataset("locs", (1,), kind)

    def pandas_layout(file):
        file.create_dataset("locs/table", data=np.frombuffer(b"\x80\x04pickle", np.uint8))

    def elsewhere(file):
        file["locs"] = h5py.ExternalLink("/etc/other.hdf5", "/locs")

    def outside(file):
        kind = np.dtype([("frame", "u4"), ("x", "f4"), ("y", "f4")])
        file.create_dataset("locs", (1,), kind, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])

    def opaque(file):
        file["locs"] = np.void(b"\x80\x04\x95pickled")

    refused(hdf5_file(tmp_path, objects), r"locs holds object \(objects, references or text\) where plain numbers .* could hide code")
    refused(hdf5_file(tmp_path, pandas_layout), "a group with table, as pandas and PyTables .* can hold Python objects and was refused")
    refused(hdf5_file(tmp_path, elsewhere), "locs is a link to another place; .* refused")
    refused(hdf5_file(tmp_path, outside), "locs keeps its values in other files; .* refused")
    refused(hdf5_file(tmp_path, opaque), "where plain numbers were expected|a list of records")
    refused(hdf5_file(tmp_path, lambda file: file.create_dataset("other", data=[1])), "no dataset locs; found other")


def test_numbers_of_an_unusual_layout_in_hdf5_are_refused(tmp_path):
    # HDF5 takes this for eight bytes of memory although it stores four, and would write past its buffer
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_fields(31, 20, 11, 0, 20)
    odd.set_ebias(1023)
    kind = h5py.h5t.create(h5py.h5t.COMPOUND, 12)
    for place, (name, inner) in enumerate((("frame", h5py.h5t.STD_U32LE), ("x", odd), ("y", h5py.h5t.IEEE_F32LE))):
        kind.insert(name.encode(), 4 * place, inner)

    def build(file):
        h5py.h5d.create(file.id, b"locs", kind, h5py.h5s.create_simple((3,)))

    refused(hdf5_file(tmp_path, build), "locs holds numbers of an unusual layout")


def test_hdf5_that_promises_endless_rows_is_refused(tmp_path):
    kind = np.dtype([("frame", "u4"), ("x", "f4"), ("y", "f4")])
    path = hdf5_file(tmp_path, lambda file: file.create_dataset("locs", (10**12,), kind, chunks=(1000,), compression="gzip"))
    refused(path, "would expand to 11175.9 GiB; a real table expands less than 200-fold")

    def endless(file):
        file.create_group("meta")
        file.create_group("decode")
        file.create_dataset("data/xyz", (10**11, 3), "f4", chunks=(99, 3))

    path = hdf5_file(tmp_path, endless, "d.h5")
    refused(path, "would expand to")


def test_decode_without_what_it_needs(tmp_path):
    path = hdf5_file(tmp_path, lambda file: file.create_group("data"), "d.h5")
    refused(path, "no groups data and meta; found data; this is no DECODE file", format="decode")

    def uneven(file):
        file.create_group("decode")
        file.create_group("meta").attrs.update({"xy_unit": "px", "px_size": [100.0, 100.0]})
        file["data/xyz"] = np.zeros((3, 3))
        file["data/frame_ix"] = np.zeros(2, int)

    refused(hdf5_file(tmp_path, uneven, "u.h5"), r"columns differ in length \(.*frame_ix: 2")

    def unitless(file):
        uneven(file)
        file["meta"].attrs["xy_unit"] = "furlong"

    refused(hdf5_file(tmp_path, unitless, "f.h5"), "columns differ|xy_unit is 'furlong'")

    def no_size(file):
        file.create_group("decode")
        file.create_group("meta").attrs["xy_unit"] = "px"
        file["data/xyz"] = np.ones((3, 3))
        file["data/frame_ix"] = np.zeros(3, int)

    path = hdf5_file(tmp_path, no_size, "n.h5")
    refused(path, "in pixels, and the file does not say how large a pixel is")
    assert read_table(path, pixel_nm=100)["x_nm"].tolist() == [100, 100, 100]


def test_parquet_of_another_kind(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"name": ["a"], "value": [1.0]}), path)
    refused(path, "needs the columns it calls frame, y_nm, x_nm|needs the columns it calls")
    pq.write_table(pa.table({"frame": [0], "y_nm": [1.0], "x_nm": [2.0], "word": ["a"], "nested": [[1]]}), path)
    table = read_table(path)
    assert table.provenance["notes"] == ["columns without numbers were left out: word, nested"]
    assert table.z_reference == "none"


def test_parquet_that_expands_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HARMLESS_BYTES", 2**20)
    same = np.zeros(2_000_000)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"frame": same.astype(int), "y_nm": same, "x_nm": same}), path)
    refused(path, "a real table expands less than 200-fold")


def smap_file(tmp_path, tree, **options):
    path = tmp_path / "t_sml.mat"
    scipy.io.savemat(path, tree, **options)
    return path


def test_matlab_files_that_are_damaged_or_of_another_kind(tmp_path, monkeypatch):
    loc = {name: np.arange(500.0)[:, None] for name in ("frame", "xnm", "ynm", "phot")}
    path = smap_file(tmp_path, {"saveloc": {"loc": loc}}, do_compression=True)
    assert len(read_table(path)) == 500
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "cut off")
    middle = len(data) // 2
    path.write_bytes(data[:middle] + b"\xff\xff\xff\xff" + data[middle + 4 :])
    refused(path, "damaged")
    path = smap_file(tmp_path, {"saveloc": {"history": 1.0}})
    refused(path, r"no saveloc\.loc, as SMAP writes it; found saveloc without loc")
    path = smap_file(tmp_path, {"saveloc": {"loc": {"frame": 1.0, "phot": 2.0}}})
    refused(path, "needs the columns it calls xnm, ynm")
    monkeypatch.setattr(limits, "HARMLESS_BYTES", 2**20)
    path = smap_file(tmp_path, {"saveloc": {"loc": {"xnm": np.zeros((2**20, 1))}}}, do_compression=True)
    refused(path, "a real table expands less than 200-fold")


def test_a_rapidstorm_header_with_declarations_is_refused(tmp_path):
    head = '# <!DOCTYPE l [<!ENTITY a "aaaa">]><localizations><field identifier="&a;"/></localizations>\n1 2 0 4\n'
    refused(text_file(tmp_path, head, "r.txt"), "without declarations", format="rapidstorm")
    refused(text_file(tmp_path, "# <localizations><field></localizations>\n1 2\n", "r.txt"), "damaged header line of a rapidSTORM table")
    tracks = '# <localizations><field identifier="a"/><localizations><field identifier="b"/></localizations></localizations>\n1 2\n'
    refused(text_file(tmp_path, tracks, "r.txt"), "a rapidSTORM table of tracks")


def test_notes_with_nonsense_do_not_hide_the_table(tmp_path, made_of_rows):
    path, notes = write_table(made_of_rows(5), tmp_path / "m.csv")
    said = json.loads(notes.read_text())
    for key, nonsense in {"z_reference": "moon", "pixel_nm": "large", "shape_yx_px": 4, "columns": {"x_nm": 3}, "provenance": 7}.items():
        notes.write_text(json.dumps(said | {key: nonsense}))
        table = read_table(path)
        assert len(table) == 5
        assert any("damaged" in note for note in table.provenance["notes"]), key


def test_the_safe_loader_is_used():
    from napari_volumetric_smlm.io.tables import picasso

    assert issubclass(picasso.LOADER, (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
