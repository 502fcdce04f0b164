"""vsmlm find: from volumes in a file to a table in a file."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_volumetric_smlm.cli import find as verb
from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.cli.progress import Stopped
from napari_volumetric_smlm.engine.networks.published_lnet import PublishedLNet
from napari_volumetric_smlm.io.results import write_image, write_provenance
from napari_volumetric_smlm.io.tables import read_table
from napari_volumetric_smlm.io.volume_series import volume_series
from napari_volumetric_smlm.recipes import volume_molecules

VOXEL, ORIGIN, SHAPE = (125.0, 145.0, 145.0), (-1500.0, 0.0, 290.0), (25, 50, 56)
RECORD = {"origin_zyx_nm": ORIGIN, "voxel_zyx_nm": VOXEL, "z_reference": "focus", "quantity": "photons"}
# lysosomes, as (z, y, x) and diameter in nm; and molecules
BALLS = [((-300.0, 2000.0, 2300.0), 500.0), ((200.0, 5400.0, 3000.0), 900.0), ((0.0, 3500.0, 6500.0), 700.0)]
PLACES = np.array([[-210.0, 3011.0, 2222.0], [333.0, 4500.0, 6123.0]])


def grid_nm():
    return np.stack(np.meshgrid(*(np.arange(n) * v + o for n, v, o in zip(SHAPE, VOXEL, ORIGIN, strict=True)), indexing="ij"), -1)


def noise(seed=0):
    return np.random.default_rng(seed).normal(3, 0.5, SHAPE)


def balls(shift_nm=(0.0, 0.0, 0.0)):
    values = noise(1)
    # each voxel filled by the share of it that lies inside
    for part in np.ndindex(3, 3, 3):
        at = grid_nm() + (np.array(part) - 1) / 3 * np.array(VOXEL) - np.array(shift_nm)
        for place, diameter in BALLS:
            values += (np.linalg.norm(at - place, axis=-1) < diameter / 2) * 20 / 27
    return values.astype(np.float32)


def molecules():
    width = np.array([260.0, 150.0, 150.0])
    return (noise() + sum(40 * np.exp(-0.5 * (((grid_nm() - place) / width) ** 2).sum(-1)) for place in PLACES)).astype(np.float32)


def find(volumes, place, *more):
    return main(["find", str(volumes), "--output", str(place), "--quiet", "--device", "cpu", *more])


def test_blobs_of_every_volume_of_a_series_are_rows_with_frame_place_size_and_light(tmp_path, capsys):
    drift = (0.0, 60.0, -40.0)
    with volume_series(tmp_path / "v.tif", 2) as series:
        series.add(balls(), VOXEL)
        series.add(balls(drift), VOXEL)
    write_provenance({**RECORD, "frames": [7, 8]}, tmp_path / "v.tif")
    assert find(tmp_path / "v.tif", tmp_path / "blobs.csv", "--what", "blobs", "--diameter-nm", "350", "1200") == 0
    assert "6 blobs" in capsys.readouterr().out
    table = read_table(tmp_path / "blobs.csv")
    assert sorted(table["frame"]) == [7, 7, 7, 8, 8, 8]
    for frame, shift in ((7, (0, 0, 0)), (8, drift)):
        mine = table.select(table["frame"] == frame)
        for place, diameter in BALLS:
            away = np.linalg.norm(mine.position_zyx_nm - place - shift, axis=1)
            assert away.min() < 30
            assert mine["diameter_nm"][away.argmin()] == pytest.approx(diameter, rel=0.2)
            assert mine["photons"][away.argmin()] == pytest.approx(20 * np.pi / 6 * diameter**3 / np.prod(VOXEL), rel=0.25)
    record = table.provenance
    assert record["plan"]["diameter_nm"] == [350, 1200]
    assert record["volumes"]["quantity"] == "photons"
    assert find(tmp_path / "v.tif", tmp_path / "second.csv", "--what", "blobs", "--first-volume", "1") == 0
    assert set(read_table(tmp_path / "second.csv")["frame"]) == {8}


def test_molecules_are_fitted_where_the_file_alone_knows_its_voxels(tmp_path):
    write_image(molecules(), tmp_path / "v.tif", VOXEL)
    assert find(tmp_path / "v.tif", tmp_path / "m.csv") == 0
    table = read_table(tmp_path / "m.csv")
    # without a record the first voxel is the origin, and nobody knows from where depths count
    away = np.linalg.norm(table.position_zyx_nm[:, None] + ORIGIN - PLACES, axis=2)
    assert len(table) == 2
    assert away.min(0).max() < 10
    assert table.z_reference == "unknown"
    assert {"sigma_z_nm", "psf_width_z_nm"} <= set(table.columns)


def test_voxels_that_nobody_knows_must_be_stated(tmp_path, capsys):
    import tifffile

    tifffile.imwrite(tmp_path / "plain.tif", molecules(), photometric="minisblack")
    assert find(tmp_path / "plain.tif", tmp_path / "m.csv") == 2
    assert "the file says no pixel size and no distance of planes; state voxel_zyx_nm" in capsys.readouterr().err
    assert find(tmp_path / "plain.tif", tmp_path / "m.csv", "--voxel-zyx-nm", *map(str, VOXEL)) == 0
    assert len(read_table(tmp_path / "m.csv")) == 2


def test_what_cannot_be_asked_for_is_told(tmp_path, capsys):
    write_image(molecules(), tmp_path / "v.tif", VOXEL)
    write_image(molecules()[0], tmp_path / "flat.tif", VOXEL)
    cases = [
        ("flat.tif", (), "a volume with several planes was expected"),
        ("v.tif", ("--what", "blobs", "--diameter-nm", "100", "500"), "not below the largest side of a voxel"),
        ("v.tif", ("--what", "blobs", "--model", "any.safetensors"), "a model finds molecules, not blobs"),
        ("v.tif", ("--first-volume", "3"), "the file has 1 volume, number 0"),
        ("missing.tif", (), "there is no such file"),
    ]
    for name, more, words in cases:
        assert find(tmp_path / name, tmp_path / "out.csv", *more) == 2, words
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_a_stop_keeps_the_volumes_until_then_and_says_so(tmp_path, capsys, monkeypatch):
    with volume_series(tmp_path / "v.tif", 3) as series:
        for _ in range(3):
            series.add(molecules(), VOXEL)

    def stopped_after_two(steps, quiet):
        previews = [next(steps).preview, next(steps).preview]
        steps.close()
        raise Stopped(previews, 2)

    monkeypatch.setattr(verb, "carry_out", stopped_after_two)
    assert find(tmp_path / "v.tif", tmp_path / "m.csv") == 130
    assert "marked as incomplete" in capsys.readouterr().out
    table = read_table(tmp_path / "m.csv")
    assert sorted(table["frame"]) == [0, 0, 1, 1]
    assert table.provenance["complete"] is False


def test_an_lnet_answers_in_nanometres_and_only_on_voxels_that_it_knows(tmp_path, capsys, monkeypatch):
    card = SimpleNamespace(units={"pixel_nm": 145.0})
    monkeypatch.setattr(volume_molecules, "load_network", lambda path, instrument: (PublishedLNet((4, 4, 4), 2), card))
    answer = (torch.tensor([[10.25, 20.5, 30.0]]), torch.tensor([33.0]))
    monkeypatch.setattr(volume_molecules, "molecules_of", lambda network, values, limit: answer)
    write_image(np.ones(SHAPE, np.float32), tmp_path / "v.tif", VOXEL)
    assert find(tmp_path / "v.tif", tmp_path / "m.csv", "--model", "lnet4.safetensors") == 0
    table = read_table(tmp_path / "m.csv")
    assert table.position_zyx_nm[0] == pytest.approx([10.25 * 125, 20.5 * 145, 30 * 145])
    # the light of 9 x 7 x 7 voxels of one each
    assert table["photons"] == pytest.approx([441])
    assert table["confidence"] == pytest.approx([33])
    card.units["pixel_nm"] = 130.0
    assert find(tmp_path / "v.tif", tmp_path / "other.csv", "--model", "lnet4.safetensors") == 2
    assert "was trained for pixels of 130 nm, those of the volume have 145 nm" in capsys.readouterr().err
    monkeypatch.setattr(volume_molecules, "load_network", lambda path, instrument: (torch.nn.Identity(), card))
    assert find(tmp_path / "v.tif", tmp_path / "other.csv", "--model", "vnet.safetensors") == 2
    assert "does not find molecules in volumes" in capsys.readouterr().err


def test_the_record_beside_the_table_holds_how_the_volumes_came_about(tmp_path):
    write_image(molecules(), tmp_path / "v.tif", VOXEL)
    write_provenance({**RECORD, "plan": {"first_frame": 4}}, tmp_path / "v.tif")
    assert find(tmp_path / "v.tif", tmp_path / "m.csv") == 0
    record = json.loads((tmp_path / "m.csv.json").read_text(encoding="utf-8"))
    assert "volumes" in json.dumps(record)
    table = read_table(tmp_path / "m.csv")
    assert set(table["frame"]) == {4}
    assert table.z_reference == "focus"
    assert np.linalg.norm(table.position_zyx_nm[:, None] - PLACES, axis=2).min(0).max() < 10
