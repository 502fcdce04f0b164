"""Plans and options are the same thing."""

from __future__ import annotations

import argparse
import re

import pytest

from napari_volumetric_smlm.cli import parser
from napari_volumetric_smlm.cli.options import add_plan, option_of, plan_from
from napari_volumetric_smlm.domain.fields import UNITS, field_kind
from napari_volumetric_smlm.domain.plans import CalibrationPlan, EvaluatePlan, ReconstructPlan, RenderPlan, SimulatePlan, TrainPlan
from napari_volumetric_smlm.errors import PlanError

VERB_PLANS = {
    "calibrate": CalibrationPlan,
    "reconstruct": ReconstructPlan,
    "simulate": SimulatePlan,
    "train": TrainPlan,
    "evaluate": EvaluatePlan,
    "render": RenderPlan,
}
FIELDS = [(verb, plan, name) for verb, plan in VERB_PLANS.items() for name in plan.model_fields]
# how a description may say a unit
SPELLED = {
    "nm": r"\bnm\b",
    "pixels": r"pixel|rows and columns",
    "per µm²": r"per square micrometre",
    "photons": r"photon",
    "frames": r"frame",
}


def parsed(plan, *words):
    one = argparse.ArgumentParser()
    add_plan(one, plan)
    return plan_from(one.parse_args([str(word) for word in words]), plan)


def verb_parser(verb):
    choices = next(action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return choices[verb]


@pytest.mark.parametrize(("verb", "plan", "name"), FIELDS, ids=lambda part: part if isinstance(part, str) else "")
def test_every_field_of_a_plan_is_an_option_with_its_description(verb, plan, name):
    option = next(action for action in verb_parser(verb)._actions if option_of(name) in action.option_strings)
    description = plan.model_fields[name].description
    assert description
    assert (option.help or "").startswith(description.replace("empty = ", "left out = ").replace("%", "%%"))


@pytest.mark.parametrize(("verb", "plan", "name"), FIELDS, ids=lambda part: part if isinstance(part, str) else "")
def test_a_unit_in_the_name_stands_in_the_description(verb, plan, name):
    unit = UNITS.get(name.rsplit("_", 1)[-1])
    if unit is not None:
        assert re.search(SPELLED[unit], plan.model_fields[name].description, re.IGNORECASE)


@pytest.mark.parametrize("verb", VERB_PLANS)
def test_help_can_be_printed_and_states_units(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args([verb, "--help"])
    assert stop.value.code == 0
    assert re.search(r"\bnm\b", capsys.readouterr().out)


@pytest.mark.parametrize("plan", [ReconstructPlan, SimulatePlan, EvaluatePlan, RenderPlan])
def test_no_options_make_the_default_plan(plan):
    assert parsed(plan) == plan()


def test_options_of_every_kind_reach_the_plan():
    plan = parsed(
        CalibrationPlan,
        *("--z-step-nm", -100, "--bead-positions-yx-px", "10,20.5", "30,40", "--held-out-slices", 1, 4, 7),
        *("--no-pixel-wise", "--device", "cpu", "--seed", 3),
    )
    assert plan.z_step_nm == -100
    assert plan.bead_positions_yx_px == ((10, 20.5), (30, 40))
    assert plan.held_out_slices == (1, 4, 7)
    assert not plan.pixel_wise
    assert plan.try_both_signs
    assert (plan.device, plan.seed) == ("cpu", 3)
    region = parsed(ReconstructPlan, "--region-yx-px", 0, 10, 20, 30)
    assert region.region_yx_px == (0, 10, 20, 30)


def test_bead_positions_may_be_a_json_list():
    assert parsed(CalibrationPlan, "--z-step-nm", 50, "--bead-positions-yx-px", "[[1, 2], [3, 4]]").bead_positions_yx_px == ((1, 2), (3, 4))
    with pytest.raises(SystemExit):
        parsed(CalibrationPlan, "--z-step-nm", 50, "--bead-positions-yx-px", "here")


def test_a_plan_file_is_overruled_by_options(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(ReconstructPlan(min_photons=500, batch_frames=2).model_dump_json())
    plan = parsed(ReconstructPlan, "--plan", file, "--batch-frames", 16)
    assert (plan.min_photons, plan.batch_frames) == (500, 16)


def test_a_missing_required_setting_is_named_with_its_meaning():
    with pytest.raises(PlanError, match="--z-step-nm is required: Step between slices in nm"):
        parsed(CalibrationPlan)


def test_values_out_of_their_limits_are_all_named():
    with pytest.raises(PlanError) as error:
        parsed(ReconstructPlan, "--detection-threshold", -1, "--batch-frames", 0)
    assert "detection_threshold" in str(error.value)
    assert "batch_frames" in str(error.value)


def test_field_kinds_are_understood():
    assert field_kind(CalibrationPlan, "crop_px").plain is int
    assert field_kind(CalibrationPlan, "crop_px").optional
    assert field_kind(CalibrationPlan, "bead_positions_yx_px").inner_length == 2
    assert field_kind(SimulatePlan, "photons").length == 2
    assert field_kind(EvaluatePlan, "gate").choices == ("sphere", "cylinder")
    assert field_kind(SimulatePlan, "density_per_um2").unit == "per µm²"
