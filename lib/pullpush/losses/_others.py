"""How near all other rows are: the one sum that NT-Xent, SupCon and uniformity share, plain and in tiles.

The plain form holds all n x n similarities several times over. The tiled form holds one tile of them, uses
each for a pair of rows and its mirror image, and makes them again for the gradient: O(n d) memory, and
faster from about a thousand rows on. It has no second derivative; `plain_forms` turns it off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

TILE = {"cpu": 512, "cuda": 4096}  # rows and columns: 1 MB of fp32 stays in the cache, a GPU wants more work
TILED_FROM = {"cpu": 1024, "cuda": 8192}  # rows; below, a few large kernels are as fast
STEEPEST = 60.0  # tiles sum exp(scale u_i . u_k) as it is: beyond exp(60) a sum could leave fp32

_tiled: ContextVar[bool] = ContextVar("tiled", default=True)


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within this block losses take their plain form, which holds all similarities and differentiates twice.

    Taught in "Batch size and negatives".

    >>> with plain_forms():
    ...     pass  # loss, gradients, and gradients of these
    """
    token = _tiled.set(False)
    try:
        yield
    finally:
        _tiled.reset(token)


def in_tiles(u: Tensor, scale: float) -> bool:
    """Whether exp(scale u_i . u_k) of all rows is summed in tiles."""
    large = len(u) >= TILED_FROM.get(u.device.type, TILED_FROM["cpu"])
    return large and scale <= STEEPEST and _tiled.get()


def once_only() -> None:
    """Called in a backward pass: raise RuntimeError if its result shall be differentiated again."""
    if torch.is_grad_enabled():  # as for create_graph=True
        raise RuntimeError(
            "The tiled form of this loss has no second derivative. "
            "Compute the loss within `with losses.plain_forms():`."
        )


def log_sum_of_others(u: Tensor, scale: float, *, include_self: bool = False) -> Tensor:
    """log sum_{k != i} exp(scale u_i . u_k) for each row i.

    u: (n, d), rows of unit length or zero, fp32 or fp64. include_self: let the sum run over k = i too.
    Returns (n,); -inf for a single row without itself.
    """
    if in_tiles(u, scale):
        return _InTiles.apply(u, scale, include_self)
    similarity = u @ u.T * scale
    if not include_self:
        itself = torch.eye(len(u), dtype=torch.bool, device=u.device)
        similarity = similarity.masked_fill(itself, -torch.inf)
    return similarity.logsumexp(dim=1)


class _InTiles(torch.autograd.Function):
    """With e_ik = exp(scale u_i . u_k) and r_i = sum_k e_ik, the result is log r. For gradients g of it,

    dL/du_i = scale sum_k e_ik (g_i / r_i + g_k / r_k) u_k,        where e_ik = e_ki is computed once.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, scale: float, include_self: bool) -> Tensor:
        total = u.new_zeros(len(u))
        for rows, columns, e in tiles(u, scale, include_self):
            total[rows] += e.sum(1)
            if rows != columns:
                total[columns] += e.sum(0)
        ctx.save_for_backward(u, total)
        ctx.scale, ctx.include_self = scale, include_self
        return total.log()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        once_only()
        u, total = ctx.saved_tensors
        weight = gradient / total
        result = torch.zeros_like(u)
        for rows, columns, e in tiles(u, ctx.scale, ctx.include_self):
            e.mul_(weight[rows, None] + weight[columns])
            result[rows].addmm_(e, u[columns])
            if rows != columns:
                result[columns].addmm_(e.T, u[rows])
        return result.mul_(ctx.scale), None, None


def tiles(u: Tensor, scale: float, include_self: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
    """The upper triangle of e, tile by tile, diagonal ones whole: rows, columns, e[rows, columns]."""
    size = TILE.get(u.device.type, TILE["cpu"])
    parts = [slice(start, start + size) for start in range(0, len(u), size)]
    for i, rows in enumerate(parts):
        scaled = u[rows] * scale
        for columns in parts[i:]:
            e = (scaled @ u[columns].T).exp_()
            if rows == columns and not include_self:
                e.fill_diagonal_(0)
            yield rows, columns, e
