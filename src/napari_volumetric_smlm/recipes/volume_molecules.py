"""Volumes to tables: molecules fitted by Gaussians, as published programs do, and blobs of many sizes, one row each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.images import Volume
from ..domain.molecules import Localizations, ZReference
from ..engine.localize.blobs import find_blobs
from ..engine.localize.gaussians import fit_peaks
from ..errors import PlanError


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


def _places(volume: Volume, index_n3: NDArray[np.float64], frame: int) -> dict[str, NDArray[np.generic]]:
    place = index_n3 * np.array(volume.voxel_zyx_nm) + np.array(volume.origin_zyx_nm)
    return {"frame": np.full(len(place), frame), **{f"{axis}_nm": place[:, a] for a, axis in enumerate("zyx")}}
