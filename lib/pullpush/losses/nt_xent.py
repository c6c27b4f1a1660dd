"""NT-Xent: the loss of SimCLR."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_pair, unit_rows
from pullpush.losses._others import log_sum_of_others


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float = 0.5, *, include_self: bool = False) -> Tensor:
    """Normalised temperature-scaled cross-entropy: tell the other view of an image from all other rows.

    L = 1/2n sum_i -log( exp(u_i . u_p(i) / tau) / sum_{k != i} exp(u_i . u_k / tau) )

    u: the 2n rows of z_a and z_b at unit length; p(i): the row that is the other view of i. The denominator
    has 2n-1 terms. Chen et al. 2020 (arXiv:2002.05709), eq. 1.
    Taught in "Pairs, triplets, NT-Xent, SupCon: one family" and "Pair against triplet".

    z_a, z_b: (n, d), two views, row i of both shows the same image; n and d at least 1. Rows need not be of
        unit length; a row of zeros has similarity 0 to every row.
    temperature: tau, above 0.
    include_self: let the sum run over k = i too, 2n terms, as Robust Contrastive Clustering (2022) prints it.
        Its code leaves that term out, as all implementations we compared do.

    Returns a scalar in fp32 (fp64 for fp64 input), under autocast too. Large batches go through in tiles and
    can be differentiated once; within `losses.plain_forms()`, and for small ones, twice.
    It lies between log(1 + (2n-2) exp(-2/tau)) and log(1 + (2n-2) exp(2/tau)), and is log(2n-1) when all rows
    are equal; include_self only adds to it, and makes that log(2n).
    Raises ValueError if shapes differ, n is 0, z is not floating point, or temperature is not above 0.

    >>> z = torch.ones(4, 32)
    >>> nt_xent(z, z).exp()
    tensor(7.0000)
    """
    check_pair(z_a, z_b)
    check_above_zero("temperature", temperature)
    n, scale = len(z_a), 1 / temperature
    with torch.autocast(z_a.device.type, enabled=False):
        u = unit_rows(torch.cat([z_a, z_b]))
        positive = (u[:n] * u[n:]).sum(dim=1) * scale
        return log_sum_of_others(u, scale, include_self=include_self).mean() - positive.mean()
