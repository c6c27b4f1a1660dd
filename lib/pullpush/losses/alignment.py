"""Alignment: how far apart the two views of an image lie on the sphere."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_pair, check_unit_rows, widen


def alignment(z_a: Tensor, z_b: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance between positive pairs on the unit sphere, to the power alpha.

    L = 1/n sum_i ||z_a,i - z_b,i||_2^alpha

    Wang & Isola 2020 (arXiv:2005.10242), section 4.1.1. Taught in "Alignment and uniformity"
    and "CC against RCC".

    z_a, z_b: (n, d), rows of unit length, row i of both is a positive pair; n and d at least 1.
    alpha: above 0.

    Returns a scalar in [0, 2**alpha], in fp32 (fp64 for fp64 input), that can be differentiated twice. A pair
    that coincides has gradient 0.
    Raises ValueError if shapes differ, n is 0, z is not floating point, alpha is not above 0, or a row is not
    of unit length (tolerance 1e-3; not checked on a GPU, where looking would mean waiting).

    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> alignment(z, z.flip(0))  # two right angles: squared distances of 2
    tensor(2.)
    """
    check_pair(z_a, z_b)
    check_above_zero("alpha", alpha)
    check_unit_rows("z_a", z_a)
    check_unit_rows("z_b", z_b)
    squared = (widen(z_a) - widen(z_b)).square().sum(dim=1)
    if alpha == 2:
        return squared.mean()
    # Powers below 1 have an infinite slope at 0, and 0 * inf is nan: take the power of 1 there, then drop it.
    apart = squared > 0
    return (torch.where(apart, squared, 1).pow(alpha / 2) * apart).mean()
