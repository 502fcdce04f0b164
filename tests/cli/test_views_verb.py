"""vsmlm views: from raw light-field frames to an instrument whose views are where they are, and to one stack a view."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.io
import tifffile

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.domain.instrument import View
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.plans import SimulatePlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.io.json_files import write_noun
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.simulate import simulate

TURN_RAD = 0.06


@pytest.fixture(scope="module")
def small():
    """Return the shipped light field with an array of 0.3 times the size: the same pupils, views of a third of the pixels."""
    shipped = load_example("light_field_3")
    lengths = {name: getattr(shipped.microlenses, name) * 0.3 for name in ("pitch_mm", "focal_length_mm", "fourier_lens_mm")}
    array = MicrolensArray.model_validate(shipped.microlenses.model_dump() | lengths | {"frame_yx_px": (300, 320)})
    return light_field_instrument(array, shipped)


@pytest.fixture(scope="module")
def movie(small, tmp_path_factory):
    """Write frames of the array turned by TURN_RAD; return their path, that of the straight instrument, and the turned one."""
    folder = tmp_path_factory.mktemp("movie")
    turned = light_field_instrument(small.microlenses.model_copy(update={"rotation_rad": TURN_RAD}), small)
    plan = SimulatePlan(
        frame_count=6, shape_yx_px=(300, 320), density_per_um2=0.05, photons=(5000, 9000), background_photons=(5, 5), device="cpu"
    )
    tifffile.imwrite(folder / "m.tif", finish(simulate(turned, plan)).stack.counts_tyx[0], photometric="minisblack")
    return folder / "m.tif", save_instrument(small, folder / "i.json"), turned


def command(movie, output, *more):
    return ["views", str(movie[0]), "--instrument", str(movie[1]), "--output", str(output), "--quiet", *map(str, more)]


def spans(instrument):
    return np.array([[row[2] for row in view.affine_yx] for view in instrument.views]) / instrument.pixel_nm()


def test_the_views_are_found_told_and_written(movie, tmp_path, capsys):
    assert main(command(movie, tmp_path / "placed.json")) == 0
    placed = load_instrument(tmp_path / "placed.json")
    assert np.abs(spans(placed) - spans(movie[2])).max() < 2
    assert np.abs(spans(load_instrument(movie[1])) - spans(movie[2])).max() > 5
    told = capsys.readouterr().out
    row, column = placed.microlenses.sensor_centres_yx_px[0]
    assert f"lens 1: centre at row {row:.1f}, column {column:.1f}; rows " in told


def test_cut_views_are_the_frames_pixels_and_reconstruct_with_their_instrument(movie, tmp_path, capsys):
    centres = [f"{y},{x}" for y, x in movie[2].microlenses.centres_on_sensor(6.5)]
    assert main(command(movie, tmp_path / "placed.json", "--cut", tmp_path / "v.tif", "--centres", *centres)) == 0
    placed, raw = load_instrument(tmp_path / "placed.json"), tifffile.imread(movie[0])
    for v, view in enumerate(placed.views):
        top, left, bottom, right = view.region_yx_px
        assert np.array_equal(tifffile.imread(tmp_path / f"v_lens{v + 1}.tif"), raw[:, top:bottom, left:right])
    note = json.loads((tmp_path / "v_lens1.tif.vsmlm.json").read_text(encoding="utf-8"))
    assert note["instrument"] == "v_instrument.json"
    views = [str(tmp_path / f"v_lens{v}.tif") for v in (1, 2, 3)]
    words = ["reconstruct", *views, "--instrument", str(tmp_path / "v_instrument.json"), "--output", str(tmp_path / "t.csv")]
    assert main([*words, "--last-frame", "0", "--region-yx-px", "40", "40", "80", "80", "--device", "cpu", "--quiet"]) == 0
    assert "molecules in 1 frames" in capsys.readouterr().out


def test_centres_come_from_a_text_file_on_a_binned_grid(movie, tmp_path):
    centres = movie[2].microlenses.centres_on_sensor(6.5)
    # pixel k of the binned grid covers pixels 2 k and 2 k + 1
    (tmp_path / "centres.txt").write_text("\n".join(f"{(y - 0.5) / 2:.3f}\t{(x - 0.5) / 2:.3f}" for y, x in centres))
    assert main(command(movie, tmp_path / "placed.json", "--centres-from", tmp_path / "centres.txt")) == 0
    assert np.array(load_instrument(tmp_path / "placed.json").microlenses.sensor_centres_yx_px) == pytest.approx(centres, abs=2e-3)


def test_centres_come_from_the_sharp_planes_of_a_psf(movie, bead_scan, tmp_path, capsys):
    turned = movie[2]
    centres = turned.microlenses.centres_on_sensor(6.5)
    scan = bead_scan(turned, [tuple(centres[0] * turned.pixel_nm())], (300, 320), np.arange(-1600.0, 1601, 400), background=20.0)
    psf = scan.counts_tyx[0].astype(np.float32).transpose(1, 2, 0)
    # one row and column more than the camera has, as programs that centre on a pixel write it
    scipy.io.savemat(tmp_path / "PSF.mat", {"FLFPSF": np.pad(psf, ((1, 0), (1, 0), (0, 0)), mode="edge")})
    words = command(movie, tmp_path / "placed.json", "--centres-from", tmp_path / "PSF.mat")
    words.remove("--quiet")
    assert main(words) == 0
    assert "the first row and column are left out" in capsys.readouterr().err
    found = np.array(load_instrument(tmp_path / "placed.json").microlenses.sensor_centres_yx_px)
    assert found == pytest.approx(centres, abs=0.4)
    # on pixels of twice the size its spots are half as far apart
    scipy.io.savemat(tmp_path / "other.mat", {"FLFPSF": np.pad(psf[::2, ::2], ((0, 150), (0, 160), (0, 0)), mode="edge")})
    assert main(command(movie, tmp_path / "wrong.json", "--centres-from", tmp_path / "other.mat")) == 1
    assert "take a plane near focus, on the camera's pixels (spots less than 90 pixels apart count as one)" in capsys.readouterr().err
    assert not (tmp_path / "wrong.json").exists()


def test_an_array_is_put_behind_a_microscope_that_has_none(movie, small, tmp_path):
    plain = small.model_copy(update={"views": (View(),), "microlenses": None})
    save_instrument(plain, tmp_path / "plain.json")
    write_noun(small.microlenses, tmp_path / "array.json")
    words = command((movie[0], tmp_path / "plain.json"), tmp_path / "placed.json")
    assert main([*words, "--array", str(tmp_path / "array.json")]) == 0
    assert np.abs(spans(load_instrument(tmp_path / "placed.json")) - spans(movie[2])).max() < 2
    assert main(words) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--centres", "200,150", "80,90"], "2 lens centres were measured, the layout 'triangle' has 3 lenses"),
        (["--centres", "200,150", "80,90", "80,400"], "lens centre 2 at row 80, column 400 lies outside the frame of 300 x 320 pixels"),
        (["--centres", "200,150", "80,90", "80,110"], "mm apart on the sensor, the layout 'triangle' of pitch 0.975 mm expects"),
        (["--centres", "200"], "'200' is no row and column with a comma between them"),
        (["--cut", "views.png"], "views are written as .tif"),
    ],
)
def test_centres_that_cannot_be_are_words_and_nothing_is_written(movie, tmp_path, capsys, more, words):
    assert main(command(movie, tmp_path / "placed.json", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "placed.json").exists()


def test_views_that_overlap_are_words(movie, small, tmp_path, capsys):
    # fields that fit the straight layout, but not centres that lie a little closer
    wide = light_field_instrument(small.microlenses.model_copy(update={"field_yx_px": (120, 150)}), small)
    save_instrument(wide, tmp_path / "wide.json")
    words = command((movie[0], tmp_path / "wide.json"), tmp_path / "placed.json", "--centres", "236,157", "106,84", "106,231")
    assert main(words) == 2
    assert "views 2 and 3 overlap: their centres are 0 rows and 147 columns apart, but field_yx_px is 120 x 150" in capsys.readouterr().err


def test_a_dark_view_and_other_lenses_than_stated_are_words(movie, small, tmp_path, capsys):
    dark = tifffile.imread(movie[0])
    top, left, bottom, right = movie[2].views[1].region_yx_px
    dark[:, top:bottom, left:right] = np.random.default_rng(0).normal(103, 3, (len(dark), bottom - top, right - left)).round()
    tifffile.imwrite(tmp_path / "dark.tif", dark, photometric="minisblack")
    assert main(command((tmp_path / "dark.tif", movie[1]), tmp_path / "placed.json")) == 1
    assert "only 2 of 3 views show the same: a view is dark" in capsys.readouterr().err
    square = MicrolensArray.model_validate(small.microlenses.model_dump() | {"layout": "square", "lenses_a_side": 2})
    save_instrument(light_field_instrument(square, small), tmp_path / "square.json")
    assert main(command((movie[0], tmp_path / "square.json"), tmp_path / "placed.json")) == 1
    assert "no sign of 4 views that show the same" in capsys.readouterr().err
    assert not (tmp_path / "placed.json").exists()


def test_frames_of_another_size_are_words(movie, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "part.tif", tifffile.imread(movie[0])[:, :200], photometric="minisblack")
    assert main(command((tmp_path / "part.tif", movie[1]), tmp_path / "placed.json")) == 2
    assert "the frames have 200 x 320 pixels, the microlens array expects raw frames of 300 x 320" in capsys.readouterr().err


def test_saturated_views_are_noted(movie, tmp_path, capsys):
    bright = tifffile.imread(movie[0])
    bright[:, 100:140, 100:140] = 65535
    tifffile.imwrite(tmp_path / "bright.tif", bright, photometric="minisblack")
    words = command((tmp_path / "bright.tif", movie[1]), tmp_path / "placed.json", "--centres", "236,157", "106,82", "106,232")
    assert main([word for word in words if word != "--quiet"]) == 0
    assert "are saturated (at least 65535 counts): their photons are unknown" in capsys.readouterr().err
