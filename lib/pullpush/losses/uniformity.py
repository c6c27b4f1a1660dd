"""Uniformity: how evenly embeddings cover the sphere."""

import math
from typing import Any

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_rows, check_unit_rows, widen
from pullpush.losses._others import in_tiles, once_only, tiles


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs: the lower, the more evenly spread.

    L = log( 2 / (n (n-1)) sum_{i<k} exp(-t ||z_i - z_k||^2) )

    Wang & Isola 2020 (arXiv:2005.10242), section 4.1.2. Taught in "Alignment and uniformity"
    and "CC against RCC". Pairs are unordered and distinct. An even spread gives log((1 - exp(-4t)) / 4t) in
    three dimensions, -2.08 for t = 2, and -2t in very many; all points in one place give 0.

    z: (n, d), rows of unit length, n at least 2 and d at least 1. t: above 0.

    Returns a scalar in [-4t, 0], in fp32 (fp64 for fp64 input), under autocast too. Large batches go through
    in tiles, with the gradient found in the same sweep, and can be differentiated once; within
    `losses.plain_forms()`, and for small ones, twice.
    Raises ValueError if z is not (n, d) and floating point, n is below 2, t is not above 0, or a row is not
    of unit length (tolerance 1e-3; not checked on a GPU, where looking would mean waiting).

    >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))  # one pair, 2 apart
    tensor(-8.)
    """
    check_rows("z", z)
    if len(z) < 2:
        raise ValueError(f"z has {len(z)} row; uniformity compares pairs and needs at least 2.")
    check_above_zero("t", t)
    check_unit_rows("z", z)
    with torch.autocast(z.device.type, enabled=False):
        z = widen(z)
        if in_tiles(z, 2 * t):
            return _InOneSweep.apply(z, t)
        lengths = z.square().sum(dim=1)
        squared = lengths[:, None] + lengths - 2 * z @ z.T
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        potential = (-t * squared).masked_fill(itself, -torch.inf)
        return potential.flatten().logsumexp(dim=0) - math.log(len(z) * (len(z) - 1))


class _InOneSweep(torch.autograd.Function):
    """With w_i = exp(-t |z_i|^2) the potential of a pair is w_i w_k exp(2t z_i . z_k), and

    dL/dz_i = -4t / sum_{i != k} e_ik (z_i sum_k e_ik - sum_k e_ik z_k):    both sums come with the value.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, t: float) -> Tensor:
        w = (-t * z.square().sum(dim=1, keepdim=True)).exp()
        summed = torch.cat([w * z, w], dim=1)
        sums = torch.zeros_like(summed)
        for rows, columns, e in tiles(z, 2 * t):
            sums[rows].addmm_(e, summed[columns])
            if rows != columns:
                sums[columns].addmm_(e.T, summed[rows])
        sums *= w
        of_rows = sums[:, -1:]
        total = of_rows.sum()
        ctx.save_for_backward((of_rows * z - sums[:, :-1]) * (-4 * t / total))
        return torch.log(total / (len(z) * (len(z) - 1)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        once_only()
        (direction,) = ctx.saved_tensors
        return gradient * direction, None
