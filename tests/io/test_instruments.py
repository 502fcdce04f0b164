import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from napari_volumetric_smlm.domain.instrument import Camera, Instrument, PhaseMask, View
from napari_volumetric_smlm.errors import InstrumentError, OutputError
from napari_volumetric_smlm.io.instruments import load_instrument, load_phase_mask, save_instrument
from napari_volumetric_smlm.io.samples import sample_instrument


@pytest.fixture
def mapped_instrument(toy_instrument):
    rng = np.random.default_rng(1)
    mask = PhaseMask(phase_rad_yx=rng.normal(size=(9, 11)), mask_pixel_um=30.0, fourier_lens_mm=100.0, source="mask.mat")
    camera = Camera(pixel_um=11.0, offset_counts=rng.normal(100, 1, (20, 30)).astype(np.float32), gain_e_per_count=0.1 + 0.2)
    views = (View(mask=mask, zernike_noll_rad={6: 1 / 3}), View(name="second", affine_yx=((1.0, 0.01, 250.0), (-0.01, 1.0, 1 / 7))))
    return Instrument.model_validate({**dict(toy_instrument), "cameras": (camera,), "views": views})


@pytest.fixture
def written(mapped_instrument, tmp_path):
    return save_instrument(mapped_instrument, tmp_path / "instrument.json")


def break_file(path: Path, change) -> bytes:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    return path.read_bytes()


def test_an_instrument_comes_back_from_its_file_bit_by_bit(mapped_instrument, written):
    again = load_instrument(written)
    assert again == mapped_instrument
    assert again.fingerprint == mapped_instrument.fingerprint
    np.testing.assert_array_equal(again.views[0].mask.phase_rad_yx, mapped_instrument.views[0].mask.phase_rad_yx)
    assert again.cameras[0].offset_counts.dtype == np.float32
    assert again.cameras[0].gain_e_per_count == 0.1 + 0.2


def test_the_file_is_json_with_units_in_its_keys_and_arrays_compressed(written):
    tree = json.loads(written.read_text())
    assert tree["schema_version"] == "vsmlm-instrument-1"
    assert tree["emission_nm"] == 600
    packed = tree["cameras"][0]["offset_counts"]
    assert packed["shape"] == [20, 30]
    assert packed["dtype"] == "<f4"


MISTAKES = {
    "na_above_index": (
        lambda t: t["objective"].update(numerical_aperture=1.6),
        "objective: numerical_aperture 1.6 is above immersion_index 1.518",
    ),
    "unknown_key": (lambda t: t.update(emision_nm=600), "emision_nm: unknown key (value 600); did you mean 'emission_nm'?"),
    "unknown_key_inside": (
        lambda t: t["cameras"][0].update(pixel_nm=110),
        "cameras[0].pixel_nm: unknown key (value 110); did you mean 'pixel_um'?",
    ),
    "missing_key": (lambda t: t["objective"].pop("magnification"), "objective.magnification: missing"),
    "text_for_a_number": (lambda t: t.update(emission_nm="red"), "emission_nm: found 'red', expected a valid number"),
    "nan": (lambda t: t["cameras"][0].update(read_noise_e=float("nan")), "cameras[0].read_noise_e is not a finite number"),
    "infinity": (lambda t: t.update(emission_nm=float("inf")), "emission_nm is not a finite number"),
    "gain_of_zero": (
        lambda t: t["cameras"][0].update(gain_e_per_count=0),
        "cameras[0].gain_e_per_count: found 0, expected a number above 0",
    ),
    "noll_zero": (
        lambda t: t["views"][0].update(zernike_noll_rad={"0": 1.0}),
        "views[0].zernike_noll_rad: Noll indices run from 1 to 231; found [0]",
    ),
    "camera_that_is_not_there": (lambda t: t["views"][1].update(camera=5), "a view names camera 5, but there are 1 cameras"),
    "singular_affine": (lambda t: t["views"][1].update(affine_yx=[[1, 1, 0], [1, 1, 0]]), "views[1]: affine_yx"),
    "other_version": (
        lambda t: t.update(schema_version="vsmlm-instrument-7"),
        "schema_version is 'vsmlm-instrument-7', expected 'vsmlm-instrument-1'",
    ),
    "damaged_array": (
        lambda t: t["cameras"][0]["offset_counts"].update(zlib_base64="AAAA"),
        "cameras[0].offset_counts: a damaged packed array",
    ),
    "wrong_type_of_array": (
        lambda t: t["cameras"][0]["offset_counts"].update(dtype="pickle"),
        "cameras[0].offset_counts: a damaged packed array",
    ),
    "array_of_other_size": (
        lambda t: t["cameras"][0]["offset_counts"].update(shape=[20, 31]),
        "a packed array of shape [20, 31] needs 2480 bytes, its text holds 2400",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_told_by_key_with_what_was_found_and_expected(written, mistake):
    change, words = MISTAKES[mistake]
    before = break_file(written, change)
    with pytest.raises(InstrumentError) as told:
        load_instrument(written)
    assert words in str(told.value)
    assert str(written) in str(told.value)
    assert written.read_bytes() == before


def test_all_mistakes_are_told_at_once(written):
    break_file(written, lambda t: (t.update(emission_nm=-1), t["objective"].pop("magnification"), t.update(colour="red")))
    with pytest.raises(InstrumentError, match=r"magnification: missing.*emission_nm: found -1.*colour: unknown key"):
        load_instrument(written)


def test_an_array_that_expands_without_end_is_refused(written):
    import base64

    bomb = base64.b64encode(zlib.compress(bytes(10**7), 9)).decode()
    break_file(written, lambda t: t["cameras"][0]["offset_counts"].update(zlib_base64=bomb))
    with pytest.raises(InstrumentError, match=r"needs 2400 bytes, its text holds 2401 or more"):
        load_instrument(written)


def test_whole_numbers_stand_for_camera_numbers_too(written):
    break_file(written, lambda t: t["cameras"][0].update(offset_counts=100, gain_e_per_count=2, read_noise_e=0))
    camera = load_instrument(written).cameras[0]
    assert (camera.offset_counts, camera.gain_e_per_count, camera.read_noise_e) == (100.0, 2.0, 0.0)
    assert isinstance(camera.offset_counts, float)


@pytest.mark.parametrize(("change", "words"), [
    (lambda tree: tree["microlenses"].update(pixel_nm=200.0), r"magnification of 32.5, objective.magnification is 44.8"),
    (lambda tree: tree["microlenses"]["sensor_centres_yx_px"][1].__setitem__(0, 90.0), r"'lens 2' at row 90.0, .* its view at 69.5, 69.5"),
    (lambda tree: tree["views"][2].update(region_yx_px=[6, 100, 134, 228]), r"'lens 3' .*vsmlm views --centres"),
])  # fmt: skip
def test_a_microlens_array_that_was_edited_alone_is_refused_since_its_views_count(tmp_path, change, words):
    path = save_instrument(sample_instrument("light_field"), tmp_path / "microscope.json")
    assert load_instrument(path).microlenses is not None
    break_file(path, change)
    with pytest.raises(InstrumentError, match=words):
        load_instrument(path)


def test_the_instruments_that_travel_with_the_package_are_sound(repository, tmp_path):
    found = {path.stem: load_instrument(path) for path in (repository / "src/napari_volumetric_smlm/resources/instruments").glob("*.json")}
    assert {"astigmatic", "biplane"} <= found.keys()
    assert len(found["biplane"].views) == 2
    for name, instrument in found.items():
        assert 40 < instrument.pixel_nm() < 300, name
        assert load_instrument(save_instrument(instrument, tmp_path / f"{name}.json")) == instrument


DAMAGED = {
    "empty": (b"", "the file is empty"),
    "cut": (b'{"name": "x",\n "objec', "damaged JSON in line 2, column 2"),
    "list": (b"[1, 2]", "an object {...} with named values was expected"),
    "binary": (b"\x89HDF\r\n\x1a\n\xff\xfe", "not a text file in UTF-8"),
    "twice": (b'{"name": "a", "name": "b"}', "the key 'name' stands twice"),
    "deep": (b'{"name": ' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_told_in_words(tmp_path, damage):
    content, words = DAMAGED[damage]
    path = tmp_path / "damaged.json"
    path.write_bytes(content)
    with pytest.raises(InstrumentError) as told:
        load_instrument(path)
    assert words in str(told.value)
    assert path.read_bytes() == content


def test_a_file_too_large_for_an_instrument_is_not_read(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(2 * 2**30)
    with pytest.raises(InstrumentError, match="2048 MiB; a file of this kind has at most 768 MiB"):
        load_instrument(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InstrumentError, match="there is no such file"):
        load_instrument(tmp_path / "none.json")


def test_an_instrument_that_cannot_be_written_leaves_the_older_file_alone(toy_instrument, written, monkeypatch):
    before = written.read_bytes()

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_instrument(toy_instrument, written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


@pytest.fixture
def phase():
    return np.random.default_rng(2).uniform(-np.pi, np.pi, (12, 17))


def test_a_phase_mask_is_the_same_from_every_format(phase, tmp_path):
    scipy.io.savemat(tmp_path / "old.mat", {"mask": phase})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["mask"] = phase.T  # MATLAB 7.3 keeps columns first
        file["mask"].attrs["MATLAB_class"] = np.bytes_("double")
    with (tmp_path / "new.mat").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    np.save(tmp_path / "mask.npy", phase)
    tifffile.imwrite(tmp_path / "mask.tif", phase)
    for name in ("old.mat", "new.mat", "mask.npy", "mask.tif"):
        mask = load_phase_mask(tmp_path / name, 30.0, 100.0)
        np.testing.assert_array_equal(mask.phase_rad_yx, phase)
        assert mask.source.startswith(name)
        assert (mask.mask_pixel_um, mask.fourier_lens_mm) == (30.0, 100.0)


def test_a_mat_file_with_several_images_lists_them_and_takes_the_named_one(phase, tmp_path):
    path = tmp_path / "two.mat"
    scipy.io.savemat(path, {"first": phase, "second": phase[:10], "scale": 3.0, "note": "text"})
    with pytest.raises(InstrumentError, match=r"2 images.*first 12 x 17, second 10 x 17, scale 1 x 1"):
        load_phase_mask(path, 30.0, 100.0)
    np.testing.assert_array_equal(load_phase_mask(path, 30.0, 100.0, "second").phase_rad_yx, phase[:10])
    with pytest.raises(InstrumentError, match=r"no array 'third'; arrays in the file: first 12 x 17"):
        load_phase_mask(path, 30.0, 100.0, "third")


def test_a_pickle_inside_an_npy_file_is_not_opened(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InstrumentError, match=r"damaged or no \.npy file"):
        load_phase_mask(path, 30.0, 100.0)


def with_nan(phase):
    return np.where(phase > 0, np.nan, phase)


WRONG_MASKS = {
    "complex": (lambda p: np.exp(1j * p), "the values are complex"),
    "nan": (with_nan, "values are not finite; write 0 rad"),
    "grey_levels": (lambda p: ((p + np.pi) / 2 / np.pi * 255).astype(np.uint8), "look like grey levels"),
    "heights": (lambda p: p * 1000, "are no phase in rad"),
    "volume": (lambda p: np.stack([p, p]), "one image of at least 8 x 8 pixels; found shape (2, 12, 17)"),
    "small": (lambda p: p[:5], "one image of at least 8 x 8 pixels; found shape (5, 17)"),
}


@pytest.mark.parametrize("wrong", WRONG_MASKS)
def test_values_that_are_no_phase_are_refused_in_words(phase, tmp_path, wrong):
    change, words = WRONG_MASKS[wrong]
    np.save(tmp_path / "mask.npy", change(phase))
    with pytest.raises(InstrumentError) as told:
        load_phase_mask(tmp_path / "mask.npy", 30.0, 100.0)
    assert words in str(told.value)


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".tif"])
def test_a_file_that_is_something_else_is_refused_in_words(tmp_path, suffix):
    path = tmp_path / f"mask{suffix}"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(InstrumentError, match="damaged or no"):
        load_phase_mask(path, 30.0, 100.0)


@pytest.mark.parametrize(
    ("name", "variable", "shape"),
    [
        ("engineered_psf/tetrapod_storm/phase_mask.mat", None, (203, 203)),
        ("engineered_psf/telomeres_learned_psf/phase_mask.mat", None, (329, 329)),
        ("engineered_psf/telomeres_psf_pairs/live_masks/masks_learned_tracking_vipr.mat", "mask2", (343, 343)),
        ("peers/deepstorm3d/phase_mask_high_snr.mat", None, (329, 329)),
        ("peers/deepstorm3d/phase_mask_storm.mat", None, (203, 203)),
    ],
)
def test_published_masks_are_read(shared_data, name, variable, shape):
    mask = load_phase_mask(shared_data / name, 30.0, 100.0, variable)
    assert mask.phase_rad_yx.shape == shape
    assert 1 < np.ptp(mask.phase_rad_yx) < 20
