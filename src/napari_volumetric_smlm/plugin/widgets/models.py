"""Which trained model a reconstruction uses: a box, the model's card in words, and a warning where it does not fit."""

from __future__ import annotations

import contextlib
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qtpy.QtCore import Qt, Signal, SignalInstance
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ...domain.accuracy import accuracy_words
from ...domain.instrument import Instrument
from ...domain.runs import ModelCard
from ...errors import ModelError, SmlmError
from ...io.examples import START, example_models
from ...io.models import check_fit, list_models, read_model_card
from ..calls import changed_fields
from ..forms import label_of, write_value
from ..session import Session
from ..settings import preferences
from ..training import models_folder
from .sections import Words, depth_words

NO_MODEL = "No model (search)"
FILTER = "Models (*.safetensors)"


@dataclass(frozen=True)
class ModelUse:
    """What models are chosen for, and what the box says. none : choice of no model. wrong : why a model of the other kind is refused."""

    volumes: bool
    tip: str
    none: str
    none_tip: str
    wrong: str


MOLECULES = ModelUse(
    volumes=False,
    tip="A trained network finds more where images overlap; without one molecules are searched for.",
    none=NO_MODEL,
    none_tip="Molecules are searched for with the PSF, without training",
    wrong="this model makes volumes, not molecules: choose it in the widget Volumes",
)
VOLUMES = ModelUse(
    volumes=True,
    tip="A network that was trained to make volumes of this instrument's frames (architecture vnet in the widget Train).",
    none="No model",
    none_tip="Volumes come from deconvolution alone",
    wrong="this model finds molecules and makes no volumes: choose one of the architecture vnet",
)


class ModelChoice(Protocol):
    """Which model is chosen, and who hears about it; the session is one."""

    model: Path | None
    model_changed: SignalInstance

    def choose_model(self, path: Path | None) -> None:
        """Choose another one."""
        ...


def models_that_suit(instrument: Instrument | None, use: ModelUse) -> dict[Path, ModelCard]:
    """Models of our folder and of the package that can be used with an instrument, the newest of ours first."""
    found = {}
    for place, card in list_models(models_folder(preferences())).items():
        with contextlib.suppress(ModelError):
            if instrument is not None:
                check_fit(card, instrument, place)
                found[place] = card
    return {place: card for place, card in {**found, **models_that_come_along(instrument)}.items() if card.makes_volumes == use.volumes}


def models_that_come_along(instrument: Instrument | None) -> dict[Path, ModelCard]:
    """Models of the package that can read an instrument's frames, with their cards; the start model is for training."""
    found = {}
    for name, place in example_models().items():
        with contextlib.suppress(ModelError):
            card = read_model_card(place)
            if instrument is not None and name != START:
                check_fit(card, instrument, place)
                found[place] = card
    return found


class FreshBox(QComboBox):
    """A box that is filled anew before it opens: models may have been trained elsewhere in the meantime."""

    opening = Signal()

    def showPopup(self) -> None:  # noqa: N802
        """Ask for new content, then open."""
        self.opening.emit()
        super().showPopup()


class ModelPicker(QWidget):
    """A box with the models of our folder, a button for any other, and what the chosen one is.

    failed : an error to show. problem : that the chosen model cannot be used, in short; empty when it can. The warning says why.
    """

    failed = Signal(object)

    def __init__(self, session: Session, use: ModelUse = MOLECULES, choice: ModelChoice | None = None) -> None:
        super().__init__()
        self.session, self.use = session, use
        self.choice: ModelChoice = session if choice is None else choice
        self.problem = ""
        self._places: list[Path] = []
        self.box = FreshBox()
        self.box.setAccessibleName("Model")
        self.box.setToolTip(f"<qt>{use.tip}</qt>")
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(12)
        self.open_button = QPushButton("Open...")
        self.open_button.setToolTip("<qt>Choose a model (.safetensors) that lies elsewhere; its card must lie beside it.</qt>")
        self.facts, self.warning = Words(), Words()
        row = QHBoxLayout()
        row.addWidget(self.box, 1)
        row.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.facts)
        layout.addWidget(self.warning)
        self.box.opening.connect(self.refresh)
        self.box.activated.connect(self._on_activated)
        self.open_button.clicked.connect(self.ask)
        self.choice.model_changed.connect(self.refresh)
        session.instrument_changed.connect(self.refresh)
        self.refresh()

    def load(self, path: str | Path) -> bool:
        """Take a model for the next reconstruction; an error is told by `failed`."""
        try:
            read_model_card(path)
        except SmlmError as error:
            self.failed.emit(error)
            return False
        self.choice.choose_model(Path(path))
        return True

    def ask(self) -> None:
        """Let the user choose a file."""
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", self.session.memory.folder("model"), FILTER)
        if path and self.load(path):
            self.session.memory.store_folder("model", path)

    def refresh(self) -> None:
        """Look into the folder again and show what is chosen."""
        chosen = self.choice.model
        shipped = models_that_come_along(self.session.instrument)
        known = {**list_models(models_folder(preferences())), **shipped}
        models = {place: card for place, card in known.items() if card.makes_volumes == self.use.volumes}
        self._places = [*models, *([chosen] if chosen is not None and chosen not in models else [])]
        self.box.clear()
        self.box.addItem(self.use.none)
        self.box.setItemData(0, self.use.none_tip, Qt.ItemDataRole.ToolTipRole)
        for number, place in enumerate(self._places, 1):
            self.box.addItem(f"{place.stem} (comes with the plugin)" if place in shipped else place.stem)
            tip = f"<qt>{html.escape(card_words(models[place]))}</qt>" if place in models else str(place)
            self.box.setItemData(number, tip, Qt.ItemDataRole.ToolTipRole)
        self.box.setCurrentIndex(0 if chosen is None else 1 + self._places.index(chosen))
        self._judge()

    def _on_activated(self, index: int) -> None:
        if index < 1:
            self.choice.choose_model(None)
        elif not self.load(self._places[index - 1]):
            self.refresh()

    def _judge(self) -> None:
        place, instrument = self.choice.model, self.session.instrument
        self.problem, trouble, doubt, words, tip = "", "", "", "", ""
        if place is not None:
            try:
                card = read_model_card(place)
                words, tip = card_words(card), card_tooltip(card, place)
                if card.makes_volumes != self.use.volumes:
                    raise ModelError(f"{place.name}: {self.use.wrong}")
                if instrument is not None:
                    doubt = doubt_about(card, instrument)
                    check_fit(card, instrument, place.name)
            except SmlmError as error:
                trouble = str(error)
                self.problem = f"The model {'does not fit the instrument' if words else 'cannot be read'}: choose another one, or none"
        self.facts.say(words)
        self.facts.setToolTip(tip)
        self.warning.say(f"⚠ {trouble or doubt}" if trouble or doubt else "")


def card_words(card: ModelCard) -> str:
    """Say in a few words what a model is and how well it did."""
    units = card.units
    place = f"{depth_words(units['low_nm'], units['high_nm'])} · " if {"low_nm", "high_nm"} <= set(units) else ""
    beside = "looks at the frames before and after too · " if card.context_frames else ""
    return f"For {card.instrument} · {place}{beside}{card.frames_seen:,} frames seen{tested_words(card)}"


def tested_words(card: ModelCard) -> str:
    """Say how well a model did on frames that its training never saw; empty when nobody tested it."""
    told = accuracy_words(card.accuracy)
    return f" · {told} (network alone, {card.tested_frames} unseen frames)" if told else ""


def doubt_about(card: ModelCard, instrument: Instrument) -> str:
    """Say why a model that can be used may still be the wrong one."""
    if card.instrument_fingerprint == instrument.fingerprint:
        return ""
    if card.makes_volumes:
        # it was trained on cut views, which have another fingerprint than the raw frames' instrument
        other = f"this model was trained for {card.instrument!r}: compare its volumes with the deconvolution before you believe a structure"
        return "" if card.instrument == instrument.name else other
    return (
        f"this model was trained for {card.instrument!r} as it was then, not for the instrument chosen now: it may miss molecules; "
        "try it on a frame, or train one for this instrument"
    )


def card_tooltip(card: ModelCard, place: Path) -> str:
    """Return the whole card as a tooltip."""
    lines = [str(place), f"Instrument: {card.instrument}, fingerprint {card.instrument_fingerprint}"]
    lines += [f"{label_of(name)}: {write_value(value)}" for name, value in changed_fields(card.plan).items()]
    lines += [f"{name} {number}" for name, number in card.versions.items()]
    return "<qt>" + "<br>".join(html.escape(line) for line in [*lines, *filter(None, [card.command])]) + "</qt>"
