"""One bead scan seen by all lenses of an array: centres, turn, aberrations and parallax of all views together."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.instrument import Instrument
from napari_volumetric_smlm.domain.microlenses import MicrolensArray
from napari_volumetric_smlm.domain.plans import CalibrationPlan, ReconstructPlan
from napari_volumetric_smlm.engine.optics.parallax import image_shifts
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import CalibrationError, PlanError, StackError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.instruments import load_instrument, save_instrument
from napari_volumetric_smlm.recipes import finish, fit_together
from napari_volumetric_smlm.recipes.calibrate import calibrate
from napari_volumetric_smlm.recipes.reconstruct import reconstruct

SHAPE, CAMERA_PIXEL_UM, TURN_RAD = (300, 320), 6.5, 0.03
FOCUS = tuple(np.arange(-1500.0, 1501, 150))
PLAN = CalibrationPlan(z_step_nm=150, crop_px=29, device="cpu")
BEADS_PX = ((-14.3, -20.6), (-16.2, 17.1), (15.4, 4.2))
ABERRATIONS = ({5: 0.4, 7: 0.3}, {6: -0.5, 11: 0.3}, {8: 0.4, 10: 0.2})


@pytest.fixture(scope="module")
def nominal() -> Instrument:
    """Return the shipped light field with an array of 0.3 times the size: the same pupils, views of a third of the pixels."""
    shipped = load_example("light_field_3")
    lengths = {name: getattr(shipped.microlenses, name) * 0.3 for name in ("pitch_mm", "focal_length_mm", "fourier_lens_mm")}
    array = shipped.microlenses.model_dump() | lengths | {"frame_yx_px": SHAPE, "field_yx_px": (84, 84)}
    return light_field_instrument(MicrolensArray.model_validate(array), shipped)


@pytest.fixture(scope="module")
def true(nominal) -> Instrument:
    """Return the same with the array turned, its lenses displaced by up to two pixels, and other aberrations in every view."""
    turned = nominal.microlenses.model_copy(update={"rotation_rad": TURN_RAD})
    off = np.random.default_rng(4).uniform(-2, 2, (3, 2))
    centres = (turned.centres_on_sensor(CAMERA_PIXEL_UM) + off).round(3)
    array = turned.model_copy(update={"rotation_rad": 0.0, "sensor_centres_yx_px": tuple((float(y), float(x)) for y, x in centres)})
    placed = light_field_instrument(array, nominal)
    views = [view.model_copy(update={"zernike_noll_rad": z}) for view, z in zip(placed.views, ABERRATIONS, strict=True)]
    return placed.model_copy(update={"views": tuple(views)})


@pytest.fixture(scope="module")
def stack(true, bead_scan):
    centre = np.array(true.microlenses.sensor_centres_yx_px[0])
    beads = [tuple((centre + off) * true.pixel_nm()) for off in BEADS_PX]
    return bead_scan(true, beads, SHAPE, FOCUS, background=10.0, drift_nm=(50.0, -40.0))


@pytest.fixture(scope="module")
def calibration(stack, nominal):
    with pytest.MonkeyPatch.context() as patch:
        # enough for aberrations as simple as these
        patch.setattr(fit_together, "ZERNIKE_STEPS", 110)
        return finish(calibrate([stack], nominal, PLAN))


def misplaced_px(found: Instrument, true: Instrument) -> np.ndarray:
    """Where `found` expects the images of molecules in all views and depths, (V, Z, 2), against the truth.

    A shift of all molecules in z, y and x is left out: no bead stack tells it.
    """
    z = np.linspace(-1400, 1400, 15)
    middle = np.array(true.microlenses.sensor_centres_yx_px[0]) * true.pixel_nm()

    def places(instrument):
        affine = np.array([view.affine_yx for view in instrument.views])
        return image_shifts(instrument, z) + (affine[:, :, :2] @ middle + affine[:, :, 2])[:, None]

    expected = places(true)
    error = places(found) - expected
    free = np.stack([np.broadcast_to((1.0, 0.0), error.shape), np.broadcast_to((0.0, 1.0), error.shape), np.gradient(expected, z, axis=1)])
    shift = np.linalg.lstsq(free.reshape(3, -1).T, error.ravel(), rcond=None)[0]
    return (error - np.tensordot(shift, free, 1)) / true.pixel_nm()


def test_images_of_molecules_are_expected_where_they_are_in_every_view_and_depth(calibration, nominal, true):
    assert np.sqrt((misplaced_px(nominal, true) ** 2).mean()) > 0.5
    error = misplaced_px(calibration.instrument, true)
    assert np.sqrt((error**2).mean()) < 0.05
    # lens centres at focus
    assert np.abs(error[:, 7]).max() < 0.05


def test_the_turn_of_the_array_is_recovered(calibration, true):
    found, built = (np.array(i.microlenses.sensor_centres_yx_px) for i in (calibration.instrument, true))
    spokes = [centres - centres.mean(0) for centres in (found, built)]
    turn = np.arctan2(*((spokes[0] @ np.array([[0, -1], [1, 0]]) * spokes[1]).sum(), (spokes[0] * spokes[1]).sum()))
    assert turn == pytest.approx(0, abs=0.003)


def test_planes_that_the_fit_did_not_see_are_predicted(calibration):
    assert calibration.correlation_z[calibration.held_out_z].min() > 0.97
    assert calibration.passed
    assert "The views move against each other" in calibration.verdict


def test_a_calibrated_array_locates_molecules_better_than_the_nominal_one(calibration, nominal, true, film, tmp_path):
    centre = np.array(true.microlenses.sensor_centres_yx_px[0])
    rows = [(t, z, centre[0] + 3 * t - 3, centre[1] + 2.2, 6000.0) for t, z in enumerate((-1000.0, 0.0, 1000.0))]
    movie = film(true, rows, SHAPE, len(rows), background=5.0)
    truth = np.array([(z, y * true.pixel_nm(), x * true.pixel_nm()) for _, z, y, x, _ in rows])
    top, left = (centre - 12).astype(int)
    plan = ReconstructPlan(device="cpu", processes=1, region_yx_px=(int(top), int(left), int(top) + 24, int(left) + 24))
    scatter = {}
    for name, instrument in (("nominal", nominal), ("calibrated", calibration.instrument)):
        table = finish(reconstruct(movie, load_instrument(save_instrument(instrument, tmp_path / "i.json")), plan)).localizations
        ours = np.array([[table[c][table["frame"] == t][np.argmax(table["photons"][table["frame"] == t])] for c in ("z_nm", "y_nm", "x_nm")]
                         for t in range(len(rows))])  # fmt: skip
        error = ours - truth
        scatter[name] = np.sqrt(((error - error.mean(0)) ** 2).mean())
    assert scatter["calibrated"] < 15
    assert scatter["nominal"] > 2 * scatter["calibrated"]


@pytest.mark.parametrize(
    ("step", "words"),
    [(-150.0, "in the opposite direction: the z step"), (300.0, r"0\.[45]\d times as far as the instrument says.*1\d\d nm would fit")],
)
def test_views_that_move_otherwise_than_the_array_says_are_refused(stack, nominal, step, words):
    with pytest.raises(CalibrationError, match=words):
        finish(calibrate([stack], nominal, PLAN.model_copy(update={"z_step_nm": step})))


def test_scans_and_plans_that_do_not_fit_the_array_are_refused(stack, nominal, toy_instrument):
    cropped = stack.model_copy(update={"counts_tyx": (stack.counts_tyx[0][:, :256, :256],)})
    with pytest.raises(StackError, match="the frames have 256 x 256 pixels, the microlens array expects raw frames of 300 x 320"):
        finish(calibrate([cropped], nominal, PLAN))
    with pytest.raises(PlanError, match="fit_pupil is off, but 'toy' has no views of microlenses"):
        finish(calibrate([stack], toy_instrument, PLAN.model_copy(update={"fit_pupil": False})))


def test_images_move_to_where_the_beads_show_them_and_the_pupils_stay(nominal, bead_scan):
    z = np.linspace(-1500, 1500, 5)
    bent = [np.column_stack([z, y * z**2 / 3e4, x * z**2 / 3e4]) for y, x in ((1.0, 0.0), (-1.0, 1.2), (0.0, -1.2))]
    views = [view.model_copy(update={"image_shift_zyx_nm": rows}) for view, rows in zip(nominal.views, bent, strict=True)]
    measured = nominal.model_copy(update={"views": tuple(views)})
    centre = nominal.microlenses.centres_on_sensor(CAMERA_PIXEL_UM)[0]
    scan = bead_scan(measured, [tuple((centre + BEADS_PX[0]) * nominal.pixel_nm())], SHAPE, FOCUS, background=10.0, drift_nm=(50.0, -40.0))
    found = finish(calibrate([scan], nominal, PLAN.model_copy(update={"fit_pupil": False, "held_out_slices": ()}))).instrument
    assert all(np.ptp(np.asarray(view.phase_rad_yx)) < 1e-3 for view in found.views)
    for view, rows in zip(found.views, bent, strict=True):
        got = np.asarray(view.image_shift_zyx_nm)
        wanted = np.stack([np.interp(got[:, 0], rows[:, 0], rows[:, a]) for a in (1, 2)], 1)
        error = got[:, 1:] - wanted
        # how far the focal plane was from the middle of the scan is open, and with it a slope
        line = np.polynomial.polynomial.polyfit(got[:, 0], error, 1)
        assert np.abs(error - line[0] - got[:, :1] * line[1]).max() < 12
