"""SupCon: NT-Xent with every row of the same class as a positive."""

import torch
from torch import Tensor

from pullpush.losses._inputs import check_above_zero, check_one_per_row, check_rows, unit_rows


def sup_con(
    z: Tensor, labels: Tensor, temperature: float = 0.1, *, base_temperature: float | None = None
) -> Tensor:
    """Supervised contrastive loss, the "out" form: the mean over positives stands outside the logarithm.

    L = 1/n sum_i -1/|P(i)| sum_{p in P(i)} log( exp(u_i . u_p / tau) / sum_{k != i} exp(u_i . u_k / tau) )

    u: the rows of z at unit length; P(i): all other rows with the label of i.
    Khosla et al. 2020 (arXiv:2004.11362), eq. 2. Taught in "Pair against triplet".

    z: (n, d), all rows of the batch, n and d at least 1. Stack two views with `torch.cat([z_a, z_b])` and
        repeat the labels with `labels.repeat(2)`; if each image then has a label of its own, this is NT-Xent.
        Rows need not be of unit length; a row of zeros has similarity 0 to every row.
    labels: (n,). An anchor that is alone with its label has no positive: it adds 0 and counts in the mean.
    temperature: tau, above 0.
    base_temperature: None for the formula as it stands; a number above 0 multiplies it by
        temperature / base_temperature, as the authors' code does with 0.07.

    Returns a scalar in fp32 (fp64 for fp64 input), under autocast too, that can be differentiated twice.
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
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~itself
    with torch.autocast(z.device.type, enabled=False):
        u = unit_rows(z)
        similarity = u @ u.T / temperature
        similarity = similarity.masked_fill(itself, -torch.inf)
        log_p = similarity - similarity.logsumexp(dim=1, keepdim=True)
        per_anchor = log_p.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return -scale * per_anchor.mean()
