"""The Cramér-Rao bound of an isolated molecule: the smallest standard error that any unbiased estimate can have.

F_ij = sum_k d_i mu_k d_j mu_k / (mu_k + s_k^2),  mu_k = N h_k(z, y, x) + b,  parameters z, y, x, N and one background b a view.
Source: Chao, Ward & Ober, J. Opt. Soc. Am. A 33, B36 (2016).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..optics.table import PsfTable


def isolated_bound(
    table: PsfTable,
    position_zyx_nm: Tensor,
    photons: Tensor,
    background_v: Tensor,
    read_variance: float = 0.0,
    blur_nm: Tensor | None = None,
) -> Tensor:
    """Standard errors of an isolated molecule; parameters as in `fisher_information`.

    Returns
    -------
    (m, 4 + V) standard errors of z, y, x (nm), photons and the views' backgrounds.
    """
    fisher = fisher_information(table, position_zyx_nm, photons, background_v, read_variance, blur_nm)
    return standard_errors(fisher).to(position_zyx_nm.dtype)


def standard_errors(fisher_mpp: Tensor) -> Tensor:
    """Smallest standard errors of parameters that are estimated together; leave rows and columns of known ones out."""
    return torch.linalg.inv(fisher_mpp).diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def fisher_information(
    table: PsfTable,
    position_zyx_nm: Tensor,
    photons: Tensor,
    background_v: Tensor,
    read_variance: float = 0.0,
    blur_nm: Tensor | None = None,
) -> Tensor:
    """Fisher information of an isolated molecule.

    Parameters
    ----------
    position_zyx_nm : (m, 3) z, and y and x from the centre of the window's pixel in the first view.
    photons : (m,) detected photons over all views.
    background_v : (V,) or (m, V) background photons per pixel in each view, fitted with the molecule.
    read_variance : variance of the read noise, photons^2.
    blur_nm : (m,) blur, known and not fitted; for tables with blur.

    Returns
    -------
    (m, 4 + V, 4 + V) in the order z, y, x (nm), photons and the views' backgrounds; double precision.
    """
    views = len(table.pixel_v)
    yx = torch.einsum("vij,mj->mvi", table.linear_v22, position_zyx_nm[:, 1:])
    images = table.images(torch.cat([position_zyx_nm[:, None, :1].expand(-1, views, -1), yx], -1), blur_nm)
    if images.by_z is None or images.by_y is None or images.by_x is None:
        raise ValueError("the table gave no derivatives")
    linear, n = table.linear_v22[:, :, :, None, None], photons[:, None, None, None]
    background = background_v.expand(len(photons), views)[:, :, None, None]
    variance = (images.value * n + background + read_variance).clamp(min=1e-9)
    ones = torch.eye(views, device=n.device)[:, None, :, None, None].expand(-1, *variance.shape[:2], *variance.shape[2:])
    jacobian = torch.stack(
        [
            images.by_z * n,
            (images.by_y * linear[:, 0, 0] + images.by_x * linear[:, 1, 0]) * n,
            (images.by_y * linear[:, 0, 1] + images.by_x * linear[:, 1, 1]) * n,
            images.value,
            *ones,
        ],
        1,
    ).double()
    return torch.einsum("mpvab,mqvab->mpq", jacobian / variance[:, None], jacobian)
