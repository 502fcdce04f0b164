"""vsmlm deconvolve and reconstruct --volume, from a raw movie to a volume with its voxel size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.cli import deconvolve as verb
from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.cli.progress import Stopped
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.io.volume_files import open_volumes

FEW = ["--iterations", "3", "--depth-step-nm", "300", "--window-px", "31", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movie")
    shipped = load_example("light_field_3").model_copy(update={"depth_range_nm": (-600.0, 600.0)})
    small = light_field_instrument(shipped.microlenses.model_copy(update={"field_yx_px": (60, 64)}), shipped)
    save_instrument(small, folder / "i.json")
    words = ["simulate", "--instrument", str(folder / "i.json"), "--output", str(folder / "m.tif"), "--frame-count", "2", "--quiet"]
    assert main([*words, "--shape-yx-px", "1024", "1024", "--density-per-um2", "0.05", "--device", "cpu"]) == 0
    return folder / "m.tif", folder / "m_instrument.json"


def corner_nm(movie):
    """Return where the first pixel of the first view lies on the raw frame."""
    return [145.0 * side for side in load_instrument(movie[1]).views[0].region_yx_px[:2]]


def command(movie, place, *more):
    return ["deconvolve", str(movie[0]), "--instrument", str(movie[1]), "--output", str(place), *FEW, *more]


def test_a_volume_is_written_with_its_voxel_size_and_how_it_came_about(movie, tmp_path, capsys):
    place = tmp_path / "v.tif"
    assert main(command(movie, place)) == 0
    assert "5 planes 300 nm apart, 60 x 64 pixels of 145 nm, 3 iterations" in capsys.readouterr().out
    with tifffile.TiffFile(place) as file:
        assert file.asarray().shape == (5, 60, 64)
        assert 'PhysicalSizeZ="300.0"' in file.ome_metadata
        assert 'PhysicalSizeX="145.0"' in file.ome_metadata
    record = json.loads((tmp_path / "v.tif.json").read_text(encoding="utf-8"))
    assert record["plan"]["iterations"] == record["iterations"] == 3
    assert record["origin_zyx_nm"] == pytest.approx([-600.0, *corner_nm(movie)])
    assert main(command(movie, tmp_path / "again.tif")) == 0
    assert np.array_equal(tifffile.imread(place), tifffile.imread(tmp_path / "again.tif"))


def test_every_frame_has_its_own_volume_in_one_file_when_asked_for(movie, tmp_path, capsys):
    place = tmp_path / "each.tif"
    assert main(command(movie, place, "--each-frame")) == 0
    assert "2 volumes of 5 planes 300 nm apart" in capsys.readouterr().out
    with tifffile.TiffFile(place) as file:
        assert file.series[0].axes == "TZYX"
        each = file.asarray()
    for frame in (0, 1):
        alone = tmp_path / f"{frame}.tif"
        assert main(command(movie, alone, "--first-frame", str(frame), "--last-frame", str(frame))) == 0
        assert np.array_equal(tifffile.imread(alone), each[frame])
    assert not np.array_equal(each[0], each[1])
    record = json.loads((tmp_path / "each.tif.json").read_text(encoding="utf-8"))
    assert record["frames"] == [0, 1]
    assert record["complete"] is True
    assert record["origin_zyx_nm"] == pytest.approx([-600.0, *corner_nm(movie)])


def test_a_stop_keeps_the_volumes_until_then(movie, tmp_path, capsys, monkeypatch):
    def stopped_in_the_second_frame(steps, quiet):
        for progress in steps:
            if progress.done == 1:
                steps.close()
                raise Stopped([], progress.done)

    monkeypatch.setattr(verb, "carry_out", stopped_in_the_second_frame)
    assert main(command(movie, tmp_path / "v.tif", "--each-frame")) == 130
    assert "the volumes until then are in" in capsys.readouterr().out
    assert tifffile.imread(tmp_path / "v.incomplete.tif").shape[-2:] == (60, 64)
    assert json.loads((tmp_path / "v.incomplete.tif.json").read_text(encoding="utf-8"))["complete"] is False
    assert not (tmp_path / "v.tif").exists()


def test_a_stop_writes_the_iteration_that_was_reached(movie, tmp_path, capsys, monkeypatch):
    def stopped_in_the_third_iteration(steps, quiet, watch):
        for progress in steps:
            watch(progress)
            if (progress.stage, progress.done) == ("deconvolve", 2):
                steps.close()
                raise Stopped([], progress.done)

    monkeypatch.setattr(verb, "carry_out", stopped_in_the_third_iteration)
    place = tmp_path / "v.tif"
    assert main(command(movie, place)) == 130
    assert "the volume of 2 of 3 iterations" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(command(movie, tmp_path / "two.tif", "--iterations", "2")) == 0
    assert tifffile.imread(place) == pytest.approx(tifffile.imread(tmp_path / "two.tif"), rel=1e-5)
    assert json.loads((tmp_path / "v.tif.json").read_text(encoding="utf-8"))["iterations"] == 2


def test_what_cannot_be_written_or_made_is_told_before_the_work(movie, tmp_path, capsys):
    assert main(command(movie, tmp_path / "v.png")) == 2
    assert "a volume is written as .tif" in capsys.readouterr().err
    assert main(command(movie, tmp_path / "nowhere" / "v.tif")) == 1
    assert "does not exist" in capsys.readouterr().err
    words = ["reconstruct", str(movie[0]), "--instrument", str(movie[1]), "--output", str(tmp_path / "v.tif"), "--volume", "--quiet"]
    assert main(words) == 2
    assert "--volume needs --model" in capsys.readouterr().err


def test_a_trained_network_makes_a_volume_on_the_command_line(movie, tmp_path, capsys, monkeypatch):
    from napari_volumetric_smlm.domain.plans import TrainPlan
    from napari_volumetric_smlm.io.models import write_model_weights
    from napari_volumetric_smlm.recipes import train_volume
    from napari_volumetric_smlm.recipes.split_views import cut_instrument
    from napari_volumetric_smlm.recipes.train import begin
    from napari_volumetric_smlm.recipes.trained import weights_of

    monkeypatch.setitem(train_volume.PRESETS, "quick", train_volume.Preset(4, 2, 8, (1,)))
    plan = TrainPlan(architecture="vnet", depth_planes=5, frame_px=32, device="cpu")
    _, card, trainer = begin(cut_instrument(load_instrument(movie[1])), plan)
    model = write_model_weights(weights_of(trainer.network), card.model_dump(mode="json"), tmp_path / "m.safetensors")
    words = ["reconstruct", str(movie[0]), "--instrument", str(movie[1]), "--output", str(tmp_path / "v.tif"), "--volume"]
    assert main([*words, "--model", str(model), "--device", "cpu", "--quiet"]) == 0
    assert "5 planes 300 nm apart, 60 x 64 pixels of 145 nm" in capsys.readouterr().out
    assert tifffile.imread(tmp_path / "v.tif").shape == (5, 60, 64)
    assert open_volumes(tmp_path / "v.tif").origin_zyx_nm == pytest.approx((-600.0, *corner_nm(movie)))
    assert main([*words, "--model", str(model), "--device", "cpu", "--quiet", "--each-frame", "--background-photons", "3"]) == 0
    assert tifffile.imread(tmp_path / "v.tif").shape == (2, 5, 60, 64)
    assert json.loads((tmp_path / "v.tif.json").read_text(encoding="utf-8"))["plan"]["background_photons"] == 3
