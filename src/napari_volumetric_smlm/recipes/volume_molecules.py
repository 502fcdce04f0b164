"""Volumes to tables: molecules fitted by Gaussians, as published programs do, and blobs of many sizes, one row each."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..domain.images import Volume
from ..domain.molecules import Localizations, ZReference
from ..domain.runs import Progress
from ..domain.volume_plans import FindPlan
from ..engine.localize.blobs import find_blobs
from ..engine.localize.gaussians import fit_peaks, peak_limit
from ..engine.networks.published_lnet import PublishedLNet, molecules_of
from ..errors import ModelError, PlanError
from ..io.volume_files import VolumeFile
from .devices import chosen_device
from .photons import asked_range
from .trained import load_network
from .volume_start import light_around

# L-Net learns widths in voxels: on others than those of its training it answers wrongly without a sign
LIKE_TRAINED = 0.02


def find_in_volumes(file: VolumeFile, plan: FindPlan) -> Generator[Progress, None, Localizations]:
    """Look for molecules or blobs in every volume of a series; the frame of a row is that of its volume.

    Yields
    ------
    Progress
        After every volume, with its table as preview.

    Raises
    ------
    PlanError
        If there is no such volume, or blobs would be smaller than a voxel.
    ModelError
        If the model is no L-Net, or was trained for other voxels.
    StackError
        If a volume cannot be read.
    """
    volumes = asked_range(plan.first_volume, plan.last_volume, file.count, ("volume", "the file"))
    network = _lnet(plan, file) if plan.model is not None else None
    tables = []
    for done, k in enumerate(volumes, start=1):
        volume, where = file.volume(k), (file.first_frame + k, file.z_reference)
        if plan.what == "blobs":
            table = blobs_in(volume, plan.diameter_nm, *where)
        elif network is not None:
            table = _answered(network, volume, *where)
        else:
            table = molecules_in(volume, *where)
        tables.append(table)
        yield Progress(stage="find", done=done, total=len(volumes), preview=table)
    return tell_origin(Localizations.joined(tables), file, plan)


def tell_origin(table: Localizations, file: VolumeFile, plan: FindPlan, complete: bool = True) -> Localizations:
    """The table with a record of how it came about, that of the volumes included."""
    record = {
        "program": f"napari-volumetric-smlm {__version__}",
        "plan": plan.model_dump(mode="json"),
        "source": list(file.stack.source),
        "source_fingerprint": file.stack.fingerprint,
        "volumes": file.record,
        "complete": complete,
    }
    return table.model_copy(update={"provenance": record})


def molecules_in(volume: Volume, frame: int = 0, z_reference: ZReference = "focus") -> Localizations:
    """Peaks of a volume above its noise, each fitted by a three-dimensional Gaussian.

    Returns
    -------
    Localizations
        photons : sum of the Gaussian over the voxels, in the volume's quantity. sigma_* : errors for noise that is independent from voxel
        to voxel, which in a volume made of views it is not: smaller than the true ones. psf_width_nm, psf_width_z_nm : standard deviations
        of the Gaussian, across (mean of y and x) and along z.
    """
    found = fit_peaks(torch.tensor(np.asarray(volume.values_zyx, np.float32))[None])
    voxel = np.array(volume.voxel_zyx_nm)
    width = found.width_n3.double().numpy() * voxel
    columns = _places(volume, found.index_n3.double().numpy(), frame)
    for axis, sigma in zip("zyx", (found.sigma_n3.double().numpy() * voxel).T, strict=True):
        columns[f"sigma_{axis}_nm"] = sigma
    columns |= {"photons": found.light_n.numpy(), "background_photons": found.floor_n.numpy()}
    columns |= {"psf_width_nm": width[:, 1:].mean(1), "psf_width_z_nm": width[:, 0]}
    return Localizations(columns=columns, z_reference=z_reference, pixel_nm=float(voxel[1]))


def blobs_in(volume: Volume, diameter_nm: tuple[float, float], frame: int = 0, z_reference: ZReference = "focus") -> Localizations:
    """Blobs of a volume whose diameter lies between two limits, such as lysosomes, to be linked from frame to frame.

    Returns
    -------
    Localizations
        photons : light above the surroundings, in the volume's quantity summed over voxels. diameter_nm : of a ball that answers alike.

    Raises
    ------
    PlanError
        If the limits fall, or blobs would be smaller than a voxel.
    """
    low, high = diameter_nm
    largest = max(volume.voxel_zyx_nm)
    if not largest <= low < high:
        raise PlanError(
            f"diameter_nm is ({low:g}, {high:g}): expected the smallest and then the largest diameter, "
            f"not below the largest side of a voxel ({largest:g} nm)"
        )
    found = find_blobs(volume.values_zyx, volume.voxel_zyx_nm, diameter_nm)
    columns = _places(volume, found.index_n3, frame) | {"photons": found.light_n, "diameter_nm": found.diameter_nm_n}
    return Localizations(columns=columns, z_reference=z_reference, pixel_nm=volume.voxel_zyx_nm[1])


def _lnet(plan: FindPlan, file: VolumeFile) -> PublishedLNet:
    network, card = load_network(str(plan.model), None)
    if not isinstance(network, PublishedLNet):
        raise ModelError(f"{plan.model} does not find molecules in volumes: choose a model of the kind lnet4 or lnet8")
    pixel = card.units["pixel_nm"]
    if abs(file.voxel_zyx_nm[1] / pixel - 1) > LIKE_TRAINED:
        raise ModelError(
            f"{plan.model} was trained for pixels of {pixel:g} nm, those of the volume have {file.voxel_zyx_nm[1]:g} nm: make the volume "
            "with such pixels, or leave the model out"
        )
    return network.to(chosen_device(plan.device)).eval()


def _answered(network: PublishedLNet, volume: Volume, frame: int, z_reference: ZReference) -> Localizations:
    """Molecules that a network sees. photons : the light around each, of all voxels within its reach."""
    values = torch.tensor(np.asarray(volume.values_zyx, np.float32), device=next(network.parameters()).device)
    index, height = molecules_of(network, values, float(peak_limit(values[None])))
    columns = _places(volume, index.double().cpu().numpy(), frame)
    columns |= {"photons": light_around(values, index).cpu().numpy(), "confidence": height.cpu().numpy()}
    return Localizations(columns=columns, z_reference=z_reference, pixel_nm=volume.voxel_zyx_nm[1])


def _places(volume: Volume, index_n3: NDArray[np.float64], frame: int) -> dict[str, NDArray[np.generic]]:
    place = index_n3 * np.array(volume.voxel_zyx_nm) + np.array(volume.origin_zyx_nm)
    return {"frame": np.full(len(place), frame), **{f"{axis}_nm": place[:, a] for a, axis in enumerate("zyx")}}
