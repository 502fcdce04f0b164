"""The verbs one after the other, with the real recipes: simulate, reconstruct, evaluate, render."""

from __future__ import annotations

import json

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.io.instruments import save_instrument


def test_simulated_molecules_are_found_and_drawn(tmp_path, monkeypatch, capsys, toy_instrument):
    monkeypatch.chdir(tmp_path)
    save_instrument(toy_instrument, "microscope.json")
    movie = ["--frame-count", "2", "--shape-yx-px", "40", "40", "--border-px", "8", "--photons", "8000", "12000", "--mean-on-frames", "0"]
    assert main(["simulate", "--instrument", "microscope.json", "--output", "movie.tif", *movie, "--density-per-um2", "0.5"]) == 0
    assert main(["reconstruct", "movie.tif", "--instrument", "movie_instrument.json", "--output", "found.csv"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "movie_truth.csv", "found.csv", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["true_positives"] + scores["false_negatives"] >= 4
    assert scores["jaccard"] > 0.7
    assert scores["rmse_lateral_nm"] < 40
    assert main(["render", "found.csv", "--output", "picture.png", "--color-by-depth"]) == 0
