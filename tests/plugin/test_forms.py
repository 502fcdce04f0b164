"""Every plan as a form: the same back, exact numbers, a tooltip for every field, words for every mistake."""

from __future__ import annotations

import html

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit

from napari_volumetric_smlm.domain.bead_plans import BeadScanPlan
from napari_volumetric_smlm.domain.instrument import Camera, Objective
from napari_volumetric_smlm.domain.plans import CalibrationPlan, EvaluatePlan, ReconstructPlan, RenderPlan, SimulatePlan
from napari_volumetric_smlm.domain.structured_plans import Microscope, StructuredPlan
from napari_volumetric_smlm.errors import PlanError
from napari_volumetric_smlm.plugin.forms import PlanForm, label_of, write_value
from napari_volumetric_smlm.plugin.widgets.camera import PRESETS

PLANS = [
    CalibrationPlan(z_step_nm=-100),
    CalibrationPlan(
        z_step_nm=1 / 3 * 100,
        bead_diameter_nm=0.0003,
        bead_height_nm=-12.5,
        bead_positions_yx_px=((1.25, 2.0), (30.1, 1e-7)),
        crop_px=31,
        held_out_slices=(3, 4, 5),
        try_both_signs=False,
        pixel_wise=False,
        device="cuda",
        seed=7,
    ),
    ReconstructPlan(),
    ReconstructPlan(
        model="a model.safetensors",
        first_frame=3,
        last_frame=2000,
        region_yx_px=(0, 10, 100, 200),
        detection_threshold=0.1 + 0.2,
        min_photons=1e-5,
        depth_step_nm=3e-4,
        window_px=41,
        background_scale_px=1e9,
        fit_blur=True,
        batch_frames=1,
    ),
    SimulatePlan(),
    SimulatePlan(photons=(0.1, 12345.678901234567), shape_yx_px=(3, 4000), blur_nm=(1e-12, 2e3), structure="filaments"),
    SimulatePlan(structure="mitochondria"),
    BeadScanPlan(slice_count=9, z_step_nm=-12.5),
    EvaluatePlan(),
    EvaluatePlan(gate="cylinder", gate_nm=149.99999999999997, dim_below_photons=1e-300),
    RenderPlan(),
    RenderPlan(pixel_nm=7.3, method="ash", dimensions="3d", color_by_depth=True),
    StructuredPlan(),
    StructuredPlan(order="zpa", geometry="lattice-1x5", montage="pa", flip_y=True, wiener=1 / 3, attenuation=0.0, last_time=4, reuse=False),
    Microscope(numerical_aperture=1.2999999999999998, emission_nm=525, pixel_nm=62.6, offset_counts=99.5),
    *PRESETS.values(),
    Objective(numerical_aperture=1.4499999999999997, magnification=98.7, immersion_index=1.518),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
def test_a_plan_comes_back_from_its_form_as_it_was(qtbot, plan):
    form = PlanForm(type(plan))
    qtbot.add_widget(form)
    form.set_plan(plan)
    assert form.problem == ""
    assert form.plan() == plan
    # and from a form that already showed something else
    form.set_plan(form.plan())
    assert form.plan() == plan


def test_this_identity_can_fail(qtbot):
    form = PlanForm(RenderPlan)
    qtbot.add_widget(form)
    form.set_plan(RenderPlan(pixel_nm=7.3))
    form.editors["pixel_nm"].setText("7.4")
    assert form.plan() != RenderPlan(pixel_nm=7.3)


@pytest.mark.parametrize("value", [3e-4, 0.1 + 0.2, 1e22, 5e-324, 123456789.123456789, -0.5, 30.0])
def test_numbers_are_written_exactly(value):
    assert float(write_value(value)) == value


@pytest.mark.parametrize("plan", [CalibrationPlan, ReconstructPlan, SimulatePlan, EvaluatePlan, RenderPlan, Camera, Objective])
def test_every_field_has_a_tooltip_with_its_description_and_a_name_for_screen_readers(qtbot, plan):
    form = PlanForm(plan)
    qtbot.add_widget(form)
    assert set(form.editors) == set(plan.model_fields)
    for name, field in plan.model_fields.items():
        editor = form.editors[name]
        assert field.description, name
        assert html.escape(field.description) in editor.toolTip()
        assert editor.accessibleName() == label_of(name)
        if name.endswith("_nm"):
            assert "(nm)" in label_of(name)
            assert " nm" in field.description


def test_a_required_value_has_no_default_and_its_absence_is_said(qtbot):
    form = PlanForm(CalibrationPlan)
    qtbot.add_widget(form)
    assert form.editors["z_step_nm"].text() == ""
    assert "Z step (nm): is required" in form.problem
    assert "moves into the sample" in form.problem
    with pytest.raises(PlanError, match="Z step"):
        form.plan()
    form.editors["z_step_nm"].setText("-50")
    assert form.problem == ""
    assert form.plan().z_step_nm == -50


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("detection_threshold", "abc", "'abc' is not a number"),
        ("detection_threshold", "0,5", "write the decimal mark as a point: 0.5"),
        ("detection_threshold", "-3", "greater than 0"),
        ("detection_threshold", "", "is empty; a value is needed"),
        ("first_frame", "2.5", "'2.5' is not a whole number"),
        ("region_yx_px", "1, 2", "Field required"),
        ("region_yx_px", "5, 5, 5, 5", "is empty"),
        ("batch_frames", "99999", "less than or equal to 4096"),
        ("detection_threshold", "nan", "finite"),
    ],
)
def test_a_wrong_value_is_explained_in_words_at_its_field(qtbot, field, text, words):
    form = PlanForm(ReconstructPlan)
    qtbot.add_widget(form)
    form.editors[field].setText(text)
    assert words in form.problem
    if text and field != "region_yx_px":
        assert "d55e00" in form.editors[field].styleSheet()
        assert html.escape(words) in form.editors[field].toolTip()


def test_a_contradiction_between_fields_is_shown_under_them(qtbot):
    form = PlanForm(ReconstructPlan)
    qtbot.add_widget(form)
    form.editors["first_frame"].setText("10")
    form.editors["last_frame"].setText("5")
    assert "last_frame 5 lies before first_frame 10" in form.words.text()
    form.editors["last_frame"].setText("10")
    assert form.words.text() == ""


def test_fields_that_are_not_shown_keep_their_value(qtbot):
    form = PlanForm(ReconstructPlan, ("detection_threshold",))
    qtbot.add_widget(form)
    form.set_plan(ReconstructPlan(first_frame=5, detection_threshold=12))
    form.editors["detection_threshold"].setText("13")
    assert form.plan() == ReconstructPlan(first_frame=5, detection_threshold=13)


def test_arrow_keys_step_a_number(qtbot):
    form = PlanForm(ReconstructPlan)
    qtbot.add_widget(form)
    line: QLineEdit = form.editors["first_frame"]
    qtbot.keyClick(line, Qt.Key.Key_Up)
    assert line.text() == "1"
    line = form.editors["background_scale_px"]
    line.setText("0.5")
    qtbot.keyClick(line, Qt.Key.Key_Down)
    assert float(line.text()) == pytest.approx(0.49)


def test_a_camera_map_is_shown_and_kept(qtbot):
    import numpy as np

    form = PlanForm(Camera)
    qtbot.add_widget(form)
    camera = Camera(pixel_um=6.5, offset_counts=np.full((4, 5), 100.0))
    form.set_plan(camera)
    assert form.editors["offset_counts"].text() == "map of 4 x 5"
    assert form.plan() == camera


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("z_step_nm", "Z step (nm)"),
        ("region_yx_px", "Region (pixels)"),
        ("min_photons", "Min photons"),
        ("batch_frames", "Batch frames"),
        ("max_molecules_per_frame", "Max molecules per frame"),
        ("density_per_um2", "Density (per µm²)"),
        ("em_gain", "EM gain"),
        ("read_noise_e", "Read noise (electrons)"),
    ],
)
def test_labels_read_like_words_with_their_unit(name, label):
    assert label_of(name) == label
