"""Models that travel with the package: small, whole, with a card that says how to make them again, and right for their microscope."""

from __future__ import annotations

import pytest

from napari_volumetric_smlm.io.examples import START, example_models, load_example
from napari_volumetric_smlm.io.models import check_fit, read_model_card, read_model_weights
from napari_volumetric_smlm.recipes.split_views import cut_instrument

LARGEST_BYTES = 10_000_000
NAMES = ["astigmatic", "double_helix", "light_field_3", START, "tetrapod"]
VOLUMES = "light_field_3"


def test_there_is_one_for_each_common_microscope_and_one_to_start_from():
    assert list(example_models()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_its_card_says_how_it_came_about_and_how_it_does(name):
    place = example_models()[name]
    assert place.stat().st_size < LARGEST_BYTES
    weights, _ = read_model_weights(place)
    card = read_model_card(place)
    assert sum(values.size for values in weights.values()) > 100_000
    assert card.command == ("python docs/make_volume_model.py" if name == VOLUMES else f"python docs/make_models.py {name}")
    assert card.tested_frames > 0
    assert card.frames_seen > 0
    assert card.accuracy
    if name == VOLUMES:
        instrument = cut_instrument(load_example(name))
        check_fit(card, instrument, place)
        assert card.instrument_fingerprint == instrument.fingerprint
        assert 0.8 < card.accuracy["correlation"] <= 1
    elif name != START:
        instrument = load_example(name)
        check_fit(card, instrument, place)
        assert card.instrument_fingerprint == instrument.fingerprint
        assert card.plan.start_model == f"{START}.safetensors"
        assert 0.2 < card.accuracy["jaccard"] <= 1
