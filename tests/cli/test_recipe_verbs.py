"""The verbs that run recipes: what they hand over, what they write, and what remains after errors and Ctrl-C.

The recipes themselves are stand-ins here; they have their own tests.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.domain.runs import Calibration, ModelCard, Progress, Reconstruction, Simulation, TrainedModel, TrainingCost
from napari_volumetric_smlm.errors import EngineError
from napari_volumetric_smlm.io.examples import example_models, load_example
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.io.models import read_model_weights
from napari_volumetric_smlm.io.stacks import open_stack
from napari_volumetric_smlm.io.tables import read_table


def molecules(frame):
    return Localizations(
        columns={"frame": [frame], "z_nm": [100.0], "y_nm": [200.0], "x_nm": [300.0], "photons": [1000.0]}, z_reference="coverslip"
    )


@pytest.fixture
def files(tmp_path, toy_instrument):
    """Write an instrument and a movie of five frames; return their paths by name."""
    movie = np.random.default_rng(0).integers(100, 200, (5, 32, 40)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", movie)
    save_instrument(toy_instrument, tmp_path / "microscope.json")
    return tmp_path


@pytest.fixture
def stand_in(monkeypatch):
    """Put a recipe in place of the real one; return what it was called with."""
    calls = []

    def put(verb, steps):
        def recipe(*arguments):
            calls.append(arguments)
            return (yield from steps(*arguments))

        module = types.ModuleType(f"napari_volumetric_smlm.recipes.{verb}")
        setattr(module, verb, recipe)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return calls

    return put


def five_frames(stack, instrument, plan):
    for frame in range(5):
        yield Progress(stage="localize", done=frame + 1, total=5, preview=molecules(frame))
    table = Localizations.joined([molecules(frame) for frame in range(5)])
    return Reconstruction(
        localizations=table, plan=plan, instrument_fingerprint=instrument.fingerprint, frames_done=5, complete=True, seconds=2.0
    )


def run_reconstruct(files, *options, output="out.csv"):
    return main(
        [
            "reconstruct",
            str(files / "frames.tif"),
            "--instrument",
            str(files / "microscope.json"),
            "--output",
            str(files / output),
            *options,
        ]
    )


def test_reconstruct_hands_over_frames_instrument_and_plan_and_writes_the_table(files, stand_in, capsys):
    calls = stand_in("reconstruct", five_frames)
    assert run_reconstruct(files, "--min-photons", "250", "--last-frame", "3") == 0
    stack, instrument, plan = calls[0]
    assert stack.kind == "frames"
    assert stack.counts_tyx[0].shape == (5, 32, 40)
    assert instrument == load_instrument(files / "microscope.json")
    assert (plan.min_photons, plan.last_frame) == (250, 3)
    assert len(read_table(files / "out.csv")) == 5
    captured = capsys.readouterr()
    assert "5 molecules in 5 frames" in captured.out
    assert "localize" in captured.err


def test_instruments_and_models_that_come_along_are_given_by_name(files, stand_in, monkeypatch):
    calls = stand_in("reconstruct", five_frames)
    assert run_reconstruct(files, "--instrument", "light_field_3", "--model", "light_field_3") == 0
    _, instrument, plan = calls[0]
    assert instrument == load_example("light_field_3")
    assert Path(plan.model) == example_models()["light_field_3"]
    # a file of this name goes before it
    monkeypatch.chdir(files)
    (files / "tetrapod").write_text((files / "microscope.json").read_text())
    assert run_reconstruct(files, "--instrument", "tetrapod") == 0
    assert calls[1][1] == load_instrument(files / "microscope.json")


def test_quiet_leaves_stderr_empty(files, stand_in, capsys):
    stand_in("reconstruct", five_frames)
    assert run_reconstruct(files, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_ctrl_c_writes_what_was_found_and_marks_it(files, stand_in, capsys):
    def interrupted(stack, instrument, plan):
        for frame in range(5):
            if frame == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield Progress(stage="localize", done=frame + 1, total=5, preview=molecules(frame))

    stand_in("reconstruct", interrupted)
    assert run_reconstruct(files) == 130
    assert "marked as incomplete" in capsys.readouterr().out
    table = read_table(files / "out.csv")
    assert table["frame"].tolist() == [0, 1, 2]
    assert table.provenance["complete"] is False
    assert table.provenance["frames_done"] == 3
    assert table.provenance["plan"]["detection_threshold"] == 30.0


def test_ctrl_c_before_the_first_frame_writes_nothing(files, stand_in, capsys):
    def interrupted(stack, instrument, plan):
        os.kill(os.getpid(), signal.SIGINT)
        yield Progress(stage="prepare")
        yield Progress(stage="prepare")

    stand_in("reconstruct", interrupted)
    assert run_reconstruct(files) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not (files / "out.csv").exists()


def test_a_failure_in_the_middle_leaves_an_older_result_alone_and_keeps_what_was_found_beside_it(files, stand_in, capsys):
    def failing(stack, instrument, plan):
        yield Progress(stage="localize", done=1, total=5, preview=molecules(0))
        raise EngineError("the fit of frame 1 did not converge; lower the density")

    (files / "out.csv").write_text("older result")
    stand_in("reconstruct", failing)
    assert run_reconstruct(files) == 1
    err = capsys.readouterr().err
    assert "did not converge" in err
    assert "1 molecules of 1 frames, found until then" in err
    assert (files / "out.csv").read_text() == "older result"
    assert list(files.glob("*.part*")) == []
    table = read_table(files / "out.incomplete.csv")
    assert table["frame"].tolist() == [0]
    assert table.provenance["complete"] is False
    assert "did not converge" in table.provenance["notes"][0]


def full_disk(folder):
    """Return a stand-in for the renaming of files that finds no room in one folder."""
    rename = Path.replace

    def replace(self, target):
        if Path(target).parent == folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    return replace


@pytest.mark.parametrize("stop", [False, True])
def test_a_disk_that_is_full_at_the_end_costs_no_molecules(files, stand_in, capsys, monkeypatch, tmp_path_factory, stop):
    def steps(stack, instrument, plan):
        if stop:
            os.kill(os.getpid(), signal.SIGINT)
        return (yield from five_frames(stack, instrument, plan))

    elsewhere = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(Path, "replace", full_disk(files))
    (files / "out.csv").write_text("older result")
    stand_in("reconstruct", steps)
    assert run_reconstruct(files) == 1
    err = capsys.readouterr().err
    assert "the disk is full; free some space" in err
    assert "nothing was changed. The table is kept in " in err
    assert "Traceback" not in err
    assert (files / "out.csv").read_text() == "older result"
    assert list(files.glob(".out*")) == []
    (kept,) = elsewhere.rglob("out.csv")
    assert str(kept) in err
    assert len(read_table(kept)) == (1 if stop else 5)


def test_a_disk_that_is_full_everywhere_gets_words(files, stand_in, capsys, monkeypatch, tmp_path_factory):
    def replace(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    elsewhere = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(Path, "replace", replace)
    stand_in("reconstruct", five_frames)
    assert run_reconstruct(files) == 1
    err = capsys.readouterr().err
    assert "the disk is full" in err
    assert "kept" not in err
    assert list(elsewhere.iterdir()) == []


def test_a_read_only_folder_is_told_before_the_work_begins(files, stand_in, capsys, monkeypatch):
    calls = stand_in("reconstruct", five_frames)
    # who may write everywhere, like root, is not stopped by the folder's rights
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run_reconstruct(files) == 1
    assert "is read-only; choose a folder that you may write to" in capsys.readouterr().err
    assert calls == []


@pytest.mark.parametrize(("change", "options", "status", "words"), [
    ("", ["--instrument", "missing.json"], 2, "there is no such file"),
    ("", ["--instrument", "tetrapot"], 2, "no instrument of this name comes along (astigmatic, "),
    ("", ["--model", "tetrapot"], 2, "no model of this name comes along (astigmatic, "),
    ("", ["--last-frame", "-1"], 2, "last_frame"),
    ("", ["--first-frame", "4", "--last-frame", "2"], 2, "lies before first_frame"),
    ("cut the movie", [], 2, "frames.tif"),
    ("unknown key", [], 2, "did you mean"),
    ("aperture above the index", [], 2, "numerical_aperture 1.6 is above immersion_index"),
    ("wrong ending", [], 2, "no table format has this ending"),
])  # fmt: skip
def test_bad_input_gets_words_and_status_two(files, stand_in, capsys, change, options, status, words):
    calls = stand_in("reconstruct", five_frames)
    output = "out.doc" if change == "wrong ending" else "out.csv"
    instrument = json.loads((files / "microscope.json").read_text())
    if change == "cut the movie":
        data = (files / "frames.tif").read_bytes()
        (files / "frames.tif").write_bytes(data[: len(data) // 2])
    elif change == "unknown key":
        instrument["emision_nm"] = 600
    elif change == "aperture above the index":
        instrument["objective"]["numerical_aperture"] = 1.6
    (files / "microscope.json").write_text(json.dumps(instrument))
    assert run_reconstruct(files, *options, output=output) == status
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert calls == []
    assert not (files / output).exists()


def a_calibration(passed):
    def steps(stacks, instrument, plan):
        yield Progress(stage="fit", done=1, total=2)
        images = np.zeros((1, 5, 7, 7))
        return Calibration(
            instrument=instrument.model_copy(update={"name": "calibrated"}), plan=plan, measured_vzyx=images, fitted_vzyx=images,
            correlation_z=np.array([0.9, 0.99, 0.97, 0.98, 0.9]), held_out_z=np.array([0, 1, 0, 1, 0], bool),
            neighbour_correlation_z=np.zeros(5), bound_nm=np.zeros((5, 4)), bead_positions_yx_px=((10, 10),),
            opposite_correlation_held_out=0.8, verdict="good" if passed else "poor", passed=passed, seconds=1.0,
        )  # fmt: skip

    return steps


def run_calibrate(files, beads, *options):
    words = [str(files / name) for name in beads]
    return main(["calibrate", *words, "--instrument", str(files / "microscope.json"), "--output", str(files / "cal.json"), *options])


def test_calibrate_writes_the_instrument_and_tells_the_evidence(files, stand_in, capsys):
    calls = stand_in("calibrate", a_calibration(passed=True))
    assert run_calibrate(files, ["frames.tif"], "--z-step-nm", "-80") == 0
    stacks, _, plan = calls[0]
    assert [stack.kind for stack in stacks] == ["beads"]
    assert plan.z_step_nm == -80
    assert load_instrument(files / "cal.json").name == "calibrated"
    told = capsys.readouterr().out
    assert "Verdict: good" in told
    assert "2 slices that the fit did not see: mean 0.985, lowest 0.980" in told
    assert "opposite z direction: 0.800" in told


def test_a_report_is_written_on_request(files, stand_in, monkeypatch, capsys):
    stand_in("calibrate", a_calibration(passed=True))
    asked = []
    monkeypatch.setattr("napari_volumetric_smlm.recipes.report.write_report", lambda calibration, path: asked.append(path) or path)
    assert run_calibrate(files, ["frames.tif"], "--z-step-nm", "80", "--report", str(files / "report.html")) == 0
    assert asked == [files / "report.html"]
    assert "report.html" in capsys.readouterr().out
    assert run_calibrate(files, ["frames.tif"], "--z-step-nm", "80", "--report", str(files / "report.pdf")) == 2
    assert "a report is an .html file" in capsys.readouterr().err


def test_a_calibration_that_is_not_usable_is_written_but_ends_with_one(files, stand_in, capsys):
    stand_in("calibrate", a_calibration(passed=False))
    assert run_calibrate(files, ["frames.tif"], "--z-step-nm", "80") == 1
    captured = capsys.readouterr()
    assert "Verdict: poor" in captured.out
    assert "not good enough" in captured.err
    assert (files / "cal.json").exists()


def test_a_missing_z_step_is_asked_for_before_anything_is_read(files, stand_in, capsys):
    calls = stand_in("calibrate", a_calibration(passed=True))
    assert run_calibrate(files, ["nowhere.tif"]) == 2
    assert "--z-step-nm is required" in capsys.readouterr().err
    assert calls == []


def test_several_files_are_further_stacks_of_one_camera_or_one_file_a_camera(files, stand_in, toy_instrument):
    calls = stand_in("calibrate", a_calibration(passed=True))
    (files / "second.tif").write_bytes((files / "frames.tif").read_bytes())
    assert run_calibrate(files, ["frames.tif", "second.tif"], "--z-step-nm", "80") == 0
    assert [len(stack.counts_tyx) for stack in calls[0][0]] == [1, 1]
    camera, view = toy_instrument.cameras[0], toy_instrument.views[0]
    two = toy_instrument.model_copy(update={"cameras": (camera, camera), "views": (view, view.model_copy(update={"camera": 1}))})
    save_instrument(two, files / "microscope.json")
    assert run_calibrate(files, ["frames.tif", "second.tif"], "--z-step-nm", "80") == 0
    assert [len(stack.counts_tyx) for stack in calls[1][0]] == [2]


def test_simulate_writes_movie_truth_and_instrument_that_open_again(files, stand_in, capsys):
    def steps(instrument, plan):
        yield Progress(stage="draw")
        counts = np.full((plan.frame_count, *plan.shape_yx_px), 7, np.uint16)
        return Simulation(stack=RawStack(counts_tyx=(counts,), kind="frames"), truth=molecules(1), instrument=instrument, plan=plan)

    stand_in("simulate", steps)
    words = ["--frame-count", "4", "--shape-yx-px", "20", "30", "--photons", "100", "200"]
    assert main(["simulate", "--instrument", str(files / "microscope.json"), "--output", str(files / "movie.tif"), *words]) == 0
    stack = open_stack(files / "movie.tif")
    assert stack.kind == "frames"
    assert stack.counts_tyx[0].shape == (4, 20, 30)
    assert stack.pixel_nm == pytest.approx(110)
    assert len(read_table(files / "movie_truth.csv")) == 1
    assert load_instrument(files / "movie_instrument.json") == load_instrument(files / "microscope.json")
    assert "4 frames, 1 molecules" in capsys.readouterr().out


def test_simulated_beads_are_a_stack_that_calibrate_reads(files, stand_in, capsys):
    save_instrument(load_instrument(files / "microscope.json"), files / "known.json")
    words = ["simulate", "--instrument", str(files / "known.json"), "--output", str(files / "beads.tif"), "--quiet"]
    words += ["--bead-count", "2", "--z-step-nm", "-150", "--shape-yx-px", "80", "70", "--background-photons", "5", "5"]
    assert main(words) == 0
    assert "8 slices -150 nm apart, beads at row, column" in capsys.readouterr().out
    stack = open_stack(files / "beads.tif")
    assert (stack.kind, stack.z_step_nm, stack.counts_tyx[0].shape) == ("beads", -150, (8, 80, 70))
    assert load_instrument(files / "beads_instrument.json") == load_instrument(files / "known.json")
    assert not (files / "beads_truth.csv").exists()
    calls = stand_in("calibrate", a_calibration(passed=True))
    assert run_calibrate(files, ["beads.tif"], "--z-step-nm", "-150") == 0
    assert np.array_equal(calls[0][0][0].counts_tyx[0][:], stack.counts_tyx[0][:])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bead-count", "2", "--density-per-um2", "1", "--frame-count", "3"], "--frame-count, --density-per-um2: said of movies"),
        (["--z-step-nm", "100"], "--z-step-nm: said of bead scans; give --bead-count as well"),
    ],
)
def test_settings_of_a_movie_and_of_a_bead_scan_are_not_mixed(files, capsys, words, told):
    assert main(["simulate", "--instrument", str(files / "microscope.json"), "--output", str(files / "beads.tif"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (files / "beads.tif").exists()


def trained(instrument, plan, checkpoint, command):
    """Stand for a training of two steps that keeps a checkpoint."""
    checkpoint.write_bytes(b"state")
    checkpoint.with_suffix(".json").write_text("{}")
    yield Progress(stage="train", done=1, total=2)
    yield Progress(stage="train", done=2, total=2)
    card = ModelCard(
        architecture={"channels": 3}, units={"low_nm": 0.0}, window_px=13, ground_px=100.0, instrument=instrument.name,
        instrument_fingerprint=instrument.fingerprint, plan=plan, command=command, frames_seen=16, tested_frames=4,
        accuracy={"jaccard": 0.9},
    )  # fmt: skip
    return TrainedModel(weights={"a": np.ones(3, np.float32)}, card=card, curve={}, complete=True, seconds=3.0)


def test_train_writes_a_model_with_its_card_and_removes_the_checkpoint(files, stand_in, capsys):
    calls = stand_in("train", trained)
    words = ["--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.safetensors", "--photons", "1000", "3000"]
    assert main(["train", *words]) == 0
    weights, card = read_model_weights(files / "toy.safetensors")
    assert list(weights) == ["a"]
    assert card["accuracy"] == {"jaccard": 0.9}
    assert card["plan"]["photons"] == [1000, 3000]
    assert calls[0][2] == files / "toy.checkpoint.safetensors"
    assert not list(files.glob("toy.checkpoint*"))
    assert "16 frames in 3 s; on 4 frames that it never saw: Jaccard 0.90" in capsys.readouterr().out


def test_how_well_a_volume_model_did_is_told_in_words(files, stand_in, capsys):
    def volumes(*arguments):
        result = yield from trained(*arguments)
        return result.model_copy(
            update={"card": result.card.model_copy(update={"accuracy": {"correlation": 0.8, "missed_variance": 0.463}})}
        )

    stand_in("train", volumes)
    assert main(["train", "--instrument", f"{files}/microscope.json", "--output", f"{files}/v.safetensors"]) == 0
    assert "never saw: correlation 0.80 with the true volume, 46% of its variance missed" in capsys.readouterr().out


def test_a_finished_model_is_replaced_only_where_that_is_asked_for(files, stand_in, monkeypatch, capsys):
    calls = stand_in("train", trained)
    words = ["train", "--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.safetensors"]
    monkeypatch.setattr(sys, "argv", ["vsmlm", *words])
    assert main(words) == 0
    capsys.readouterr()
    # what was asked for is there
    assert main(words) == 0
    assert "toy.safetensors: this training is finished already (16 frames, trained by: vsmlm train --instrument" in capsys.readouterr().out
    # another training is not
    monkeypatch.setattr(sys, "argv", ["vsmlm", *words, "--seed", "7", "--replace"])
    assert main([*words, "--seed", "7"]) == 2
    told = capsys.readouterr().err
    assert "there is a finished model of this name, for 'toy', trained by: vsmlm train --instrument" in told
    assert "To replace it add --replace, or choose another name" in told
    assert len(calls) == 1
    assert main([*words, "--seed", "7", "--replace"]) == 0
    card = read_model_weights(files / "toy.safetensors")[1]
    assert (card["plan"]["seed"], len(calls)) == (7, 2)
    assert card["command"].endswith("--seed 7")


def test_a_stopped_training_goes_on_although_it_is_to_replace_a_finished_model(files, stand_in):
    calls = stand_in("train", trained)
    words = ["train", "--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.safetensors"]
    assert main(words) == 0
    (files / "toy.checkpoint.safetensors").write_bytes(b"state")
    assert main([*words, "--seed", "7"]) == 0
    assert len(calls) == 2


def test_a_file_that_is_no_model_is_not_replaced_either(files, stand_in, capsys):
    calls = stand_in("train", trained)
    (files / "toy.safetensors").write_bytes(b"something else")
    assert main(["train", "--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.safetensors"]) == 2
    assert "no model with its card" in capsys.readouterr().err
    assert calls == []


def test_a_training_that_is_stopped_keeps_its_checkpoint_and_says_how_to_go_on(files, stand_in, monkeypatch, capsys):
    def stopped(*arguments):
        steps = trained(*arguments)
        yield next(steps)
        os.kill(os.getpid(), signal.SIGINT)
        yield from steps

    stand_in("train", stopped)
    words = ["--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.safetensors"]
    assert main(["train", *words]) == 130
    assert (files / "toy.checkpoint.safetensors").is_file()
    assert not (files / "toy.safetensors").exists()
    assert "the same command goes on from" in capsys.readouterr().out


def test_a_model_has_the_ending_of_one(files, stand_in, capsys):
    stand_in("train", trained)
    assert main(["train", "--instrument", f"{files}/microscope.json", "--output", f"{files}/toy.pt"]) == 2
    assert "models are .safetensors files" in capsys.readouterr().err


def test_train_needs_an_output_unless_it_only_estimates(files, stand_in, capsys, monkeypatch):
    def costs(instrument, plan):
        yield Progress(stage="estimate", done=0, total=3)
        gib = {"quick": 512.0, "full": None}
        return tuple(TrainingCost(preset=name, device="cpu", frames=1000, seconds=90.0, peak_mib=mib) for name, mib in gib.items())

    calls = stand_in("train", trained)
    module = types.ModuleType("napari_volumetric_smlm.recipes.training_estimate")
    module.estimate_training = costs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main(["train", "--instrument", f"{files}/microscope.json"]) == 2
    assert "--output is required" in capsys.readouterr().err
    before = set(files.iterdir())
    assert main(["train", "--instrument", f"{files}/microscope.json", "--estimate"]) == 0
    told = capsys.readouterr().out
    assert "On cpu, about:\n  quick: 1,000 frames in 1 min 30 s, 0.5 GiB\n  full: 1,000 frames in 1 min 30 s\n" in told
    assert set(files.iterdir()) == before
    assert calls == []
