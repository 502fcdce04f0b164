"""A trained network as the localizer uses it: patches in, first guesses of molecules out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.instrument import Instrument
from ..domain.runs import ModelCard
from ..engine.localize.features import Features
from ..engine.localize.scene import Patches
from ..engine.localize.search import Candidates
from ..engine.networks.localizer import LocalizerNetwork
from ..engine.networks.units import Units
from ..engine.optics.table import PsfTable
from ..errors import ModelError
from ..io.models import check_fit, model_card, read_model_weights

THRESHOLD = 0.15  # of the probability; the fit's likelihood ratio decides afterwards


class TrainedLocalizer:
    """Proposes molecules on patches of one size."""

    def __init__(self, network: LocalizerNetwork, card: ModelCard, table: PsfTable, features: Features) -> None:
        self.network, self.card, self.features = network.to(table.device).eval(), card, features
        self.units = Units(**card.units)

    @torch.no_grad()
    def __call__(self, patches: Patches) -> Candidates:
        """Molecules with their photons and probability, ordered by patch."""
        found = self.units.decode(self.network(self.features(patches)), THRESHOLD)
        return Candidates(found.frame_n, found.position_n3, found.photons_n, found.probability_n)


def load_network(path: str, instrument: Instrument) -> tuple[LocalizerNetwork, ModelCard]:
    """Read a model and check that it was made for this instrument.

    Raises
    ------
    ModelError
        If the file is unsafe or damaged, is no localizer, or was trained for another pixel or depth range.
    """
    arrays, written = read_model_weights(path)
    card = model_card(written, path)
    check_fit(card, instrument, path)
    network = build(card)
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except RuntimeError as error:
        raise ModelError(f"{path}: weights and card do not belong together ({_first_line(error)}); copy both files again") from error
    return network, card


def build(card: ModelCard) -> LocalizerNetwork:
    """Return the network that a card describes, with random weights."""
    shape = card.architecture
    return LocalizerNetwork(int(shape["channels"]), int(shape["width"]), tuple(int(d) for d in shape["dilations"]))


def weights_of(network: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
    """Weights by name."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason was given"])[-1].strip()
