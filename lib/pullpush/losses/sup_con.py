"""SupCon: NT-Xent with every row of the same class as a positive."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_one_per_row, check_rows, unit_rows
from pullpush.losses._others import log_sum_of_others


def sup_con(
    z: Tensor, labels: Tensor, temperature: float = 0.1, *, base_temperature: float | None = None
) -> Tensor:
    """Supervised contrastive loss, the "out" form: the mean over positives stands outside the logarithm.

    L = 1/n sum_i -1/|P(i)| sum_{p in P(i)} log( exp(u_i . u_p / tau) / sum_{k != i} exp(u_i . u_k / tau) )

    u: the rows of z at unit length; P(i): all other rows with the label of i.
    Khosla et al. 2020 (arXiv:2004.11362), eq. 2.
    Taught in "Pairs, triplets, NT-Xent, SupCon: one family" and "Pair against triplet".

    z: (n, d), all rows of the batch, n and d at least 1. Stack two views with `torch.cat([z_a, z_b])` and
        repeat the labels with `labels.repeat(2)`; if each image then has a label of its own, this is NT-Xent.
        Rows need not be of unit length; a row of zeros has similarity 0 to every row.
    labels: (n,). An anchor that is alone with its label has no positive: it adds 0 and counts in the mean.
    temperature: tau, above 0.
    base_temperature: None for the formula as it stands; a number above 0 multiplies it by
        temperature / base_temperature, as the authors' code does with 0.07.

    Returns a scalar in fp32 (fp64 for fp64 input), under autocast too. Large batches go through in tiles and
    can be differentiated once; within `losses.plain_forms()`, and for small ones, twice.
    It is at least 0, and log(n-1) when all rows are equal and none is alone with its label.
    Raises ValueError if z is not (n, d) and floating point, n is 0, labels is not (n,), or a temperature is
    not above 0.

    >>> z = torch.ones(8, 32)
    >>> sup_con(z, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])).exp()
    tensor(7.0000)
    """
    check_rows("z", z)
    check_one_per_row("labels", labels, len(z))
    check_above_zero("temperature", temperature)
    scale = 1.0
    if base_temperature is not None:
        check_above_zero("base_temperature", base_temperature)
        scale = temperature / base_temperature
    with torch.autocast(z.device.type, enabled=False):
        u = unit_rows(z)
        of_class, positives = _class_sums(u, labels)
        # The mean of u_i . u_p over positives p is u_i . (sum of its class - u_i) / |P(i)|.
        positive = (u * (of_class - u)).sum(dim=1) / temperature / positives.clamp(min=1)
        others = log_sum_of_others(u, 1 / temperature)
        return scale * torch.where(positives > 0, others - positive, 0).mean()


def _class_sums(u: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the sum of all rows of its class (n, d), and how many others there are (n,).

    Classes are numbered by sorting: to count distinct labels, the host would wait for a GPU.
    """
    order = labels.argsort()
    begins = torch.cat([torch.zeros_like(order[:1]), labels[order].diff().ne(0).long()])
    group = torch.empty_like(order).scatter(0, order, begins.cumsum(0))
    sums = torch.zeros_like(u).index_add(0, group, u)
    sizes = torch.zeros_like(u[:, 0]).index_add(0, group, torch.ones_like(u[:, 0]))
    return sums[group], sizes[group] - 1
