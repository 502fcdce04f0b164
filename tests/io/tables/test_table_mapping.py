"""Tables of no known format: their columns are shown, the user says what they are, and that is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from napari_volumetric_smlm.errors import TableError
from napari_volumetric_smlm.io.tables import (
    ColumnMapping,
    MappedColumn,
    read_columns,
    read_mapping,
    sniff_format,
    suggest_mapping,
    table_from_mapping,
    write_mapping,
)

UNKNOWN = "No,Frame,Emitter,x (nm),y (nm),z (um),Intensity (photons),remark\n1,1,9,825,385,-0.05,2400,a\n2,3,9,935,385,0.5,2400,b\n"


@pytest.fixture
def unknown(tmp_path):
    path = tmp_path / "unknown.csv"
    path.write_text(UNKNOWN)
    return path


def mapping(**changes):
    columns = {"frame": "Frame", "z_nm": "z (um)", "y_nm": "y (nm)", "x_nm": "x (nm)", "photons": "Intensity (photons)"}
    values = {"columns": {ours: MappedColumn(column=column, unit="um" if "(um)" in column else "nm") for ours, column in columns.items()}}
    return ColumnMapping(**(values | {"first_frame": 1, "origin_px": 0.5, "pixel_nm": 110.0} | changes))


def test_columns_are_shown_with_their_first_cells(unknown):
    assert sniff_format(unknown) is None
    columns = read_columns(unknown)
    assert columns["x (nm)"] == ["825", "935"]
    assert columns["remark"] == ["a", "b"]
    assert list(columns) == ["No", "Frame", "Emitter", "x (nm)", "y (nm)", "z (um)", "Intensity (photons)", "remark"]


def test_a_mapping_gives_unit_first_frame_and_origin(unknown):
    table = table_from_mapping(unknown, mapping())
    np.testing.assert_allclose(table.position_zyx_nm, [[-50, 330, 770], [500, 330, 880]])
    assert table["frame"].tolist() == [0, 2]
    assert table["photons"].tolist() == [2400, 2400]
    assert table["Emitter"].tolist() == [9, 9]
    assert (table.z_reference, table.pixel_nm) == ("unknown", 110)
    assert table.provenance["source"]["details"]["first_frame"] == 1
    assert "columns without numbers were left out: remark" in table.provenance["notes"]


def test_positions_in_pixels_are_scaled(tmp_path):
    path = tmp_path / "px.tsv"
    path.write_text("row\tcol\n3.5\t7.5\n")
    columns = {"y_nm": MappedColumn(column="row", unit="px"), "x_nm": MappedColumn(column="col", unit="px")}
    table = table_from_mapping(path, ColumnMapping(columns=columns, origin_px=0.5, pixel_nm=110))
    np.testing.assert_allclose(table.position_zyx_nm, [[0, 330, 770]])
    assert table["frame"].tolist() == [0]
    assert table.z_reference == "none"
    assert "no column gives the frame; all molecules are in frame 0" in table.provenance["notes"]


def test_a_table_without_a_header_can_be_mapped(tmp_path):
    path = tmp_path / "bare.txt"
    path.write_text("  1   10.5  20.5\n  2   11.5  21.5\n")
    assert list(read_columns(path)) == ["column 1", "column 2", "column 3"]
    columns = {name: MappedColumn(column=f"column {n}") for n, name in enumerate(("frame", "y_nm", "x_nm"), 1)}
    table = table_from_mapping(path, ColumnMapping(columns=columns, first_frame=1))
    np.testing.assert_allclose(table.position_zyx_nm, [[0, 10.5, 20.5], [0, 11.5, 21.5]])


def test_a_header_behind_a_comment_sign_is_found(tmp_path):
    path = tmp_path / "saved.txt"
    np.savetxt(path, [[1, 10.5, 20.5], [2, 11.5, 21.5]], delimiter=",", header="frame, y, x")
    assert read_columns(path)["y"][1].startswith("1.15")


def test_a_mapping_is_kept_as_json_and_used_again(unknown, tmp_path):
    kept = write_mapping(mapping(), tmp_path / "mapping.json")
    assert json.loads(kept.read_text())["columns"]["z_nm"] == {"column": "z (um)", "unit": "um"}
    assert read_mapping(kept) == mapping()
    kept.write_text(kept.read_text().replace('"um"', '"miles"'))
    with pytest.raises(TableError, match=r"columns\.z_nm.*: found 'miles', expected 'nm', 'um'"):
        read_mapping(kept)


def test_a_first_guess_is_offered(unknown, tmp_path):
    guess = suggest_mapping(read_columns(unknown))
    assert {name: column.column for name, column in guess.columns.items()} == {
        "frame": "Frame", "z_nm": "z (um)", "y_nm": "y (nm)", "x_nm": "x (nm)", "photons": "Intensity (photons)",
    }  # fmt: skip
    assert guess.columns["z_nm"].unit == "um"
    points = suggest_mapping(["index", "axis-0", "axis-1", "axis-2", "photons"])
    assert {name: column.column for name, column in points.columns.items()} == {"frame": "axis-0", "y_nm": "axis-1", "x_nm": "axis-2"}
    assert points.columns["x_nm"].unit == "px"
    assert suggest_mapping(["left", "right"]) is None


def test_a_mapping_that_cannot_work_is_refused(unknown, tmp_path):
    with pytest.raises(ValidationError, match="needs the columns y_nm and x_nm; missing: x_nm"):
        ColumnMapping(columns={"y_nm": MappedColumn(column="y")})
    with pytest.raises(ValidationError, match=r"an origin at 0\.5 px needs the pixel size in the sample"):
        mapping(pixel_nm=None)
    with pytest.raises(ValidationError, match="y_nm, x_nm in pixels needs the pixel size"):
        ColumnMapping(columns={name: MappedColumn(column=name, unit="px") for name in ("y_nm", "x_nm")})
    absent = mapping(columns=mapping().columns | {"photons": MappedColumn(column="light")})
    with pytest.raises(TableError, match=r"names columns that the file lacks: light \(for photons\); it has No, Frame"):
        table_from_mapping(unknown, absent)
    words = mapping(columns=mapping().columns | {"photons": MappedColumn(column="remark")})
    with pytest.raises(TableError, match="the column remark holds 'a', which is not a number"):
        table_from_mapping(unknown, words)
    with pytest.raises(TableError, match=r"cannot be read \(No such file"):
        read_columns(tmp_path / "none.csv")
