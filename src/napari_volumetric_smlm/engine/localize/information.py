"""What the molecules of a patch tell about each other: the blocks of its Fisher matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 0.8  # windows farther apart than this share of their side have only dark corners in common


@dataclass
class Layout:
    """Where the windows of m molecules lie: first row and column of each in each view (m, V), and their pixels (m, V, n, n)."""

    top_mv: Tensor
    left_mv: Tensor
    index: Tensor

    def only(self, rows: Tensor | slice) -> Layout:
        """The windows of some molecules."""
        return Layout(self.top_mv[rows], self.left_mv[rows], self.index[rows])

    def with_rows(self, rows: Tensor, other: Layout) -> Layout:
        """A copy in which the molecules of the mask have the windows of `other`."""
        parts = ((self.top_mv, other.top_mv), (self.left_mv, other.left_mv), (self.index, other.index))
        return Layout(*(mine.clone().index_put_((rows,), theirs) for mine, theirs in parts))

    def with_more(self, count: int, order: Tensor) -> Layout:
        """A copy with room for `count` molecules more, in a new order."""
        parts = (self.top_mv, self.left_mv, self.index)
        return Layout(*(torch.cat([part, part.new_zeros((count, *part.shape[1:]))])[order] for part in parts))


def molecule_blocks(fisher: Tensor, derivatives: tuple[Tensor, Tensor], layout: Layout, fresh: Tensor) -> None:
    """Write into the Fisher matrix of one patch's molecules (m P, m P) the blocks of the fresh ones, with themselves and all others.

    Parameters
    ----------
    derivatives : weighted ones of the fresh molecules (f, P, V, n, n), and those of all (m, P, V, n, n).
    fresh : (f,) which molecules those are.
    """
    weighted, jacobian = derivatives
    m, p, views, size, _ = jacobian.shape
    if not len(fresh):
        return
    blocks = fisher.unflatten(0, (m, p)).unflatten(2, (m, p)).transpose(1, 2)  # a view of the matrix, (m, m, P, P)
    blocks[fresh] = 0.0
    blocks[:, fresh] = 0.0
    blocks[fresh, fresh] = torch.einsum("mpvab,mqvab->mpq", weighted, jacobian[fresh])
    top, left = layout.top_mv, layout.left_mv
    dy, dx = top[None] - top[fresh, None], left[None] - left[fresh, None]  # (f, m, V): from the fresh window to the other
    shared = ((dy.abs() < NEAR * size) & (dx.abs() < NEAR * size)).any(-1)
    # of two fresh molecules the pair is computed once
    is_fresh = torch.zeros(m, dtype=torch.bool, device=fresh.device).index_fill_(0, fresh, True)
    shared &= ~is_fresh | (torch.arange(m, device=fresh.device) > fresh[:, None])
    f_list, j_list = (index.tolist() for index in shared.nonzero(as_tuple=True))
    dy_list, dx_list, i_list = dy[shared].tolist(), dx[shared].tolist(), fresh.tolist()
    for f, j, dys, dxs in zip(f_list, j_list, dy_list, dx_list, strict=True):
        block = blocks[i_list[f], j]
        for v in range(views):
            y, x = dys[v], dxs[v]
            if abs(y) < size and abs(x) < size:
                a = weighted[f, :, v, max(y, 0) : size + min(y, 0), max(x, 0) : size + min(x, 0)].reshape(p, -1)
                b = jacobian[j, :, v, max(-y, 0) : size + min(-y, 0), max(-x, 0) : size + min(-x, 0)].reshape(p, -1)
                block.addmm_(a, b.T)
        blocks[j, i_list[f]] = block.T
