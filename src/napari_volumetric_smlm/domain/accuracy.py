"""How well a model did, in words."""

from __future__ import annotations

from collections.abc import Mapping

WORDS = {
    "jaccard": "Jaccard {:.2f}",
    "rmse_lateral_nm": "{:.0f} nm lateral",
    "rmse_axial_nm": "{:.0f} nm axial",
    "correlation": "correlation {:.2f} with the true volume",
    "missed_variance": "{:.0%} of its variance missed",
}


def accuracy_words(accuracy: Mapping[str, float]) -> str:
    """Say the figures of a model's card; empty where it has none."""
    return ", ".join(words.format(accuracy[name]) for name, words in WORDS.items() if name in accuracy)
