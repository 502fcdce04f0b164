import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_volumetric_smlm.domain.plans import TrainPlan
from napari_volumetric_smlm.domain.runs import ModelCard
from napari_volumetric_smlm.errors import ModelError, OutputError
from napari_volumetric_smlm.io.models import (
    card_path,
    check_fit,
    checkpoint_path,
    forget_checkpoint,
    list_models,
    read_model_card,
    read_model_weights,
    weights_hash,
    write_model_weights,
)

CARD = {"architecture": {"name": "localizer", "depth": 3}, "instrument_fingerprint": "0123456789abcdef", "rmse_z_nm": 21.5}


class Exploding:
    """Unpickling this leaves a file behind: the proof that something was run."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    return {
        "conv.weight": rng.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(size=4),
        "steps": np.array([7], np.int64),
        "half": rng.normal(size=(2, 2)).astype(np.float16),
        "transposed": rng.normal(size=(3, 5)).T,
    }


@pytest.fixture
def written(arrays, tmp_path):
    return write_model_weights(arrays, CARD, tmp_path / "model.safetensors")


def test_weights_and_card_come_back_as_they_were(arrays, written):
    found, card = read_model_weights(written)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert {name: card[name] for name in CARD} == CARD
    assert card["schema_version"] == "vsmlm-model-1"
    assert json.loads(card_path(written).read_text()) == card


PICKLES = ["model.pt", "model.pth", "model.pkl", "model.ckpt", "model.safetensors", "model.bin"]


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_under_any_name_and_nothing_of_it_is_run(tmp_path, name, protocol):
    path, mark = tmp_path / name, tmp_path / "was_run"
    path.write_bytes(pickle.dumps(Exploding(mark), protocol))
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"can run any code on your computer .* ask for the model as \.safetensors"):
        read_model_weights(path)
    assert not mark.exists()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_pytorch_checkpoint_renamed_to_safetensors_is_refused(tmp_path):
    path, mark = tmp_path / "model.safetensors", tmp_path / "was_run"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Exploding(mark)))
    with pytest.raises(ModelError, match=r"a ZIP archive \(as PyTorch checkpoints are\)"):
        read_model_weights(path)
    assert not mark.exists()


def test_a_header_whose_length_looks_like_a_pickle_is_no_pickle(tmp_path):
    """Length 640 is written as the bytes 80 02, which also begin a pickle of protocol 2."""
    for extra in range(560, 640, 4):
        path = write_model_weights({"w" * (extra + 1): np.ones(2, np.float32)}, {}, tmp_path / "model.safetensors")
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:8] == struct.pack("<Q", 640)
    arrays, _ = read_model_weights(path)
    np.testing.assert_array_equal(next(iter(arrays.values())), [1, 1])


def test_a_card_of_other_weights_is_told(arrays, written, tmp_path):
    other = write_model_weights({**arrays, "steps": np.array([8])}, CARD, tmp_path / "other.safetensors")
    card_path(written).write_bytes(card_path(other).read_bytes())
    with pytest.raises(ModelError, match=r"not the weights that the card model\.json describes"):
        read_model_weights(written)


def test_a_missing_card_and_a_missing_model_are_told(written, tmp_path):
    card_path(written).unlink()
    with pytest.raises(ModelError, match=r"its card model\.json is not beside it"):
        read_model_weights(written)
    with pytest.raises(ModelError, match="there is no such file"):
        read_model_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG picture"),
        (bytes(100), "zeros only"),
        (struct.pack("<Q", 40) + b"{" + b"x" * 60, "damaged safetensors file|not the weights"),
        (struct.pack("<Q", 10**12) + b"{}", "damaged or of another kind"),
    ],
)
def test_a_damaged_model_is_told(written, content, words):
    written.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_model_weights(written)


def test_a_truncated_model_is_told(written):
    written.write_bytes(written.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not the weights that the card"):
        read_model_weights(written)


def test_weights_that_are_not_finite_are_told(arrays, tmp_path):
    arrays["conv.bias"][2] = np.nan
    path = write_model_weights(arrays, CARD, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"weights conv\.bias hold values that are not finite"):
        read_model_weights(path)


@pytest.mark.parametrize("part", ["write_bytes", "write_text"])
def test_a_full_disk_leaves_the_older_model_whole(arrays, written, monkeypatch, part):
    before = {path: path.read_bytes() for path in written.parent.iterdir()}

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, part, full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_model_weights({"new": np.ones(3)}, {}, written)
    assert {path: path.read_bytes() for path in written.parent.iterdir()} == before


FILLING = """
import resource, signal, sys
import numpy as np
from napari_volumetric_smlm.errors import OutputError
from napari_volumetric_smlm.io.models import write_model_weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_model_weights({"w": np.ones(100_000)}, {}, sys.argv[1])
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited in another way")
def test_weights_for_which_the_system_has_no_room_are_told_and_leave_nothing(tmp_path):
    """The system's own refusal, not one that is made up: safetensors' writer would tell of it by an error of its own."""
    words = [sys.executable, "-c", FILLING, str(tmp_path / "model.safetensors")]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"cannot write {tmp_path / 'model.safetensors'}: " in told
    assert "nothing was changed" in told
    assert list(tmp_path.iterdir()) == []


def test_a_card_may_name_the_weights_before_it(arrays, written):
    older = written.read_bytes()
    before = weights_hash(written)
    write_model_weights({**arrays, "steps": np.array([8])}, {**CARD, "weights_before_sha256": before}, written)
    found, card = read_model_weights(written)
    assert found["steps"] == 8
    assert card["weights_sha256"] == weights_hash(written) != before
    written.write_bytes(older)
    found, card = read_model_weights(written)
    assert found["steps"] == 7
    assert card["weights_sha256"] == before


def test_a_card_that_json_cannot_hold_writes_nothing(arrays, tmp_path):
    with pytest.raises(ModelError, match="cannot be written as JSON"):
        write_model_weights(arrays, {"loss": float("nan")}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"found the ending \.pt"):
        write_model_weights(arrays, {}, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def full_card(toy_instrument):
    low, high = toy_instrument.depth_range_nm
    return ModelCard(
        architecture={"channels": 4},
        units={"low_nm": low, "high_nm": high, "pixel_nm": toy_instrument.pixel_nm(), "photons": 5000.0},
        window_px=13,
        ground_px=120.0,
        instrument=toy_instrument.name,
        instrument_fingerprint=toy_instrument.fingerprint,
        plan=TrainPlan(),
        frames_seen=24,
        accuracy={"jaccard": 0.9},
    )


def keep_model(arrays, card, place, age_s=0):
    write_model_weights(arrays, card.model_dump(mode="json"), place)
    os.utime(place, (1_700_000_000 - age_s,) * 2)
    return place


def test_a_card_is_read_without_the_weights(arrays, full_card, tmp_path):
    place = keep_model(arrays, full_card, tmp_path / "toy.safetensors")
    place.write_bytes(b"no weights at all")
    assert read_model_card(place) == full_card
    card_path(place).write_text('{"schema_version": "vsmlm-model-1", "units": {}}')
    with pytest.raises(ModelError, match=r"toy\.json: .*instrument: missing.*; train again or take another model"):
        read_model_card(place)
    with pytest.raises(ModelError, match="there is no such file"):
        read_model_card(tmp_path / "gone.safetensors")


def test_the_models_of_a_folder_are_listed_newest_first_without_checkpoints_and_damaged_ones(arrays, full_card, tmp_path):
    old = keep_model(arrays, full_card, tmp_path / "old.safetensors", age_s=50)
    new = keep_model(arrays, full_card, tmp_path / "new.safetensors")
    keep_model(arrays, full_card, checkpoint_path(new))
    write_model_weights(arrays, {"another": "card"}, tmp_path / "foreign.safetensors")
    (tmp_path / "lonely.safetensors").write_bytes(b"x")
    assert checkpoint_path(new).name == "new.checkpoint.safetensors"
    assert list(list_models(tmp_path)) == [new, old]
    assert list_models(tmp_path)[old] == full_card
    assert list_models(tmp_path / "no folder") == {}


def test_a_forgotten_training_leaves_nothing_not_even_what_a_kill_left_half_written(arrays, tmp_path):
    place = tmp_path / "cell[1].safetensors"
    write_model_weights(arrays, CARD, place)
    write_model_weights(arrays, CARD, checkpoint_path(place))
    other = write_model_weights(arrays, CARD, checkpoint_path(tmp_path / "other.safetensors"))
    for left in (checkpoint_path(place), other):
        (tmp_path / f".{left.stem}.a1b2c3.part.safetensors").write_bytes(b"half")
    forget_checkpoint(place)
    forget_checkpoint(place)
    kept = {"cell[1].safetensors", "cell[1].json", "other.checkpoint.safetensors", "other.checkpoint.json"}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".other.checkpoint.a1b2c3.part.safetensors"}


def test_a_model_of_another_pixel_or_depth_range_does_not_fit(full_card, toy_instrument):
    check_fit(full_card, toy_instrument, "toy.safetensors")
    deeper = toy_instrument.model_copy(update={"depth_range_nm": (0.0, 1500.0)})
    with pytest.raises(ModelError, match="with high_nm 1000, the instrument 'toy' has 1500: train a model for this instrument"):
        check_fit(full_card, deeper, "toy.safetensors")
    nameless = full_card.model_copy(update={"units": {"low_nm": 0.0}})
    with pytest.raises(ModelError, match="its units lack pixel_nm"):
        check_fit(nameless, toy_instrument, "toy.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="rights are another matter on Windows")
def test_a_model_can_be_read_by_whom_any_new_file_can_be_read(written, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert written.stat().st_mode == plain.stat().st_mode
