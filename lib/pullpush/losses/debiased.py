"""Debiased NT-Xent: what is known to be in the sum over negatives by mistake is taken out of it."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_pair, unit_rows
from pullpush.losses._others import log_sum_of_others


def debiased_nt_xent(
    z_a: Tensor, z_b: Tensor, temperature: float = 0.5, *, class_probability: float = 0.1
) -> Tensor:
    """NT-Xent whose negatives are corrected for those that are of the anchor's own class.

    L = 1/2n sum_i -log( e_ip(i) / (e_ip(i) + N g_i) ),        e_ik = exp(u_i . u_k / t),   N = 2n - 2
    g_i = max( (1/N sum_{k != i, p(i)} e_ik - tau+ e_ip(i)) / (1 - tau+),  exp(-1/t) )

    u: the 2n rows of z_a and z_b at unit length; p(i): the row that is the other view of i; t: temperature;
    tau+: class_probability. The mean over blind negatives is p- with weight 1 - tau+ and p+ with weight tau+;
    g is what remains for p- when the other view stands for p+ (M = 1 in the paper, as in its code). No mean
    of e can be below exp(-1/t): there g stops, and the negatives of that anchor have no gradient.
    Chuang et al. 2020 (arXiv:2007.00224), eq. 8. Taught in "Sample bias".

    z_a, z_b: (n, d), two views, row i of both shows the same image; n and d at least 1. Rows need not be of
        unit length; a row of zeros has similarity 0 to every row.
    temperature: t, above 0.
    class_probability: tau+, at least 0 and below 1: the chance that an image drawn blindly is of the anchor's
        class, 1/k for k classes of one size. 0 is NT-Xent.

    Returns a scalar in fp32 (fp64 for fp64 input), under autocast too. Large batches go through in tiles and
    can be differentiated once; within `losses.plain_forms()`, and for small ones, twice.
    It is at least log(1 + N exp(-2/t)), and log(2n-1) when all rows are equal, whatever tau+ is.
    Raises ValueError if shapes differ, n is 0, z is not floating point, temperature is not above 0, or
    class_probability is not in [0, 1).

    >>> z = torch.ones(4, 32)
    >>> debiased_nt_xent(z, z).exp()
    tensor(7.0000)
    """
    check_pair(z_a, z_b)
    check_above_zero("temperature", temperature)
    if not 0 <= class_probability < 1:
        raise ValueError(f"class_probability {class_probability} must be at least 0 and below 1.")
    n, scale = len(z_a), 1 / temperature
    negatives = 2 * n - 2
    with torch.autocast(z_a.device.type, enabled=False):
        u = unit_rows(torch.cat([z_a, z_b]))
        positive = ((u[:n] * u[n:]).sum(dim=1) * scale).repeat(2)
        others = log_sum_of_others(u, scale)
        # e_ip + N g_i as a share of all others, so that no exponential overflows. The sum over all others
        # holds the other view too: (1 + N) tau+ of it go, and at tau+ = 0 the share is 1.
        share = (positive - others).exp()
        corrected = (1 - class_probability * (1 + negatives) * share) / (1 - class_probability)
        floor = share + negatives * (-scale - others).exp()
        return (others + torch.maximum(corrected, floor).log() - positive).mean()
