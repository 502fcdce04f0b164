"""A simulated bead scan shows each bead where it lies, covers the instrument's depths, and is what a calibration reads."""

from __future__ import annotations

import numpy as np
import pytest

from napari_volumetric_smlm.domain.bead_plans import BeadScanPlan
from napari_volumetric_smlm.domain.plans import CalibrationPlan
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.io.samples import sample_instrument
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.calibrate import calibrate
from napari_volumetric_smlm.recipes.simulate_beads import focus_of, simulate_beads

QUICK = BeadScanPlan(bead_count=3, z_step_nm=100, shape_yx_px=(100, 90), background_photons=(10, 10), bead_photons=40000, seed=2)


@pytest.fixture(scope="module")
def scan(toy_instrument):
    return finish(simulate_beads(toy_instrument, QUICK))


def light(counts_tyx, instrument, background):
    """Photons before the sensor, without the background."""
    camera = instrument.cameras[0]
    photons = (counts_tyx.astype(float) - camera.offset_counts) * camera.gain_e_per_count / camera.quantum_efficiency
    return photons - background


def test_the_focal_plane_runs_over_all_depths_as_seen_from_the_coverslip(toy_instrument):
    # a molecule at 0 with the focus at 500 looks like a bead at 0 with the focus there; one at 1000 like a bead with the focus at -500
    assert focus_of(toy_instrument, QUICK).tolist() == pytest.approx(np.arange(-500.0, 501, 100))
    back = QUICK.model_copy(update={"z_step_nm": -100.0})
    assert focus_of(toy_instrument, back).tolist() == pytest.approx(np.arange(500.0, -501, -100))
    fewer = QUICK.model_copy(update={"slice_count": 7})
    assert focus_of(toy_instrument, fewer).tolist() == pytest.approx(np.arange(-300.0, 301, 100))


def test_each_bead_has_its_photons_at_its_place_and_keeps_away_from_the_others(scan, toy_instrument):
    assert scan.stack.kind == "beads"
    assert scan.stack.z_step_nm == 100
    sharp = light(scan.stack.counts_tyx[0], toy_instrument, 10)[5]  # the focal plane at the coverslip
    places = np.array(scan.positions_yx_px)
    for row, column in places:
        top, left = round(row) - 12, round(column) - 12
        part = sharp[top : top + 25, left : left + 25]
        # a lens of this aperture sends some light farther than 12 pixels
        assert 0.92 * 40000 < part.sum() < 1.005 * 40000
        rows, columns = np.mgrid[top : top + 25, left : left + 25]
        assert (part * rows).sum() / part.sum() == pytest.approx(row, abs=0.3)
        assert (part * columns).sum() / part.sum() == pytest.approx(column, abs=0.3)
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e3 * np.eye(3)
    assert apart.min() > 25
    assert (places.min(0) >= 19.5).all()
    assert (places.max(0) <= (79.5, 69.5)).all()


def test_the_same_seed_gives_the_same_scan_and_another_one_does_not(scan, toy_instrument):
    again = finish(simulate_beads(toy_instrument, QUICK))
    assert np.array_equal(again.stack.counts_tyx[0], scan.stack.counts_tyx[0])
    other = finish(simulate_beads(toy_instrument, QUICK.model_copy(update={"seed": 3})))
    assert other.positions_yx_px != scan.positions_yx_px
    assert other.stack.fingerprint != scan.stack.fingerprint


def test_a_margin_that_leaves_nothing_and_a_step_of_nothing_are_explained(toy_instrument):
    with pytest.raises(PlanError, match="leaves nothing of a frame of 30 x 90"):
        finish(simulate_beads(toy_instrument, QUICK.model_copy(update={"shape_yx_px": (30, 90)})))
    with pytest.raises(ValueError, match="a step of 1 to 5000 nm is expected"):
        BeadScanPlan(z_step_nm=0)


def test_lenses_that_were_misplaced_are_put_where_the_simulated_beads_show_them():
    nominal = sample_instrument("light_field")
    off = np.array([[0.0, 0.0], [1.3, -0.9], [-0.6, 1.6]])
    centres = np.array(nominal.microlenses.sensor_centres_yx_px) + off
    array = nominal.microlenses.model_copy(update={"sensor_centres_yx_px": tuple((float(y), float(x)) for y, x in centres)})
    true = light_field_instrument(array, nominal)
    plan = BeadScanPlan(bead_count=2, z_step_nm=500)
    scan = finish(simulate_beads(true, plan))
    assert scan.stack.counts_tyx[0].shape == (9, *nominal.microlenses.frame_yx_px)
    found = finish(calibrate([scan.stack], nominal, CalibrationPlan(z_step_nm=500, fit_pupil=False, device="cpu"))).instrument
    # the shift of all views together is that of the molecules, which no bead tells
    moved = np.array([np.array(view.affine_yx)[:, 2] for view in found.views]) / nominal.pixel_nm()
    expected = np.array([np.array(view.affine_yx)[:, 2] for view in true.views]) / nominal.pixel_nm()
    assert moved - moved[0] == pytest.approx(expected - expected[0], abs=0.15)
