"""A trained network as the localizer uses it: patches in, first guesses of molecules out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..domain.instrument import Instrument
from ..domain.runs import ModelCard
from ..engine.localize.features import Features
from ..engine.localize.localizer import Propose
from ..engine.localize.scene import Patches
from ..engine.localize.search import Candidates
from ..engine.networks.localizer import Glance, LocalizerNetwork, Prediction
from ..engine.networks.published import LARGEST, VoxelNetwork
from ..engine.networks.published_lnet import PublishedLNet
from ..engine.networks.published_vnet import PublishedVNet
from ..engine.networks.released_vnet import ReleasedVNet
from ..engine.networks.units import Units
from ..engine.networks.vnet import CompactVNet
from ..engine.networks.voxels import VoxelGrid, VoxelRules, decode_voxels
from ..engine.optics.table import PsfTable
from ..errors import ModelError
from ..io.models import check_fit, model_card, read_model_weights

# of the probability: guesses that begin the fit, and doubtful ones that are weighed once it stands; the likelihood ratio decides afterwards
SURE, DOUBTFUL = 0.15, 0.06
# as published: of the highest voxel, and the half width of a neighbourhood
VOXEL_RULES = {"deepstorm3d": VoxelRules(threshold=40.0, reach_voxels=4), "autods3d": VoxelRules(threshold=40.0, reach_voxels=2)}


class TrainedLocalizer:
    """Proposes molecules on patches of one size.

    context_frames : neighbouring frames on each side that the network wants to see; where it is not shown any it reads stills.
    """

    def __init__(self, network: LocalizerNetwork, card: ModelCard, table: PsfTable, features: Features) -> None:
        self.network, self.features = network.to(table.device).eval(), features
        self.units = Units(**card.units)
        self.context_frames = network.context_frames

    @torch.no_grad()
    def __call__(self, patches: Patches) -> Candidates:
        """Molecules with their photons and probability, ordered by patch."""
        if patches.found is not None:
            return patches.found
        return self._candidates(self.network(self.features(patches)), 0)

    @torch.no_grad()
    def across(self, patches: Patches) -> Candidates:
        """Molecules of all but the outer `context_frames` patches on each side, ordered by patch and counted from the first of these.

        Patches are of consecutive frames; one without a pixel that counts stands for a frame that is not there.
        """
        outer, total = self.context_frames, len(patches.photons_tvyx)
        # on a processor one by one: convolutions of several frames round otherwise than those of one, and how many depends on the run
        step = 1 if patches.photons_tvyx.device.type == "cpu" else total
        there = patches.seen_tvyx.flatten(1).any(1)
        lit, looks = there[:, None, None, None], []
        for rows in torch.arange(total, device=there.device).split(step):
            # what cannot be weighed is no number
            looks.append(self.network.look(torch.where(lit[rows], self.features(patches.select(rows)), 0.0)))
        entered, seen = (torch.cat([getattr(look, name) for look in looks]) for name in ("entered", "seen"))
        found = []
        for rows in torch.arange(outer, total - outer, device=there.device).split(step):
            beside = [seen[rows + k] * lit[rows + k] for k in range(-outer, outer + 1) if k]
            predicted = self.network.judge(Glance(entered[rows], seen[rows]), beside, patches.shape_yx)
            found.append(self._candidates(predicted, int(rows[0]) - outer))
        together = Candidates(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(Candidates)))
        return together.only(there[together.patch_m + outer])

    def _candidates(self, predicted: Prediction, first: int) -> Candidates:
        found = self.units.decode(predicted, DOUBTFUL)
        return Candidates(found.frame_n + first, found.position_n3, found.photons_n, found.probability_n)


class VoxelLocalizer:
    """Proposes molecules that a published network sees, on patches of any size."""

    def __init__(self, network: nn.Module, card: ModelCard, table: PsfTable) -> None:
        self.network, self.rules = network.to(table.device).eval(), VOXEL_RULES[card.kind]
        units = Units(**card.units)
        shape = card.architecture
        self.grid = VoxelGrid(units.low_nm, units.high_nm, int(shape["depth_planes"]), units.pixel_nm, int(shape["upsampling"]))
        low, high = card.plan.photons
        # AutoDS3D's voxels are as high as a molecule is bright; those of DeepSTORM3D say nothing of photons
        self.brightest = units.photons * 2 * high / (low + high) if card.kind == "autods3d" else None
        self.usual = units.photons

    @torch.no_grad()
    def __call__(self, patches: Patches) -> Candidates:
        """Molecules with a guess of their photons and the network's confidence (0 to 800) as gain, ordered by patch."""
        patch, position, confidence = [], [], []
        for t, frame in enumerate(scaled_frames(patches).split(1)):  # one at a time: the voxels of a frame fill hundreds of MB
            found = decode_voxels(self.network(frame), self.grid, self.rules)
            patch.append(found.frame_n + t)
            position.append(found.position_n3)
            confidence.append(found.confidence_n)
        sure = torch.cat(confidence)
        photons = torch.full_like(sure, self.usual) if self.brightest is None else sure / LARGEST * self.brightest
        return Candidates(torch.cat(patch), torch.cat(position), photons, sure)


def scaled_frames(patches: Patches) -> Tensor:
    """First view's frames (T, 1, y, x), each from 0 at its darkest to 1 at its brightest pixel, as the published networks read them."""
    inner = (slice(None), slice(0, 1), slice(patches.pad, -patches.pad), slice(patches.pad, -patches.pad))
    photons, seen = patches.photons_tvyx[inner], patches.seen_tvyx[inner] > 0
    low = photons.masked_fill(~seen, torch.inf).amin((2, 3), keepdim=True)
    high = photons.masked_fill(~seen, -torch.inf).amax((2, 3), keepdim=True)
    return torch.where(seen, (photons - low) / (high - low).clamp(min=1e-6), 0.0)


def proposer(network: nn.Module, card: ModelCard, table: PsfTable, shape_yx: tuple[int, int]) -> Propose:
    """First guesses of a model for patches of one size.

    Raises
    ------
    ModelError
        If the model makes volumes, or reads them.
    """
    if card.makes_volumes:
        raise ModelError("this model makes volumes, not molecules: set start to 'volume', reconstruct a volume with it, or leave it out")
    if card.kind in ("lnet4", "lnet8"):
        raise ModelError("this model finds molecules in volumes, not in views: set start to 'volume', or leave it out")
    if card.kind in VOXEL_RULES:
        return VoxelLocalizer(network, card, table)
    lean = cast(LocalizerNetwork, network)
    blur_nm = None if table.blur2_knots is None else float(table.blur2_knots.mean().sqrt())
    return TrainedLocalizer(lean, card, table, Features(table, shape_yx, int(card.architecture["depths"]), card.ground_px, blur_nm))


def load_network(path: str, instrument: Instrument | None) -> tuple[nn.Module, ModelCard]:
    """Read a model and check that it was made for this instrument; None = for whichever.

    Raises
    ------
    ModelError
        If the file is unsafe or damaged, is no localizer, or was trained for another pixel or depth range.
    """
    arrays, written = read_model_weights(path)
    card = model_card(written, path)
    if instrument is not None:
        check_fit(card, instrument, path)
    network = build(card)
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except RuntimeError as error:
        raise ModelError(f"{path}: weights and card do not belong together ({_first_line(error)}); copy both files again") from error
    return network, card


def build(card: ModelCard) -> nn.Module:
    """Return the network that a card describes, with random weights.

    Raises
    ------
    ModelError
        If the card is of a kind that this version does not know, or lacks what its kind needs.
    """
    shape = card.architecture
    try:
        if card.kind == "vnet_paper" and "counts" in shape:
            mean, sd = (float(number) for number in shape["counts"])
            return ReleasedVNet(int(shape["views"]), int(shape["planes"]), int(shape["levels"]), int(shape["width"]), (mean, sd))
        if card.kind == "vnet_paper":
            return PublishedVNet(int(shape["views"]), int(shape["planes"]), int(shape["levels"]))
        if card.kind in ("lnet4", "lnet8"):
            z, y, x = (int(scale) for scale in shape["scale_zyx"])
            return PublishedLNet((z, y, x), int(shape["levels"]))
        dilations = tuple(int(d) for d in shape["dilations"])
        if card.kind == "localizer":
            return LocalizerNetwork(int(shape["channels"]), int(shape["width"]), dilations, card.context_frames)
        if card.kind == "vnet":
            return CompactVNet(torch.tensor(shape["parallax_px"]), int(shape["width"]), dilations, int(shape["coarse_planes"]))
        if card.kind in VOXEL_RULES:
            return VoxelNetwork(int(shape["depth_planes"]), int(shape["upsampling"]), dilations)
    except KeyError as missing:
        raise ModelError(f"the model's card lacks {missing} of its architecture; copy weights and card together again") from missing
    raise ModelError(
        f"the model's card says that it is a {card.kind!r}; localizer, vnet, vnet_paper, lnet4, lnet8, {' and '.join(VOXEL_RULES)} "
        "are known: take another model, or a newer version of the program"
    )


def weights_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Weights by name."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason was given"])[-1].strip()
