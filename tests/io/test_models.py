import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_volumetric_smlm.errors import ModelError, OutputError
from napari_volumetric_smlm.io.models import card_path, read_model_weights, write_model_weights

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


def test_a_full_disk_leaves_the_older_model_whole(arrays, written, monkeypatch):
    before = {path: path.read_bytes() for path in written.parent.iterdir()}

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_model_weights({"new": np.ones(3)}, {}, written)
    assert {path: path.read_bytes() for path in written.parent.iterdir()} == before


def test_a_card_that_json_cannot_hold_writes_nothing(arrays, tmp_path):
    with pytest.raises(ModelError, match="cannot be written as JSON"):
        write_model_weights(arrays, {"loss": float("nan")}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"found the ending \.pt"):
        write_model_weights(arrays, {}, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []
